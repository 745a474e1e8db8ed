"""The files of a source turned into which of them is the mask of which picture, by the names that trainers give."""

import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

from bespoke.data.reading import SUFFIXES
from bespoke.data.tables import Row

LABEL = "-masklabel"
"""OneTrainer's: `cat-masklabel.png` beside `cat.jpg`. Source: OneTrainer's dataset tools."""
FOLDERS = ("masks", "mask")
"""Folders of masks with the names of their pictures, as kohya's `conditioning_data_dir`: in the pictures' own folder,
or beside that. Source: kohya's sd-scripts, docs/masked_loss_README."""
COLUMNS = ("mask", "mask_file_name")
"""Columns of a table that may name a mask; the second is how Hugging Face's ImageFolder names a second picture."""
_PICTURES = tuple(ending for endings in SUFFIXES.values() for ending in endings)


@dataclass
class Masks:
    """The masks that a source holds, by the names of files below it."""

    of: dict[str, str] = field(default_factory=dict[str, str])
    """The mask's file of each picture that has one."""
    missing: dict[str, str] = field(default_factory=dict[str, str])
    """For a picture whose mask a table names and that is not there, what is said of it."""

    def from_row(self, file: str, row: Row, find: Callable[[str], str | None]) -> Row:
        """Takes in what a table's row says of the picture `file`; the row without that is left.

        A column `mask` may say anything else, too: what is no file and is not named as a picture stays a label.
        """
        labels = dict(row.marks.labels)
        for column in COLUMNS:
            cell = labels.get(column, "")
            mask = find(cell) if cell else None
            if mask is not None and mask != file:
                self.of.setdefault(file, mask)
            elif cell.lower().endswith(_PICTURES):
                self.missing.setdefault(file, f"its mask {cell} is not in the source")
            else:
                continue
            del labels[column]
        return replace(row, marks=replace(row.marks, labels=labels))

    def beside(self, files: Iterable[str], speaking: Callable[[str], bool]) -> None:
        """Finds masks among `files` by their names; what has words of its own, as `speaking` says, is a picture."""
        listed = list(files)
        silent = {_stem(name): name for name in listed if _is_mask(name) and not speaking(name)}
        for name in listed if silent else ():
            mask = next((silent[stem] for stem in _stems(_stem(name)) if stem in silent), None)
            if mask is not None and mask != name and name not in self.missing:
                self.of.setdefault(name, mask)

    def left(self, pictures: Mapping[str, "object"]) -> set[str]:
        """The names among `pictures` that are no masks of others."""
        return pictures.keys() - set(self.of.values())


def _is_mask(name: str) -> bool:
    path = PurePosixPath(name)
    return path.stem.endswith(LABEL) or any(part.lower() in FOLDERS for part in path.parts[:-1])


def _stem(name: str) -> str:
    """The name without its ending; macOS writes é as two characters, others as one."""
    return unicodedata.normalize("NFC", str(PurePosixPath(name).with_suffix("")))


def _stems(stem: str) -> Iterator[str]:
    """What the mask of a picture may be called, without the ending; the nearest place first."""
    path = PurePosixPath(stem)
    yield f"{stem}{LABEL}"
    above = path.parts[:-1]
    for depth in range(len(above), -1, -1):
        for folder in FOLDERS:
            yield str(PurePosixPath(*above[:depth], folder, *above[depth:], path.name))
            if depth:
                yield str(PurePosixPath(*above[: depth - 1], folder, *above[depth:], path.name))
