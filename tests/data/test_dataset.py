"""Import and load: every file accounted for, captions found, sources untouched, damage named, errors that teach."""

import csv
import hashlib
import json
import os
import shutil
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from bespoke.data import build, check_enough, clean, export, inspect, load, read, restore
from bespoke.data.intake.folders import find
from bespoke.data.names import Names
from bespoke.data.tables import one_line
from bespoke.errors import BespokeError
from bespoke.recipe import Recipe, parse
from bespoke.records import Dataset


def picture(seed: int, width: int = 48, height: int = 48) -> Image.Image:
    small = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def put(folder: Path, name: str, seed: int, text: str | None = "a picture") -> Path:
    """A PNG with its caption beside it."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(seed).save(path, "PNG")
    if text is not None:
        path.with_suffix(".txt").write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Ten good pictures with sidecar captions."""
    for seed in range(10):
        put(tmp_path / "photos", f"{seed}.png", seed, f"picture number {seed}")
    return tmp_path / "photos"


def recipe(validation_fraction: float = 0.2, **rules: object) -> Recipe:
    data = {"validation_fraction": validation_fraction}
    return parse({"data": data, "validation": {"seed": 1}, "clean": rules}, "the test")


def imported(source: Path, folder: Path, progress=None, **options) -> Dataset:
    return build(source, folder, recipe(**options), progress)


def refusal(source: Path, folder: Path) -> BespokeError:
    with pytest.raises(BespokeError) as caught:
        imported(source, folder)
    assert caught.value.hint, "an error teaches only with a hint"
    return caught.value


def snapshot(folder: Path) -> dict[str, str]:
    """The files of a dataset; what was found out about new pictures may wait beside them for the next import."""
    files = (p for p in folder.rglob("*") if p.is_file() and not p.name.startswith(".facts-"))
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(files)}


def outcome(dataset: Dataset) -> dict[str, str]:
    """What became of each file, by its name."""
    kept = {Path(p.source).name: "kept" for p in dataset.pictures}
    return kept | {Path(s.source).name: s.reason for s in dataset.set_aside}


