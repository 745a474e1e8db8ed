"""A recipe turned into what training by it would be: every setting, length, memory, disk and, if asked, time."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bespoke.data import Size
from bespoke.errors import BespokeError
from bespoke.hardware import machine, memory_size
from bespoke.models import weightless
from bespoke.models.kinds import MUTATING
from bespoke.pipeline.filling import filled, rehearsed, room
from bespoke.pipeline.fitting import Change, Estimate, Meter, fitted, gigabytes
from bespoke.pipeline.masked import told
from bespoke.pipeline.prepare import Prepared, largest, prepare
from bespoke.pipeline.reporting import Reporter
from bespoke.recipe import Recipe
from bespoke.training.rehearsal import Times, times

ENTRY = 200
"""Bytes that the name and shape of a tensor take in a safetensors file, at most."""


@dataclass(frozen=True)
class Disk:
    """The most bytes that a run's files take."""

    states: int
    """What is kept to resume from, with one more while it is written."""
    copies: int
    """The weights of every so many epochs, which stay."""
    results: int
    """The best weights and the last."""

    @property
    def total(self) -> int:
        """All of it."""
        return self.states + self.copies + self.results


@dataclass(frozen=True)
class Length:
    """How long a training is."""

    pictures: int
    """Training pictures."""
    drawn: int
    """Plain pictures that the base draws beside them."""
    regular: int
    """Pictures of the regularisation set."""
    masks: str
    """How many training pictures have masks, and how much these cover; empty where none has one."""
    pictures_per_step: int
    steps: int
    epochs: float
    stages: tuple[int, ...]
    """Steps of each stage."""


@dataclass(frozen=True)
class Plan:
    """What training by a recipe would be."""

    recipe: Recipe
    """With nothing left open, and changed as `changes` say."""
    reasons: Mapping[str, str]
    """Why each derived or changed `section.key` is what it is."""
    length: Length
    shape: Size
    """The largest shape of a picture, in pixels."""
    estimate: Estimate
    limit: int | None
    """The bytes that it was to fit in, or to fill."""
    changes: tuple[Change, ...]
    disk: Disk
    device: str
    device_bytes: int
    """The memory of the device."""
    seconds: float | None
    """How long all steps and measurements take; nothing where it was not measured."""
    times: Times | None
    """What was measured for it."""
    note: str
    """Why there is no time, or what it leaves out."""


def plan(
    recipe: str | Path,
    overrides: Sequence[str] = (),
    *,
    fit: str | None = None,
    fill: str | None = None,
    time: bool = False,
) -> Plan:
    """What training by the recipe in a file would be; nothing is trained and nothing is written.

    With `fit`, a size such as "12GB", settings are changed until the training fits in it; with `fill` the batch is the
    largest that fits in it. With `time`, a few steps of the real network are made and timed.

    Raises: BespokeError when the recipe, the dataset or the model is not as it should be, or nothing fits.
    """
    limit = _limit(fit, fill)
    prepared = prepare(recipe, overrides)
    meter = Meter(prepared.shown, prepared.start.checkpoint)
    prepared, changes = _sized(prepared, limit, meter, fill=bool(fill)) if limit else (prepared, ())
    resolved, estimate, here = prepared.recipe, meter(prepared.recipe), machine()
    length = _length(prepared)
    room = int(here.memory_gb * 2**30)
    found, note = _timed(prepared, estimate, room) if time else (None, "not measured; --time makes a few real steps")
    return Plan(
        resolved, prepared.reasons, length, largest(prepared.shown, prepared.start.checkpoint, resolved), estimate,
        limit, changes, _disk(prepared, length), here.device, room,
        _seconds(found, prepared, length) if found else None, found, note,
    )  # fmt: skip


def fit_in(prepared: Prepared, limit: int, meter: Meter | None = None) -> tuple[Prepared, tuple[Change, ...]]:
    """A prepared training changed until it takes at most `limit` bytes, and what was changed.

    Raises: BespokeError when nothing makes it fit.
    """
    meter = meter or Meter(prepared.shown, prepared.start.checkpoint)
    recipe, changes = fitted(meter, prepared.recipe, limit)
    why = {change.key: f"to fit in {gigabytes(limit)} GB: {change.why}" for change in changes}
    return replace(prepared, recipe=recipe, reasons={**prepared.reasons, **why}), changes


