"""A prepared training and a size of memory turned into settings that fit, each change with its reason."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from bespoke.diffusion import schedule_of
from bespoke.errors import BespokeError
from bespoke.hardware import Machine, machine
from bespoke.models import Checkpoint, weightless
from bespoke.pipeline.prepare import shapes
from bespoke.pipeline.processes import accelerator
from bespoke.recipe import Recipe
from bespoke.records import Dataset
from bespoke.training.memory import Memory, memory

OVERHEAD = {"cuda": 3 * 2**29, "mps": 5 * 2**27, "cpu": 5 * 2**27}
"""Bytes beside the tensors. cuda: context, kernels, cuDNN's workspaces and the allocator's gaps, with a margin.

Source: what `benchmarks/memory.py` found: on one H200 0.85 to 1.19 GB; of Python and the libraries on cpu 0.49 to 0.60;
mps as cpu, not measured.
"""
UNFELT = {
    "max_train_steps", "num_train_epochs", "learning_rate", "lr_warmup_steps", "checkpointing_steps", "seed",
    "spare_memory",
}  # fmt: skip
"""Keys of `[train]` that do not change how much memory a step is computed to take."""
SMALLER = (0.75, 0.5, 0.375, 0.25)
"""Parts of the resolution that are tried for advice where nothing fits."""


@dataclass(frozen=True)
class Estimate:
    """The memory that a training takes on a device, in bytes."""

    memory: Memory
    overhead: int
    """What the process takes beside its tensors: `OVERHEAD`."""
    reading: int
    """What the weights take while they are read, where that is on the same device."""

    @property
    def total(self) -> int:
        """The most that is taken at any moment of the training itself."""
        return self.overhead + max(self.memory.peak, self.reading)


@dataclass(frozen=True)
class Change:
    """A setting that was changed so that the training fits."""

    key: str
    before: Any
    after: Any
    why: str

    @property
    def words(self) -> str:
        """What is changed, from what, and why."""
        before, after = (str(v).lower() if isinstance(v, bool) else v for v in (self.before, self.after))
        return f"{self.key} = {after}, it was {before}: {self.why}"


class Meter:
    """Estimates trainings of one dataset by one model on a machine; the same one is made only once."""

    def __init__(self, dataset: Dataset, checkpoint: Checkpoint, here: Machine | None = None) -> None:
        """`here` is the machine that is meant, by default this one."""
        self.dataset, self.checkpoint, self.here = dataset, checkpoint, here or machine()
        self._found: dict[str, Estimate] = {}

    def __call__(self, recipe: Recipe) -> Estimate:
        """The memory that training by a resolved recipe takes."""
        key = what_counts(recipe)
        if key not in self._found:
            self._found[key] = self._estimate(recipe)
        return self._found[key]

    def _estimate(self, recipe: Recipe) -> Estimate:
        network = weightless(self.checkpoint, recipe)
        weights = sum(parameter.numel() for parameter in network.parameters())
        schedule = schedule_of(self.checkpoint.scheduler_config)
        measured = shapes(self.dataset, self.checkpoint, recipe)
        workers = accelerator(recipe.train)
        if workers.num_processes > 1:
            hint = "Run it without torchrun; what it says is for each process."
            raise BespokeError("Memory is planned in one process.", hint)
        found = memory(network, measured, schedule, recipe, workers, self.here.device)
        return Estimate(found, OVERHEAD[self.here.device], 4 * weights if self.here.device == "cpu" else 0)


def what_counts(recipe: Recipe) -> str:
    """What of a recipe a step's memory depends on; two recipes that say the same of it take the same."""
    felt = {"model": True, "data": True, "train": True, "words": {"train", "t5"}}
    return recipe.model_dump_json(include=felt, exclude={"train": UNFELT})