def zoo(root: Path) -> dict[str, str]:
    """A folder of everything that people and the internet put into one, with what must become of each."""
    root.mkdir()
    expected: dict[str, str] = {}

    def raw(name: str, content: bytes, becomes: str, text: str | None = "caption") -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
        if text is not None:
            (root / name).with_suffix(".txt").write_text(text, encoding="utf-8")
        expected[Path(name).name] = becomes

    def saved(name: str, image: Image.Image, becomes: str, text: str | None = "caption", **options) -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        image.save(root / name, **options)
        raw(name, (root / name).read_bytes(), becomes, text)

    saved("plain.png", picture(1), "kept")
    saved("zz-copy.png", picture(1), "duplicate")
    saved("zz-copy.bmp.png", picture(1), "duplicate", format="BMP")
    saved("zz-recompressed.jpg", picture(1), "near-duplicate", quality=95, subsampling=0)
    saved("photo.jpg", picture(2), "kept")
    saved("cmyk.jpg", picture(3).convert("CMYK"), "kept")
    saved("palette.gif", picture(4).convert("P"), "kept")
    saved("alpha.png", picture(5).convert("RGBA"), "kept")
    saved("grey-alpha.png", picture(6).convert("LA"), "kept")
    saved("web.webp", picture(7), "kept")
    saved("scan.tiff", picture(8), "kept")
    saved("old.bmp", picture(9), "kept")
    saved("animated.gif", picture(10), "kept", save_all=True, append_images=[picture(11)])
    saved("actually-a-png.jpg", picture(12), "kept", format="PNG")
    saved("no-ending", picture(13), "kept", format="PNG")
    deep = np.random.default_rng(0).integers(0, 65_536, (40, 40), dtype=np.uint16)
    saved("deep.png", Image.fromarray(deep), "kept")
    saved("float.tif", Image.fromarray(np.ones((40, 40), np.float32)), "unreadable")
    saved("bomb.png", Image.new("1", (12_000, 12_000)), "unreadable")
    saved("tiny.png", picture(14, 16, 16), "too small")
    saved("sliver.png", picture(15, 400, 5), "too small")
    saved("bare.png", picture(16), "no caption", text=None)
    saved("blank.png", picture(17), "no caption", text=" \n\t ")
    saved("ünïcode 写真 🎨.png", picture(18), "kept")
    saved("nested/very/deep/one.png", picture(19), "kept")
    saved("con.png", picture(20), "kept")
    saved("a" * 200 + ".png", picture(21), "kept")
    saved('quo"te, comma.png', picture(22), "kept")
    saved("wrong-text.png", picture(23), "no caption", text=None)
    (root / "wrong-text.txt").write_bytes(b"\xff\xfe\x00caf\xe9")
    whole = (root / "photo.jpg").read_bytes()
    raw("truncated.jpg", whole[: len(whole) // 2], "unreadable")
    raw("empty.png", b"", "unreadable")
    raw("noise.jpg", np.random.default_rng(0).bytes(5_000), "unreadable")
    raw("page.png", b"<!DOCTYPE html><title>404</title>", "unreadable")
    raw("flipped.png", (root / "plain.png").read_bytes().replace(b"IDAT", b"IDAX"), "unreadable")
    raw("phone.heic", b"\0\0\0\x18ftypheic", "unreadable")
    raw("drawing.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "unreadable")
    raw("movie.mp4", b"\0\0\0\x18ftypmp42", "not a picture", text=None)
    raw("archive.zip", b"PK\x03\x04", "not a picture", text=None)
    raw("README", b"About these pictures.", "not a picture", text=None)
    raw("orphan.caption", b"a caption of nothing", "not a picture", text=None)
    for litter in (".DS_Store", "Thumbs.db", "desktop.ini", "._plain.png", ".git/config", "__MACOSX/plain.png"):
        (root / litter).parent.mkdir(exist_ok=True)
        (root / litter).write_bytes(b"litter")
    if os.name == "posix":
        os.mkfifo(root / "pipe.png")
        (root / "dangling.png").symlink_to(root / "nowhere.png")
        (root / "loop").symlink_to(root)
        expected |= {"pipe.png": "not a picture", "dangling.png": "missing file", "loop": "not a picture"}
    (root / "metadata.csv").write_text("file_name,text\nlost.png,a lost picture\n../../outside.png,no\n")
    expected |= {"lost.png": "missing file", "outside.png": "missing file"}
    return expected


def test_every_file_of_the_zoo_is_accounted_for(tmp_path):
    expected = zoo(tmp_path / "zoo")
    dataset = imported(tmp_path / "zoo", tmp_path / "dataset")
    assert len(expected) >= 40
    assert outcome(dataset) == expected
    assert dataset.files == len(dataset.pictures) + len(dataset.set_aside) == len(expected)
    assert all(item.detail for item in dataset.set_aside)
    on_disk = {p.name for p in (tmp_path / "dataset" / "set-aside").iterdir()}
    assert on_disk == {item.file for item in dataset.set_aside if item.file}
    assert {item.reason for item in dataset.set_aside if not item.file} == {"missing file", "not a picture"}
    assert load(tmp_path / "dataset") == dataset


def test_the_zoo_is_not_changed_by_the_import(tmp_path):
    zoo(tmp_path / "zoo")
    (tmp_path / "zoo" / "pipe.png").unlink(missing_ok=True)
    before = snapshot(tmp_path / "zoo")
    imported(tmp_path / "zoo", tmp_path / "dataset")
    assert snapshot(tmp_path / "zoo") == before


def test_the_layout_on_disk(source, tmp_path):
    (source / "notes.pdf").write_bytes(b"%PDF")
    dataset = imported(source, tmp_path / "dataset")
    assert sorted(p.name for p in (tmp_path / "dataset").iterdir()) == [
        "dataset.json",
        "facts.parquet",
        "set-aside",
        "train",
    ]
    for item in dataset.pictures:
        assert (tmp_path / "dataset" / "train" / item.file).read_bytes() == Path(item.source).read_bytes()
        assert item.sha256 == hashlib.sha256(Path(item.source).read_bytes()).hexdigest()
    assert (tmp_path / "dataset" / "set-aside" / "notes.pdf").read_bytes() == b"%PDF"
    table = pd.read_csv(tmp_path / "dataset" / "train" / "metadata.csv")
    assert list(table.columns) == ["file_name", "text"]
    assert dict(zip(table.file_name, table.text, strict=True)) == {f"{n}.png": f"picture number {n}" for n in range(10)}
    assert Dataset.from_json((tmp_path / "dataset" / "dataset.json").read_text("utf-8")) == (1, dataset)


def test_progress_counts_every_file(source, tmp_path):
    seen: list[tuple[int, int]] = []
    imported(source, tmp_path / "dataset", progress=lambda done, files: seen.append((done, files)))
    assert seen == [(n, 10) for n in range(1, 11)]


def test_captions_from_metadata_csv_are_read_tolerantly(tmp_path):
    for seed, name in enumerate(["a.png", "b.png", "sub/c.png", "é.png"]):
        put(tmp_path / "s", name, seed, None)
    put(tmp_path / "s", "d.png", 9, "from the text file")
    rows = (
        'file_name, text,source\na.png,"a red, round ""thing""\nin two lines",x\n\n'
        'e\u0301.png,  accented  ,x\n"b.png",short\n'
    )
    (tmp_path / "s" / "metadata.csv").write_bytes(b"\xef\xbb\xbf" + rows.encode())
    (tmp_path / "s" / "sub" / "metadata.csv").write_text("text,file_name\nnested,c.png\n")
    assert {item.name: item.text for item in find(tmp_path / "s")} == {
        "a.png": 'a red, round "thing" in two lines',
        "b.png": "short",
        "d.png": "from the text file",
        "sub/c.png": "nested",
        "é.png": "accented",
    }


def test_a_table_may_reach_into_subfolders_and_comes_before_text_files(tmp_path):
    put(tmp_path / "s", "sub/a.png", 1, "from the text file")
    put(tmp_path / "s", "sub/b.png", 2, "from the text file")
    (tmp_path / "s" / "metadata.csv").write_text("file_name,text\nsub/a.png,from above\nsub\\b.png,\n")
    assert [item.text for item in find(tmp_path / "s")] == ["from above", "from the text file"]


def test_the_nearest_of_several_captions_is_used_and_noted(tmp_path):
    put(tmp_path / "s", "sub/a.png", 1, None)
    put(tmp_path / "s", "b.png", 2)
    (tmp_path / "s" / "metadata.csv").write_text("file_name,text\nsub/a.png,far\n")
    (tmp_path / "s" / "sub" / "metadata.csv").write_text("file_name,text\na.png,near\n")
    dataset = imported(tmp_path / "s", tmp_path / "d")
    (item,) = (p for p in dataset.pictures if p.file == "a.png")
    assert item.text == "near"
    assert item.notes == ("metadata.csv gives it several captions: the first is used",)


@pytest.mark.parametrize("sidecar", ["cat.txt", "cat.caption", "cat.TXT", "cat.png.txt"])
def test_sidecar_names(tmp_path, sidecar):
    put(tmp_path, "cat.png", 1, None)
    (tmp_path / sidecar).write_bytes(b"\xef\xbb\xbfa cat\r\n")
    (found,) = find(tmp_path)
    assert (found.name, found.text) == ("cat.png", "a cat")


@pytest.mark.parametrize(
    ("content", "detail"),
    [
        (b"caf\xe9", "a.txt is not UTF-8 text"),
        (b"x" * 70_000, "a.txt is too long for a caption"),
        (b" ", "a.txt is empty"),
    ],
)
def test_an_unusable_sidecar_costs_its_picture_only(source, tmp_path, content, detail):
    put(source, "a.png", 50, None)
    (source / "a.txt").write_bytes(content)
    dataset = imported(source, tmp_path / "d")
    assert [(s.file, s.reason, s.detail) for s in dataset.set_aside] == [("a.png", "no caption", detail)]
    assert len(dataset.pictures) == 10


@given(st.text())
@example("\xad")
@example("\xad \u200b")
@example("a\xad b")
def test_captions_survive_the_table(text):
    line = one_line(text)
    assert line == one_line(line)
    assert not set(line) & set("\r\n\t\0")
    words = "".join(" " if c in map(chr, [*range(32), *range(127, 160)]) else c for c in text).split()
    # A caption of nothing but characters that cannot be seen, such as soft hyphens, is none.
    assert line.split() == (words if any(unicodedata.category(c) != "Cf" for c in "".join(words)) else [])


def test_names_that_are_not_utf8_are_spelled_out(source, tmp_path):
    if sys.platform != "linux":
        pytest.skip("only Linux takes such names")
    name = os.fsdecode(b"caf\xe9.png")
    shutil.copy(put(source, "x.png", 60), source / name)
    (source / os.fsdecode(b"caf\xe9.txt")).write_text("coffee")
    (source / "x.png").unlink()
    (source / "x.txt").unlink()
    dataset = imported(source, tmp_path / "d")
    (item,) = (p for p in dataset.pictures if p.text == "coffee")
    assert item.source.endswith("caf\\udce9.png")
    assert load(tmp_path / "d") == dataset


def test_equal_names_get_their_folder_in_front(tmp_path):
    for seed, name in enumerate(["a/cat.png", "b/cat.png", "b/CAT.png", "c/dog.png"]):
        put(tmp_path / "s", name, seed)
    dataset = imported(tmp_path / "s", tmp_path / "d")
    assert {p.source.removeprefix(f"{tmp_path.as_posix()}/s/"): p.file for p in dataset.pictures} == {
        "a/cat.png": "cat.png",
        "b/CAT.png": "b-CAT.png",
        "b/cat.png": "b-cat-2.png",
        "c/dog.png": "dog.png",
    }


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1), max_size=20))
def test_names_are_safe_and_unique_whatever_they_were(stems):
    names = Names("metadata.csv")
    given_ = [names.give(f"{stem}.png", ".png") for stem in stems]
    assert len({name.casefold() for name in given_}) == len(stems)
    for name in given_:
        assert len(name.encode()) <= 200
        assert not set(name) & set('<>:"/\\|?*\0\n')
        assert not name.startswith(".")
        assert name.split(".")[0].lower() not in {"con", "nul", "com1"}


