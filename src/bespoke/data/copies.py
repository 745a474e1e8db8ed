"""A source turned into a folder of smaller working copies, with captions, that can be imported in its place."""

import hashlib
import io
import json
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from bespoke import scale
from bespoke.data import masks
from bespoke.data.clean import LOSSY
from bespoke.data.dataset import RECORD, TABLE, TRAIN, load
from bespoke.data.intake.containers import check_apart, opened
from bespoke.data.intake.folders import Found, find, litter
from bespoke.data.names import Names
from bespoke.data.reading import Reading, Unreadable, ending, read, read_mask
from bespoke.data.tables import Marks, fit_table
from bespoke.errors import BespokeError
from bespoke.records import Picture
from bespoke.workspace import atomic_file, sha256, write_text

SUFFIXES = {"jpeg": ".jpg", "png": ".png", "webp": ".webp"}
DIARY = ".shrunk.jsonl"
"""What has been done, one line a picture, so that a command that was killed can go on; hidden from imports."""
LEAST_SAVING = 0.1
"""The part of its bytes that a picture of the right size must lose to be written anew."""
LONGEST_SIDE = 16_383
"""Pixels of the longest side that WebP can hold."""


@dataclass(frozen=True)
class Copies:
    """How working copies are made."""

    side: int = 1024
    """Pixels of the longest side; nothing is enlarged."""
    format: str = "webp"
    """jpeg, png or webp."""
    quality: int = 90
    """Of JPEG and WebP, 1 to 100."""


@dataclass(frozen=True)
class Shrunk:
    """What shrinking a source gave."""

    folder: Path
    pictures: int
    as_they_were: int
    """How many were not worth shrinking, and are there byte for byte."""
    bytes_before: int
    bytes_after: int
    left_out: dict[str, int]
    """Files that give no picture, by reason."""
    shorter: tuple[int, ...] = ()
    """The shorter side, in pixels, of each copy that was made smaller, lowest first."""


@dataclass(frozen=True)
class _Done:
    """One line of the diary."""

    source: str
    of: str
    """SHA-256 of the file in the source."""
    file: str
    """The name of the copy; empty where there is none."""
    sha256: str
    before: int
    after: int
    shorter: int = 0
    """The shorter side of what was made smaller."""
    as_it_was: bool = False
    reason: str = ""
    """Why there is no copy."""


@dataclass(frozen=True)
class _Work:
    """What shrinking one file gave, not yet written."""

    of: str
    """SHA-256 of the file; empty where it could not be had."""
    reason: str = ""
    """Why there is no copy."""
    same: bool = False
    """Whether it was done before."""
    content: bytes | None = None
    """What the copy holds; nothing where it holds what the file does."""
    suffix: str = ""
    before: int = 0
    shorter: int = 0


def shrink(
    source: str | Path,
    out: Path,
    copies: Copies,
    *,
    file_names: bool = False,
    workers: scale.Workers = scale.ALONE,
    progress: Callable[[int, int], None] | None = None,
) -> Shrunk:
    """Working copies in `out` of the pictures of a source, or of those that a dataset keeps, with a `metadata.csv`.

    A copy is upright, in sRGB and on white, as training sees the picture. A picture that is small enough is copied
    byte for byte, unless its format loses nothing and it would lose a tenth of its bytes. After a kill the same command
    goes on. The source is never changed. `workers` do the work.

    Raises: BespokeError when the settings or the source are unusable, or `out` holds something else.
    """
    _check(copies)
    with _pictures(source, out, file_names=file_names) as (origin, found):
        check_apart(origin, out)
        diary = _Diary(out, copies)
        names = Names(*(Path(done.file).stem for done in diary.done.values() if done.file))
        made: list[tuple[Found, _Done]] = []
        todo = ((item.path, diary.whole(item.name)) for item in found)
        with closing(scale.map(todo, partial(_work, copies), workers=workers)) as works:
            for number, (item, work) in enumerate(zip(found, works, strict=True), start=1):
                made.append((item, _made(item, work, names, diary)))
                if progress is not None:
                    progress(number, len(found))
        kept = [(item, done) for item, done in made if done.file]
        if not kept:
            raise BespokeError(f"{source} holds no picture that can be read.", "Name a folder with pictures in it.")
        for item, done in kept:
            if item.mask is not None:
                _copy_mask(item.mask, out / done.file, out / masks.FOLDER / f"{Path(done.file).stem}.png")
        fit_table(out / TABLE, [_picture(item, done) for item, done in kept])
    return _told(out, [done for _, done in made])


