"""Each event of a training passed on: to the logs, the registry, the progress bar, the pictures and the page."""

import math
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from typing import Any

from bespoke import registry, training
from bespoke.models import Checkpoint
from bespoke.pipeline import origin, progress, runpage
from bespoke.pipeline.naming import Named
from bespoke.pipeline.processes import is_main
from bespoke.pipeline.reporting import Reporter
from bespoke.pipeline.signals import StopWish
from bespoke.recipe import Recipe
from bespoke.records import Dataset
from bespoke.training import Event, Stopped, Trainer
from bespoke.training.track import Row, numbers
from bespoke.workspace import Project, Run, relative

Heard = Callable[[Event], None]


def check_trackers(recipe: Recipe) -> None:
    """Raises: BespokeError when the recipe asks for a tracker that is not installed."""
    if recipe.track.wandb:
        registry.find()


@contextmanager
def watching(
    run: Run, trainer: Trainer, start: Named, dataset: Dataset, report: Reporter, wish: StopWish, *, resumed: bool
) -> Generator[Heard, None, None]:
    """A block in which each event is to be handed on; of several processes only the main one does anything with it."""
    if not is_main():
        yield _unheard
        return
    watch = _Watch(run, trainer, start, dataset, report, wish, resumed=resumed)
    try:
        yield watch
    except BaseException as error:
        with suppress(Exception):  # the first error is the one to tell
            watch.close("FAILED", str(error) or type(error).__name__)
        raise
    watch.close("FINISHED" if watch.finished else "KILLED", watch.reason)


def _unheard(event: Event) -> None:
    """What a process does that is not the main one."""


class _Watch:
    """All who hear of a training."""

    def __init__(
        self, run: Run, trainer: Trainer, start: Named, dataset: Dataset, report: Reporter, wish: StopWish, *,
        resumed: bool,
    ) -> None:  # fmt: skip
        recipe, step = trainer.recipe, trainer.progress.step
        self._run, self._report, self._wish = run, report, wish
        self._total, self._step = trainer.train.max_train_steps or 1, step
        self._note, self._covered, self._said = "", "", (step, "")
        self._told: set[str] = set()
        self.finished, self.reason = False, ""
        self._boards = _boards(run, recipe, start.checkpoint)
        self._tracker = training.Tracker(run, step if resumed else None, tensorboard=recipe.track.tensorboard)
        requests = progress.wanted(recipe, dataset)
        self._pictures = progress.Progress(run, trainer, start, requests)
        for row in training.read(run.metrics):  # what a kill kept from being sent
            self._send(row)
        self._page = runpage.Live(run, requests, step, self._total)
        self._page.show(step)
        report("page", 1, 1, relative(run.report))
        self._pictures.begin()

    def __call__(self, event: Event) -> None:
        """Hands one event on to all."""
        self._send(self._tracker.log(event))
        self._step = event.step
        self._tell(event)
        if isinstance(event, Stopped):
            self.finished, self.reason = event.finished, event.reason
        if not self._wish.reason():  # a signal gives little time, which is for saving
            self._pictures.after(event)
            self._page.show(event.step)

    def _tell(self, event: Event) -> None:
        """Moves the progress bar, if there is something new to say."""
        if isinstance(event, training.Noted):
            self._report("steps", 1, 1, event.note)
        self._note, self._covered = _note(event) or self._note, _coverage(event) or self._covered
        said = (event.step, "  ".join(filter(None, (self._note, self._covered))))
        if said != self._said:
            self._said = said
            self._report("train", said[0], self._total, said[1])

    def close(self, state: registry.State, why: str) -> None:
        """Closes the logs, and says how the training ended; where it did not, the page says how to go on."""
        self._tracker.close()
        if state != "FINISHED":
            self._page.leave(self._step, why)
        for board in self._boards:
            board.close(state, why)
        self._complain()

    def _send(self, row: Row) -> None:
        for board in self._boards:
            board.log(numbers(row), int(row["step"]), float(row.get("time", 0.0)))
        self._complain()

    def _complain(self) -> None:
        """Tells each trouble once."""
        for trouble in filter(None, (each.trouble for each in (*self._boards, self._pictures))):
            if trouble not in self._told:
                self._told.add(trouble)
                self._report("track", 1, 1, trouble)


def _boards(run: Run, recipe: Recipe, checkpoint: Checkpoint) -> list[Any]:
    """Who keeps figures beside the run's folder, as the recipe asks."""
    track, project = recipe.track, Project(run.root.parent.parent)
    check_trackers(recipe)
    address = track.store or registry.of_file(project.store)

    def told() -> registry.About:
        return origin.about(run, recipe, origin.of_run(run, recipe, checkpoint), address)

    boards: list[Any] = []
    if track.wandb:
        boards.append(registry.Board(run.root, told()))
    if track.mlflow:
        boards.append(registry.Tracking(run.root, address, told))
    return boards


def _note(event: Event) -> str:
    if isinstance(event, training.Step):
        return f"loss {event.loss:.4f}  {event.images_per_second:.0f} pictures/s"
    if isinstance(event, training.Validated):
        return f"validation loss {100 * math.expm1(event.log_ratio):+.1f} % against the base"
    return ""


def _coverage(event: Event) -> str:
    if not isinstance(event, training.Covered):
        return ""
    place = "" if event.complete else " so far"
    return f"epoch {event.epoch}{place}: {100 * event.coverage:.4g} % of the pictures used"