def test_endings_follow_the_content(source, tmp_path):
    put(source, "other.png", 70).rename(source / "other.jpg")
    dataset = imported(source, tmp_path / "d")
    (item,) = (p for p in dataset.pictures if p.source.endswith("other.jpg"))
    assert item.file == "other.png"
    assert item.notes == ("is a PNG file, whatever its name says",)


def test_importing_twice_gives_the_same_bytes(tmp_path):
    zoo(tmp_path / "zoo")
    first = imported(tmp_path / "zoo", tmp_path / "dataset")
    before = snapshot(tmp_path / "dataset")
    assert imported(tmp_path / "zoo", tmp_path / "dataset") == first
    assert snapshot(tmp_path / "dataset") == before
    assert imported(tmp_path / "zoo", tmp_path / "elsewhere") == first
    assert snapshot(tmp_path / "elsewhere") == before


def test_a_killed_import_goes_on(source, tmp_path):
    (source / "notes.pdf").write_bytes(b"%PDF")
    whole = imported(source, tmp_path / "whole")
    wanted = snapshot(tmp_path / "whole")
    for kept in range(len(wanted)):  # dataset.json comes last, so a kill leaves any files but that one
        folder = tmp_path / f"killed-{kept}"
        shutil.copytree(tmp_path / "whole", folder)
        for name in sorted(wanted, reverse=True)[kept:]:
            (folder / name).unlink()
        (folder / "dataset.json").unlink(missing_ok=True)
        (folder / "train" / ".3.png.0123abcd.tmp").write_bytes(b"half")
        assert imported(source, folder) == whole
        assert snapshot(folder) == wanted