def _check(copies: Copies) -> None:
    if copies.format not in SUFFIXES:
        raise BespokeError(f"There is no format {copies.format!r}.", f"Known are {', '.join(SUFFIXES)}.")
    if not 1 <= copies.side <= LONGEST_SIDE:
        raise BespokeError(
            f"The longest side cannot be {copies.side} pixels.", f"Name 1 to {LONGEST_SIDE}; usual: 1024."
        )
    if not 1 <= copies.quality <= 100:
        raise BespokeError(f"The quality cannot be {copies.quality}.", "Name 1 to 100; usual: 90.")


@contextmanager
def _pictures(
    source: str | Path, out: Path, *, file_names: bool
) -> Generator[tuple[Path | None, Sequence[Found]], None, None]:
    """The person's own folder, if it is one, and its files with their captions."""
    if (Path(source) / RECORD).is_file():
        train = Path(source) / TRAIN
        kept = load(Path(source)).pictures
        yield Path(source), [_found(Path(source), train / p.file, p) for p in kept]
        return
    with opened(source, out) as inside:
        walked = find(inside.folder, file_names=file_names, samples=inside.samples) if inside.walk else ()
        yield inside.origin, (*inside.found, *walked)


def _found(dataset: Path, path: Path, picture: Picture) -> Found:
    """A dataset's picture as a source would give it."""
    marks = Marks(picture.weight, picture.asked_split, picture.labels)
    mask = masks.place(dataset, picture.file) if picture.mask else None
    return Found(picture.file, path, picture.text, picture.repeats, marks=marks, mask=mask)


def _copy_mask(mask: Path, copy: Path, target: Path) -> None:
    """Writes a mask at the size of its picture's copy; one that does not fit as it is, so that an import says why."""
    with Image.open(copy) as opened:
        size = opened.size
    try:
        image = read_mask(mask)
    except Unreadable:
        content = mask.read_bytes()
    else:
        alike = abs(image.width * size[1] - image.height * size[0]) <= max(*image.size, *size)
        content = masks.png(image.resize(size, Image.Resampling.BILINEAR) if alike else image)
    with atomic_file(target) as temporary:
        temporary.write_bytes(content)


class _Diary:
    """What has been done in a folder, kept line by line."""

    def __init__(self, folder: Path, copies: Copies) -> None:
        self.folder, self.path = folder, folder / DIARY
        settings = asdict(copies)
        if not self.path.exists():
            _check_empty(folder)
            write_text(self.path, json.dumps(settings) + "\n")
        first, *lines = self.path.read_text(encoding="utf-8").splitlines()
        if json.loads(first) != settings:
            said = ", ".join(f"{key} {value}" for key, value in json.loads(first).items())
            raise BespokeError(f"{folder} holds copies that were made otherwise: {said}.", "Name another folder.")
        self.done: dict[str, _Done] = {}
        for line in lines:
            content = _parsed(line)
            if content is not None:
                self.done[content["source"]] = _Done(**content)
        write_text(self.path, "\n".join([first, *(json.dumps(asdict(d)) for d in self.done.values())]) + "\n")
        for leftover in folder.glob(".*.tmp"):
            leftover.unlink()

    def whole(self, source: str) -> str | None:
        """The SHA-256 of the file that was done with, if its copy is as it was written."""
        done = self.done.get(source)
        if done is None:
            return None
        path = self.folder / done.file
        return done.of if not done.file or (path.is_file() and sha256(path) == done.sha256) else None

    def write(self, done: _Done) -> _Done:
        """Adds a line."""
        self.done[done.source] = done
        with self.path.open("a", encoding="utf-8", newline="\n") as file:
            file.write(json.dumps(asdict(done)) + "\n")
        return done


def _parsed(line: str) -> dict[str, Any] | None:
    """One line of the diary; nothing where a kill tore it."""
    try:
        content = json.loads(line)
    except ValueError:
        return None
    return content if isinstance(content, dict) and content.keys() == _Done.__annotations__.keys() else None


