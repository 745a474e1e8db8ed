"""Measure how long the distances between two sets of features take, and whether torchmetrics' are the same.

`python -m benchmarks.distances` tries 1,000 pictures of 128, 768 and 2048 numbers. Ours are timed with their intervals,
and as values alone beside torchmetrics' values.
"""

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torchmetrics.image.fid import _compute_fid
from torchmetrics.image.kid import poly_mmd

from bespoke.evaluation import kid
from bespoke.evaluation.distances import DISTANCES
from bespoke.evaluation.frechet import frechet

WIDTHS = (128, 768, 2048)


def features(count: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What a base, a tuned model and the references could have: fewer directions that matter than numbers."""
    rng = np.random.default_rng(0)
    spread = np.arange(1, width + 1) ** -0.5
    base, change, reference = (rng.standard_normal((count, width)) * spread for _ in range(3))
    return base + 0.3 * spread, 0.6 * base + 0.8 * change + 0.1 * spread, reference


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    """What the call gives, and the seconds it took."""
    began = time.perf_counter()
    found = call()
    return found, time.perf_counter() - began


def their_fid(x: np.ndarray, y: np.ndarray) -> float:
    """The Fréchet distance from the moments, as torchmetrics takes it."""
    moments = (part for s in (x, y) for part in (s.mean(axis=0), np.cov(s, rowvar=False)))
    return float(_compute_fid(*(torch.from_numpy(part) for part in moments)))


def their_kid(x: np.ndarray, y: np.ndarray) -> float:
    """The kernel distance over all pictures, as torchmetrics takes it of one subset."""
    return float(poly_mmd(torch.from_numpy(x), torch.from_numpy(y)))


def against_torchmetrics(x: np.ndarray, y: np.ndarray) -> None:
    """Prints both libraries' values and times."""
    for name, ours, theirs in (("fid", frechet, their_fid), ("kid", kid, their_kid)):
        value, seconds = timed(partial(ours, x, y))
        expected, longer = timed(partial(theirs, x, y))
        sys.stdout.write(
            f"  {name} {value:.6g} in {seconds:.2f} s; torchmetrics {expected:.6g} in {longer:.2f} s: "
            f"{longer / seconds:.1f} times as long, {abs(value / expected - 1):.0e} apart\n"
        )


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000, help="pictures in each set")
    parser.add_argument("--widths", type=int, nargs="+", default=WIDTHS)
    options = parser.parse_args()
    for width in options.widths:
        base, tuned, reference = features(options.count, width)
        sys.stdout.write(f"{options.count} pictures × {width}\n")
        against_torchmetrics(base, reference)
        total = np.zeros(2)
        for distance in DISTANCES:
            found, seconds = timed(partial(distance.of, base, reference))
            _, longer = timed(partial(distance.comparison, base, tuned, reference))
            total += seconds, longer
            sys.stdout.write(
                f"  {distance.name}: {found.value:.4g}, with its interval {seconds:.2f} s; "
                f"two models and their difference {longer:.2f} s\n"
            )
        sys.stdout.write(f"  all: {total[0]:.1f} s; two models and their differences {total[1]:.1f} s\n")


if __name__ == "__main__":
    main()