def test_importing_again_mends_damage_and_keeps_edited_captions(source, tmp_path):
    imported(source, tmp_path / "d")
    table = tmp_path / "d" / "train" / "metadata.csv"
    table.write_text(table.read_text().replace("picture number 3", "a better caption"))
    (tmp_path / "d" / "train" / "0.png").write_bytes(b"damaged")
    (tmp_path / "d" / "train" / "1.png").unlink()
    dataset = imported(source, tmp_path / "d")
    assert load(tmp_path / "d") == dataset
    assert "a better caption" in {p.text for p in dataset.pictures}


def test_load_takes_captions_from_the_table(source, tmp_path):
    imported(source, tmp_path / "d")
    table = tmp_path / "d" / "train" / "metadata.csv"
    frame = pd.read_csv(table)
    frame["text"] = [f"new, {n}" for n in range(10)]
    frame["aesthetic"] = 1.0
    frame.iloc[::-1].to_csv(table, index=False)
    assert [p.text for p in load(tmp_path / "d").pictures] == [f"new, {n}" for n in range(10)]


def test_the_split_is_in_the_record_and_stable_when_pictures_are_added(tmp_path):
    for seed in range(40):
        put(tmp_path / "s", f"{seed:02}.png", seed)
    before = imported(tmp_path / "s", tmp_path / "one", validation_fraction=0.3)
    for seed in range(40, 60):
        put(tmp_path / "s", f"{seed:02}.png", seed)
    after = imported(tmp_path / "s", tmp_path / "two", validation_fraction=0.3)
    sides = {p.file: p.split for p in after.pictures}
    assert {p.file: p.split for p in before.pictures} == {p.file: sides[p.file] for p in before.pictures}
    assert len(before.part("validation")) >= 4
    assert len(after.part("validation")) > len(before.part("validation"))
    assert {p.split for p in load(tmp_path / "two").pictures} == {"train", "validation"}


def test_pictures_that_look_the_same_are_on_the_same_side_where_both_are_kept(tmp_path):
    for seed in range(30):
        put(tmp_path / "s", f"{seed:02}-a.png", seed)
        picture(seed).save(tmp_path / "s" / f"{seed:02}-b.jpg", quality=95, subsampling=0)
        (tmp_path / "s" / f"{seed:02}-b.txt").write_text("another")
    dataset = imported(tmp_path / "s", tmp_path / "d", validation_fraction=0.3, set_aside=[])
    assert len(dataset.pictures) == 60
    sides = {p.file: p.split for p in dataset.pictures}
    assert all(sides[f"{seed:02}-a.png"] == sides[f"{seed:02}-b.jpg"] for seed in range(30))
    assert 0 < len(dataset.part("validation")) < 60


