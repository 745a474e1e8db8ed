"""A process that puts a file on a shelf, and registers a version of it when it is told to: for `test_unneeded.py`."""

import sys
from pathlib import Path

from tests.registry.conftest import ABOUT, ORIGIN

from bespoke.registry import Catalogue, Manifest, Place


def main() -> None:
    catalogue, run = Catalogue(Place(sys.argv[1], Path(sys.argv[2]))), Path(sys.argv[3])
    with catalogue.shelf.changing(lambda: print("waits", flush=True)):
        blob = catalogue.shelf.put(run / "adapter.safetensors")
        print("put", flush=True)
        sys.stdin.readline()
        manifest = Manifest({"adapter.safetensors": blob}, ORIGIN, {"adapter": blob.sha256})
        tracked = catalogue.track(run, lambda: ABOUT, [])
        print(catalogue.register("style", manifest, "", tracked)[0].title, flush=True)


if __name__ == "__main__":
    main()
