"""Measure how long importing and inspecting pictures take with 1 and more processes: `python benchmarks/processes.py`.

The pictures are made from `examples/photos`: JPEGs with a longer side of 1024 pixels, each cut elsewhere. The runs
alternate, so that what else the machine does falls on all of them; the quickest of each counts.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from bespoke import data
from bespoke.recipe import Recipe
from bespoke.recipe.dataset import Data
from bespoke.seeds import generator

PHOTOS = Path(__file__).parents[1] / "examples" / "photos"


def make(folder: Path, count: int, side: int) -> None:
    """Writes so many different pictures, each with a caption file."""
    photos = [Image.open(path).convert("RGB") for path in sorted(PHOTOS.glob("photo-*.jpg"))]
    for number in range(count):
        photo = photos[number % len(photos)]
        left, top = (generator(0, "benchmark", number).random(2) * 0.2 * min(photo.size)).astype(int).tolist()
        cut = photo.crop((left, top, photo.width - left // 2, photo.height - top // 2))
        scale = side / max(cut.size)
        cut.resize((round(cut.width * scale), round(cut.height * scale))).save(folder / f"{number:05}.jpg", quality=90)
        (folder / f"{number:05}.txt").write_text("a photograph")


def seconds(work: Callable[[], object]) -> float:
    """How long some work takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    best: dict[tuple[str, int], float] = {}
    with tempfile.TemporaryDirectory() as name:
        source, folder = Path(name, "source"), Path(name)
        source.mkdir()
        make(source, options.count, options.side)
        for turn in range(options.rounds):
            for processes in options.processes:
                recipe = Recipe(data=Data(processes=processes))
                made = folder / f"dataset-{turn}-{processes}"
                taken = {"import": seconds(lambda m=made, r=recipe: data.build(source, m, r))}
                (made / "facts.parquet").unlink()
                taken["inspect"] = seconds(lambda m=made, r=recipe: data.inspect(m, r))
                for what, time_ in taken.items():
                    best[what, processes] = min(time_, best.get((what, processes), time_))
    for (what, processes), taken_ in best.items():
        times = best[what, options.processes[0]] / taken_
        rate = options.count / taken_
        sys.stdout.write(f"{what}, {processes} processes: {taken_:.1f} s, {rate:.0f} pictures/s, {times:.2f} times\n")


if __name__ == "__main__":
    main()