def test_another_split_of_the_same_pictures_may_be_written(source, tmp_path):
    imported(source, tmp_path / "d", validation_fraction=0.0)
    assert load(tmp_path / "d").part("validation") == ()
    imported(source, tmp_path / "d", validation_fraction=0.5)
    assert load(tmp_path / "d").part("validation") != ()


def test_missing_source(tmp_path):
    error = refusal(tmp_path / "nowhere", tmp_path / "d")
    assert error.problem == f"There is no folder {tmp_path / 'nowhere'}."


def test_source_is_a_file(tmp_path):
    error = refusal(put(tmp_path, "a.png", 1), tmp_path / "d")
    assert error.problem == f"{tmp_path / 'a.png'} is a file, not a folder."


@pytest.mark.parametrize("names", [[], ["notes.pdf", "list.txt"], [".DS_Store"]])
def test_no_picture_at_all(tmp_path, names):
    (tmp_path / "s").mkdir()
    for name in names:
        (tmp_path / "s" / name).write_bytes(b"text")
    assert f"{tmp_path / 's'} holds no pictures" in refusal(tmp_path / "s", tmp_path / "d").problem
    assert not (tmp_path / "d").exists()


def test_one_picture(tmp_path):
    put(tmp_path / "s", "a.png", 1)
    error = refusal(tmp_path / "s", tmp_path / "d")
    assert error.problem == f"1 picture of {tmp_path / 's'} can be used, and 2 are needed: 1 file came in."
    assert error.hint == "Add more pictures with captions."


def test_no_captions(tmp_path):
    for seed in range(5):
        put(tmp_path / "s", f"{seed}.png", seed, None)
    dataset = imported(tmp_path / "s", tmp_path / "d")
    assert (dataset.pictures, dataset.reasons()) == ((), {"no caption": 5})
    with pytest.raises(BespokeError) as raised:
        check_enough("s", dataset)
    assert raised.value.problem.endswith("2 are needed: 5 files came in; set aside: 5 no caption.")
    assert "metadata.csv with the columns file_name,text" in raised.value.hint
    assert "cat.txt" in raised.value.hint
    assert "data caption" in raised.value.hint


def test_too_few_remain_names_counts_and_an_example(tmp_path):
    put(tmp_path / "s", "a.png", 1)
    put(tmp_path / "s", "b.png", 1)
    for name in ("c.png", "d.png"):
        (tmp_path / "s" / name).write_bytes(b"")
    error = refusal(tmp_path / "s", tmp_path / "d")
    assert error.problem.endswith("4 files came in; set aside: 2 unreadable, 1 duplicate.")
    assert error.hint.endswith("c.png: the file is empty.")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"image,caption\na.png,x\n", "needs the columns file_name and text; found: image, caption."),
        (b"file_name;text\na.png;x\n", "needs the columns file_name and text; found: file_name;text."),
        (b"", "needs the columns file_name and text; found: nothing."),
        (b"file_name,text\na.png,caf\xe9\n", "is not UTF-8 text."),
        ("file_name,text\n".encode("utf-16"), "is not UTF-8 text."),
        (b'file_name,text\na.png,"open\n', "is not valid CSV in line 2: unexpected end of data."),
    ],
)
def test_unusable_tables(source, tmp_path, content, problem):
    (source / "metadata.csv").write_bytes(content)
    assert refusal(source, tmp_path / "d").problem == f"{source / 'metadata.csv'} {problem}"


def test_rows_without_a_name_and_twice_missing_files_are_accounted_for(source, tmp_path):
    (source / "metadata.csv").write_text("file_name,text\n,nameless\nlost.png,a\nlost.png,b\n")
    dataset = imported(source, tmp_path / "d")
    assert dataset.reasons() == {"missing file": 2}
    details = {s.detail for s in dataset.set_aside}
    assert "line 2 of metadata.csv has no file_name" in details
    assert any(detail.startswith("line 3 of metadata.csv names lost.png") for detail in details)


def test_dataset_and_source_within_one_another(source, tmp_path):
    for pair in ((source, source / "dataset"), (source, tmp_path), (source, source)):
        assert "lie within one another" in refusal(*pair).problem


def test_what_changed_in_the_source_is_refused(source, tmp_path):
    imported(source, tmp_path / "d")
    before = snapshot(tmp_path / "d")
    (source / "1.txt").write_text("other words")
    assert refusal(source, tmp_path / "d").problem.endswith("/1.png has changed since it was imported.")
    put(source, "1.png", 99, "picture number 1")
    assert refusal(source, tmp_path / "d").problem.endswith("/1.png has changed since it was imported.")
    assert snapshot(tmp_path / "d") == before