def _check_empty(folder: Path) -> None:
    there = [path.name for path in folder.iterdir() if not litter(path.name)] if folder.is_dir() else []
    if there or (folder.exists() and not folder.is_dir()):
        what = f"holds files that are not from this command, such as {sorted(there)[0]}" if there else "is a file"
        raise BespokeError(f"{folder} {what}.", "Name a new folder.")


def _work(copies: Copies, file: tuple[Path | None, str | None]) -> _Work:
    """What shrinking the file at a path gives; nothing new where its SHA-256 is the one that is named."""
    path, finished = file
    if path is None:
        return _Work("")
    of = ""
    try:
        of = sha256(path) if path.is_file() else ""
        if of == finished:
            return _Work(of, same=True)
        reading = read(path, of)
    except OSError as error:
        return _Work("", f"unreadable: {error.strerror or error}")
    except Unreadable as error:
        return _Work(of, error.reason)
    content = _smaller(reading, copies)
    large = max(reading.image.size) > copies.side
    shorter = min(_size(reading.image.size, copies.side)) if large else 0
    suffix = ending(path.name, reading.format)[0] if content is None else SUFFIXES[copies.format]
    return _Work(of, content=content, suffix=suffix, before=reading.bytes, shorter=shorter)


def _made(item: Found, work: _Work, names: Names, diary: _Diary) -> _Done:
    """The copy of one file, written, or why there is none."""
    if item.path is None or (work.reason and not work.of):
        return _Done(item.name, "", "", "", 0, 0, reason=work.reason or item.reason)
    if work.same:
        return diary.done[item.name]
    if work.reason:
        return diary.write(_Done(item.name, work.of, "", "", 0, 0, reason=work.reason))
    known = diary.done.get(item.name)
    stem = Path(known.file).stem if known and known.file else names.give(item.name, "")
    written = item.path.read_bytes() if work.content is None else work.content
    if known and known.file and Path(known.file).suffix != work.suffix:
        (diary.folder / known.file).unlink(missing_ok=True)
    file = f"{stem}{work.suffix}"
    with atomic_file(diary.folder / file) as temporary:
        temporary.write_bytes(written)
    digest, untouched = hashlib.sha256(written).hexdigest(), work.content is None
    return diary.write(
        _Done(item.name, work.of, file, digest, work.before, len(written), work.shorter, as_it_was=untouched)
    )


def _smaller(reading: Reading, copies: Copies) -> bytes | None:
    """The bytes of the copy, or nothing where the picture is as well left as it is."""
    large = max(reading.image.size) > copies.side
    if not large and reading.format in LOSSY:
        return None
    image = reading.image
    if large:
        image = image.resize(_size(image.size, copies.side), Image.Resampling.LANCZOS)
    content = _encoded(image, copies)
    return content if large or len(content) <= (1 - LEAST_SAVING) * reading.bytes else None


def _size(size: tuple[int, int], side: int) -> tuple[int, int]:
    width, height = (max(1, round(pixels * side / max(size))) for pixels in size)
    return width, height


def _encoded(image: Image.Image, copies: Copies) -> bytes:
    options: Mapping[str, dict[str, Any]] = {
        "jpeg": {"quality": copies.quality, "optimize": True, "subsampling": 0 if copies.quality >= 90 else 2},
        "png": {"optimize": True},
        "webp": {"quality": copies.quality, "method": 4},
    }
    buffer = io.BytesIO()
    image.save(buffer, copies.format.upper(), **options[copies.format])
    return buffer.getvalue()


def _picture(item: Found, done: _Done) -> Picture:
    """A copy as the table speaks of it."""
    weight = 1.0 if item.marks.weight is None else item.marks.weight
    return Picture(
        done.file, item.text, done.sha256, "", 0, 0, item.name, repeats=item.repeats, weight=weight,
        labels=item.marks.labels, asked_split=item.marks.split,
    )  # fmt: skip


def _told(out: Path, made: Sequence[_Done]) -> Shrunk:
    kept = [done for done in made if done.file]
    reasons = Counter(done.reason for done in made if not done.file)
    return Shrunk(
        out,
        len(kept),
        sum(done.as_it_was for done in kept),
        sum(done.before for done in kept),
        sum(done.after for done in kept),
        dict(sorted(reasons.items())),
        tuple(sorted(done.shorter for done in kept if done.shorter)),
    )
