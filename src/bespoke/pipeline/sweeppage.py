"""What a sweep found, turned into its page."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bespoke import page
from bespoke.page.wording import number
from bespoke.records import Curve
from bespoke.workspace import Run

if TYPE_CHECKING:
    from bespoke.pipeline.sweep import Swept, Trial


MEANING = {
    "validation": "Scores are logarithms of the validation loss by the base's: lower is better, 0 is the base.",
    "scorecard": "Scores are distances to your pictures as parts of the base's, less one, and one more for each margin "
    "of the objective that is broken: lower is better, 0 is the base, -1 would be your own pictures. "
    "Trainings that were ended early have none.",
}
SAID = {
    "validation": "The best settings bring the validation loss to {score} of the base's (its logarithm)",
    "scorecard": "The best settings score {score} by the scorecard",
}


def write(project: str, found: "Swept", runs: Path, keys: Sequence[str]) -> None:
    """The page of a sweep, written."""
    ranked = sorted(found.trials, key=lambda trial: (trial.state != "complete", trial.score or 0.0))
    scored = [(trial, trial.score) for trial in found.trials if trial.score is not None]
    report = page.SweepReport(
        title=project,
        headline=headline(found),
        scores=MEANING[found.by],
        keys=tuple(keys),
        trials=tuple(_row(trial, keys, runs, found) for trial in ranked),
        curves=tuple(
            Curve(
                "best" if trial == found.best else "default" if trial == found.default else "",
                tuple(step for step, _ in trial.curve),
                tuple(value for _, value in trial.curve),
            )
            for trial in found.trials
        ),
        points=tuple((key, _points(found, key)) for key in keys),
        order=Curve("", tuple(t.number for t, _ in scored), tuple(score for _, score in scored)),
    )
    page.write_sweep(report, found.page)


def headline(found: "Swept") -> str:
    """What came of it, in a few sentences."""
    best, default = found.best, found.default
    ended = sum(trial.state == "ended early" for trial in found.trials)
    failed = sum(trial.state == "failed" for trial in found.trials)
    spent = sum(trial.seconds for trial in found.trials) / 60
    rest = f", of which {ended} ended early" if ended else ""
    rest += f" and {failed} failed" if failed else ""
    counted = f"{len(found.trials)} trainings in {number(spent)} minutes{rest}."
    if best == default:
        return f"Nothing was better than the recipe's own settings. {counted}"
    had = f", the recipe's own {default.score:+.4f}" if default.score is not None else ""
    return (
        f"{SAID[found.by].format(score=f'{best.score:+.4f}')}{had}. "
        f"{counted} The best of many is also the luckiest: train it and the recipe's own with other seeds before you "
        "trust the difference."
    )


def _points(found: "Swept", key: str) -> list[tuple[Any, float]]:
    """A setting's value and the score of each training that has both."""
    scored = [(trial.settings, trial.score) for trial in found.trials if trial.score is not None]
    return [(settings[key], score) for settings, score in scored if key in settings]


def _row(trial: "Trial", keys: Sequence[str], runs: Path, found: "Swept") -> page.SweepRow:
    settings = tuple(_written(trial.settings.get(key, "")) for key in keys)
    name = "best" if trial == found.best else "the recipe's own" if trial == found.default else ""
    link = Run(runs / trial.run).report if trial.run else None
    score = "" if trial.score is None else f"{trial.score:+.4f}"
    return page.SweepRow(trial.number, name, settings, score, trial.why or trial.state, f"{trial.seconds:.0f} s", link)


def _written(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
