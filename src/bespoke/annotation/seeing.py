"""A dataset's pictures and captions turned into what models say of them, each asked once, all of it kept beside it."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from bespoke import scale
from bespoke.annotation.working import answered
from bespoke.data.opinions import NUMBERS, caption_key
from bespoke.data.seen import CAPTIONS, Book, settle
from bespoke.models import Clip, Detector
from bespoke.models.safety import SafetyChecker
from bespoke.scale import Workers

BATCH = 16
"""Pictures decoded at once."""
TEXTS = 256
MOST_THINGS = 32
"""The things that are kept of a picture, the surest."""
FAINTEST = 0.1
"""How sure the detector must be of a thing for it to be kept."""

Answers = npt.NDArray[np.floating]
See = Callable[[Sequence[Image.Image]], Answers]
Hear = Callable[[Sequence[str]], Answers]
Read = Callable[[str, Path], Image.Image]
"""What opens the picture of a SHA-256 at a path."""


@dataclass(frozen=True)
class Onlooker:
    """What says something in numbers of pictures or, if its kind is `captions`, of texts."""

    kind: str
    model: str
    """Its name, for people."""
    identity: str
    """Equal for models that say the same."""
    made: Callable[[], See | Hear]
    """Reads the model; called only where there is something to ask, in each process that asks. Picklable."""
    labels: tuple[str, ...] = ()
    """The names that numbers in its answers stand for."""


def look(
    folder: Path,
    pictures: Mapping[str, Path],
    texts: Sequence[str],
    onlookers: Sequence[Onlooker],
    read: Read,
    progress: Callable[[int, int], None],
    workers: Workers = scale.ALONE,
) -> None:
    """Lets every model say what it has not said yet of pictures, by their SHA-256, and texts; then that holds.

    After a kill the same call goes on; no answer is asked for twice. `progress` is called with how many
    pictures all models have seen, and how many there are, where any is not seen yet.
    """
    named = {caption_key(text): text for text in texts if text}
    books = [(Book(folder, each.kind, each.model, each.identity, each.labels), each) for each in onlookers]
    seeing = [(book, each) for book, each in books if book.kind != CAPTIONS]
    hearing = [(book, each) for book, each in books if book.kind == CAPTIONS]
    for book, each in hearing:
        _hear(book, each, named)
    _see(seeing, pictures, read, workers, progress)
    for book, _ in books:
        book.settle(named if book.kind == CAPTIONS else pictures)
    settle(folder, [book for book, _ in books])


def features_of(clip: Clip) -> See:
    """What gives pictures their features [n d], of length 1."""
    return lambda pictures: _unit(clip.pictures(pictures))


def text_features_of(clip: Clip) -> Hear:
    """What gives texts their features [n d], of length 1."""
    return lambda texts: _unit(clip.texts(texts))


def excesses_of(checker: SafetyChecker) -> See:
    """What tells how unsafe pictures are, [n 1]."""
    return lambda pictures: checker.excesses(pictures)[:, None]


def things_of(detector: Detector, labels: Sequence[str]) -> See:
    """What finds things in pictures: of each of the 32 surest its label's number, its score and box, [n 192].

    Boxes are in parts of a side; where there are fewer things, the number is -1.
    """
    numbers = {label: number for number, label in enumerate(labels)}

    def see(pictures: Sequence[Image.Image]) -> Answers:
        rows = np.full((len(pictures), MOST_THINGS, NUMBERS), -1.0)
        for row, picture, found in zip(rows, pictures, detector.things(pictures, FAINTEST), strict=True):
            for place, thing in zip(row, found, strict=False):
                sides = (picture.width, picture.height) * 2
                box = [edge / side for edge, side in zip(thing.box, sides, strict=True)]
                place[:] = numbers[thing.name], thing.score, *box
        return rows.reshape(len(pictures), -1)

    return see


def _hear(book: Book, onlooker: Onlooker, named: Mapping[str, str]) -> None:
    todo = book.lacking(named)
    hear: Any = onlooker.made() if todo else None
    for start in range(0, len(todo), TEXTS):
        part = todo[start : start + TEXTS]
        book.add(part, hear([named[key] for key in part]))


def _see(
    onlookers: Sequence[tuple[Book, Onlooker]],
    pictures: Mapping[str, Path],
    read: Read,
    workers: Workers,
    progress: Callable[[int, int], None],
) -> None:
    """Asks the models, each picture being decoded once for all of them."""
    lacking = [set(book.lacking(pictures)) for book, _ in onlookers]
    asked = [number for number, keys in enumerate(lacking) if keys]
    books = [onlookers[number][0] for number in asked]
    todo = [
        _Shown(key, path, tuple(key in lacking[number] for number in asked))
        for key, path in pictures.items()
        if any(key in keys for keys in lacking)
    ]
    done = len(pictures) - len(todo)
    seeing = Seeing(tuple(onlookers[number][1].made for number in asked), read)
    parts = list(scale.batches(todo, BATCH))
    with closing(answered(parts, seeing, lambda: seeing.sees, lambda: workers)) as told:
        for part, rows in zip(parts, told, strict=True):
            for place, book in enumerate(books):
                keys = [shown.sha256 for shown in part if shown.to[place]]
                if keys:
                    book.add(keys, rows[place])
            done += len(part)
            progress(done, len(pictures))


@dataclass(frozen=True)
class _Shown:
    """A picture, and which of the models it is shown to."""

    sha256: str
    path: Path
    to: tuple[bool, ...]


@dataclass(frozen=True)
class Seeing:
    """The work of one process: what models say of the pictures of a batch."""

    made: tuple[Callable[[], See | Hear], ...]
    read: Read

    @cached_property
    def sees(self) -> list[Any]:
        """The models, made when they are first asked for."""
        return [made() for made in self.made]

    def __call__(self, part: Sequence[_Shown]) -> list[Answers]:
        """For each model its rows [n d] about those pictures that it is shown."""
        images = [self.read(shown.sha256, shown.path) for shown in part]
        rows: list[Answers] = []
        for place, see in enumerate(self.sees):
            mine = [image for image, shown in zip(images, part, strict=True) if shown.to[place]]
            rows.append(see(mine) if mine else np.empty((0, 0)))
        return rows

    def __reduce__(self) -> tuple[type["Seeing"], tuple[tuple[Callable[[], See | Hear], ...], Read]]:
        """The work without its models, which every process reads itself."""
        return Seeing, (self.made, self.read)


def _unit(features: Answers) -> Answers:
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.where(lengths > 0, lengths, 1)
