"""What a step costs in operations, by the real models' shapes: `python -m benchmarks.operations`, a table of the docs.

No weights and no GPU are needed: it is counted, not measured. `docs/performance.md` has it.
"""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.fits import MODELS
from benchmarks.side_by_side.counted import operations
from pico.families import outline

RANK = 16
TERA = 10**12
SHAPES = [(name, shape, side) for name, (shape, side) in MODELS.items()]
SHAPES.insert(1, ("SD 2.1", "sd21-shape", 512))


def counted(shape: str, side: int, rank: int = RANK) -> tuple[int, int, int]:
    """Of one picture, for a kind of `pico.families`: a forward pass, a step, and a step with checkpointing."""
    with tempfile.TemporaryDirectory() as folder:
        outline(shape, Path(folder))
        (forward, step), (_, saving) = (operations(Path(folder), side, rank, saves=saves) for saves in (False, True))
    return forward, step, saving


def lines() -> Iterator[str]:
    """The lines of a table in Markdown."""
    yield "| model, pixels | forward | LoRA step | with checkpointing |"
    yield "|---|---|---|---|"
    for name, shape, side in SHAPES:
        counts = " | ".join(f"{each / TERA:#.4g} · 10¹²" for each in counted(shape, side))
        yield f"| {name}, {side} | {counts} |"


if __name__ == "__main__":
    for line in lines():
        sys.stdout.write(f"{line}\n")
