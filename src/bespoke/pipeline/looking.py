"""Pictures turned into rows about how they look, beside the person's own."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from bespoke.evaluation import Row, mean_interval
from bespoke.evaluation.burnt import STATISTICS, Look, burnt, looks
from bespoke.evaluation.rows import mean_change
from bespoke.evaluation.significance import Values
from bespoke.pipeline.pictures import opened
from bespoke.pipeline.reporting import Reporter
from bespoke.records import Score


def look_rows(
    files: Mapping[str, Sequence[Path]], goal: Sequence[Path], groups: Sequence[int] | None, report: Reporter
) -> list[Row]:
    """The rows of how pictures look beside the person's own; a score says in its note where it is burnt.

    `files` is what each model drew, the control first.
    """
    seen = {model: _looks(those, report, f"how pictures of {model} look") for model, those in files.items()}
    own = _looks(goal, report, "how your pictures look")
    control = next(iter(seen))
    told = {model: burnt(seen[model], seen[control], own, groups) for model in seen if model != control}
    rows: list[Row] = []
    for number, statistic in enumerate(STATISTICS):
        name, values = f"look_{statistic.name}", {m: _values(some, statistic.name) for m, some in seen.items()}
        target = float(_values(own, statistic.name).mean())
        notes = {m: one.statistics[number].sentence for m, one in told.items() if one.statistics[number].burnt}
        scores = {
            model: Score(
                name,
                float(some.mean()),
                *mean_interval(some, groups),
                len(some),
                "nearer",
                notes.get(model, ""),
                target,
            )
            for model, some in values.items()
        }
        changes = {model: mean_change(values[control], values[model], groups) for model in told}
        rows.append(Row("look", name, statistic.label.capitalize(), "", scores, changes))
    return rows


def _looks(files: Sequence[Path], report: Reporter, stage: str) -> list[Look]:
    found: list[Look] = []
    report(stage, 0, len(files))
    for part in opened(files):
        found += [looks(np.asarray(picture)) for picture in part]
        report(stage, len(found), len(files))
    return found


def _values(some: Sequence[Look], name: str) -> Values:
    return np.array([getattr(one, name) for one in some], np.float64)
