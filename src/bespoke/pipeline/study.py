"""Optuna's study of a recipe: what it asks to be tried, what it was told, and where it goes on after a kill."""

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bespoke.errors import BespokeError
from bespoke.pipeline.prepare import Prepared, prepare
from bespoke.pipeline.space import Space, default_of, written
from bespoke.pipeline.train import begun
from bespoke.pipeline.trials import Outcome
from bespoke.workspace import Run

QUIET = ("sample.sample_every_n_steps=0", "train.save_every_n_epochs=0")
"""What a trial leaves out, since nobody looks at it while it runs."""
STARTUP = 5
"""Trials before any is ended early."""


@dataclass(frozen=True)
class Trial:
    """One training of a sweep."""

    number: int
    settings: dict[str, Any]
    score: float | None
    """What trainings are compared by; 0 is the base, and lower is better."""
    curve: tuple[tuple[int, float], ...]
    """The log-ratio of the validation loss to the base's over the training, by percent of its steps."""
    state: str
    """`complete`, `ended early`, `failed`."""
    run: str
    seconds: float
    why: str = ""


class Study:
    """A study in the project's `sweep.db`, and the runs that it begins."""

    def __init__(self, recipe: Path, overrides: tuple[str, ...], first: Prepared, space: Space) -> None:
        self.optuna = _optuna()
        self.recipe, self.overrides, self.first, self.space = recipe, overrides, first, space
        self.settings, self.project = first.recipe.sweep, first.project
        self.name = _name(first, space)
        self._open: dict[int, Any] = {}
        self._study: Any = self.optuna.create_study(
            storage=f"sqlite:///{(self.project.root / 'sweep.db').resolve()}", study_name=self.name,
            direction="minimize", load_if_exists=True,
        )  # fmt: skip
        self._settled = written("train.mixed_precision", self._format())
        self._go_on()

    @property
    def folder(self) -> Path:
        """Where its page lies."""
        return self.project.root / "sweeps" / self.name

    def ask(self) -> tuple[int, Run] | None:
        """The number and the run of the next training, begun or gone on with; nothing where there are enough."""
        if self.enough(waiting=len(self._open)):
            return None
        optuna, number = self.optuna, len(self._study.trials)
        # The sampler is made anew for each trial, so that its choices depend on the trials before alone.
        self._study.sampler = optuna.samplers.TPESampler(
            seed=self.settings.seed * 100_003 + number, multivariate=True, n_startup_trials=STARTUP,
            constant_liar=self.settings.backend == "ray",  # those that run beside it are thought poor
        )  # fmt: skip
        self._study.pruner = optuna.pruners.MedianPruner(n_startup_trials=STARTUP, n_warmup_steps=25)
        trial = self._study.ask()
        settings = [written(key, values.suggested(trial, key)) for key, values in self.space.items()]
        self._open[trial.number] = trial
        return trial.number, self._run(trial, settings)

    def heard(self, number: int, percent: int, score: float) -> bool:
        """Takes in a training's validation; whether it is to be ended."""
        trial = self._open[number]
        trial.report(score, percent)
        return self.settings.prune and bool(trial.should_prune())

    def tell(self, number: int, outcome: Outcome) -> None:
        """Takes in what came of a training, and removes what nobody needs of it."""
        trial, states = self._open.pop(number), self.optuna.trial.TrialState
        trial.set_user_attr("seconds", trial.user_attrs.get("seconds", 0.0) + outcome.seconds)
        trial.set_user_attr("why", outcome.why)
        complete = outcome.score is not None
        self._study.tell(trial, outcome.score, state=states.COMPLETE if complete else states.PRUNED)
        _tidy(Run(self.project.runs / trial.user_attrs["run"]), whole=complete)

    def enough(self, waiting: int = 0) -> str | None:
        """Why no other training begins, where so many are under way."""
        if len(self._over()) + waiting >= self.settings.trials:
            return f"{self.settings.trials} trials"
        if self.settings.minutes and self._seconds() >= 60 * self.settings.minutes:
            return f"{self.settings.minutes:g} minutes of training"
        return None

    def trials(self) -> tuple[Trial, ...]:
        """All that are over, in their order."""
        return tuple(self._told(trial) for trial in self._over())

    def _format(self) -> str:
        """The number format that all trials compute in, unless it is among what is tried: as the first call found it.

        Whether bfloat16 is fast is measured, and on a busy machine another process may find otherwise.
        """
        kept = self._study.user_attrs.get("mixed_precision")
        if kept is None:
            kept = self.first.recipe.train.mixed_precision
            self._study.set_user_attr("mixed_precision", kept)
        return str(kept)

    def _go_on(self) -> None:
        """Puts trials that a kill cut off first in the queue, with their runs; a new study begins with the defaults."""
        trials, state = self._study.get_trials(deepcopy=False), self.optuna.trial.TrialState
        for trial in trials:
            if trial.state == state.RUNNING:
                self._study.tell(trial.number, state=state.FAIL)
                self._study.enqueue_trial(trial.params, user_attrs={"run": trial.user_attrs.get("run", "")})
        if not trials:
            own = {key: default_of(self.first.recipe, key) for key in self.space}
            self._study.enqueue_trial({key: value for key, value in own.items() if self.space[key].holds(value)})

    def _told(self, trial: Any) -> Trial:
        complete = trial.state == self.optuna.trial.TrialState.COMPLETE
        why = str(trial.user_attrs.get("why", ""))
        state = "complete" if complete else ("failed" if why.startswith("failed") else "ended early")
        curve = tuple(sorted(trial.intermediate_values.items()))
        # What was ended early has no scorecard, and of validation what it had come to.
        score = trial.value if complete else None
        if not complete and curve and self.settings.by == "validation":
            score = min(value for _, value in curve)
        return Trial(
            trial.number, dict(trial.params), score, curve, state, str(trial.user_attrs.get("run", "")),
            float(trial.user_attrs.get("seconds", 0.0)), why,
        )  # fmt: skip

    def _over(self) -> list[Any]:
        state = self.optuna.trial.TrialState
        return [trial for trial in self._study.trials if trial.state in (state.COMPLETE, state.PRUNED)]

    def _seconds(self) -> float:
        return sum(trial.user_attrs.get("seconds", 0.0) for trial in self._study.trials)

    def _run(self, trial: Any, settings: list[str]) -> Run:
        """The run of a trial: that which a kill cut off, or a new one."""
        before = str(trial.user_attrs.get("run", ""))
        run = Run(self.project.runs / before)
        if before and run.recipe.is_file():
            return run
        made = begun(prepare(self.recipe, [self._settled, *self.overrides, *QUIET, *settings]))
        trial.set_user_attr("run", made.root.name)
        return made


