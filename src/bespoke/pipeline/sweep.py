"""Settings found by trying: trainings by Optuna's choice of settings, the poor ones ended early, all of them kept."""

import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bespoke import recipe as recipes
from bespoke.errors import BespokeError, Interrupted
from bespoke.pipeline import sweeppage
from bespoke.pipeline.prepare import prepare
from bespoke.pipeline.reporting import Reporter, silent
from bespoke.pipeline.signals import StopWish, stop_wish
from bespoke.pipeline.space import Space, space_of, written
from bespoke.pipeline.study import Study, Trial
from bespoke.pipeline.trials import POOR, Outcome, on_worker, trial
from bespoke.workspace import write_text


@dataclass(frozen=True)
class Swept:
    """What a sweep found."""

    trials: tuple[Trial, ...]
    """In their order; the first has the recipe's own settings."""
    best: Trial
    default: Trial
    recipe: Path
    """The recipe with the best settings, written beside the page."""
    page: Path
    reason: str
    """Why it ended."""
    by: str
    """What trainings were compared by: "validation" or "scorecard"."""


def sweep(recipe: str | Path, overrides: Sequence[str] = (), *, report: Reporter = silent) -> Swept:
    """The best settings for a recipe, after `[sweep]`'s trials or minutes, by validation or the scorecard.

    The first trial has the recipe's own settings. The same call goes on after a kill: a training that was cut off is
    gone on with. With `sweep.backend = "ray"` trainings run on a cluster, several at a time.

    Raises: BespokeError when the recipe or its space is not as it should be, there are no validation pictures, or
    Optuna or Ray is not to be had; Interrupted when a signal stopped it, after saving.
    """
    first = prepare(recipe, overrides)
    if not first.validation:
        raise BespokeError("A sweep needs validation pictures to compare by.", "Raise data.validation_fraction.")
    space = space_of(first.recipe)
    _check(Path(recipe), overrides, space)
    study = Study(Path(recipe), tuple(overrides), first, space)
    (_on_cluster if study.settings.backend == "ray" else _here)(study, report)
    return _result(study)


def _check(recipe: Path, overrides: Sequence[str], space: Space) -> None:
    """Refuses settings that no recipe can have, before anything is trained."""
    for key, values in space.items():
        for value in values.ends:
            recipes.load(recipe, [*overrides, written(key, value)])


def _here(study: Study, report: Reporter) -> None:
    """All trainings, one after another."""
    _show(study, report)
    while asked := study.ask():
        number, run = asked
        try:
            study.tell(number, trial(run.root, study.settings.by, _drawn(study), partial(study.heard, number), report))
        except Interrupted:
            raise _stopped(study, f"within trial {number}") from None
        _show(study, report)


def _on_cluster(study: Study, report: Reporter) -> None:
    """All trainings, as many at a time as the cluster has room for."""
    from bespoke.scale import tuning

    _show(study, report)
    with stop_wish() as wish:
        tuning.tuned(pickle.dumps(on_worker), _Tuned(study, wish, report), study.settings.parallel)


class _Tuned:
    """A study as `scale.tuning` asks it."""

    def __init__(self, study: Study, wish: StopWish, report: Reporter) -> None:
        self._study, self._wish, self._report = study, wish, report
        self._poor: dict[str, str] = {}

    def ask(self) -> tuple[str, Any] | None:
        """The next training's number, and what its worker needs."""
        asked = self._study.ask()
        if asked is None:
            return None
        number, run = asked
        where = {"run": str(run.root.resolve()), "drawn": str(_drawn(self._study).resolve())}
        return str(number), where | {"by": self._study.settings.by}

    def heard(self, name: str, step: int, score: float) -> bool:
        """Whether a training is to be ended."""
        poor = self._study.heard(int(name), step, score)
        if poor:
            self._poor[name] = f"{POOR} {step} %"
        return poor

    def ended(self, name: str, result: dict[str, Any] | None) -> None:
        """Takes in what came of a training."""
        why = self._poor.get(name, "failed: its worker was lost again and again")
        self._study.tell(int(name), Outcome(**result) if result else Outcome(None, why, 0.0))
        _show(self._study, self._report)

    def check(self) -> None:
        """Raises: Interrupted when a signal asked to stop."""
        if self._wish.reason():
            raise _stopped(self._study, "between states of its trials", self._wish.exit_code)


def _stopped(study: Study, where: str, code: int = 130) -> Interrupted:
    hint = f"Everything is saved. Go on with: bespoke sweep {study.recipe}"
    return Interrupted(code, f"The sweep stopped {where}. {hint}")


def _drawn(study: Study) -> Path:
    return study.folder / "drawn"


def _show(study: Study, report: Reporter) -> None:
    """How many trials are over, and the best so far."""
    over = study.trials()
    found = [one.score for one in over if one.state == "complete" and one.score is not None]
    report("sweep", len(over), study.settings.trials, f"best {min(found):+.4f}" if found else "")


def _result(study: Study) -> Swept:
    """All trials with the best, its recipe and the page."""
    trials = study.trials()
    scored = [one for one in trials if one.state == "complete"]
    if not scored:
        raise BespokeError(
            f"No trial of the sweep ended well; the last one: {trials[-1].why}.", "See the recipe's [sweep]."
        )
    best, folder = min(scored, key=lambda one: one.score or 0.0), study.folder
    content = recipes.load(study.recipe, [*study.overrides, *(written(k, v) for k, v in best.settings.items())])
    write_text(folder / "recipe.toml", recipes.dump(content, {}))
    why = study.enough() or ""
    found = Swept(trials, best, trials[0], folder / "recipe.toml", folder / "index.html", why, study.settings.by)
    sweeppage.write(study.project.root.name, found, study.project.runs, list(study.space))
    return found
