"""Pictures a second, ours beside others on the same files: `python -m benchmarks.looking`.

Inspect: decoding every picture and finding out what the rules ask (ours), decoding alone (a plain Pillow loop), and
CleanVision's checks, if it is installed (`pip install cleanvision`). Resize: working copies of half the side as WebP,
ours and a plain Pillow loop with the same settings. The arms take turns, and the quickest of each counts.
"""

import argparse
import contextlib
import io
import sys
import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.processes import make, seconds
from PIL import Image

from bespoke import data
from bespoke.recipe import Recipe
from bespoke.recipe.dataset import Data
from bespoke.scale import Workers

PILLOW = "a plain Pillow loop"


def decode(source: Path) -> None:
    """Decodes every picture, as a loop of three lines does."""
    for path in sorted(source.glob("*.jpg")):
        with Image.open(path) as image:
            image.convert("RGB")


def resize(source: Path, out: Path, side: int) -> None:
    """Writes every picture smaller, as a loop of a few lines does."""
    out.mkdir()
    for path in sorted(source.glob("*.jpg")):
        with Image.open(path) as image:
            scale = side / max(image.size)
            size = round(image.width * scale), round(image.height * scale)
            small = image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
        small.save(out / f"{path.stem}.webp", quality=90, method=4)


def inspect(dataset: Path, processes: int) -> None:
    """Finds out all facts about a dataset's pictures anew, and asks the rules."""
    (dataset / "facts.parquet").unlink()
    data.inspect(dataset, Recipe(data=Data(processes=processes)))


def cleanvision(imagelab: Any, source: Path, processes: int) -> None:  # noqa: ANN401 - it has no types
    """CleanVision's checks, all of them."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        imagelab(data_path=str(source)).find_issues(n_jobs=processes, verbose=False)


def arms(
    source: Path, dataset: Path, scratch: Path, processes: int, side: int
) -> dict[str, dict[str, Callable[[], object]]]:
    """What is measured, by kind and name."""
    looked: dict[str, Callable[[], object]] = {PILLOW: partial(decode, source)}
    with contextlib.suppress(ImportError):
        from cleanvision import Imagelab  # pyright: ignore[reportMissingImports]

        looked |= {f"CleanVision, {n} processes": partial(cleanvision, Imagelab, source, n) for n in (1, processes)}
    looked |= {f"bespoke, {n} processes": partial(inspect, dataset, n) for n in (1, processes)}
    counter = iter(range(1_000_000))

    def shrink(count: int) -> object:
        return data.shrink(source, scratch / f"out-{next(counter)}", data.Copies(side), workers=Workers(count))

    resized: dict[str, Callable[[], object]] = {PILLOW: lambda: resize(source, scratch / f"out-{next(counter)}", side)}
    resized |= {f"bespoke, {n} processes": partial(shrink, n) for n in (1, processes)}
    return {"inspect": looked, "resize": resized}


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=600)
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        source, dataset = Path(name, "source"), Path(name, "dataset")
        source.mkdir()
        make(source, options.count, options.side)
        data.build(source, dataset, Recipe())
        for kind, measured in arms(source, dataset, Path(name), options.processes, options.side // 2).items():
            best = dict.fromkeys(measured, float("inf"))
            for _ in range(options.rounds):
                best = {arm: min(time, seconds(measured[arm])) for arm, time in best.items()}
            for arm, time in best.items():
                told = f"{options.count / time:6.1f} pictures/s, {best[PILLOW] / time:.2f} times {PILLOW}"
                sys.stdout.write(f"{kind}: {arm}: {told}\n")


if __name__ == "__main__":
    main()
