"""The training itself, as a generator: it yields what happens, and the caller logs, shows, draws and stops."""

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from bespoke.diffusion import Schedule
from bespoke.diffusion.timesteps import cumulative
from bespoke.errors import BespokeError
from bespoke.hardware import peak_memory_gb
from bespoke.models import Tuned
from bespoke.models.norms import limit_norms
from bespoke.models.shards import own, whole
from bespoke.recipe import Recipe
from bespoke.training import objective, sharding, state
from bespoke.training.average import Average
from bespoke.training.batch import Batch, Undrawn
from bespoke.training.batches import Choices, Material, Stream
from bespoke.training.captured import Captured, Graphs, Recorder, Work, hindrances
from bespoke.training.events import Covered, Event, Kept, Noted, Saved, Staged, Step, Stopped, Validated
from bespoke.training.loader import Loader
from bespoke.training.optim import at_rest, make_recordable, optimizer_of, rate_at, set_rate, step_if
from bespoke.training.stages import begins_with_the_best, stages
from bespoke.training.state import Progress, Setting
from bespoke.training.step import losses, weighted
from bespoke.training.stopping import FEWEST, Patience
from bespoke.training.validate import Measurement, Validator, gap
from bespoke.training.weights import Offloaded, Weights
from bespoke.training.window import Window
from bespoke.workspace import Run

ALL_STEPS = "all steps done"