def fitted(meter: Meter, recipe: Recipe, limit: int) -> tuple[Recipe, tuple[Change, ...]]:
    """The first of a resolved recipe's variants that takes at most `limit` bytes, and what is changed in it.

    What leaves the result as it is comes first: gradient checkpointing, then fewer pictures a pass and more passes a
    step; then arithmetic in 16 bits, and for whole models on a GPU at last all of it with the optimizer on the host.

    Raises: BespokeError when none fits, saying what would.
    """
    tried = [(changes, with_changes(recipe, changes)) for changes in _variants(recipe, meter.here)]
    if meter(tried[-1][1]).total > limit:  # the smallest of them
        raise _too_small(meter, recipe, limit)
    changes, changed = next((c, r) for c, r in tried if meter(r).total <= limit)
    return changed, changes


def _variants(recipe: Recipe, here: Machine) -> Iterator[tuple[Change, ...]]:
    """The changes to try, the least first."""
    sixteen, away = _sixteen(recipe, here), _offloaded(recipe, here)
    for more in dict.fromkeys(((), sixteen, (*sixteen, *away))):
        if not recipe.train.gradient_checkpointing:
            yield more
        for size in _sizes(recipe.train.train_batch_size or 1):
            yield (*_checkpointed(recipe), *_divided(recipe, size), *more)


def _sizes(batch: int) -> list[int]:
    """The batch sizes that make the same step in a whole number of passes, largest first."""
    return [size for size in range(batch, 0, -1) if batch % size == 0]


def _checkpointed(recipe: Recipe) -> tuple[Change, ...]:
    if recipe.train.gradient_checkpointing:
        return ()
    why = "parts of the networks are computed twice instead of being kept; a step takes longer"
    return (Change("train.gradient_checkpointing", before=False, after=True, why=why),)


