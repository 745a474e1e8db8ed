"""A dataset's pictures and captions turned into what models say of them, each asked once, all of it kept beside it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from bespoke.data.opinions import NUMBERS, caption_key
from bespoke.data.seen import CAPTIONS, Book, settle
from bespoke.models import Clip, Detector
from bespoke.models.safety import SafetyChecker

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


@dataclass(frozen=True)
class Onlooker:
    """What says something in numbers of pictures or, if its kind is `captions`, of texts."""

    kind: str
    model: str
    """Its name, for people."""
    identity: str
    """Equal for models that say the same."""
    made: Callable[[], See | Hear]
    """Reads the model; called only where there is something to ask."""
    labels: tuple[str, ...] = ()
    """The names that numbers in its answers stand for."""


def look(
    folder: Path,
    pictures: Mapping[str, Path],
    texts: Sequence[str],
    onlookers: Sequence[Onlooker],
    read: Callable[[str, Path], Image.Image],
    progress: Callable[[int, int], None],
) -> None:
    """Lets every model say what it has not said yet of pictures, by their SHA-256, and texts; then that holds.

    After a kill the same call goes on; at most 256 pictures are looked at again. `progress` is called with how many
    pictures all models have seen, and how many there are, where any is not seen yet.
    """
    named = {caption_key(text): text for text in texts if text}
    books = [(Book(folder, each.kind, each.model, each.identity, each.labels), each) for each in onlookers]
    seeing = [(book, each) for book, each in books if book.kind != CAPTIONS]
    hearing = [(book, each) for book, each in books if book.kind == CAPTIONS]
    try:
        for book, each in hearing:
            _hear(book, each, named)
        _see(seeing, pictures, read, progress)
    except KeyboardInterrupt:
        for book, _ in books:
            book.save()
        raise
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
    read: Callable[[str, Path], Image.Image],
    progress: Callable[[int, int], None],
) -> None:
    """Asks the models, each picture being decoded once for all of them."""
    lacking = [(book, each, set(book.lacking(pictures))) for book, each in onlookers]
    todo = [key for key in pictures if any(key in keys for _, _, keys in lacking)]
    asked = [(book, each.made(), keys) for book, each, keys in lacking if keys]
    for start in range(0, len(todo), BATCH):
        batch = {key: read(key, pictures[key]) for key in todo[start : start + BATCH]}
        for book, see, keys in asked:
            part = {key: image for key, image in batch.items() if key in keys}
            if part:
                answer: Any = see
                book.add(list(part), answer(list(part.values())))
        progress(len(pictures) - len(todo) + start + len(batch), len(pictures))


def _unit(features: Answers) -> Answers:
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.where(lengths > 0, lengths, 1)