class Trainer:
    """One training: the networks, the optimizer, and all that a state holds."""

    def __init__(
        self, network: Tuned, material: Material, schedule: Schedule, recipe: Recipe, run: Run, accelerator: Accelerator
    ) -> None:
        train = recipe.train
        self.recipe, self.train, self.run, self.accelerator = recipe, train, run, accelerator
        self.bare, self.sharded = network.train(), sharding.applies(train, accelerator)
        self.network: Any = sharding.prepared(network, recipe, accelerator)
        self.weights = (Offloaded if train.offload_optimizer else Weights)(network.trainable())
        self.parameters = self.weights.moved
        self.average = Average(self.parameters, train.ema_decay if train.use_ema else None)
        self.schedule, self.loss = schedule.to(accelerator.device), objective.loss(train)
        self.weighting = objective.weighting(train)
        self.material, self.stages = material, stages(recipe)
        size = _asked(train.train_batch_size)
        self.validator = Validator(material, recipe.validation, schedule, size, accelerator, even=self.sharded)
        self.progress = Progress()
        self._share(size * accelerator.num_processes)
        self.captured: Captured | None = None
        self.optimizer: Any = self._fresh_optimizer()
        asked, processes = train.cuda_graph, accelerator.num_processes
        self._hindrances = hindrances(recipe, self.bare, accelerator.device, processes) if asked else []
        self._told = False
        if asked and not self._hindrances:
            self.record_with(Graphs(accelerator.device))

    def restore(self, folder: Path) -> None:
        """Continues from a state, as if nothing had happened; also with another number of processes.

        Raises: BespokeError when the recipe or the training pictures are not those that the state was made with.
        """
        kept = state.Kept.read(folder)
        kept.setting.check(self.setting, folder)
        self._share(kept.setting.pass_size)
        state.restore(folder, self.parameters, self.optimizer.optimizer, self.average)
        self.weights.shown()
        self.progress = kept.progress
        if kept.scaler and self.accelerator.scaler:
            self.accelerator.scaler.load_state_dict(kept.scaler)

    @property
    def setting(self) -> Setting:
        """What must be the same when this training goes on."""
        return Setting.of(self.recipe, self.material.fingerprint, self.pass_size)

    def fit(self, should_stop: Callable[[], str | None] = lambda: None) -> Iterator[Event]:
        """Trains to the end, yielding events; `should_stop` may give a reason to save and stop before.

        Raises: BespokeError when too many gradients in a row are no numbers; the newest state was saved before that.
        """
        with self.loader.running():
            for event in self._events(should_stop):
                yield event
                if self.captured:
                    self.captured.check()

    def _events(self, should_stop: Callable[[], str | None]) -> Iterator[Event]:
        yield from self._notes()
        if self.progress.step == 0:
            yield from self._validate()
        window, wish = Window(self.accelerator.device), None
        while not self.progress.ended and wish is None:
            self.step(window)
            yield from self._notes()
            step, wish = self.progress.step, self._agreed(should_stop())
            over = step == self.progress.began + _asked(self.stages[self.progress.stage].max_train_steps)
            if step % self.train.log_every == 0 or over or wish:
                yield self._report(window)
                window.restart()
            measured = step % _asked(self.recipe.validation.validation_steps) == 0 or over
            if measured:
                yield from self._validate()
            stage = self.progress.stage
            yield from self._advance(over=over, measured=measured)
            yield from self._covered(whole=bool(self.progress.ended))
            # A stage that began with the best weights goes on from its state, not from what is the best by then.
            begun = self.progress.ended or self.progress.stage != stage
            if step % _asked(self.train.checkpointing_steps) == 0 or begun or wish:
                yield self._save()
        yield self._stop(wish)

    def _agreed(self, reason: str | None) -> str | None:
        """The reason to stop, if any of the processes has one: all must stop after the same step."""
        if self.accelerator.num_processes == 1:
            return reason
        if reason:
            self.accelerator.set_trigger()
        return (reason or "stopped by another process") if self.accelerator.check_trigger() else None

    def record_with(self, recorder: Recorder) -> None:
        """Has steps recorded and played back from now on, by a fresh optimizer; so it is called before the first."""
        self.captured = Captured(self.work, self.bare, recorder)
        self.optimizer = self._fresh_optimizer()

    def step(self, window: Window) -> None:
        """One optimizer step over as many passes as the recipe accumulates; nothing here waits for the device."""
        passes, progress = self.train.gradient_accumulation_steps, self.progress
        window.rate = rate_at(progress.step - progress.began, self.stages[progress.stage])
        set_rate(self.optimizer, window.rate)
        self.average.weigh(progress.step + 1)
        work: Work = self.captured or self.work
        for number in range(passes):
            turn = progress.step * passes + number
            self._seed(turn)
            work(self.loader.batch(turn), window, last=number == passes - 1)
        window.counted(passes * self.pass_size)
        self.progress = replace(progress, step=progress.step + 1)

    def work(self, batch: Batch | Undrawn, window: Window, *, last: bool) -> None:
        """What the device does in a pass and, after a step's last one, the step: all that a recording holds."""
        ready = batch.drawn()
        errors = losses(self.network, ready, self.schedule, self.loss, self.bare.of_base)
        loss = weighted(errors, ready, self.schedule, self.weighting).mean() / self.train.gradient_accumulation_steps
        self.accelerator.backward(loss)
        window.add(loss.detach())
        if last:
            self._move(window)

    def _move(self, window: Window) -> None:
        """Moves the weights by the gradients that are there, unless these are no numbers."""
        self.weights.arrived()
        norm: Any = self.accelerator.clip_grad_norm_(list(self.parameters.values()), self.train.max_grad_norm)
        length = whole(norm)
        good = window.stepped(length.to(self.accelerator.device)).to(length.device)
        step_if(good, self.optimizer, scaled=self.accelerator.scaler is not None)
        # A recording of a later pass adds to the gradients where they are.
        stay = self.captured is not None and self.train.gradient_accumulation_steps > 1
        self.optimizer.zero_grad(set_to_none=not stay)
        self.weights.shown(wait=False)
        if self.train.max_adapter_norm:
            limit_norms(self.bare, self.train.max_adapter_norm)
            self.weights.taken()
        self.average.take()

    def _seed(self, turn: int) -> None:
        """Seeds torch's own streams for a pass, from which dropout draws."""
        place = turn * self.accelerator.num_processes + self.accelerator.process_index
        torch.manual_seed((self.train.seed << 32) + place)

    def _notes(self) -> Iterator[Noted]:
        """Why steps are not played back, if that was wished; said once."""
        trouble = self.captured.trouble if self.captured else ""
        why = [*self._hindrances, *filter(None, (trouble,))]
        if why and not self._told:
            self._told = True
            yield Noted(self.progress.step, f"Steps are not played back as CUDA graphs: {'; '.join(why)}.")

    def _report(self, window: Window) -> Step:
        """The window's means; here the host waits for the device."""
        if int(window.in_a_row) >= self.train.max_skipped_steps:
            raise self._lost()
        loss, norm = window.means(self.accelerator)
        epoch = self.progress.step * self.train.gradient_accumulation_steps * self.pass_size / self.stream.epoch
        rate, length = window.images_per_second(), float(self._length())
        memory, memory_there = peak_memory_gb()
        skipped = int(window.skipped)
        return Step(self.progress.step, loss, window.rate, norm, rate, epoch, length, skipped, memory, memory_there)

    def _advance(self, *, over: bool, measured: bool) -> Iterator[Event]:
        """Ends the stage if its steps are done or patience is: then the next begins, or the training is over."""
        progress = self.progress
        early = self._agreed(progress.patience.verdict(self.recipe.validation)) if measured else None
        if not (over or early):
            return
        reason, following = early or ALL_STEPS, progress.stage + 1
        if following == len(self.stages):
            self.progress = replace(progress, ended=reason)
            return
        if begins_with_the_best(self.recipe, following) and progress.best_step:
            self.accelerator.wait_for_everyone()
            self.bare.load(self.best)
            self.weights.taken()
        self.optimizer = self._fresh_optimizer()
        self.average.restart()
        self.progress = replace(progress, stage=following, began=progress.step, patience=Patience())
        yield Staged(progress.step, following, reason)

    def _covered(self, *, whole: bool) -> Iterator[Event]:
        """What the epochs that this step ended were trained on; at the end of the `whole`, also the one begun."""
        step, passes, order = self.progress.step, self.train.gradient_accumulation_steps, self.stream.order
        before, after = (order.epochs_over(steps * passes) for steps in (step - 1, step))
        for epoch in range(before, after):
            yield self._used(epoch, complete=True)
        every = self.train.save_every_n_epochs
        if every and after // every > before // every:
            yield self._keep(after)
        if whole and self.stream.used(after, step * passes):
            yield self._used(after, complete=False)

    def _used(self, epoch: int, *, complete: bool) -> Covered:
        step, all_of_them = self.progress.step, max(1, self.stream.pictures)
        used = self.stream.used(epoch, step * self.train.gradient_accumulation_steps)
        return Covered(step, epoch + 1, used, used / all_of_them, complete)

    def _validate(self) -> Iterator[Validated]:
        """Measures the network, and keeps it if it is the best so far; the base is measured once.

        The bare network answers as the one that is trained does, and lets processes go forward unequally often.
        """
        if not self.validator:
            return
        progress, settings = self.progress, self.recipe.validation
        found: dict[str, Measurement] = {}
        if not progress.base:
            with self.bare.untouched():
                found = self.validator(self.bare, self.accelerator.device)
            progress = replace(progress, base={name: m.losses.tolist() for name, m in found.items()})
        base = {name: Measurement(np.array(values)) for name, values in progress.base.items()}
        with self.for_use():
            again = not found or not self.bare.fresh
            measured = self.validator(self.bare, self.accelerator.device) if again else found
            now, score = measured["validation"], measured["validation"].log_ratio(base["validation"])
            warmup = settings.early_stopping_warmup * _asked(self.stages[progress.stage].max_train_steps)
            warm = progress.step - progress.began > warmup
            patience, chance = progress.patience.after(now, progress.step, settings, warm=warm)
            best = progress.step > 0 and score < progress.best_score
            if best:
                progress = replace(progress, best_step=progress.step, best_score=score)
                self._write(self.best)
        self.progress = replace(progress, patience=patience)
        others = {name: m.log_ratio(base[name]) for name, m in measured.items() if name != "validation"}
        probe = (now, measured["probe"], (base["validation"], base["probe"])) if "probe" in measured else None
        apart = gap(*probe) if probe else None
        yield Validated(
            progress.step, now.mean, score, tuple(now.bands(base["validation"])), best, others, apart, chance
        )

    def _keep(self, epoch: int) -> Kept:
        folder = self.run.checkpoint(epoch)
        with self.for_use():
            self._write(folder)
        return Kept(self.progress.step, epoch, folder)

    def _save(self) -> Saved:
        if not bool(self._length().isfinite()):
            raise self._lost()  # such a state is worth nothing
        scaler = self.accelerator.scaler.state_dict() if self.accelerator.scaler else None
        plain: torch.optim.Optimizer = self.optimizer.optimizer
        if self.accelerator.is_main_process:
            kept = state.save(self.run, self.progress, self.parameters, plain, self.average, scaler, self.setting)
            best = self.run.state(self.progress.best_step)
            state.prune(self.run, self.train.checkpoints_total_limit, kept, best)
        elif self.sharded:
            state.help_save(self.parameters, plain, self.average)
        return Saved(self.progress.step, self.run.state(self.progress.step))

    def _stop(self, wish: str | None) -> Stopped:
        """Writes the last weights; where validation never fell below the base, the last ones are the best there are."""
        progress = self.progress
        if wish is not None and not progress.ended:
            return Stopped(progress.step, progress.best_step, wish, finished=False)
        with self.for_use():
            self._write(self.run.last)
            if not progress.best_step:
                self._write(self.best)
        return Stopped(progress.step, progress.best_step, self._why(), finished=True)

    def _why(self) -> str:
        progress = self.progress
        if not self.validator:
            return f"{progress.ended}; without validation pictures the last step is kept"
        few = len(self.material.validation)
        note = f" ({few} validation pictures are too few to stop early)" if few < FEWEST else ""
        if not progress.best_step:
            return f"{progress.ended}{note}; validation never fell below the base, so the last step is kept"
        return f"{progress.ended}{note}; validation was best at step {progress.best_step}"

    def _lost(self) -> BespokeError:
        kept = state.newest(self.run)
        problem = f"The loss is no longer a number at step {self.progress.step}: no step since can be used."
        hint = 'Lower train.learning_rate, or set train.mixed_precision = "no". '
        return BespokeError(problem, hint + (f"The last good state is {kept}." if kept else "Nothing was saved yet."))

    @property
    def best(self) -> Path:
        """The folder of the best weights."""
        return self.run.root if self.bare.adapted else self.run.model

    def _write(self, folder: Path) -> None:
        if self.accelerator.is_main_process:
            self.bare.save(folder)
        elif self.sharded:
            self.bare.help_save()

    def _length(self) -> torch.Tensor:
        """The length of all trained weights together; no number where one of them is none."""
        length = torch.stack([own(parameter.detach()).norm() for parameter in self.parameters.values()]).norm()
        if not self.sharded:
            return length
        squares: Any = self.accelerator.reduce(length.square(), reduction="sum")
        return squares.sqrt()

    def _share(self, pass_size: int) -> None:
        """Divides a pass's pictures among the processes, and lays out the sequence of all passes."""
        processes, train = self.accelerator.num_processes, self.train
        if pass_size % processes:
            hint = "Go on with a number of processes that divides it."
            raise BespokeError(f"A pass of {pass_size} pictures cannot be shared by {processes} processes.", hint)
        self.pass_size, self.size = pass_size, pass_size // processes
        empty, share = self.recipe.text.proportion_empty_prompts, self.recipe.augment.share
        choices = Choices(
            train.seed,
            self.schedule.steps,
            empty,
            train.noise_offset,
            share,
            objective.pyramid(train),
            train.input_perturbation,
            cumulative(objective.sampling(train), self.schedule.steps),
            on_device=train.noise_source == "device",
        )
        self.stream = Stream(self.material, choices, pass_size)
        share = (self.accelerator.process_index, processes)
        self.loader = Loader(self.stream, self.accelerator.device, share, pass_size)

    def _fresh_optimizer(self) -> Any:
        made = optimizer_of(self.parameters, self.train, self.recipe.words.learning_rate)
        prepared: Any = self.accelerator.prepare_optimizer(made)
        if self.captured:
            make_recordable(prepared.optimizer)
            self.captured.forget()
        return prepared

    @contextmanager
    def for_use(self) -> Generator[None, None, None]:
        """A block in which the weights are those that validation measures, that draw and that are written."""
        try:
            with at_rest(self.optimizer.optimizer, self.parameters), self.average.in_place():
                self.weights.shown()
                yield
        finally:
            self.weights.shown()


def _asked(value: int | None) -> int:
    """A value of a resolved recipe, in which nothing is left open."""
    assert value is not None
    return value
