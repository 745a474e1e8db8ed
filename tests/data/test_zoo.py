"""Hundreds of hostile and odd files: an import survives them all, accounts for each, and lets no broken pixel in."""

import csv
import os
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.data import zoo
from tests.data.zoo import KEPT, SKIPPED, Expectation

import bespoke
from bespoke.data import Unreadable, load, read
from bespoke.records import Dataset, Picture, SetAside

_GREY = "libjpeg only warns that the data end early or make no sense, and Pillow does not pass that on"
KNOWN_GAPS: dict[str, str] = {
    "damaged/baseline-30%-and-EOI.jpg": _GREY,
    "damaged/baseline-60%-and-EOI.jpg": _GREY,
    "damaged/baseline-90%-and-EOI.jpg": _GREY,
    "damaged/progressive-60%-and-EOI.jpg": _GREY,
    "damaged/progressive-90%-and-EOI.jpg": _GREY,
    "damaged/taller-than-it-is.jpg": _GREY,
    "damaged/zeros-inside.jpg": _GREY,
    "damaged/piece-removed.jpg": _GREY,
}
"""Animals that are not yet treated as they should be, with what happens instead."""
POINTS = 25
"""Places at which each sound file is cut."""


@dataclass(frozen=True, repr=False)
class Visit:
    """The zoo, and what importing it twice gave."""

    folder: Path
    animals: dict[str, Expectation]
    dataset: Path
    first: Dataset
    again: Dataset
    source_before: dict[str, object]
    source_after: dict[str, object]
    files: dict[str, object]
    files_again: dict[str, object]

    def records(self) -> dict[str, list[Picture | SetAside]]:
        """What became of each file, by its name below the zoo."""
        records: dict[str, list[Picture | SetAside]] = {}
        for record in (*self.first.pictures, *self.first.set_aside):
            records.setdefault(record.source.removeprefix(f"{self.folder.as_posix()}/"), []).append(record)
        return records

    def known(self) -> dict[str, Expectation]:
        """The animals that must be treated as they should be."""
        return {name: animal for name, animal in self.animals.items() if name not in KNOWN_GAPS}