def test_pictures_are_added_and_old_ones_keep_names_captions_and_sides(source, tmp_path):
    before = imported(source, tmp_path / "d")
    table = tmp_path / "d" / "train" / "metadata.csv"
    table.write_text(table.read_text().replace("picture number 3", "a better caption"))
    put(source, "0-new.png", 99, "added")
    put(tmp_path / "others", "3.png", 98, "from elsewhere")
    put(tmp_path / "others", "copy.png", 5, "seen before")
    imported(source, tmp_path / "d")
    after = imported(tmp_path / "others", tmp_path / "d")
    assert load(tmp_path / "d") == after
    texts = {p.file: p.text for p in after.pictures}
    assert texts == {f"{n}.png": f"picture number {n}" for n in range(10)} | {
        "0-new.png": "added", "3.png": "a better caption", "3-2.png": "from elsewhere",
    }  # fmt: skip
    assert [(s.file, s.reason) for s in after.set_aside] == [("copy.png", "duplicate")]
    sides = {p.file: p.split for p in after.pictures}
    assert {p.file: p.split for p in before.pictures}.items() <= sides.items()


def test_a_source_may_be_named_otherwise_or_lie_elsewhere(source, tmp_path, monkeypatch):
    put(source, "bare.png", 50, None)
    (source / "broken.png").write_bytes(b"")
    (source / "metadata.csv").write_text("file_name,text\nlost.png,a lost picture\n")
    first = imported(source, tmp_path / "d")
    monkeypatch.chdir(tmp_path)
    again = imported(Path("photos"), tmp_path / "d")
    shutil.move(source, tmp_path / "moved")
    last = imported(tmp_path / "moved", tmp_path / "d")
    for dataset in (again, last):
        assert {p.file: p.text for p in dataset.pictures} == {p.file: p.text for p in first.pictures}
        assert dataset.reasons() == first.reasons() == {"missing file": 1, "no caption": 1, "unreadable": 1}
    assert {Path(p.source).parent for p in last.pictures} == {tmp_path / "moved"}


def test_an_interrupted_import_keeps_what_it_found_out(source, tmp_path, monkeypatch):
    def interrupt(done: int, files: int) -> None:
        if done == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        imported(source, tmp_path / "d", progress=interrupt)
    decoded: list[Path] = []
    monkeypatch.setattr("bespoke.data.importing.read", lambda path, known: decoded.append(path) or read(path, known))
    imported(source, tmp_path / "d")
    assert len(decoded) == 4


def test_a_better_copy_that_comes_later_takes_the_place(source, tmp_path):
    imported(source, tmp_path / "d")
    picture(3, 96, 96).save(tmp_path / "d" / "x.png")
    (tmp_path / "better").mkdir()
    picture(3, 96, 96).save(tmp_path / "better" / "large.png")
    (tmp_path / "better" / "large.txt").write_text("sharper")
    after = imported(tmp_path / "better", tmp_path / "d")
    assert [(s.file, s.reason) for s in after.set_aside] == [("3.png", "near-duplicate")]
    assert "large.png" in {p.file for p in after.pictures}
    assert {p.name for p in (tmp_path / "d" / "set-aside").iterdir()} == {"3.png"}
    assert load(tmp_path / "d") == after


def test_a_caption_that_comes_later_brings_its_picture_in(source, tmp_path):
    put(source, "bare.png", 50, None)
    assert imported(source, tmp_path / "d").reasons() == {"no caption": 1}
    (source / "bare.txt").write_text("now it has one")
    after = imported(source, tmp_path / "d")
    assert after.reasons() == {}
    assert "now it has one" in {p.text for p in after.pictures}
    assert load(tmp_path / "d") == after


def strict_recipe(folder: Path) -> Recipe:
    """Rules under which the five blurriest of ten pictures are set aside."""
    _, seen = inspect(folder, recipe())
    limit = sorted(item.facts.sharpness for item in seen)[5]
    return recipe(set_aside=["blurry"], minimum_sharpness=limit)


def test_cleaning_follows_the_rules_and_other_rules_undo_it(source, tmp_path):
    folder = tmp_path / "d"
    imported(source, folder)
    table = folder / "train" / "metadata.csv"
    rows = [f"{n}.png,edited {n},Ann" for n in range(10)]
    table.write_text("\n".join(["file_name,text,artist", *rows]) + "\n")
    strict = clean(folder, strict_recipe(folder))
    assert strict.reasons() == {"blurry": 5}
    assert {p.name for p in (folder / "set-aside").iterdir()} == {s.file for s in strict.set_aside}
    frame = pd.read_csv(table)
    assert set(frame.file_name) == {p.file for p in strict.pictures} and set(frame.artist) == {"Ann"}
    assert load(folder) == strict
    again = clean(folder, recipe())
    assert {p.file: p.text for p in again.pictures} == {f"{n}.png": f"edited {n}" for n in range(10)}
    assert load(folder) == again
    assert not list((folder / "set-aside").iterdir())