def sized_to_train(prepared: Prepared, fit: str | None, fill: str | None, report: Reporter) -> Prepared:
    """A prepared training changed to fit in a size of memory, or to fill it, telling what was changed.

    Raises: BespokeError when nothing makes it fit.
    """
    limit = _limit(fit, fill)
    if not limit:
        return prepared
    meter = Meter(prepared.shown, prepared.start.checkpoint)
    prepared, changes = _sized(prepared, limit, meter, fill=bool(fill))
    report("fit", 1, 1, "; ".join(change.words for change in changes) or "nothing had to be changed")
    return prepared


def _limit(fit: str | None, fill: str | None) -> int | None:
    if fit and fill:
        raise BespokeError("--fit makes a training smaller, --fill its batch larger.", "Ask for one of them.")
    return memory_size(fit) if fit else room(fill) if fill else None


def _sized(prepared: Prepared, limit: int, meter: Meter, *, fill: bool) -> tuple[Prepared, tuple[Change, ...]]:
    """A prepared training that fits in `limit` bytes or fills them, and what was changed.

    Its recipe says that memory is to be spared, so that whoever carries it out does, here or elsewhere, now or later.
    """
    found, changes = filled(prepared, limit, meter) if fill else fit_in(prepared, limit, meter)
    sparing = found.recipe.train.model_copy(update={"spare_memory": True})
    why = {**found.reasons, "train.spare_memory": f"{gigabytes(limit)} GB were given"}
    return replace(found, recipe=found.recipe.model_copy(update={"train": sparing}), reasons=why), changes


def _length(prepared: Prepared) -> Length:
    recipe = prepared.recipe
    train, drawn = recipe.train, recipe.train.num_class_images or 0
    per_step = (train.train_batch_size or 1) * train.gradient_accumulation_steps
    steps, visits = train.max_train_steps or 0, sum(picture.repeats for picture in prepared.train)
    regular, share = len(prepared.regularisation), train.regularisation_share if prepared.regularisation else 0.0
    an_epoch = visits * (1 + share) + drawn
    stages = tuple(stage.max_train_steps or 0 for stage in recipe.stage) or (steps,)
    said = told(prepared.train, train)
    return Length(len(prepared.train), drawn, regular, said, per_step, steps, steps * per_step / an_epoch, stages)


def _disk(prepared: Prepared, length: Length) -> Disk:
    """The most that a run writes: weights, AdamW's two moments and the running average in float32."""
    recipe, checkpoint = prepared.recipe, prepared.start.checkpoint
    network = weightless(checkpoint, recipe)
    weights = sum(4 * parameter.numel() + ENTRY for parameter in network.trainable().values())
    state = weights * (4 if recipe.train.use_ema else 3)
    written = math.ceil(length.steps / (recipe.train.checkpointing_steps or 1)) + len(length.stages) - 1
    states = min(written, recipe.train.checkpoints_total_limit + 2)  # the best, and the one being written
    every = recipe.train.save_every_n_epochs
    copies = int(length.epochs) // every if every else 0
    rest = 0
    if not network.adapted:
        others = (part for part in checkpoint.folder.iterdir() if part.is_dir() and part.name not in network.parts)
        rest = sum(file.stat().st_size for part in others for file in part.rglob("*") if file.is_file())
    kept = weights * (2 if recipe.model.init in MUTATING else 1)  # written as a LoRA of twice the rank
    return Disk(states * state, copies * kept, 2 * kept + rest)


def _timed(prepared: Prepared, estimate: Estimate, room: int) -> tuple[Times | None, str]:
    """The seconds of a step and of a measured batch, of the real network with empty pictures of the largest shape."""
    if estimate.total > room:
        return None, f"not measured: this machine has {gigabytes(room)} GB"
    return times(
        rehearsed(prepared, prepared.recipe)
    ), "steps and measurements, without encoding and drawing; it may stop earlier"


def _seconds(found: Times, prepared: Prepared, length: Length) -> float:
    """All steps, and every measurement's batches."""
    settings, batch = prepared.recipe.validation, prepared.recipe.train.train_batch_size or 1
    measured = min(len(prepared.validation), settings.max_items) * (2 if settings.probe else 1)
    measured += settings.max_items * len(settings.sets)
    often = length.steps // (settings.validation_steps or 1) + 2 if measured else 0
    return length.steps * found.step + often * math.ceil(measured * settings.strata / batch) * found.measured
