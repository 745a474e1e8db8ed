"""Measure imports from a folder, from shards, from Parquet and from behind a URL: `python benchmarks/shards.py`.

The same pictures, made as in `benchmarks/processes.py`, come in from each; every import runs in a process of its own,
which tells its time and the most memory it took, and the sources take turns. Then four times as many come in, for the
memory alone. The URLs are those of this machine: `memory://` in the process itself, and a store that speaks S3.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.processes import make

ROOT = Path(__file__).parents[1]
PLACES = ("folder", "tars", "tar.gz", "parquet", "memory tars", "s3 tars", "s3 parquet")


def lay_out(source: Path, folder: Path) -> None:
    """Writes the pictures of a folder as a dataset, and that as shards and tables, of 8 MB each; and as one archive."""
    import tarfile

    from bespoke import data
    from bespoke.recipe import Recipe

    data.build(source, folder / "dataset", Recipe())
    for layout in ("webdataset", "parquet"):
        data.export(folder / "dataset", folder / layout, layout, most=8 << 20)
    with tarfile.open(folder / "all.tar.gz", "w:gz") as archive:
        archive.add(source, ".")


def take_in(place: str, source: str, target: str) -> None:
    """Imports in this process, and tells seconds and megabytes."""
    from bespoke import data
    from bespoke.recipe import Recipe
    from bespoke.recipe.dataset import Data

    before = 0
    if place.startswith("memory"):
        import fsspec

        system = fsspec.filesystem("memory")
        for path in Path(source).rglob("*.tar"):
            system.pipe(f"/set/{path.relative_to(source).as_posix()}", path.read_bytes())
            before += path.stat().st_size
        source = "memory://set"
    began = time.perf_counter()
    made = data.build(source, Path(target), Recipe(data=Data(processes=1)))
    seconds = time.perf_counter() - began
    # Linux hands the most memory of the process that started this one down in getrusage, but not here.
    lines = Path("/proc/self/status").read_text().splitlines()
    memory = next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM")) - before
    sys.stdout.write(f"{len(made.pictures)} {seconds} {memory >> 20}\n")


@contextmanager
def store(folder: Path) -> Generator[str]:
    """The address of a store that holds what is in a folder, in the bucket `things`."""
    from tests.data.store import running

    with running() as held:
        for path in folder.rglob("*"):
            if path.suffix in (".tar", ".parquet"):
                held.files[f"things/{path.relative_to(folder).as_posix()}"] = path.read_bytes()
        yield held.address


def measured(place: str, folder: Path, turn: int) -> tuple[int, float, int]:
    """Pictures, seconds and megabytes of one import in a process of its own."""
    import os

    layout = "parquet" if "parquet" in place else "webdataset"
    source = {"folder": folder / "source", "tar.gz": folder / "all.tar.gz"}.get(place, folder / layout)
    said = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_DEFAULT_REGION": "us-east-1"}
    target = folder / f"out-{place.replace(' ', '-')}-{turn}"
    with store(folder) as address:
        named = f"s3://things/{layout}" if place.startswith("s3") else str(source)
        words = [sys.executable, "-m", "benchmarks.shards", "--take-in", place, named, str(target)]
        environment = os.environ | said | {"AWS_ENDPOINT_URL": address}
        told = subprocess.run(words, env=environment, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    pictures, seconds, memory = told.split()[-3:]
    return int(pictures), float(seconds), int(memory)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--take-in", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.take_in:
        take_in(*options.take_in)
        return
    best: dict[str, tuple[int, float, int]] = {}
    more: dict[str, int] = {}
    for times, rounds in ((1, options.rounds), (4, 1)):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "source").mkdir()
            make(folder / "source", options.count * times, options.side)
            lay_out(folder / "source", folder)
            for turn in range(rounds):
                for place in PLACES:
                    pictures, seconds, memory = measured(place, folder, turn)
                    if times == 1:
                        best[place] = min(
                            best.get(place, (0, float("inf"), 0)), (pictures, seconds, memory), key=_second
                        )
                    else:
                        more[place] = memory
    for place, (pictures, seconds, memory) in best.items():
        share = best["folder"][1] / seconds
        sys.stdout.write(
            f"{place}: {pictures / seconds:.0f} pictures/s, {share:.2f} times a folder; "
            f"{memory} MB, of {4 * pictures} pictures {more[place]} MB\n"
        )


def _second(told: tuple[int, float, int]) -> float:
    return told[1]


if __name__ == "__main__":
    main()