def test_rules_that_do_not_set_aside_leave_their_doubts(source, tmp_path):
    imported(source, tmp_path / "d")
    limit = strict_recipe(tmp_path / "d").clean.minimum_sharpness
    dataset = clean(tmp_path / "d", recipe(minimum_sharpness=limit))
    doubtful = [p for p in dataset.pictures if any(d.startswith("blurry: ") for d in p.doubts)]
    assert len(doubtful) == 5 and not dataset.set_aside


def test_what_a_person_restored_stays_whatever_the_rules_say(source, tmp_path):
    folder = tmp_path / "d"
    imported(source, folder)
    strict = strict_recipe(folder)
    gone = [item.file for item in clean(folder, strict).set_aside]
    after = restore(folder, gone[:2], recipe())
    assert {s.file for s in after.set_aside} == set(gone[2:])
    assert load(folder) == after
    assert {s.file for s in clean(folder, strict).set_aside} == set(gone[2:])
    assert build(source, folder, strict) == load(folder)
    assert not restore(folder, ["blurry"], recipe()).set_aside


def test_a_restored_copy_stays_beside_the_picture_it_looks_like_and_on_its_side(tmp_path):
    for seed in range(20):
        put(tmp_path / "s", f"{seed:02}.png", seed)
        put(tmp_path / "s", f"{seed:02}-copy.png", seed)
    assert imported(tmp_path / "s", tmp_path / "d").reasons() == {"duplicate": 20}
    for dataset in (restore(tmp_path / "d", ["duplicate"], recipe()), clean(tmp_path / "d", recipe())):
        sides = {p.file: p.split for p in dataset.pictures}
        assert len(sides) == 40
        assert all(sides[f"{seed:02}.png"] == sides[f"{seed:02}-copy.png"] for seed in range(20))
        assert set(sides.values()) == {"train", "validation"}


def test_what_cannot_be_restored_says_why(source, tmp_path):
    put(source, "bare.png", 50, None)
    (source / "broken.png").write_bytes(b"")
    imported(source, tmp_path / "d")
    for wanted, problem in [
        ("bare.png", "bare.png has no caption."),
        ("broken.png", "broken.png gives no picture: the file is empty."),
        ("nothing.png", "has the name or the reason nothing.png."),
    ]:
        with pytest.raises(BespokeError) as caught:
            restore(tmp_path / "d", [wanted], recipe())
        assert caught.value.problem.endswith(problem)
        assert caught.value.hint


@pytest.mark.parametrize("moves", range(7))
def test_a_killed_cleaning_is_brought_to_its_end(source, tmp_path, monkeypatch, moves):
    folder = tmp_path / "d"
    imported(source, folder)
    strict = strict_recipe(folder)
    replace, done = os.replace, 0

    def killed(*paths: Path) -> None:
        nonlocal done
        done += 1
        if done > moves + 1:  # the first writes the record
            raise KeyboardInterrupt
        replace(*paths)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(os, "replace", killed)
        clean(folder, strict)
    assert load(folder).reasons() == {"blurry": 5}
    assert {p.name for p in (folder / "train").iterdir()} == {*(p.file for p in load(folder).pictures), "metadata.csv"}
    assert clean(folder, strict) == load(folder)


def test_facts_are_read_from_disk_and_found_out_anew_where_they_are_gone(source, tmp_path, monkeypatch):
    folder = tmp_path / "d"
    imported(source, folder)
    _, first = inspect(folder, recipe())
    before = snapshot(folder)
    (folder / "facts.parquet").write_bytes(b"damaged")
    _, second = inspect(folder, recipe())
    assert [i.facts.sharpness for i in first] == [i.facts.sharpness for i in second]
    assert snapshot(folder) == before
    monkeypatch.setattr("bespoke.data.sorting.read", lambda *_: pytest.fail("was decoded"))
    monkeypatch.setattr("bespoke.data.importing.read", lambda *_: pytest.fail("was decoded"))
    inspect(folder, recipe())
    imported(source, folder)


@pytest.mark.parametrize("name", ["train/mine.png", "train/0.png", "train/metadata.csv"])
def test_files_of_others_are_not_overwritten(source, tmp_path, name):
    (tmp_path / "d" / "train").mkdir(parents=True)
    (tmp_path / "d" / name).write_bytes(b"mine")
    assert refusal(source, tmp_path / "d").problem.endswith(f"not from this import, such as {name}.")
    assert (tmp_path / "d" / name).read_bytes() == b"mine"


