"""One training of a sweep, on this machine or a worker, turned into its score."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bespoke import recipe as recipes
from bespoke.errors import BespokeError
from bespoke.evaluation import Scorecard
from bespoke.pipeline.evaluate import carry_out, comparison
from bespoke.pipeline.prompts import DOMAIN, GENERAL, TRAINED
from bespoke.pipeline.reporting import Reporter, silent
from bespoke.pipeline.train import carried_out
from bespoke.training import Event, Validated, read
from bespoke.workspace import Run

POOR = "worse than half of the others after step"
"""How the reason begins of a training that was ended early."""
WORST = 1.0
"""The score of a training that measured nothing: a loss e times the base's."""


@dataclass(frozen=True)
class Outcome:
    """What came of a training; without a score it was ended early or failed, and `why` says it."""

    score: float | None
    why: str
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def trial(run: Path, by: str, drawn: Path, told: Callable[[int, float], bool], report: Reporter = silent) -> Outcome:
    """The outcome of a run that was begun, trained to its end unless `told` wants it ended.

    `told` hears the validation at each percent of the steps. By the scorecard, pictures are drawn into `drawn`.

    Raises: Interrupted when a signal stopped it, after saving.
    """
    heed, began = _Heed(Run(run), told), time.monotonic()
    try:
        ended = carried_out(Run(run), report, heed)
        score = None if ended is None else scored(run, drawn) if by == "scorecard" else validated(run)
        why = heed.reason
    except BespokeError as error:
        score, why = None, f"failed: {error.problem}"
    return Outcome(score, why, time.monotonic() - began)


def on_worker(content: dict[str, str], told: Callable[[int, float], object]) -> dict[str, Any]:
    """A trial's outcome on a worker of a cluster, whose search ends it by itself."""

    def only_told(percent: int, score: float) -> bool:
        told(percent, score)
        return False

    return trial(Path(content["run"]), content["by"], Path(content["drawn"]), only_told).to_json()


def validated(run: Path) -> float:
    """The best validation of a run as the mean log-ratio to the base's, also of what came before a kill."""
    rows = [row for row in read(Run(run).metrics) if row["event"] == "validated" and int(row["step"]) > 0]
    return min((float(row["log_ratio"]) for row in rows), default=WORST)


def scored(run: Path, drawn: Path) -> float:
    """What the scorecard says of a run in one number: 0 is the base, -1 the person's own pictures; lower is better.

    The distance to the person's pictures as a part of the base's, less 1, and 1 more for each of the objective's
    margins that is broken, so that a training within them comes before any that is not.
    """
    compared = comparison([str(run)], "base", out=drawn, kinds=(DOMAIN, GENERAL, TRAINED))
    done = carry_out(compared, silent, whole=False)
    card: Scorecard = done.scorecard
    (model,) = card.tuned
    broken = [one for one in done.verdicts[model] if one.ok is False and one.name != card.distance]
    return card[card.distance].changes[model].ratio[0] - 1 + len(broken)


class _Heed:
    """What a training's validations say to the search: whether it is worth going on."""

    def __init__(self, run: Run, told: Callable[[int, float], bool]) -> None:
        self._told, self._steps = told, recipes.load(run.recipe).train.max_train_steps or 1
        self.reason = ""

    def __call__(self, event: Event) -> None:
        """Takes in one event."""
        if not isinstance(event, Validated) or event.step == 0:
            return
        if self._told(round(100 * event.step / self._steps), event.log_ratio):
            self.reason = f"{POOR} {event.step}"

    def wish(self) -> str | None:
        """Why to end the training, if there is a reason."""
        return self.reason or None