@pytest.fixture(scope="module")
def quick() -> Iterator[None]:
    """No waiting for the disk: nobody pulls the plug here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture(scope="module")
def visit(tmp_path_factory: pytest.TempPathFactory, quick: None) -> Visit:
    root = tmp_path_factory.mktemp("visit")
    folder, dataset = root / "zoo", root / "project" / "dataset"
    animals = zoo.build(folder)
    before = snapshot(folder) | snapshot(root / "zoo elsewhere")
    first = bespoke.import_data(folder, dataset)
    files = contents(dataset)
    again = bespoke.import_data(folder, dataset)
    after = snapshot(folder) | snapshot(root / "zoo elsewhere")
    return Visit(folder, animals, dataset, first, again, before, after, files, contents(dataset))


def snapshot(folder: Path) -> dict[str, object]:
    """Everything below a folder that a change to it would change."""
    return {str(path): _state(path) for path in (folder, *folder.rglob("*"))}


def _state(path: Path) -> object:
    state = path.lstat()
    if stat.S_ISLNK(state.st_mode):
        return str(path.readlink())
    content = path.read_bytes() if stat.S_ISREG(state.st_mode) and os.access(path, os.R_OK) else b""
    return state.st_mode, state.st_mtime_ns, state.st_size, content


def contents(folder: Path) -> dict[str, object]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def differences(record: Picture | SetAside, expected: Expectation) -> Iterator[str]:
    """How a record differs from what is expected, in words."""
    fate = record.reason if isinstance(record, SetAside) else KEPT
    if fate not in expected.fates:
        more = record.detail if isinstance(record, SetAside) else record.text
        yield f"expected {' or '.join(expected.fates)}, got {fate}: {more[:80]}"
    elif isinstance(record, SetAside):
        if not record.detail or expected.detail not in record.detail:
            yield f"expected a detail with {expected.detail!r}, got {record.detail!r}"
    else:
        if not any(expected.note in note for note in record.notes or ("",)):
            yield f"expected a note with {expected.note!r}, got {record.notes}"
        if record.text != expected.text:
            yield f"expected the caption {expected.text!r}, got {record.text!r}"


def off(one: Image.Image, other: Image.Image) -> float:
    """Levels by which two pictures differ on average in the 8×8 block where they differ most."""
    if one.size != other.size:
        return 255.0
    levels = np.abs(np.asarray(one, dtype=int) - np.asarray(other, dtype=int)).mean(axis=2)
    blocks = (levels[y : y + 8, x : x + 8] for y in range(0, one.height, 8) for x in range(0, one.width, 8))
    return max(float(block.mean()) for block in blocks)


def test_the_zoo_is_large_and_its_gaps_are_in_it(visit: Visit) -> None:
    assert len(visit.known()) >= 300
    assert KNOWN_GAPS.keys() <= visit.animals.keys()
    for name, animal in visit.animals.items():
        assert (animal.shows is not None) or KEPT not in animal.fates, name


def test_every_animal_has_one_record_with_the_fate_it_should_have(visit: Visit) -> None:
    records = visit.records()
    wrong: list[str] = []
    for name, expected in visit.known().items():
        own = records.get(name, [])
        if len(own) != (SKIPPED not in expected.fates):
            wrong.append(f"{name!r}: {len(own)} records")
        wrong += [f"{name!r}: {difference}" for record in own for difference in differences(record, expected)]
    assert not wrong, "\n".join(wrong)


def test_files_are_counted_neither_twice_nor_never(visit: Visit) -> None:
    counted = {name for name, expected in visit.animals.items() if SKIPPED not in expected.fates}
    assert visit.records().keys() == counted
    assert visit.first.files == len(counted)


def test_every_file_that_is_set_aside_has_a_reason_and_a_copy(visit: Visit) -> None:
    for item in visit.first.set_aside:
        assert item.reason and item.detail, item
    copies = {item.file: item for item in visit.first.set_aside if item.file}
    aside = visit.dataset / "set-aside"
    assert {path.name for path in aside.iterdir()} == copies.keys()
    for name, expected in visit.animals.items():
        own = [item for item in copies.values() if item.source == f"{visit.folder.as_posix()}/{name}"]
        if own and (visit.folder / name).is_file():
            assert (aside / own[0].file).read_bytes() == (visit.folder / name).read_bytes(), expected


def test_kept_copies_decode_and_show_what_was_drawn(visit: Visit) -> None:
    wrong: list[str] = []
    for name, (record, *_) in visit.records().items():
        if isinstance(record, SetAside):
            continue
        reading, expected = read(visit.dataset / "train" / record.file), visit.animals[name]
        assert (reading.pixels, reading.width, reading.height) == (record.pixels, record.width, record.height)
        if name in KNOWN_GAPS or expected.shows is None:
            continue
        difference = off(reading.image, expected.shows)
        if difference > expected.near:
            wrong.append(f"{name!r}: differs by {difference:.1f} levels")
    assert not wrong, "\n".join(wrong)


def test_the_source_and_what_it_links_to_are_left_as_they_were(visit: Visit) -> None:
    assert visit.source_after == visit.source_before


def test_importing_the_zoo_again_changes_nothing(visit: Visit) -> None:
    assert visit.again == visit.first
    assert visit.files_again == visit.files
    assert load(visit.dataset) == visit.first


def test_no_part_of_a_sound_file_comes_in_as_another_picture(tmp_path: Path, quick: None) -> None:
    """Each sound file, cut at many points: what is left is unreadable, or has all of its pixels."""
    folder = tmp_path / "cut"
    folder.mkdir()
    sound = zoo.whole_files()
    lengths = {name: {len(whole) * i // POINTS for i in range(POINTS)} for name, whole in sound.items()}
    with (folder / "metadata.csv").open("w", encoding="utf-8", newline="") as table:
        rows = csv.writer(table)
        rows.writerow(("file_name", "text"))
        for name, whole in sound.items():
            for length in sorted(lengths[name] | {len(whole) - 2, len(whole) - 1, len(whole)}, reverse=True):
                label = f"{name.replace('.', '-')}-{len(whole) - length:06d}-missing{Path(name).suffix}"
                (folder / label).write_bytes(whole[:length])
                rows.writerow((label, f"the first {length} bytes of {name}"))
    dataset = bespoke.import_data(folder, tmp_path / "dataset")
    files = {Path(item.source).name for item in (*dataset.pictures, *dataset.set_aside)}
    assert files == {path.name for path in folder.iterdir()} - {"metadata.csv"}
    assert {Path(picture.source).name for picture in dataset.pictures} == {
        f"{name.replace('.', '-')}-000000-missing{Path(name).suffix}" for name in sound
    }
    assert {item.reason for item in dataset.set_aside} <= {"unreadable", "duplicate"}
    for item in dataset.set_aside:  # a cut file with the pixels of the whole is its duplicate, and of no other
        assert item.reason == "unreadable" or Path(item.source).name.split("-0")[0] in item.detail, item


def test_two_names_that_print_alike_are_both_counted(tmp_path: Path, quick: None) -> None:
    if sys.platform != "linux":
        pytest.skip("only Linux takes such names")
    folder = tmp_path / "source"
    folder.mkdir()
    names = [os.fsdecode(b"caf\xe9.png"), "caf\\udce9.png", os.fsdecode(b"caf\\\xe9.png"), "caf\\\\udce9.png"]
    for name in names:
        zoo.picture(name).save(folder / name)
        (folder / name).with_suffix(".txt").write_text("a picture")
    dataset = bespoke.import_data(folder, tmp_path / "dataset")
    assert dataset.files == len(dataset.pictures) == len(names)


def test_pipes_are_not_waited_for(tmp_path: Path) -> None:
    if os.name != "posix":
        pytest.skip("only POSIX has pipes in folders")
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(Unreadable):
        read(tmp_path / "pipe.png")
