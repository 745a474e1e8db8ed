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


def import_model(
    source: str | Path, out: str | Path, *, config: str | Path | None = None, ckpt: bool = False
) -> Imported:
    """A model in one file as a folder in diffusers' layout; `ckpt` allows a .ckpt, of which only tensors are read.

    Raises: BespokeError when `out` is there already, or the file is no whole model of a known family.
    """
    file, folder = path_of(str(source), Path()), Path(out)
    check_new(folder, "folder")
    if not file.is_file():
        raise BespokeError(f"There is no file {source}.", "Name a model in one .safetensors file.")
    settings = Path(config) if config else None
    if file.suffix == ".safetensors":
        found = unpacking.unpack(file, folder, settings)
        return Imported(folder, found.family, found.dtype)
    if not ckpt:
        hint = "Prefer a safetensors file. With --ckpt its tensors are read, and nothing else."
        raise BespokeError(f"{source} is a pickle, which can hold programs.", hint)
    with tempfile.TemporaryDirectory() as temporary:
        plain = Path(temporary) / f"{file.stem}.safetensors"
        unpacking.from_pickle(file, plain)
        found = unpacking.unpack(plain, folder, settings)
    return Imported(folder, found.family, found.dtype)
