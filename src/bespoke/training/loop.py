"""The training itself, as a generator: it yields what happens, and the caller logs, shows, draws and stops."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from bespoke.diffusion import Schedule
from bespoke.errors import BespokeError
from bespoke.models import adapters
from bespoke.recipe import Recipe
from bespoke.training import state
from bespoke.training.average import Average
from bespoke.training.batches import Choices, Material, Stream
from bespoke.training.optim import adamw, rate_at
from bespoke.training.state import Progress
from bespoke.training.step import losses, weighted
from bespoke.training.validate import Measurement, Validator
from bespoke.workspace import Run


@dataclass(frozen=True)
class Step:
    """Some steps were made; the figures are means since the last such event."""

    step: int
    loss: float
    learning_rate: float
    gradient_norm: float
    images_per_second: float
    epoch: float


@dataclass(frozen=True)
class Validated:
    """The adapter was measured on the validation pictures."""

    step: int
    loss: float
    log_ratio: float
    bands: tuple[float, ...]
    best: bool


@dataclass(frozen=True)
class Covered:
    """An epoch is over, or the training is within one: how many of the person's pictures were trained on for it."""

    step: int
    epoch: int
    """Counted from 1."""
    pictures: int
    """How many were used, each counted once."""
    coverage: float
    """Their share of all training pictures; a picture that counts less than 1 may be missing."""
    complete: bool


@dataclass(frozen=True)
class Saved:
    """A state to resume from is on disk."""

    step: int
    folder: Path


@dataclass(frozen=True)
class Stopped:
    """The training is over."""

    step: int
    best_step: int
    reason: str
    finished: bool


Event = Step | Covered | Validated | Saved | Stopped