def test_columns_keep_their_order_on_the_way_in_and_out(source, tmp_path):
    rows = "".join(f"{n}.png,word {n},a,b,c\n" for n in range(10))
    (source / "metadata.csv").write_text(f"file_name,text,zebra,licence,author\n{rows}")
    imported(source, tmp_path / "d")
    export(tmp_path / "d", tmp_path / "out", "imagefolder")
    for table in (tmp_path / "d/train/metadata.csv", tmp_path / "out/train/metadata.csv"):
        assert table.read_text().splitlines()[0] == "file_name,text,zebra,licence,author"


def test_what_another_import_left_is_no_reason_to_remove_a_dataset(source, tmp_path):
    folder = tmp_path / "d"
    imported(source, folder)
    put(folder / "train", "theirs.png", 99, None)
    for number in range(100, 103):
        put(tmp_path / "more", f"{number}.png", number)
    refused = refusal(tmp_path / "more", folder)
    assert "train/theirs.png" in refused.problem
    assert "Finish the other import" in refused.hint and "remove" not in refused.hint
    # What was found out about the pictures is not lost.
    assert len((folder / ".facts-3.jsonl").read_text().splitlines()) == 3


def test_a_picture_that_changes_during_the_import(source, tmp_path):
    def rewrite(done: int, files: int) -> None:
        if done == files:
            picture(99).save(source / "4.png")

    with pytest.raises(BespokeError, match=r"4\.png changed while it was imported"):
        imported(source, tmp_path / "d", progress=rewrite)
    assert not (tmp_path / "d" / "train" / "4.png").exists()
    assert not (tmp_path / "d" / "dataset.json").exists()


def test_a_folder_that_cannot_be_written(source, tmp_path):
    (tmp_path / "d").write_bytes(b"a file in the way")
    assert "could not be written" in refusal(source, tmp_path / "d").problem


def damage(folder: Path, what: str) -> None:
    train = folder / "train"
    record = json.loads((folder / "dataset.json").read_text())
    with (train / "metadata.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    if what == "changed":
        picture(77).save(train / "2.png")
    elif what == "gone":
        (train / "2.png").unlink()
    elif what == "no table":
        (train / "metadata.csv").unlink()
    elif what == "no row":
        (train / "metadata.csv").write_text("\n".join(",".join(row) for row in rows if row[0] != "2.png"))
    elif what == "blank row":
        (train / "metadata.csv").write_text(
            "\n".join(f"{name},{'' if name == '2.png' else text}" for name, text in rows)
        )
    elif what == "new row":
        (train / "metadata.csv").write_text("\n".join(",".join(row) for row in [*rows, ["mine.png", "mine"]]))
    elif what == "no json":
        (folder / "dataset.json").write_text("{")
    elif what == "other json":
        (folder / "dataset.json").write_text('{"version": 1}')
    elif what == "version":
        (folder / "dataset.json").write_text(json.dumps({**record, "version": 2}))
    elif what == "escape":
        record["pictures"][0]["file"] = "../../secret.png"
        (folder / "dataset.json").write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("what", "problem", "hint"),
    [
        ("changed", "2.png has changed since it was imported.", "Import the same pictures again to restore it"),
        ("gone", "2.png is gone.", "Import the same pictures again to restore it"),
        ("no table", "metadata.csv is gone.", "Import the same pictures again"),
        ("no row", "gives no caption for 2.png.", "Add the row: 2.png,"),
        ("blank row", "gives no caption for 2.png.", "Add the row: 2.png,"),
        ("new row", "names mine.png, which is not in the dataset.", "import that again"),
        ("no json", "dataset.json is damaged: ", "import the same pictures again"),
        ("other json", "dataset.json is damaged: KeyError 'pictures'.", "import the same pictures again"),
        ("version", "has version 2, and this bespoke reads version 1.", "Install a newer bespoke"),
        ("escape", "'../../secret.png' is no file name.", "import the same pictures again"),
    ],
)
def test_load_names_every_damage(source, tmp_path, what, problem, hint):
    imported(source, tmp_path / "d")
    damage(tmp_path / "d", what)
    with pytest.raises(BespokeError) as caught:
        load(tmp_path / "d")
    assert problem in caught.value.problem
    assert hint in caught.value.hint


@pytest.mark.parametrize("name", ["nowhere", "photos", "photos/0.png"])
def test_load_of_what_is_no_dataset(source, tmp_path, name):
    with pytest.raises(BespokeError) as caught:
        load(tmp_path / name)
    assert caught.value.problem == f"{tmp_path / name} is no dataset: it holds no dataset.json."
    assert caught.value.hint == "Make one with: bespoke new DIR --images SOURCE"


def test_the_room_loads_no_torch():
    import subprocess

    code = "import sys, bespoke.data; assert not {'torch', 'pandas', 'bespoke.shapes'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
