"""A prepared training and a size of memory turned into the largest batch that fits in it."""

import gc
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch

from bespoke.diffusion import schedule_of
from bespoke.errors import BespokeError
from bespoke.hardware import free_gpu_memory, memory_size
from bespoke.models import tuned
from bespoke.pipeline.fitting import Change, Meter, gigabytes
from bespoke.pipeline.prepare import Prepared, resolved, shapes
from bespoke.pipeline.processes import accelerator
from bespoke.recipe import Recipe
from bespoke.training import Trainer
from bespoke.training.rehearsal import rehearsal, settled

ALL = "all"
"""In place of a size: whatever the GPU has free."""


def room(size: str) -> int:
    """The bytes that a size such as "12GB" names; "all" is what the GPU has free.

    Raises: BespokeError when it is no size, or there is no GPU.
    """
    if size != ALL:
        return memory_size(size)
    free = free_gpu_memory()
    if not free:
        raise BespokeError("There is no GPU whose memory could be filled.", "Say how much to take: --fill 12GB.")
    return free


def filled(prepared: Prepared, limit: int, meter: Meter) -> tuple[Prepared, tuple[Change, ...]]:
    """A prepared training with the largest batch that takes at most `limit` bytes, and what was changed for it.

    As many pictures are seen as before, in fewer steps. Passes of a step become fewer, as long as a step has no fewer
    pictures. A rate that was derived grows with the square root of the pictures of a step; one that was given stays.
    On a GPU a real step is made, and where that runs out of memory a smaller batch is taken.

    Raises: BespokeError when not even one picture at a time fits.
    Source: Malladi et al. 2022, "On the SDEs and scaling rules for adaptive gradient algorithms", for the rate.
    """
    most = _most(prepared)
    found = Filling(lambda batch: meter(_of_batch(prepared.recipe, batch)).total, most).largest(limit)
    if meter.here.device == "cuda":
        found = lowered(found, lambda batch: _works(prepared, _of_batch(prepared.recipe, batch)))
    if not found:
        hint = f"Let other settings be chosen: --fit {gigabytes(limit)}GB."
        raise BespokeError(f"Not even one picture at a time fits in {gigabytes(limit)} GB.", hint)
    recipe, reasons = resolved(_asked(prepared, found), prepared.dataset, prepared.start.checkpoint)
    limited = "all training pictures at once" if found == most else f"the largest that fits in {gigabytes(limit)} GB"
    changes = tuple(_changes(prepared.recipe, recipe, f"{limited}, by computation"))
    why = {**reasons, **{change.key: change.why for change in changes}}
    return replace(prepared, recipe=recipe, reasons=why), changes


def lowered(batch: int, fits: Callable[[int], bool]) -> int:
    """A batch, or the first of ever smaller ones, each a tenth less, that fits; 0 where none does."""
    while batch and not fits(batch):
        batch = batch * 9 // 10
    return batch


def _most(prepared: Prepared) -> int:
    """The most pictures of a pass: all that there are, or as many as the recipe has."""
    train = prepared.recipe.train
    return max(train.train_batch_size or 1, len(prepared.train) + (train.num_class_images or 0))


def _per_step(recipe: Recipe) -> int:
    return (recipe.train.train_batch_size or 1) * recipe.train.gradient_accumulation_steps


def _of_batch(recipe: Recipe, batch: int) -> Recipe:
    """A resolved recipe with another batch, and as few passes a step as make no fewer pictures."""
    passes = math.ceil(_per_step(recipe) / batch)
    changed = {"train_batch_size": batch, "gradient_accumulation_steps": passes}
    return recipe.model_copy(update={"train": recipe.train.model_copy(update=changed)})


def _asked(prepared: Prepared, batch: int) -> Recipe:
    """What the person asked for, with another batch and what goes with it; all else is derived from that."""
    asked, before = prepared.asked, prepared.recipe.train
    after = _of_batch(prepared.recipe, batch).train
    times = _per_step(_of_batch(prepared.recipe, batch)) / _per_step(prepared.recipe)
    keys: dict[str, Any] = {key: getattr(after, key) for key in ("train_batch_size", "gradient_accumulation_steps")}
    if asked.train.max_train_steps:
        keys["max_train_steps"] = _fewer(asked.train.max_train_steps, times)
    if asked.train.learning_rate is None and asked.train.optimizer != "prodigy":
        keys["learning_rate"] = (before.learning_rate or 0.0) * times**0.5
    stages = tuple(
        stage.model_copy(update={"max_train_steps": _fewer(stage.max_train_steps, times)})
        if stage.max_train_steps
        else stage
        for stage in asked.stage
    )
    return asked.model_copy(update={"train": asked.train.model_copy(update=keys), "stage": stages})


def _fewer(steps: int, times: float) -> int:
    return math.ceil(round(steps / times, 6))


