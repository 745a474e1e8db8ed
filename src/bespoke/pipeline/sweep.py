"""Settings found by trying: trainings by Optuna's choice of settings, the poor ones ended early, all of them kept."""

import hashlib
import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bespoke import recipe as recipes
from bespoke.errors import BespokeError, Interrupted
from bespoke.pipeline import sweeppage
from bespoke.pipeline.prepare import Prepared, prepare
from bespoke.pipeline.reporting import Reporter, silent
from bespoke.pipeline.space import Space, default_of, space_of, written
from bespoke.pipeline.train import begun, carried_out
from bespoke.recipe import Recipe
from bespoke.training import Event, Validated, read
from bespoke.workspace import Run, write_text

QUIET = ("sample.sample_every_n_steps=0", "train.save_every_n_epochs=0")
"""What a trial leaves out, since nobody looks at it while it runs."""
STARTUP = 5
"""Trials before any is ended early."""
WORST = 1.0
"""The score of a trial that gave none: a loss e times the base's."""


@dataclass(frozen=True)
class Trial:
    """One training of a sweep."""

    number: int
    settings: dict[str, Any]
    score: float | None
    """The best mean log-ratio of the validation loss to the base's; below 0 is better than the base."""
    curve: tuple[tuple[int, float], ...]
    """The log-ratio over the training, by percent of its steps."""
    state: str
    """`complete`, `ended early`, `failed`."""
    run: str
    seconds: float
    why: str = ""


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


def sweep(recipe: str | Path, overrides: Sequence[str] = (), *, report: Reporter = silent) -> Swept:
    """The best settings for a recipe by its validation loss, after `[sweep]`'s trials or minutes.

    The first trial has the recipe's own settings. The same call goes on after a kill: a training that was cut off is
    gone on with.

    Raises: BespokeError when the recipe or its space is not as it should be, there are no validation pictures, or
    Optuna is not installed; Interrupted when a signal stopped it, after saving.
    """
    first = prepare(recipe, overrides)
    if not first.validation:
        raise BespokeError("A sweep needs validation pictures to compare by.", "Raise data.validation_fraction.")
    space = space_of(first.recipe)
    _check(Path(recipe), overrides, space)
    searching = _Search(Path(recipe), tuple(overrides), first, space)
    reason = searching.run(report)
    return searching.result(reason)


def _check(recipe: Path, overrides: Sequence[str], space: Space) -> None:
    """Refuses settings that no recipe can have, before anything is trained."""
    for key, values in space.items():
        for value in values.ends:
            recipes.load(recipe, [*overrides, written(key, value)])


