"""Measure how long the cleaning rules take over many pictures' facts: `python benchmarks/look_alikes.py 100000`."""

import argparse
import sys
import time

import numpy as np

from bespoke.data.clean import Candidate, judge
from bespoke.data.inspect import THUMBNAIL, Facts
from bespoke.recipe.dataset import Clean


def candidates(count: int, *, plain: bool) -> list[Candidate]:
    """Facts about pictures that all differ; on `plain` grounds three quarters of each hash are the same."""
    rng = np.random.default_rng(0)
    hashes = rng.integers(2**16 if plain else 2**63, size=(count, 2)).tolist()
    thumbnails = rng.integers(0, 256, (count, THUMBNAIL, THUMBNAIL, 3), dtype=np.uint8)
    facts = (
        Facts(
            str(n), str(n), 64, 64, (), dhash, mirrored, thumbnail, sharpness=99, deviation=50, brightest=200, entropy=5
        )
        for n, ((dhash, mirrored), thumbnail) in enumerate(zip(hashes, thumbnails, strict=True))
    )
    return [Candidate(facts_.sha256, facts_, "a picture of a thing") for facts_ in facts]


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int)
    options = parser.parse_args()
    for plain in (False, True):
        pictures = candidates(options.count, plain=plain)
        began = time.perf_counter()
        judgements = judge(pictures, Clean())
        seconds, kept = time.perf_counter() - began, sum(j.verdict is None for j in judgements)
        kind = "on plain grounds" if plain else "photographs"
        sys.stdout.write(f"{options.count} pictures, {kind}: {seconds:.1f} s, {kept} kept\n")


if __name__ == "__main__":
    main()
