"""A process that does with a registry what it is told, line by line: several of them race in `test_racing.py`."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from bespoke.errors import BespokeError
from bespoke.registry import Catalogue, Place


def die(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def unheard(create: Callable[..., object]) -> Callable[..., object]:
    """The same call, after which its process dies."""
    return lambda *given, **more: die(create(*given, **more))


def main() -> None:
    catalogue = Catalogue(Place(sys.argv[1], Path(sys.argv[2])))
    name, standing = sys.argv[3], None
    for line in sys.stdin:
        word, _, rest = line.strip().partition(" ")
        if word == "look":
            standing = catalogue.standing(name)
            said = "looked"
        elif word == "promote":
            try:
                catalogue.add("promoted", catalogue.version(name, int(rest)), standing, alias="champion")
                said = "won"
            except BespokeError as error:
                said = f"lost {error.problem}"
        elif word == "die-before":  # the record is being written, and is not
            catalogue._client.create_model_version = die
            said = "ready"
        elif word == "die-after":  # the record is written, and MLflow's alias is not moved
            catalogue._settle = die
            said = "ready"
        else:  # the record is written, and whoever wrote it never hears of it
            catalogue._client.create_model_version = unheard(catalogue._client.create_model_version)
            said = "ready"
        print(said, flush=True)


if __name__ == "__main__":
    main()