class _Search:
    """A study of Optuna's in the project's `sweep.db`, and the trainings that it asks for."""

    def __init__(self, recipe: Path, overrides: tuple[str, ...], first: Prepared, space: Space) -> None:
        self.optuna = _optuna()
        self.recipe, self.overrides, self.first, self.space = recipe, overrides, first, space
        self.settings, self.project = first.recipe.sweep, first.project
        self.name = _name(first.recipe, space)
        self.study: Any = self.optuna.create_study(
            storage=f"sqlite:///{(self.project.root / 'sweep.db').resolve()}", study_name=self.name,
            direction="minimize", load_if_exists=True,
        )  # fmt: skip
        self._go_on()

    def run(self, report: Reporter) -> str:
        """Makes trials until there are enough; why it ended."""
        while True:
            done = self._over()
            report("sweep", len(done), self.settings.trials, self._note())
            if len(done) >= self.settings.trials:
                return f"{self.settings.trials} trials"
            if self.settings.minutes and self._seconds() >= 60 * self.settings.minutes:
                return f"{self.settings.minutes:g} minutes of training"
            self._one(report)

    def _go_on(self) -> None:
        """Puts trials that a kill cut off first in the queue, with their runs; a new study begins with the defaults."""
        trials, state = self.study.get_trials(deepcopy=False), self.optuna.trial.TrialState
        for trial in trials:
            if trial.state == state.RUNNING:
                self.study.tell(trial.number, state=state.FAIL)
                self.study.enqueue_trial(trial.params, user_attrs={"run": trial.user_attrs.get("run", "")})
        if not trials:
            own = {key: default_of(self.first.recipe, key) for key in self.space}
            self.study.enqueue_trial({key: value for key, value in own.items() if self.space[key].holds(value)})

    def _over(self) -> list[Any]:
        state = self.optuna.trial.TrialState
        return [trial for trial in self.study.trials if trial.state in (state.COMPLETE, state.PRUNED)]

    def _seconds(self) -> float:
        return sum(trial.user_attrs.get("seconds", 0.0) for trial in self.study.trials)

    def _note(self) -> str:
        found = [trial.value for trial in self._over() if trial.value is not None]
        return f"best {min(found):+.4f}" if found else ""

    def _one(self, report: Reporter) -> None:
        """One trial, told to the study whatever becomes of it; a signal leaves it open, to be gone on with."""
        optuna, number = self.optuna, len(self.study.trials)
        # The sampler is made anew for each trial, so that its choices depend on the trials before alone.
        self.study.sampler = optuna.samplers.TPESampler(
            seed=self.settings.seed * 100_003 + number, multivariate=True, n_startup_trials=STARTUP
        )
        self.study.pruner = optuna.pruners.MedianPruner(n_startup_trials=STARTUP, n_warmup_steps=25)
        trial = self.study.ask()
        settings = [written(key, values.suggested(trial, key)) for key, values in self.space.items()]
        prepared = prepare(self.recipe, [*self.overrides, *QUIET, *settings])
        run = self._run(trial, prepared)
        heed, began = _Heed(trial, prepared.recipe, early=self.settings.prune), time.monotonic()
        state, why = optuna.trial.TrialState.COMPLETE, ""
        try:
            ended = carried_out(run, report, heed)
            if ended is None:
                state, why = optuna.trial.TrialState.PRUNED, heed.reason
        except Interrupted:
            hint = f"Everything is saved. Go on with: bespoke sweep {self.recipe}"
            raise Interrupted(130, f"The sweep stopped within trial {trial.number}. {hint}") from None
        except BespokeError as error:
            state, why = optuna.trial.TrialState.PRUNED, f"failed: {error.problem}"
        trial.set_user_attr("seconds", trial.user_attrs.get("seconds", 0.0) + time.monotonic() - began)
        trial.set_user_attr("why", why)
        complete = state == optuna.trial.TrialState.COMPLETE
        self.study.tell(trial, _score(run) if complete else None, state=state)
        _tidy(run, whole=complete)

    def _run(self, trial: Any, prepared: Prepared) -> Run:
        """The run of a trial: that which a kill cut off, or a new one."""
        before = str(trial.user_attrs.get("run", ""))
        run = Run(self.project.runs / before)
        if before and run.recipe.is_file():
            return run
        made = begun(prepared)
        trial.set_user_attr("run", made.root.name)
        return made

    def result(self, reason: str) -> Swept:
        """All trials with the best, its recipe and the page."""
        trials = tuple(_told(trial, self.optuna) for trial in self._over())
        scored = [trial for trial in trials if trial.state == "complete" and trial.score is not None]
        if not scored:
            raise BespokeError(
                f"No trial of the sweep ended well; the last one: {trials[-1].why}.", "See the recipe's [sweep]."
            )
        best = min(scored, key=lambda trial: trial.score or 0.0)
        folder = self.project.root / "sweeps" / self.name
        content = recipes.load(self.recipe, [*self.overrides, *(written(k, v) for k, v in best.settings.items())])
        write_text(folder / "recipe.toml", recipes.dump(content, {}))
        found = Swept(trials, best, trials[0], folder / "recipe.toml", folder / "index.html", reason)
        sweeppage.write(self.project.root.name, found, self.project.runs, list(self.space))
        return found


class _Heed:
    """What a trial's events say to the study: whether it is worth going on."""

    def __init__(self, trial: Any, recipe: Recipe, *, early: bool) -> None:
        self._trial, self._early, self._steps = trial, early, recipe.train.max_train_steps or 1
        self.reason = ""

    def __call__(self, event: Event) -> None:
        """Takes in one event."""
        if not isinstance(event, Validated) or event.step == 0:
            return
        self._trial.report(event.log_ratio, round(100 * event.step / self._steps))
        if self._early and self._trial.should_prune():
            self.reason = f"worse than half of the others after step {event.step}"

    def wish(self) -> str | None:
        """Why to end the training, if there is a reason."""
        return self.reason or None


def _score(run: Run) -> float:
    """The best validation of a run, also of what came before a kill."""
    rows = [row for row in read(run.metrics) if row["event"] == "validated" and int(row["step"]) > 0]
    return min((float(row["log_ratio"]) for row in rows), default=WORST)


def _told(trial: Any, optuna: Any) -> Trial:
    complete = trial.state == optuna.trial.TrialState.COMPLETE
    why = str(trial.user_attrs.get("why", ""))
    state = "complete" if complete else ("failed" if why.startswith("failed") else "ended early")
    curve = tuple(sorted(trial.intermediate_values.items()))
    score = trial.value if complete else min((value for _, value in curve), default=None)
    return Trial(
        trial.number, dict(trial.params), score, curve, state, str(trial.user_attrs.get("run", "")),
        float(trial.user_attrs.get("seconds", 0.0)), why,
    )  # fmt: skip


def _tidy(run: Run, *, whole: bool) -> None:
    """Removes what nobody goes on with: states and, of what was ended early, the weights."""
    for folder in (run.root / "state", *(() if whole else (run.last, run.model))):
        shutil.rmtree(folder, ignore_errors=True)
    if not whole:
        run.adapter.unlink(missing_ok=True)


def _name(recipe: Recipe, space: Space) -> str:
    """The study's name: another for another recipe or space, but not for more trials."""
    content = recipe.model_dump(mode="json", exclude={"sweep", "track", "sample", "evaluate"})
    key = json.dumps([content, {key: repr(values) for key, values in space.items()}], sort_keys=True)
    return hashlib.sha256(key.encode()).hexdigest()[:8]


def _optuna() -> Any:
    """Optuna, quiet. Raises: BespokeError when it is not installed."""
    try:
        import optuna
    except ImportError:
        raise BespokeError("bespoke sweep needs Optuna.", "pip install 'bespoke[search]'") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna
