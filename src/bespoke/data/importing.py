"""A source of pictures and captions copied into a dataset, where the cleaning rules say what becomes of each file."""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from bespoke import scale
from bespoke.data import dataset as datasets
from bespoke.data import masks
from bespoke.data.clean import Verdict
from bespoke.data.dataset import ASIDE, RECORD, TABLE, TRAIN
from bespoke.data.inspect import Facts, facts
from bespoke.data.intake.containers import Opened, opened
from bespoke.data.intake.download import NOT_FETCHED, NOT_YET, fetched
from bespoke.data.intake.folders import Found, find
from bespoke.data.intake.links import is_table
from bespoke.data.known import Known
from bespoke.data.names import Names, safe_suffix
from bespoke.data.reading import ON_WHITE, Unreadable, ending, read
from bespoke.data.sorting import Captioned, captioned_of, check_enough, sorted_out
from bespoke.data.tables import table_of
from bespoke.errors import BespokeError
from bespoke.recipe import Recipe
from bespoke.records import Dataset, Picture, SetAside
from bespoke.workspace import atomic_file, make_durable, sha256

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Otherwise:
    """What holds for all pictures of a source."""

    caption: str = ""
    """The caption of those that come without one."""
    repeats: float = 1.0
    """How often they count, times what their own folder says."""
    source: str = ""
    """What the source is called, where that is not its place."""


@dataclass(frozen=True, slots=True)
class _Copy:
    """A file of the source, and its name in the dataset."""

    origin: Path
    file: str
    sha256: str
    mask: tuple[masks.Origin, masks.Mask] | None = None
    """Where its mask comes from, and what that is."""


@dataclass(frozen=True, slots=True)
class _Look:
    """What looking at a file gave."""

    sha256: str
    """Empty where it could not be had."""
    outcome: Facts | Verdict | None
    """Nothing where the facts were known before."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """A found file that has been looked at."""

    found: Found
    sha256: str
    """Empty where there is nothing to copy."""
    outcome: Facts | Verdict
    origin: masks.Origin | None = None
    mask: masks.Mask | None = None
    """What is known of its mask, where it has one that fits; `origin` is where that lies."""


def build(
    source: str | Path,
    folder: Path,
    recipe: Recipe,
    progress: Progress | None = None,
    arriving: Progress | None = None,
    otherwise: Otherwise | None = None,
) -> Dataset:
    """The dataset in `folder` with what `source` holds: a folder, archives, Parquet files, shards, a URL, links.

    `otherwise` is what holds for all its pictures where nothing beside them says more.

    `source` itself is never changed. A dataset that is there already is added to. Importing the same again mends files
    that were damaged or lost and keeps captions that were edited in `train/metadata.csv`. After a kill it goes on where
    it was. `progress` is called with (files done, files in all), and before that `arriving` with (archives, shards
    or links done, in all).

    Raises: BespokeError when the source is unusable, fewer than 2 pictures remain, `folder` holds something else, or
    what was imported before has changed in the source.
    """
    links = is_table(source)
    with fetched(source, folder, recipe.download, arriving) if links else opened(source, folder, arriving) as came:
        inside = replace(came, name=(otherwise.source if otherwise else "") or came.name)
        named = recipe.data.file_name_captions
        walked = find(inside.folder, file_names=named, samples=inside.samples) if inside.walk else ()
        before = _before(folder)
        try:
            known = Known(folder)
            found = [_said(item, otherwise) for item in (*inside.found, *walked)]
            entries = list(_looked_at(found, known, recipe.data.workers(), progress))
            entries = list(_masked(entries, recipe.data.workers()))
            pictures, broken, copies = _with_entries(before, entries, inside)
            after = sorted_out(pictures, broken, known, recipe, before)
            check_enough(inside.name, after, bare=True)
            try:
                _check_no_strangers(folder, after, copies)
            except BespokeError:
                if not (folder / RECORD).exists():
                    known.forget()  # the folder is somebody else's
                raise
            _copy(folder, after, copies, link=inside.ours)
            _copy_masks(folder, copies)
            after = datasets.save(folder, after)
            known.settle({item.picture.sha256 for item in pictures})
            return datasets.captioned(folder, after)
        except OSError as error:
            hint = "Check that you may write there and that the pictures are still where they were, then import again."
            raise BespokeError(f"The dataset {folder} could not be written: {error}.", hint) from error


def _said(found: Found, otherwise: Otherwise | None) -> Found:
    if otherwise is None:
        return found
    caption = found.text or ("" if found.trouble else otherwise.caption)
    return replace(found, text=caption, repeats=found.repeats * otherwise.repeats)


def _before(folder: Path) -> Dataset:
    """What is in the folder already; with captions as imported where the table of edited ones is gone."""
    if not (folder / RECORD).exists():
        return Dataset()
    recorded = datasets.record(folder)
    return datasets.captioned(folder, recorded) if (folder / TRAIN / TABLE).exists() else recorded


def _looked_at(
    found: Sequence[Found], known: Known, workers: scale.Workers, progress: Progress | None
) -> Iterator[_Entry]:
    paths = (item.path for item in found)
    with closing(scale.map(paths, partial(_look, known.hashes()), workers=workers)) as looks:
        for done, (item, look) in enumerate(zip(found, looks, strict=True), start=1):
            yield _entry(item, look, known)
            if progress is not None:
                progress(done, len(found))


def _look(known: frozenset[str], path: Path | None) -> _Look:
    """What a file holds; of one whose hash is known, its hash alone."""
    if path is None:
        return _Look("", None)
    digest = ""
    try:
        digest = _hash(path)
        return _Look(digest, None if digest in known else facts(read(path, digest)))
    except Unreadable as error:
        return _Look(digest, Verdict(error.reason, error.detail))


def _entry(found: Found, look: _Look, known: Known) -> _Entry:
    """What a found file gives: the facts about its picture, or why there is none."""
    if found.path is None:
        return _Entry(found, "", Verdict(found.reason, found.trouble))
    if isinstance(look.outcome, Verdict):
        return _Entry(found, look.sha256, look.outcome)
    if look.outcome is not None and known.get(look.sha256) is None:
        known.add(look.outcome)
    return _Entry(found, look.sha256, known[look.sha256])


def _masked(entries: Sequence[_Entry], workers: scale.Workers) -> Iterator[_Entry]:
    """The entries with their masks; a picture whose mask does not fit is set aside, not learnt as a whole."""
    with_origins = [replace(entry, origin=_origin_of_mask(entry)) for entry in entries]
    looks = iter(list(scale.map([e.origin for e in with_origins if e.origin], masks.look, workers=workers)))
    for entry in with_origins:
        if isinstance(entry.outcome, Facts) and entry.found.no_mask:
            yield replace(entry, outcome=Verdict(masks.UNFIT, f"{entry.found.no_mask}; {masks.HINT}"))
        elif entry.origin is None:
            yield entry
        else:
            found = next(looks)
            yield replace(entry, mask=found) if isinstance(found, masks.Mask) else _without(entry, found)


def _origin_of_mask(entry: _Entry) -> masks.Origin | None:
    """Where the mask of a picture is to be had: a file of its own, or else the picture's transparency."""
    found, facts_ = entry.found, entry.outcome
    if not isinstance(facts_, Facts) or found.path is None or found.no_mask:
        return None
    if found.mask is not None:
        return masks.Origin(found.mask, facts_.width, facts_.height)
    shows_through = ON_WHITE in facts_.notes
    return masks.Origin(found.path, facts_.width, facts_.height, alpha=True) if shows_through else None


def _without(entry: _Entry, verdict: Verdict) -> _Entry:
    """An entry whose mask does not fit; a picture that nobody can see is left to the rules."""
    alpha = entry.origin is not None and entry.origin.alpha
    return replace(entry, origin=None, outcome=entry.outcome if alpha else verdict)


def _hash(path: Path) -> str:
    """The SHA-256 of a file. Raises: Unreadable when it cannot be read."""
    if not path.is_file():
        raise Unreadable("not a picture", "neither a file nor a link to one")
    if not os.access(path, os.R_OK):
        raise Unreadable("unreadable", "you may not read it")
    try:
        return sha256(path)
    except OSError as error:
        raise Unreadable("unreadable", f"reading it failed: {error.strerror or error}") from None


def _with_entries(
    before: Dataset, entries: Sequence[_Entry], source: Opened
) -> tuple[list[Captioned], list[SetAside], list[_Copy]]:
    """All pictures of the dataset with those of the entries, all files that give none, and the files to copy."""
    there = _There(before)
    names = Names(TABLE, *there.files())
    pictures, broken, copies, taken = list[Captioned](), list[SetAside](), list[_Copy](), set[str]()
    for entry in entries:
        origin = f"{source.name}/{entry.found.name}"
        same = there.find(origin, entry)
        if same is not None and same.sha256 and entry.found.reason in (NOT_FETCHED, NOT_YET):
            continue  # it is here, wherever it can be had no more
        there.check_unchanged(same, entry)
        name = (same.file if same else "") or _name(names, entry)
        if isinstance(entry.outcome, Verdict):
            broken.append(SetAside(origin, name, entry.outcome.reason, entry.outcome.detail, entry.sha256))
        else:
            picture = _picture(origin, name, entry.found, entry.outcome)
            if entry.mask:
                picture = replace(picture, mask=entry.mask.sha256, covered=entry.mask.covered)
            if isinstance(same, Picture):
                text = same.text if same.source_text == entry.found.text else entry.found.text
                picture = _as_before(replace(picture, text=text), same)
            pictures.append(Captioned(picture, entry.found.trouble))
        if same is not None:
            taken.add(same.source)
        if name and entry.found.path is not None:
            mask = (entry.origin, entry.mask) if entry.origin and entry.mask else None
            copies.append(_Copy(entry.found.path, name, entry.sha256, mask))
    pictures += [item for item in there.pictures if item.picture.source not in taken]
    # Of equal pictures the first is kept: one that is in the dataset already does not give way to one that comes later.
    pictures.sort(key=lambda item: item.picture.file not in there.kept)
    return pictures, broken + [item for item in there.broken if item.source not in taken], copies


class _There:
    """What the dataset holds already, found again by where it came from."""

    def __init__(self, dataset: Dataset) -> None:
        self.pictures = captioned_of(dataset)
        self.broken = [item for item in dataset.set_aside if item.picture is None]
        self.kept = {p.file for p in dataset.pictures}
        self._by_source = {item.source: item for item in (*(c.picture for c in self.pictures), *self.broken)}
        self._alike: dict[tuple[str, str], list[Picture | SetAside]] = {}
        for item in self._by_source.values():
            self._alike.setdefault((item.sha256, _last(item.source)), []).append(item)

    def files(self) -> Iterator[str]:
        """The names that are given."""
        return (item.file for item in self._by_source.values() if item.file)

    def find(self, origin: str, entry: _Entry) -> Picture | SetAside | None:
        """The same file as it was imported before, also from a source that was named or lay elsewhere then."""
        alike = self._alike.get((entry.sha256, _last(entry.found.name)), ())
        moved = (item for item in alike if item.source.endswith(f"/{entry.found.name}"))
        return self._by_source.get(origin) or next(moved, None)

    def check_unchanged(self, same: Picture | SetAside | None, entry: _Entry) -> None:
        """Refuses other bytes, and another caption of a picture that is kept."""
        if same is None or not same.sha256:
            return  # new, or named before and not there
        if same.sha256 != entry.sha256:
            hint = "Give the changed file another name, or import into another folder."
            raise BespokeError(f"{same.source} has changed since it was imported.", hint)
        if isinstance(same, Picture) and same.file in self.kept and same.source_text != entry.found.text:
            hint = f"Edit it in {TRAIN}/{TABLE} of the dataset, or import into another folder."
            raise BespokeError(f"The caption of {same.source} has changed since it was imported.", hint)


def _last(path: str) -> str:
    return path.rpartition("/")[2]


def _name(names: Names, entry: _Entry) -> str:
    """A new name for a file in the dataset; none for what cannot be copied."""
    name = entry.found.name
    if isinstance(entry.outcome, Verdict):
        return names.give(name, safe_suffix(name)) if entry.sha256 else ""
    return names.give(name, ending(name, entry.outcome.format)[0])


def _picture(origin: str, name: str, found: Found, facts_: Facts) -> Picture:
    notes = (*found.notes, *facts_.notes, *ending(found.name, facts_.format)[1])
    size, marks = (facts_.width, facts_.height), found.marks
    return Picture(
        name, found.text, facts_.sha256, facts_.pixels, *size, origin, repeats=found.repeats, notes=notes,
        source_text=found.text, weight=1.0 if marks.weight is None else marks.weight, labels=marks.labels,
        asked_split=marks.split,
    )  # fmt: skip


def _as_before(picture: Picture, same: Picture) -> Picture:
    """A picture that is imported again, with what people said of it in the dataset since."""
    return replace(
        picture, repeats=same.repeats, weight=same.weight, labels=picture.labels | same.labels,
        asked_split=same.asked_split, restored=same.restored, unbalanced=same.unbalanced,
    )  # fmt: skip


def _check_no_strangers(folder: Path, dataset: Dataset, copies: Sequence[_Copy]) -> None:
    """Refuses to write over, or beside, what is no part of the dataset."""
    files = [p.file for p in dataset.pictures] + [item.file for item in dataset.set_aside]
    found = datasets.strangers(folder, files)
    if not (folder / RECORD).exists():
        found += [f"{part}/{c.file}" for c in copies for part in (TRAIN, ASIDE) if _other(folder / part / c.file, c)]
        table = folder / TRAIN / TABLE
        if table.exists() and table.read_bytes() != table_of(dataset.pictures).encode():
            found.append(f"{TRAIN}/{TABLE}")
    if found:
        hint = f"Import into another folder, or remove {folder} if nobody needs it."
        if (folder / RECORD).exists():
            hint = "Finish the other import first, if one was stopped or is under way; or move them out of the folder."
        raise BespokeError(f"{folder} holds files that are not from this import, such as {found[0]}.", hint)


def _other(path: Path, copy: _Copy) -> bool:
    return path.exists() and sha256(path) != copy.sha256


def _copy(folder: Path, dataset: Dataset, copies: Sequence[_Copy], *, link: bool) -> None:
    """Brings each file to its place, unless it is whole there or where a change of the rules will find it.

    With `link` a file gets a second name there, and loses its first one after the import: no byte is copied.
    """
    kept, written = {p.file for p in dataset.pictures}, list[Path]()
    for copy in copies:
        places = [folder / part / copy.file for part in ((TRAIN, ASIDE) if copy.file in kept else (ASIDE, TRAIN))]
        if any(place.is_file() and sha256(place) == copy.sha256 for place in places):
            continue
        written.append(places[0])
        # Made durable all at once below: one by one that takes longer than all the rest of an import.
        with atomic_file(places[0], durable=False) as temporary:
            if link and _linked(copy.origin, temporary):
                continue
            shutil.copyfile(copy.origin, temporary)
            if sha256(temporary) != copy.sha256:
                hint = "Wait until it is complete, then import again."
                raise BespokeError(f"{copy.origin} changed while it was imported.", hint)
    make_durable(written)


def _copy_masks(folder: Path, copies: Sequence[_Copy]) -> None:
    """Writes each mask beside the pictures, as a PNG of grey, unless it is whole there."""
    written = list[Path]()
    for copy in copies:
        target = masks.place(folder, copy.file)
        if copy.mask is None or (target.is_file() and sha256(target) == copy.mask[1].sha256):
            continue
        masks.write(copy.mask[0], target)
        written.append(target)
    make_durable(written)


def _linked(origin: Path, place: Path) -> bool:
    """Whether the file has a second name now; some file systems know none."""
    try:
        os.link(origin, place)
    except OSError:
        return False
    return True
