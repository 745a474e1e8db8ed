"""What draws for the service, made in the process in which it draws; nothing here loads torch before."""

import os
from collections.abc import Mapping
from pathlib import Path

from bespoke.errors import BespokeError
from bespoke.serving.jobs import Engine
from bespoke.workspace import Run, is_hidden

ENDING = ".safetensors"
SHARE = 0.75
"""How much of the memory that is free is used where nobody says how much."""


def easel(
    project: str | Path,
    adapters: str | Path | None,
    memory_gb: float,
    safety_checker: bool,  # noqa: FBT001 - a part of what is pickled
    among: int = 1,
) -> Engine:
    """What draws with the models that names mean in the folder `project`, and with adapters below another folder.

    Models and adapters take up to `memory_gb` GiB, with 0 three quarters of what is free, shared out `among` so many
    workers. A processor computes with one thread, for others draw beside this one, unless `OMP_NUM_THREADS` says more.

    Raises: BespokeError when there is no such folder.
    """
    import torch

    from bespoke.hardware import free_memory, machine
    from bespoke.pipeline.painter import Painter

    if machine().device == "cpu" and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)
    if adapters and not Path(adapters).is_dir():
        raise BespokeError(f"There is no folder {adapters} of adapters.", "Name one in serve.adapters, or none.")
    budget = memory_gb * 2**30 if memory_gb else SHARE * free_memory() / among
    return Painter(Path(project), Path(adapters) if adapters else None, int(budget), safety_checker=safety_checker)


def adapter_names(folder: str | Path) -> list[str]:
    """What the adapters below a folder are called, sorted: files by their paths there without the ending, and runs."""
    return sorted(_adapters(Path(folder)))


def adapter_file(name: str, folder: str | Path | None) -> Path:
    """The file that an adapter's name means: one of `adapter_names`, or the last part of exactly one.

    Raises: BespokeError when there is none, or there are several; its words say nothing of where the folder is.
    """
    there = _adapters(Path(folder)) if folder else {}
    wanted = name.removesuffix(ENDING)
    found = [wanted] if wanted in there else [own for own in there if own.rpartition("/")[2] == wanted]
    if len(found) == 1:
        return there[found[0]]
    if found:
        raise BespokeError(f"Several adapters are called {name!r}.", f"There are: {', '.join(sorted(found)[:12])}.")
    known = ", ".join(sorted(there)[:12])
    raise BespokeError(f"There is no adapter {name!r}.", f"There are: {known}." if known else "There is none at all.")


def _adapters(folder: Path) -> Mapping[str, Path]:
    found: dict[str, Path] = {}
    for file in folder.rglob(f"*{ENDING}"):
        place = file.relative_to(folder)
        run = next((inner for inner in place.parents[-2::-1] if _is_run(folder / inner)), None)
        if file.is_file() and not is_hidden(place) and (run is None or file == Run(folder / run).adapter):
            found[(run or place.with_suffix("")).as_posix()] = file
    return found


def _is_run(folder: Path) -> bool:
    """Whether a folder is that of a run, of which only the best adapter counts."""
    return Run(folder).recipe.is_file() and Run(folder).adapter.is_file()
