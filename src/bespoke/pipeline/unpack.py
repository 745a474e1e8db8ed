"""A whole model in one file turned into a folder that everything here reads."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from bespoke.errors import BespokeError
from bespoke.models import unpacking
from bespoke.pipeline.fetching import path_of
from bespoke.workspace import check_new


@dataclass(frozen=True)
class Imported:
    """The folder of a model that came in one file."""

    path: Path
    family: str
    dtype: str
    which: str = ""
    """Where the file holds both: `weights`, or their running `average`."""
    left_out: tuple[str, ...] = ()
    """What of the file is not in the folder."""


def import_model(
    source: str | Path, out: str | Path, *, config: str | Path | None = None, ckpt: bool = False, ema: bool = False
) -> Imported:
    """A model in one file as a folder in diffusers' layout; `ckpt` allows a .ckpt, of which only tensors are read.

    Of a file that also holds a running average of the weights it is the weights or, with `ema`, the average.

    Raises: BespokeError when `out` is there already, or the file is no whole model of a known family.
    """
    file, folder = path_of(str(source), Path()), Path(out)
    check_new(folder, "folder")
    if not file.is_file():
        raise BespokeError(f"There is no file {source}.", "Name a model in one .safetensors file.")
    settings = Path(config) if config else None
    if file.suffix == ".safetensors":
        return _unpacked(file, folder, settings, ema=ema)
    if not ckpt:
        hint = "Prefer a safetensors file. With --ckpt its tensors are read, and nothing else."
        raise BespokeError(f"{source} is a pickle, which can hold programs.", hint)
    with tempfile.TemporaryDirectory() as temporary:
        plain = Path(temporary) / f"{file.stem}.safetensors"
        unpacking.from_pickle(file, plain)
        return _unpacked(plain, folder, settings, ema=ema)


def _unpacked(file: Path, folder: Path, settings: Path | None, *, ema: bool) -> Imported:
    found = unpacking.unpack(file, folder, settings, ema=ema)
    which = ("average" if ema else "weights") if unpacking.has_average(file) else ""
    return Imported(folder, found.family, found.dtype, which, unpacking.left_out(folder))
