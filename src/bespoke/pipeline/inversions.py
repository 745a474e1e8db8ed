"""Textual inversions of any program turned into new words that a model knows."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bespoke.errors import BespokeError
from bespoke.models import Checkpoint, NewWords
from bespoke.models.bases import T5
from bespoke.models.formats import is_ours, read_inversion
from bespoke.pipeline.fetching import checkpoint_of, path_of
from bespoke.workspace import cache, check_new, sha256


@dataclass(frozen=True)
class ImportedWords:
    """A file of new words, and what can be written in prompts."""

    file: Path
    words: tuple[str, ...]
    base: str


def import_words(
    sources: Sequence[str | Path], out: str | Path, *, base: str = "pico", surface: str = "", pickled: bool = False
) -> ImportedWords:
    """Textual inversions, and files of new words, as one file of new words of a base.

    `surface` is what a single one is called; otherwise its key or its file says it. `pickled` allows .pt and .bin, of
    which only tensors are read.

    Raises: BespokeError when `out` is there already, or one is no inversion for this base.
    """
    path = Path(out)
    check_new(path)
    if path.suffix != ".safetensors":
        raise BespokeError(f"New words are written as a .safetensors file, not {path}.", "Name it so.")
    if surface and len(sources) != 1:
        raise BespokeError("Several files cannot all have one name.", "Import them one by one, or leave --as out.")
    checkpoint = checkpoint_of(base)
    words = _together(checkpoint, [path_of(str(source), Path()) for source in sources], surface, pickled=pickled)
    words.save(path)
    return ImportedWords(path, tuple(name for word in words.words for name in word.surfaces), checkpoint.name)


def knowing(checkpoint: Checkpoint, files: Sequence[Path]) -> Checkpoint:
    """The same checkpoint that also knows the words in files: textual inversions of any program, or new words of ours.

    Raises: BespokeError when one is none for this base, or two words are written alike.
    """
    if not files:
        return checkpoint
    if len(files) == 1 and not checkpoint.words and is_ours(files[0]):
        return checkpoint.with_words(files[0])
    every = [*([checkpoint.words] if checkpoint.words else []), *files]
    told = [str(checkpoint.base), *(f"{file.stem} {_mark(file)}" for file in every)]
    target = cache() / "words" / f"{hashlib.sha256(' '.join(told).encode()).hexdigest()[:16]}.safetensors"
    if not target.is_file():
        _together(checkpoint, every).save(target)
    return checkpoint.with_words(target)


def _together(checkpoint: Checkpoint, files: Sequence[Path], surface: str = "", *, pickled: bool = False) -> NewWords:
    """The words of all files, in order."""
    found: list[NewWords] = []
    for file in files:
        if is_ours(file):
            found.append(NewWords.read(file))
            found[-1].fits(checkpoint.base_with(*found[-1].rows))
        else:
            found.append(read_inversion(file, checkpoint, surface, pickled=pickled))
    spelt = [T5 in words.rows for words in found if words.words]
    if any(spelt) and not all(spelt):
        problem = "Some of these words have rows for T5, and others have none."
        raise BespokeError(problem, "Use the ones without the others.")
    base = checkpoint.base_with(*(name for words in found for name in words.rows))
    return NewWords.of(base, [pair for words in found for pair in words.entries()])


def _mark(file: Path) -> str:
    """A mark of a file; a missing one is told of where it is read."""
    return sha256(file) if file.is_file() else ""
