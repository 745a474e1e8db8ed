"""How much memory many records take: `python -m benchmarks.records`.

`map` alone: a cheap function over up to a million records, by two processes. The import: generated pictures of 48×48,
looked at, judged, copied and written down. Each count runs in a process of its own, whose highest resident memory is
told; what each record adds is the slope between the two largest counts, and a million is extrapolated from it.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from bespoke import data, scale
from bespoke.recipe import Recipe
from bespoke.seeds import generator

KB, MB, MILLION = 2**10, 2**20, 10**6


def make(folder: Path, count: int) -> None:
    """Writes so many small pictures, all different, with a table of captions."""
    folder.mkdir()
    rows = ["file_name,text"]
    for number in range(count):
        small = generator("records", number).integers(0, 256, (6, 6, 3), dtype=np.uint8)
        picture = Image.fromarray(small).resize((48, 48), Image.Resampling.BICUBIC)
        picture.save(folder / f"{number:07}.png", compress_level=1)
        rows.append(f"{number:07}.png,a picture of number {number} on a coloured ground")
    (folder / "metadata.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")


def mapped(count: int) -> None:
    """So many records through two processes."""
    for _ in scale.map(range(count), hex, workers=scale.Workers(2), patience=0.0, batch=256):
        pass


def imported(count: int) -> None:
    """So many pictures made a dataset."""
    with tempfile.TemporaryDirectory() as name:
        subprocess.run([sys.executable, "-m", "benchmarks.records", "--make", str(count), name], check=True)
        data.build(Path(name, "source"), Path(name, "dataset"), Recipe())


WORK = {"map": mapped, "import": imported}


def measured(what: str, count: int) -> tuple[float, float]:
    """The highest resident memory in bytes, and the seconds, of some work in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.records", "--one", what, str(count)]
    began = time.perf_counter()
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(told), time.perf_counter() - began


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--map", type=int, nargs="+", default=[1000, 100_000, 1_000_000])
    parser.add_argument("--import", type=int, nargs="+", default=[1000, 5000, 20_000], dest="imports")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--make", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.make:
        make(Path(options.make[1], "source"), int(options.make[0]))
    elif options.one:
        WORK[options.one[0]](int(options.one[1]))
        sys.stdout.write(str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KB))
    else:
        for what, counts in (("map", options.map), ("import", options.imports)):
            peaks = [(count, *measured(what, count)) for count in counts]
            for count, peak, seconds in peaks:
                sys.stdout.write(f"{what}: {count} records: {peak / MB:.0f} MB at the highest, {seconds:.0f} s\n")
            (less, low, _), (more, high, _) = peaks[-2:]
            slope = (high - low) / (more - less)
            beyond = (high + slope * (MILLION - more)) / MB
            sys.stdout.write(f"{what}: {slope / KB:.2f} KB a record; a million: {beyond:.0f} MB\n")


if __name__ == "__main__":
    main()