def _divided(recipe: Recipe, size: int) -> tuple[Change, ...]:
    batch, passes = recipe.train.train_batch_size or 1, recipe.train.gradient_accumulation_steps
    if size == batch:
        return ()
    why = f"a step is made of as many pictures as before: {batch * passes}"
    return (
        Change("train.train_batch_size", batch, size, why),
        Change("train.gradient_accumulation_steps", passes, passes * batch // size, why),
    )


def _sixteen(recipe: Recipe, here: Machine) -> tuple[Change, ...]:
    """Arithmetic and frozen weights in 16 bits, where the device is made for it and they are not so already."""
    if not here.bf16 and here.device != "cuda":
        return ()
    precision, dtype = recipe.train.mixed_precision or "no", recipe.model.weight_dtype or "fp32"
    name = precision if precision != "no" else "bf16" if here.bf16 else "fp16"
    found = [Change("train.mixed_precision", precision, name, "inner values take half the memory")]
    if recipe.model.method != "full":
        found.append(Change("model.weight_dtype", dtype, name, "frozen weights take half the memory"))
    return tuple(change for change in found if change.before != change.after)


def _offloaded(recipe: Recipe, here: Machine) -> tuple[Change, ...]:
    """The optimizer on the host, where a GPU trains a whole model: an adapter's moments are small."""
    train = recipe.train
    if here.device != "cuda" or recipe.model.adapts or train.offload_optimizer or train.optimizer == "adamw8bit":
        return ()
    if train.mixed_precision == "fp16" or not here.bf16:
        return ()
    why = "moments and gradients are in the host's memory; a step takes longer"
    return (Change("train.offload_optimizer", before=False, after=True, why=why),)


def with_changes(recipe: Recipe, changes: tuple[Change, ...]) -> Recipe:
    """A resolved recipe with some settings changed; nothing else is derived anew."""
    for change in changes:
        section, key = change.key.split(".")
        recipe = recipe.model_copy(update={section: getattr(recipe, section).model_copy(update={key: change.after})})
    return recipe


def _too_small(meter: Meter, recipe: Recipe, limit: int) -> BespokeError:
    """What to say where nothing fits: how much is needed at least, and what would fit."""
    least = _least(meter, recipe)
    what = "Training all weights" if recipe.model.method == "full" else _adapter(recipe)
    problem = f"{what} of {meter.checkpoint.name} takes {gigabytes(least)} GB even one picture at a time"
    return BespokeError(
        f"{problem}, with gradient checkpointing; {gigabytes(limit)} GB were given.", _what_would(meter, recipe, limit)
    )


def _adapter(recipe: Recipe) -> str:
    return "A LoRA" if recipe.model.method == "lora" else "An adapter"


def _least(meter: Meter, recipe: Recipe) -> int:
    """The bytes of the smallest of the recipe's variants."""
    *_, last = _variants(recipe, meter.here)
    return meter(with_changes(recipe, last)).total


def _what_would(meter: Meter, recipe: Recipe, limit: int) -> str:
    lora = with_changes(recipe, (Change("model.method", recipe.model.method, "lora", ""),))
    advice: list[str] = []
    if recipe.model.method == "full":
        needed = _least(meter, lora)
        if needed <= limit:
            advice.append(f'A LoRA takes {gigabytes(needed)} GB: --set model.method="lora".')
    for one in (recipe, lora) if recipe.model.method == "full" else (recipe,):
        side, needed = _side(meter, one, limit)
        if side:
            kind = "" if one is recipe else ' and model.method="lora"'
            advice.append(f"At {side} pixels it takes {gigabytes(needed)} GB: --set data.resolution={side}{kind}.")
            break
    return " ".join(advice) or "No setting makes it fit: take a smaller model, or give it more memory."


def _side(meter: Meter, recipe: Recipe, limit: int) -> tuple[int, int]:
    """The largest of some smaller resolutions at which it fits, and the bytes it takes then; 0 where none does."""
    step, now = meter.checkpoint.step, recipe.data.resolution or meter.checkpoint.resolution
    *_, last = _variants(recipe, meter.here)
    found = meter(with_changes(recipe, last))
    if found.overhead + max(found.memory.resting, found.reading) > limit:
        return 0, 0  # the weights alone are too much
    for part in SMALLER:
        side = int(now * part) // step * step
        if side:
            needed = _least(meter, with_changes(recipe, (Change("data.resolution", now, side, ""),)))
            if needed <= limit:
                return side, needed
    return 0, 0


def gigabytes(count: int) -> str:
    """Bytes as a number of GB (2³⁰), with as many digits as say something."""
    size = count / 2**30
    return f"{size:.2f}" if size < 10 else f"{size:.1f}"


@contextmanager
def memory_explained(dataset: Dataset, checkpoint: Checkpoint, recipe: Recipe) -> Generator[None, None, None]:
    """A block in which a training runs.

    Raises: BespokeError when the memory does not suffice: how much is needed, and which setting to change.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not _ran_out(error):
            raise
        told = str(error).splitlines()[0] if str(error) else "MemoryError"
    else:
        return
    # Here the failed training's frames are gone, and with them what they held.
    meter = Meter(dataset, checkpoint)
    found = meter(recipe)
    largest = {"weights": found.memory.frozen + found.memory.trained, "inner values": found.memory.activations}
    parts = ", ".join(f"{gigabytes(size)} GB {name}" for name, size in largest.items())
    problem = f"There is not enough memory. This training takes about {gigabytes(found.total)} GB ({parts}). {told}"
    raise BespokeError(problem, _smaller(recipe, meter.here))


def _ran_out(error: BaseException) -> bool:
    """Whether memory is what was lacking; on processors torch says so in words alone."""
    said = str(error)
    kinds = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return kinds or "can't allocate memory" in said or "ALLOC_FAILED" in said or "out of memory" in said


def _smaller(recipe: Recipe, here: Machine) -> str:
    """The settings that make it smaller, the one that costs least first."""
    batch, train = recipe.train.train_batch_size or 1, recipe.train
    advice = [] if train.gradient_checkpointing else ["train.gradient_checkpointing = true"]
    if batch > 1:
        passes = batch * train.gradient_accumulation_steps
        advice.append(f"train.train_batch_size = 1 with train.gradient_accumulation_steps = {passes}")
    advice += [f'{change.key} = "{change.after}"' for change in _sixteen(recipe, here)]
    advice += ["train.offload_optimizer = true"] if _offloaded(recipe, here) else []
    advice += ['model.method = "lora"'] if recipe.model.method == "full" else []
    settings = "; ".join([*advice, "a lower data.resolution or model.rank"])
    return f"Set, in this order: {settings}. Or let it be chosen: bespoke train RECIPE --fit {here.memory_gb:.0f}GB."