def _tidy(run: Run, *, whole: bool) -> None:
    """Removes what nobody goes on with: states and, of what was ended early, the weights."""
    for folder in (run.root / "state", *(() if whole else (run.last, run.model))):
        shutil.rmtree(folder, ignore_errors=True)
    if not whole:
        run.adapter.unlink(missing_ok=True)


def _name(first: Prepared, space: Space) -> str:
    """The study's name: another for another recipe, space or measure, but not for more trials.

    Number formats count as they are asked for: what a machine derives of them it may derive otherwise the next time.
    """
    by, asked = first.recipe.sweep.by, first.asked
    unseen = {"sweep", "track"} | ({"sample", "evaluate"} if by == "validation" else set())
    content = first.recipe.model_dump(mode="json", exclude=unseen)
    content["train"]["mixed_precision"] = asked.train.mixed_precision
    content["model"]["weight_dtype"] = asked.model.weight_dtype
    told: list[Any] = [content, {key: repr(values) for key, values in space.items()}]
    key = json.dumps(told if by == "validation" else [*told, by], sort_keys=True)
    return hashlib.sha256(key.encode()).hexdigest()[:8]


def _optuna() -> Any:
    """Optuna, quiet. Raises: BespokeError when it is not installed."""
    try:
        import optuna
    except ImportError:
        raise BespokeError("bespoke sweep needs Optuna.", "pip install 'bespoke[search]'") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna
