"""What ending guidance early saves, `python -m benchmarks.guidance`: seconds of one picture of pico, and as a ratio.

Each round draws the picture with every end, so that what else the machine does weighs on all alike.
"""

import statistics
import sys
import time
from typing import Any

from bespoke.pipeline.naming import named
from bespoke.recipe.tree import Sample
from bespoke.sampling import Request, draw

ENDS = (1.0, 0.8, 0.6, 0.4)
ROUNDS, WARM = 15, 3


def seconds(pipeline: Any, end: float) -> float:  # noqa: ANN401 - diffusers' pipelines have no common type
    """How long 20 steps for one picture took."""
    wish = Sample(num_inference_steps=20, guidance_scale=3.0, guidance_end=end)
    began = time.perf_counter()
    list(draw(pipeline, [Request("a red car on a blue ground", 0)], wish))
    return time.perf_counter() - began


def main() -> None:
    """The command."""
    pipeline = named("pico").pipeline(safety_checker=False)
    rounds = [[seconds(pipeline, end) for end in ENDS] for _ in range(WARM + ROUNDS)][WARM:]
    typical = [statistics.median(taken) for taken in zip(*rounds, strict=True)]
    for end, taken in zip(ENDS, typical, strict=True):
        sys.stdout.write(f"guided to {end:g}: {taken:.3f} s, {taken / typical[0]:.2f} of the whole\n")


if __name__ == "__main__":
    main()
