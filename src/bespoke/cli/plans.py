"""What training by a recipe would be, in the words that a shell shows and in JSON."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from bespoke.cli.sentences import counted
from bespoke.pipeline.fitting import Change, gigabytes
from bespoke.pipeline.plan import Plan

PARTS = {
    "frozen": "frozen weights",
    "trained": "trained weights",
    "gradients": "gradients at that moment",
    "optimizer": "optimizer (AdamW)",
    "host": "beside it, in the host's",
    "average": "running average",
    "batches": "batches made ahead",
    "activations": "kept for the backward pass",
    "transient": "largest transient",
}


def plan_content(made: Plan) -> dict[str, Any]:
    """The plan as JSON holds it; sizes are in bytes."""
    estimate, length = made.estimate, made.length
    return {
        "recipe": made.recipe.model_dump(mode="json"), "reasons": dict(made.reasons), **asdict(length),
        "shape": made.shape, "device": made.device, "device_bytes": made.device_bytes, "limit": made.limit,
        "memory": {
            **asdict(estimate.memory), "peak": estimate.memory.peak, "overhead": estimate.overhead,
            "total": estimate.total,
        },
        "changes": [asdict(change) for change in made.changes],
        "disk": {**asdict(made.disk), "total": made.disk.total},
        "seconds": made.seconds, "seconds_per_step": made.times.step if made.times else None, "time_note": made.note,
    }  # fmt: skip


def planned(made: Plan) -> str:
    """The plan for a person to read."""
    lines = [*_settings(made), "", *_length(made), "", *_memory(made), "", *_disk(made), "", _time(made)]
    return "\n".join([*lines, *(["", *changed(made.changes)] if made.limit else [])])


def changed(changes: tuple[Change, ...]) -> Iterator[str]:
    """What was changed to fit, and why, a line each."""
    yield "Changed for this size of memory:" if changes else "It fits as it is; nothing was changed."
    for change in changes:
        yield f"  {change.words}"


def _settings(made: Plan) -> Iterator[str]:
    yield "What the recipe leaves open, and what was chosen:"
    tree = made.recipe.model_dump(mode="json")
    for name, why in made.reasons.items():
        section, key = name.split(".")
        yield f"  {f'{name} = {_value(tree[section][key])}':<44}{why}"


def _length(made: Plan) -> Iterator[str]:
    length, train = made.length, made.recipe.train
    drawn = f" and {length.drawn} that the base draws" if length.drawn else ""
    drawn += f" and {length.regular} of {made.recipe.data.regularisation}" if length.regular else ""
    largest = "×".join(map(str, made.shape))
    yield f"pictures   {counted(length.pictures, 'training picture')}{drawn}; the largest is {largest}"
    if length.masks:
        yield f"masks      {length.masks}"
    passes = train.gradient_accumulation_steps
    several = f", {train.train_batch_size} a pass" if passes > 1 else ""
    yield f"a step     {counted(length.pictures_per_step, 'picture')}{several}"
    stages = f" in {len(length.stages)} stages: {', '.join(map(str, length.stages))}" if len(length.stages) > 1 else ""
    yield f"length     {counted(length.steps, 'step')}, {length.epochs:.3g} epochs{stages}"


def _memory(made: Plan) -> Iterator[str]:
    estimate = made.estimate
    yield f"memory     {gigabytes(estimate.total)} GB on {made.device}, which has {gigabytes(made.device_bytes)} GB"
    for name, size in asdict(estimate.memory).items():
        if size:
            yield f"  {PARTS[name]:<28}{_size(size):>10}"
    source = "libraries and Python" if made.device == "cpu" else "driver, kernels, workspaces; not measured here"
    yield f"  {'fixed':<28}{_size(estimate.overhead):>10}   {source}"
    if estimate.reading > estimate.memory.peak:
        yield f"  {'while weights are read':<28}{_size(estimate.reading):>10}   more than any step takes"
    if made.recipe.train.sharding != "none":
        yield "  This is for one process that holds all weights; what shards of several would take is not computed."
    if made.device == "cpu" and made.limit is None:
        yield "  Without --fit the C library keeps freed memory: what a step adds was 1.5 to 2.7 times this."
    if estimate.total > made.device_bytes:
        yield "  This is more than there is. Let settings be chosen that fit: --fit 12GB"


def _disk(made: Plan) -> Iterator[str]:
    disk = made.disk
    yield f"disk       {_size(disk.total)} at most"
    named = {
        "states to go on from": disk.states,
        "weights of epochs": disk.copies,
        "best and last weights": disk.results,
    }
    yield from (f"  {name:<28}{_size(size):>10}" for name, size in named.items() if size)


def _time(made: Plan) -> str:
    if made.seconds is None or made.times is None:
        return f"time       {made.note}"
    minutes = made.seconds / 60
    whole = f"{minutes / 60:.1f} hours" if minutes >= 100 else f"{minutes:.1f} minutes"
    return f"time       {whole}, {made.times.step:.2f} s a step ({made.note})"


def _size(count: int) -> str:
    return f"{gigabytes(count)} GB" if count >= 10 * 2**30 // 100 else f"{count / 2**20:.1f} MB"


def _value(value: object) -> str:
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else f"{value}"
