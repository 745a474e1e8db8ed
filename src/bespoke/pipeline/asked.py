"""Prompts as people type them turned into what is to be drawn: choices made, adapters found, pictures read."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from bespoke import data
from bespoke.errors import BespokeError
from bespoke.pipeline.fetching import brought, is_url
from bespoke.sampling import Request
from bespoke.text.called import called
from bespoke.text.wildcards import expanded
from bespoke.workspace import Run, is_hidden


@dataclass(frozen=True)
class Asked:
    """One picture to draw, and the adapters that its prompt calls, with their weights."""

    request: Request
    adapters: Mapping[Path, float]


def asked(
    prompts: Sequence[str], seeds: Sequence[int], lists: Mapping[str, Sequence[str]], loras: Path,
    begun: Image.Image | None = None, mask: Image.Image | None = None,
) -> list[Asked]:  # fmt: skip
    """What is to be drawn: each prompt with each seed, which also makes the choices in it.

    Raises: BespokeError when a prompt names a list or an adapter that is not there.
    """
    found: list[Asked] = []
    at = functools.cache(lambda name: adapter_at(name, loras))
    for prompt in prompts:
        for seed in seeds:
            words, names = called(expanded(prompt, lists, seed))
            adapters = {at(name): weight for name, weight in names.items()}
            found.append(Asked(Request(words, seed, begun, mask), adapters))
    return found


def adapter_at(name: str, folder: Path) -> Path:
    """The adapter file that a name means: a file, a run, a URL, or a file of that name anywhere in a folder.

    Raises: BespokeError when there is none, saying which there are, or several.
    """
    if is_url(name):
        return brought(name)
    for path in (Path(name), folder / name, folder / f"{name}.safetensors"):
        if path.is_file():
            return path
        if Run(path).adapter.is_file():
            return Run(path).adapter
    every = sorted(path for path in folder.rglob("*.safetensors") if not is_hidden(path.relative_to(folder)))
    there = [path for path in every if path.stem == name]
    if len(there) == 1:
        return there[0]
    if there:
        raise BespokeError(f"Several files are called {name}: {there[0]} and {there[1]}.", "Name it with its folder.")
    known = ", ".join(sorted({path.stem for path in every})[:12])
    hint = f"In {folder} there are: {known}." if known else f"There is none in {folder}; give its folder with --loras."
    raise BespokeError(f"There is no adapter {name!r}.", hint)


def lists_in(folder: Path | None) -> dict[str, list[str]]:
    """The lists for choices in prompts: the lines of each text file in a folder, by its name there without its ending.

    Raises: BespokeError when there is no such folder, or a file is no text.
    """
    if folder is None:
        return {}
    if not folder.is_dir():
        raise BespokeError(f"There is no folder {folder} of lists.", "Name one with text files, one choice a line.")
    found: dict[str, list[str]] = {}
    for file in sorted(folder.rglob("*.txt")):
        try:
            lines = said_in(file)
        except UnicodeDecodeError as error:
            raise BespokeError(
                f"The list {file} is no text: {error}", "Write it in UTF-8, one choice a line."
            ) from None
        found[file.relative_to(folder).with_suffix("").as_posix()] = lines
    return found


def said_in(file: Path) -> list[str]:
    """The lines of a text file that a person wrote; empty ones and those that begin with # are left out.

    Raises: OSError or UnicodeDecodeError when it cannot be read.
    """
    lines = (line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def opened(image: Path | None, mask: Path | None) -> tuple[Image.Image | None, Image.Image | None]:
    """The picture to begin with and the mask of what of it is drawn anew, the right way up.

    Raises: BespokeError when one cannot be read, or there is a mask alone.
    """
    if mask and not image:
        raise BespokeError(f"{mask} is a mask of no picture.", "Give the picture, too: --image FILE.")
    return _read(image, lambda file: data.read(file).image), _read(mask, data.read_mask)


def _read(file: Path | None, read: Callable[[Path], Image.Image]) -> Image.Image | None:
    if file is None:
        return None
    try:
        return read(file)
    except data.Unreadable as error:
        raise BespokeError(f"{file} cannot be read: {error}", "Give a whole picture: PNG, JPEG or WebP.") from None