class Trainer:
    """One training: the network with its adapter, the optimizer, and all that a state holds."""

    def __init__(
        self, network: Any, material: Material, schedule: Schedule, recipe: Recipe, run: Run, accelerator: Accelerator
    ) -> None:
        train = recipe.train
        self.recipe, self.train, self.run, self.accelerator = recipe, train, run, accelerator
        self.bare = network.train()
        self.parameters = adapters.trainable(network)
        self.average = Average(self.parameters, train.ema_decay if train.use_ema else None)
        self.network: Any = accelerator.prepare_model(network)
        self.optimizer: Any = accelerator.prepare_optimizer(adamw(self.parameters.values(), train))
        self.schedule = schedule.to(accelerator.device)
        choices = Choices(train.seed, schedule.steps, recipe.text.proportion_empty_prompts, train.noise_offset)
        self.stream = Stream(material, choices, _asked(train.train_batch_size) * accelerator.num_processes)
        self.validator = Validator(material, recipe.validation, schedule, _asked(train.train_batch_size))
        self.progress = Progress()

    def restore(self, folder: Path) -> None:
        """Continues from a state, as if nothing had happened."""
        plain: torch.optim.Optimizer = self.optimizer.optimizer
        self.progress, scaler = state.restore(folder, self.parameters, plain, self.average)
        if scaler and self.accelerator.scaler:
            self.accelerator.scaler.load_state_dict(scaler)

    def fit(self, should_stop: Callable[[], str | None] = lambda: None) -> Iterator[Event]:
        """Trains to the last step, yielding events; `should_stop` may give a reason to save and stop before.

        Raises: BespokeError when the loss is no longer a number; the newest state was saved before that.
        """
        total, reason = _asked(self.train.max_train_steps), None
        if self.progress.step == 0:
            yield from self._validate()
        window = _Window()
        while self.progress.step < total and reason is None:
            self._step(window)
            step, reason = self.progress.step, self._agreed(should_stop())
            last = step == total or reason is not None
            if step % self.train.log_every == 0 or last:
                yield self._report(window)
                window = _Window()
            yield from self._covered(whole=step == total)
            if step % _asked(self.recipe.validation.validation_steps) == 0 or step == total:
                yield from self._validate()
            if step % _asked(self.train.checkpointing_steps) == 0 or last:
                yield self._save()
        yield self._stop(reason)

    def _agreed(self, reason: str | None) -> str | None:
        """The reason to stop, if any of the processes has one: all must stop after the same step."""
        if self.accelerator.num_processes == 1:
            return reason
        if reason:
            self.accelerator.set_trigger()
        return (reason or "stopped by another process") if self.accelerator.check_trigger() else None

    def _step(self, window: "_Window") -> None:
        """One optimizer step over as many passes as the recipe accumulates; nothing here waits for the device."""
        size, passes = _asked(self.train.train_batch_size), self.train.gradient_accumulation_steps
        workers = self.accelerator
        # Dropout draws from torch's own stream.
        torch.manual_seed((self.train.seed << 32) + self.progress.step)
        for number in range(passes):
            first = ((self.progress.step * passes + number) * workers.num_processes + workers.process_index) * size
            batch = self.stream.batch(first, size).to(workers.device)
            errors = losses(self.network, batch, self.schedule)
            loss = weighted(errors, batch, self.schedule, self.train.snr_gamma).mean() / passes
            workers.backward(loss)
            window.add(loss.detach(), size * workers.num_processes)
        norm = workers.clip_grad_norm_(list(self.parameters.values()), self.train.max_grad_norm)
        window.rate = rate_at(self.progress.step, self.train)
        for group in self.optimizer.param_groups:
            group["lr"] = window.rate
        self.optimizer.step()
        self.optimizer.zero_grad()
        window.stepped(norm)
        self.progress = replace(self.progress, step=self.progress.step + 1)
        self.average.update(self.progress.step)

    def _report(self, window: "_Window") -> Step:
        """The window's means; here the host waits for the device, and a loss that is no number is noticed."""
        shared: Any = self.accelerator.reduce(torch.as_tensor(window.loss), reduction="mean")
        window.loss = shared
        loss, norm = window.means()
        if not math.isfinite(loss):
            raise self._lost()
        size = _asked(self.train.train_batch_size) * self.train.gradient_accumulation_steps
        epoch = self.progress.step * size * self.accelerator.num_processes / self.stream.epoch
        return Step(self.progress.step, loss, window.rate, norm, window.images_per_second(), epoch)

    def _covered(self, *, whole: bool) -> Iterator[Covered]:
        """What the epochs that this step ended were trained on; at the end of the `whole`, also the one begun."""
        step, passes, order = self.progress.step, self.train.gradient_accumulation_steps, self.stream.order
        before, after = (order.epochs_over(steps * passes) for steps in (step - 1, step))
        for epoch in range(before, after):
            yield self._used(epoch, complete=True)
        if whole and self.stream.used(after, step * passes):
            yield self._used(after, complete=False)

    def _used(self, epoch: int, *, complete: bool) -> Covered:
        step, all_of_them = self.progress.step, max(1, self.stream.pictures)
        used = self.stream.used(epoch, step * self.train.gradient_accumulation_steps)
        return Covered(step, epoch + 1, used, used / all_of_them, complete)

    def _lost(self) -> BespokeError:
        kept = state.newest(self.run)
        problem = f"The loss is no longer a number at step {self.progress.step}."
        hint = 'Lower train.learning_rate, or set train.mixed_precision = "no". '
        return BespokeError(problem, hint + (f"The last good state is {kept}." if kept else "Nothing was saved yet."))

    def _validate(self) -> Iterator[Validated]:
        """Measures the adapter, and keeps it if it is the best so far; the first measurement is the base's."""
        if not self.validator:
            return
        with self.average.in_place():
            now = self.validator(self.network, self.accelerator.device)
            if not self.progress.base_losses:
                self.progress = replace(self.progress, base_losses=now.losses.tolist())
            base = Measurement(torch.tensor(self.progress.base_losses, dtype=torch.float64).numpy())
            score, step = now.log_ratio(base), self.progress.step
            best = step > 0 and score < self.progress.best_score
            if best:
                self.progress = replace(self.progress, best_step=step, best_score=score)
                self._write_adapter(self.run.adapter)
        yield Validated(step, now.mean, score, tuple(now.bands(base)), best)

    def _save(self) -> Saved:
        if not all(bool(parameter.isfinite().all()) for parameter in self.parameters.values()):
            raise self._lost()  # between two reports nobody has looked, and such a state is worth nothing
        scaler = self.accelerator.scaler.state_dict() if self.accelerator.scaler else None
        plain: torch.optim.Optimizer = self.optimizer.optimizer
        if self.accelerator.is_main_process:
            kept = state.save(self.run, self.progress, self.parameters, plain, self.average, scaler)
            state.prune(self.run, self.train.checkpoints_total_limit, kept)
        return Saved(self.progress.step, self.run.state(self.progress.step))

    def _stop(self, reason: str | None) -> Stopped:
        """Writes the last adapter; where validation never fell below the base, the last one is the best there is."""
        if reason is not None:
            return Stopped(self.progress.step, self.progress.best_step, reason, finished=False)
        with self.average.in_place():
            self._write_adapter(self.run.last / "adapter.safetensors")
            if not self.progress.best_step:
                self._write_adapter(self.run.adapter)
        return Stopped(
            self.progress.step,
            self.progress.best_step,
            _why(self.progress, validated=bool(self.validator)),
            finished=True,
        )

    def _write_adapter(self, path: Path) -> None:
        if self.accelerator.is_main_process:
            adapters.save(self.bare, path)


class _Window:
    """Sums since the last report, kept on the device."""

    def __init__(self) -> None:
        self.began, self.images, self.steps, self.rate = time.perf_counter(), 0, 0, 0.0
        self.loss: torch.Tensor | float = 0.0
        self.norm: torch.Tensor | float = 0.0

    def add(self, loss: torch.Tensor, images: int) -> None:
        """Takes in one pass."""
        self.loss, self.images = self.loss + loss, self.images + images

    def stepped(self, norm: Any) -> None:
        """Takes in one optimizer step."""
        self.norm, self.steps = self.norm + norm, self.steps + 1

    def means(self) -> tuple[float, float]:
        """The mean loss and gradient norm of a step."""
        return float(self.loss) / self.steps, float(self.norm) / self.steps

    def images_per_second(self) -> float:
        """The rate since the window began."""
        return self.images / max(1e-9, time.perf_counter() - self.began)


def _why(progress: Progress, *, validated: bool) -> str:
    if not validated:
        return "all steps done; without validation pictures the last step is kept"
    if not progress.best_step:
        return "all steps done; validation never fell below the base, so the last step is kept"
    return f"all steps done; validation was best at step {progress.best_step}"


def _asked(value: int | None) -> int:
    """A value of a resolved recipe, in which nothing is left open."""
    assert value is not None
    return value
