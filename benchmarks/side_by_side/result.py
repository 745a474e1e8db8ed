"""What a comparison found, as it is written to JSON and as it is printed."""

import statistics
from collections.abc import Callable, Iterator, Sequence

from pydantic import BaseModel, ConfigDict

MARKS = (100, 500, 2000)
"""Steps after which a training's time is told."""


class Section(BaseModel):
    """A part of the result; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Spread(Section):
    """A figure over the repeats."""

    median: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """The spread of some values, to four digits."""
        median, lowest, highest = (float(f"{find(values):.4g}") for find in (statistics.median, min, max))
        return cls(median=median, lowest=lowest, highest=highest)


class Run(Section):
    """One run of an arm."""

    images_per_second: float
    processor_seconds_per_image: float
    """Of the program's own process with its threads."""
    seconds_to_first_step: float
    """From the start of the process to the end of its first step, encoding included where that comes before it."""
    seconds_to: dict[int, float]
    """From the start of the process to the end of so many steps."""
    seconds_in_all: float
    memory_gb: float
    """Resident at the highest, up to the last step, in GB of 2³⁰ bytes."""
    device_memory_gb: float
    """Reserved on the GPU at the highest; 0 without one."""


class Wall(Section):
    """How long a training of so many steps takes, from the start of its process."""

    seconds: Spread
    extrapolated: bool
    """Whether it is the time of the steps that were made, and the steady time of a step for each that was not."""


class Found(Section):
    """What was measured of one arm."""

    arm: str
    commands: list[str]
    """What is run once before, outside all figures, and what is measured."""
    precision: str
    """Accelerate's word for the number format: "no" is float32."""
    versions: dict[str, str]
    images_per_second: Spread
    processor_seconds_per_image: Spread
    seconds_to_first_step: Spread
    seconds_to: dict[int, Wall]
    memory_gb: Spread
    device_memory_gb: Spread
    share_of_peak: Spread
    """Operations of the LoRA step a second, as a share of the fastest matrix product's; see its seconds."""
    seconds_to_prepare: float
    """For a project to be made of the pictures, once; in none of the other figures."""
    runs: list[Run]


Ratios = dict[str, dict[str, Spread]]


class Comparison(Section):
    """A comparison of arms that ran in turn."""

    model: str
    batch: int
    side: int
    rank: int
    steps: int
    """Those that were measured, after those of the warm-up."""
    warm_up: int
    repeats: int
    threads: int
    processes: int
    pictures: int
    processor: str
    device: str
    operations_forward: int
    """Of the UNet for one picture."""
    operations_step: int
    """Of the UNet in a LoRA step, forward and backward, for one picture."""
    peak_operations_per_second: dict[str, float]
    """By number format: of a matrix product, the best before any round; a processor's seconds are its own."""
    scripts: dict[str, str]
    """The peer's scripts by their SHA-256."""
    arms: list[Found]
    times_the_peer: Ratios
    """For each arm of ours, and each of the peer's: images per second against it, round by round."""
    times_the_peer_by_processor: Ratios
    """The same of pictures for each second of the processor, which other programs on the machine disturb less."""


def found(
    arm: str, commands: list[str], precision: str, versions: dict[str, str], runs: list[Run], prepare: float,
    share_of_peak: Callable[[Run], float], steps: int,
) -> Found:  # fmt: skip
    """The figures of an arm over its runs of so many steps."""

    def spread(of: Callable[[Run], float]) -> Spread:
        return Spread.of([of(run) for run in runs])

    walls = {
        mark: Wall(seconds=spread(lambda run, mark=mark: run.seconds_to[mark]), extrapolated=mark > steps)
        for mark in MARKS
    }
    return Found(
        arm=arm, commands=commands, precision=precision, versions=versions, runs=runs, seconds_to=walls,
        images_per_second=spread(lambda run: run.images_per_second),
        processor_seconds_per_image=spread(lambda run: run.processor_seconds_per_image),
        seconds_to_first_step=spread(lambda run: run.seconds_to_first_step),
        memory_gb=spread(lambda run: run.memory_gb), device_memory_gb=spread(lambda run: run.device_memory_gb),
        share_of_peak=spread(share_of_peak),
        seconds_to_prepare=round(prepare, 1),
    )  # fmt: skip


def times(one: Found, other: Found, value: Callable[[Run], float]) -> Spread:
    """How often the one has what the other has, round by round."""
    return Spread.of([value(mine) / value(theirs) for mine, theirs in zip(one.runs, other.runs, strict=True)])


def table(comparison: Comparison) -> str:
    """The figures for a person."""
    c = comparison
    head = (
        f"{c.model}, {c.side} pixels, batch {c.batch}"
        + (f" in each of {c.processes} processes" if c.processes > 1 else "")
        + f", rank {c.rank}; {c.threads} threads; {c.repeats} repeats of {c.steps} steps after {c.warm_up}; {c.device}"
    )
    return "\n".join([head, *_aligned([HEAD, *map(_row, c.arms)]), *_ratios(c)])


HEAD = [
    "arm", "format", "images/s", "(lowest-highest)", "CPU s/image", "first step s", *(f"{m} steps s" for m in MARKS),
    "memory GB", "GPU GB", "of peak",
]  # fmt: skip


def _row(arm: Found) -> list[str]:
    walls = [f"{wall.seconds.median:.0f}{'*' if wall.extrapolated else ''}" for wall in arm.seconds_to.values()]
    rate = arm.images_per_second
    return [
        arm.arm, arm.precision, f"{rate.median:.4g}", f"({rate.lowest:.4g}-{rate.highest:.4g})",
        f"{arm.processor_seconds_per_image.median:.4g}", f"{arm.seconds_to_first_step.median:.1f}", *walls,
        f"{arm.memory_gb.median:.2f}", f"{arm.device_memory_gb.median:.2f}", f"{arm.share_of_peak.median:.1%}",
    ]  # fmt: skip


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))]
        )


def _ratios(c: Comparison) -> Iterator[str]:
    yield "* extrapolated from the steady time of a step"
    by_what = {"images/s": c.times_the_peer, "images per CPU second": c.times_the_peer_by_processor}
    for what, ratios in by_what.items():
        for one, others in ratios.items():
            for other, value in others.items():
                spread = f"{value.median:.2f} ({value.lowest:.2f}-{value.highest:.2f})"
                yield f"{what}: {one} is {spread} times {other}"