def _changes(before: Recipe, after: Recipe, why: str) -> Iterator[Change]:
    """What differs of what a batch decides, each with its reason."""
    old, new = _per_step(before), _per_step(after)
    reasons = {
        "train_batch_size": why,
        "gradient_accumulation_steps": f"a step is made of {new} pictures, it was {old}",
        "max_train_steps": f"as many pictures are seen: {(before.train.max_train_steps or 0) * old}",
        "learning_rate": f"it was derived, and grows with the root of the pictures of a step: {old} to {new}",
    }
    for key, reason in reasons.items():
        was, now = (getattr(recipe.train, key) for recipe in (before, after))
        if was != now:
            yield Change(f"train.{key}", was, now, reason)


def _works(prepared: Prepared, recipe: Recipe) -> bool:
    """Whether real steps find enough memory."""
    try:
        _few_steps(prepared, recipe)
    except torch.OutOfMemoryError:
        return False
    finally:  # the frames that held the networks are gone
        gc.collect()
        torch.cuda.empty_cache()
    return True


def _few_steps(prepared: Prepared, recipe: Recipe) -> None:
    """Makes real steps, the last as all others will be: with the optimizer's moments, played back if that is done."""
    trainer = rehearsed(prepared, recipe)
    trainer.step(settled(trainer))


def rehearsed(prepared: Prepared, recipe: Recipe) -> Trainer:
    """A trainer of the real network by a resolved recipe, on empty pictures of the largest shape."""
    checkpoint, workers = prepared.start.checkpoint, accelerator(recipe.train)
    schedule = schedule_of(checkpoint.scheduler_config)
    network = tuned(checkpoint, recipe).to(workers.device)
    return rehearsal(network, shapes(prepared.shown, checkpoint, recipe), schedule, recipe, workers)


class Filling:
    """The largest batches that fit, of one training, in whatever sizes of memory are asked for.

    The bytes of a step grow with its batch in straight pieces that bend upwards only, for they are the highest of
    several moments, each of which is linear. So a line through two known batches is above the truth between them and
    below it beyond them, and few batches have to be measured.
    """

    def __init__(self, taken: Callable[[int], int], most: int) -> None:
        """`taken` gives the bytes that a batch takes; no batch is larger than `most`, which is at least 1."""
        self.taken, self.most = taken, most
        self.known: dict[int, int] = {}

    def largest(self, limit: int) -> int:
        """The largest batch that takes at most `limit` bytes; 0 where not even one picture fits."""
        if self._at(1) > limit:
            return 0
        low, high = self._bracket(limit)
        poor = 0
        while high - low > 1:
            # Where a line misleads twice, as at a sharp bend, halves are surer.
            guess = self._guess(low, high, limit) if poor < 2 else (low + high) // 2
            middle, width = min(high - 1, max(low + 1, guess)), high - low
            if self._within(middle, limit) or (not self._beyond(middle, limit) and self._at(middle) <= limit):
                low = middle
            else:
                high = middle
            poor += 2 * (high - low) > width
        return low

    def _at(self, batch: int) -> int:
        if batch not in self.known:
            self.known[batch] = self.taken(batch)
        return self.known[batch]

    def _bracket(self, limit: int) -> tuple[int, int]:
        """The largest known batch that fits, and the smallest that is known, or too many, not to."""
        fitting = [batch for batch, size in self.known.items() if size <= limit]
        others = [batch for batch, size in self.known.items() if size > limit]
        return max(fitting), min([*others, self.most + 1])

    def _guess(self, low: int, high: int, limit: int) -> int:
        """Where a line through two known batches reaches the limit, or the double of `low` where only one is known."""
        above = [batch for batch in sorted(self.known) if batch >= high]
        ends = (max(batch for batch in self.known if batch <= low), above[0]) if above else sorted(self.known)[-2:]
        if len(ends) < 2:
            return 2 * low
        first, last = ends
        slope = (self.known[last] - self.known[first]) / (last - first)
        return first + int((limit - self.known[first]) / slope) if slope > 0 else 2 * low

    def _within(self, batch: int, limit: int) -> bool:
        """Whether the line between a smaller and a larger known batch says that one between them fits."""
        below, above = [b for b in self.known if b < batch], [b for b in self.known if b > batch]
        return bool(below and above) and self._line(max(below), min(above), batch) <= limit

    def _beyond(self, batch: int, limit: int) -> bool:
        """Whether the line through two smaller known batches says that one does not fit."""
        below = [known for known in sorted(self.known) if known < batch][-2:]
        return (
            len(below) == 2 and self._line(below[0], below[1], batch) > limit + 0.5
        )  # bytes are whole, and lines not exact

    def _line(self, first: int, last: int, batch: int) -> float:
        """The bytes of a batch on the line through two known ones."""
        slope = (self.known[last] - self.known[first]) / (last - first)
        return self.known[last] + slope * (batch - last)
