"""Archives, Parquet files and URLs: what they hold comes in, and what is dangerous in them does not."""

import io
import os
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet

from bespoke.data import build, export, load
from bespoke.data.intake import archives
from bespoke.errors import BespokeError
from bespoke.recipe import Recipe
from bespoke.records import Dataset


def png(number: int) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


GOOD = {f"pictures/{n}.png": png(n) for n in range(6)} | {f"pictures/{n}.txt": f"thing {n}".encode() for n in range(6)}


def imported(source: Path | str, folder: Path) -> Dataset:
    return build(source, folder, Recipe())


def told(dataset: Dataset) -> set[tuple[str, str, float, str]]:
    """What an import is about, whatever names its files have."""
    return {(p.pixels, p.text, p.repeats, p.split) for p in dataset.pictures}


def folder_of(root: Path) -> Path:
    for name, content in GOOD.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def zipped(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def tarred(path: Path, members: dict[str, bytes], mode: Any = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


@pytest.fixture
def plain(tmp_path: Path) -> Dataset:
    return imported(folder_of(tmp_path / "plain"), tmp_path / "from-folder")


@pytest.mark.parametrize("name", ["a.zip", "A.ZIP", "a.tar", "a.tar.gz", "a.tgz", "a.tar.bz2", "a.tar.xz"])
def test_an_archive_is_its_folder(tmp_path: Path, plain: Dataset, name: str) -> None:
    modes = {"tar": "w", "bz2": "w:bz2", "xz": "w:xz"}
    path = tmp_path / name
    if name.lower().endswith("zip"):
        zipped(path, GOOD)
    else:
        tarred(path, GOOD, modes.get(name.rpartition(".")[2], "w:gz"))
    dataset = imported(path, tmp_path / "d")
    assert told(dataset) == told(plain)
    assert dataset.pictures[0].source.endswith(f"{name}/pictures/0.png")
    assert imported(path, tmp_path / "d") == dataset  # again, as any import


def test_nothing_of_an_archive_lands_outside_and_all_of_it_is_accounted_for(tmp_path: Path) -> None:
    evil = {"../out.png": png(10), "/abs.png": png(11), "C:\\drive.png": png(12), "a/../../out2.png": png(13),
            "..\\out3.png": png(14), ".hidden/x.png": png(15), "__MACOSX/y.png": png(16)}  # fmt: skip
    (tmp_path / "in").mkdir()
    path = zipped(tmp_path / "in" / "evil.zip", GOOD | evil)
    dataset = imported(path, tmp_path / "d")
    assert len(dataset.pictures) == 6
    assert dataset.reasons() == {"unsafe": 5}
    assert {item.detail for item in dataset.set_aside} >= {"its name leads out of the archive"}
    assert sorted(p.name for p in tmp_path.rglob("*out*.png")) == []
    assert not list(tmp_path.rglob("abs.png"))


def test_links_and_devices_in_a_tar_are_not_followed(tmp_path: Path) -> None:
    path = tmp_path / "links.tar"
    with tarfile.open(path, "w") as archive:
        for kind, name in ((tarfile.SYMTYPE, "soft.png"), (tarfile.LNKTYPE, "hard.png"), (tarfile.CHRTYPE, "dev.png")):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, "/etc/passwd"
            archive.addfile(entry)
        for name, content in GOOD.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    dataset = imported(path, tmp_path / "d")
    assert dataset.reasons() == {"unsafe": 3}
    assert {item.detail for item in dataset.set_aside} == {"a link or a device"}


def test_a_link_in_a_zip_is_not_followed(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", GOOD)
    with zipfile.ZipFile(path, "a") as archive:
        entry = zipfile.ZipInfo("link.png")
        entry.external_attr = 0o120777 << 16
        archive.writestr(entry, "/etc/passwd")
    assert imported(path, tmp_path / "d").reasons() == {"unsafe": 1}


def test_a_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "ALWAYS_ALLOWED", 1 << 20)
    path = zipped(tmp_path / "bomb.zip", GOOD | {"bomb.png": b"\0" * (64 << 20)})
    with pytest.raises(BespokeError, match="as a bomb does"):
        imported(path, tmp_path / "d")
    assert not (tmp_path / "d").exists()


def test_one_huge_member_costs_itself_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MOST_BYTES", 1 << 20)
    dataset = imported(zipped(tmp_path / "a.zip", GOOD | {"huge.png": os.urandom(2 << 20)}), tmp_path / "d")
    assert dataset.reasons() == {"unsafe": 1}
    assert len(dataset.pictures) == 6


def test_a_member_damaged_in_a_zip_costs_itself_only(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in GOOD.items():
            archive.writestr(name, content)
    raw = bytearray(path.read_bytes())
    at = raw.index(GOOD["pictures/3.png"]) + 100
    raw[at] ^= 0xFF
    path.write_bytes(raw)
    dataset = imported(path, tmp_path / "d")
    assert len(dataset.pictures) == 5
    (item,) = [item for item in dataset.set_aside if item.source.endswith("3.png")]
    assert "in the archive: Bad CRC-32" in item.detail


@pytest.mark.parametrize(("kind", "cut"), [("zip", 10), ("zip", 2000), ("tar.gz", 200), ("tar.gz", 2000)])
def test_a_truncated_archive_is_refused_in_words(tmp_path: Path, kind: str, cut: int) -> None:
    path = tmp_path / f"a.{kind}"
    (zipped if kind == "zip" else tarred)(path, GOOD)
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(BespokeError, match="cannot be unpacked") as caught:
        imported(path, tmp_path / "d")
    assert caught.value.hint


def broken(path: Path, offset: int) -> Path:
    """The file with forty bytes of it turned over."""
    content = bytearray(path.read_bytes())
    content[offset : offset + 40] = bytes(byte ^ 0x5A for byte in content[offset : offset + 40])
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("kind", ["xz", "gz", "bz2"])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_a_damaged_compressed_tar_is_refused(tmp_path: Path, kind: str, part: float) -> None:
    path = tarred(tmp_path / f"a.tar.{kind}", GOOD, f"w:{kind}")
    broken(path, int(part * path.stat().st_size))
    with pytest.raises(BespokeError, match="cannot be unpacked"):
        imported(path, tmp_path / "d")


def test_a_picture_damaged_in_a_plain_tar_is_accounted_for(tmp_path: Path) -> None:
    path = tarred(tmp_path / "a.tar", GOOD, "w")
    broken(path, path.read_bytes().index(GOOD["pictures/3.png"]))
    dataset = imported(path, tmp_path / "d")
    assert dataset.reasons() == {"unreadable": 1}
    assert len(dataset.pictures) == 5


def test_a_tar_with_a_damaged_header_in_the_middle_does_not_lose_what_follows(tmp_path: Path) -> None:
    path = tarred(tmp_path / "a.tar", GOOD, "w")
    content = bytearray(path.read_bytes())
    content[content.index(b"pictures/3.png") + 150] ^= 1  # in the header's checksum
    path.write_bytes(content)
    with pytest.raises(BespokeError, match="damaged or cut off"):
        imported(path, tmp_path / "d")


def test_odd_members_of_a_zip_cost_themselves_only(tmp_path: Path) -> None:
    odd = {"x" * 300 + ".png": png(20), "q": b"", "q/a.png": png(21)}
    dataset = imported(zipped(tmp_path / "a.zip", GOOD | odd), tmp_path / "d")
    assert len(dataset.pictures) == 6
    assert dataset.files == 9


def hub(path: Path, rows: list[dict[str, object]]) -> Path:
    """A Parquet file as datasets are published."""
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


def row(number: int, path: str | None, text: str | None = None, **more: object) -> dict[str, object]:
    return {"image": {"bytes": png(number), "path": path}, "text": text or f"thing {number}", **more}


def test_parquet_rows_keep_their_own_pictures_and_captions_whatever_they_are_called(tmp_path: Path) -> None:
    names = ["000002-a.png", "a.png", "a.png", " l.png", "b.json", "METADATA.CSV", "x" * 300, "n\0l.png", None,
             "c/../d.png"]  # fmt: skip
    hub(tmp_path / "in" / "10_of_12.parquet", [row(n, name) for n, name in enumerate(names)])
    hub(tmp_path / "in" / "a" / "train.parquet", [row(20, "a.png", repeats=3.0)])
    hub(tmp_path / "in" / "b" / "train.parquet", [row(21, "a.png", repeats=None)])
    (tmp_path / "in" / ".cache" / "deep").mkdir(parents=True)
    (tmp_path / "in" / ".cache" / "deep" / "train.parquet.metadata").write_text("hub")
    dataset = imported(tmp_path / "in", tmp_path / "d")
    assert not dataset.set_aside
    by_text = {p.text: p for p in dataset.pictures}
    for number in (*range(len(names)), 20, 21):
        picture = by_text[f"thing {number}"]
        assert (tmp_path / "d" / "train" / picture.file).read_bytes() == png(number)
        assert picture.repeats == (3.0 if number == 20 else 1.0)
    assert imported(tmp_path / "in", tmp_path / "d") == dataset


@pytest.mark.parametrize("text", [b"bytes", 5, None])
def test_parquet_without_texts_is_refused(tmp_path: Path, text: object) -> None:
    rows = [{"image": {"bytes": png(1), "path": "a.png"}, "text": text}]
    with pytest.raises(BespokeError, match="no pictures with captions"):
        imported(hub(tmp_path / "a.parquet", rows), tmp_path / "d")


@pytest.mark.parametrize("form", ["parquet", "url"])
def test_a_dataset_never_lies_in_its_source(tmp_path: Path, form: str) -> None:
    if form == "parquet":
        hub(tmp_path / "in" / "a.parquet", [row(n, f"{n}.png") for n in range(4)])
        source: Path | str = tmp_path / "in"
    else:
        source = folder_of(tmp_path / "in").as_uri()
    with pytest.raises(BespokeError, match="within one another"):
        imported(source, tmp_path / "in" / "dataset")


def test_passwords_in_a_url_are_kept_nowhere(tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    for name, content in GOOD.items():
        memory.pipe(f"/user:secret@host/{name}", content)
    imported("memory://user:secret@host", tmp_path / "d")
    assert "secret" not in (tmp_path / "d" / "dataset.json").read_text()
    with pytest.raises(BespokeError) as caught:
        imported("memory://user:secret@nowhere", tmp_path / "d2")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("names", "layout"),
    [(["multiply.png", "flip_p.png"], "everydream2"), (["cat.png", "cat.png.jpg"], "kohya")],
)
def test_names_that_mean_something_to_others_come_back_with_their_captions(
    tmp_path: Path, names: list[str], layout: str
) -> None:
    source = folder_of(tmp_path / "in")
    for number, name in enumerate(names):
        with Image.open(io.BytesIO(png(30 + number))) as picture:
            picture.save(source / name)
    lines = "".join(f"{name},said of {name},3\n" for name in names)
    (source / "metadata.csv").write_text(f"file_name,text,repeats\n{lines}")
    dataset = imported(source, tmp_path / "d")
    export(tmp_path / "d", tmp_path / "out", layout)
    assert told(imported(tmp_path / "out", tmp_path / "d2")) == told(dataset)


def test_a_file_that_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(1))
    with pytest.raises(BespokeError, match="is a file, not a folder"):
        imported(tmp_path / "a.png", tmp_path / "d")


@pytest.mark.parametrize("layout", ["imagefolder", "kohya", "everydream2", "parquet", "webdataset"])
def test_out_and_in_again_loses_nothing(tmp_path: Path, layout: str) -> None:
    source = folder_of(tmp_path / "in")
    (source / "metadata.csv").write_text(
        'file_name,text,repeats\npictures/0.png,"a, b ""c"" ünï",3\npictures/1.png,,2\n', encoding="utf-8"
    )
    dataset = imported(source, tmp_path / "d")
    counts, _ = export(tmp_path / "d", tmp_path / "out", layout)
    assert sum(counts.values()) == 6 and counts["validation"] >= 1
    assert {p.repeats for p in dataset.pictures} == {1.0, 2.0, 3.0}
    again = imported(tmp_path / "out", tmp_path / "d2")
    assert told(again) == told(dataset)
    assert {p.file for p in again.pictures} == {p.file for p in dataset.pictures}
    assert told(load(tmp_path / "d2")) == told(dataset)
    assert not again.set_aside


def test_what_a_layout_cannot_say_is_refused(tmp_path: Path) -> None:
    source = folder_of(tmp_path / "in")
    (source / "metadata.csv").write_text("file_name,text,repeats\npictures/0.png,a,0.5\n")
    imported(source, tmp_path / "d")
    with pytest.raises(BespokeError, match=r"counts 0\.5 times"):
        export(tmp_path / "d", tmp_path / "out", "kohya")
    assert not (tmp_path / "out").exists()
    export(tmp_path / "d", tmp_path / "out", "everydream2")
    with pytest.raises(BespokeError, match="there already"):
        export(tmp_path / "d", tmp_path / "out", "parquet")
    with pytest.raises(BespokeError, match="no layout 'coco'"):
        export(tmp_path / "d", tmp_path / "out2", "coco")


@pytest.mark.parametrize("what", ["folder", "archive"])
def test_a_url_is_what_lies_there(tmp_path: Path, plain: Dataset, what: str) -> None:
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    if what == "folder":
        for name, content in GOOD.items():
            memory.pipe(f"/set/{name}", content)
        url = "memory://set"
    else:
        memory.pipe("/set.zip", zipped(tmp_path / "a.zip", GOOD).read_bytes())
        url = "memory://set.zip"
    dataset = imported(url, tmp_path / "d")
    assert told(dataset) == told(plain)
    assert dataset.pictures[0].source.startswith(f"{url}/")
    assert told(imported((tmp_path / "plain").as_uri(), tmp_path / "d2")) == told(plain)


@pytest.mark.parametrize(("url", "problem"), [("memory://nothing", "nothing at"), ("nosuch://x", "cannot be read")])
def test_a_url_that_leads_nowhere(tmp_path: Path, url: str, problem: str) -> None:
    with pytest.raises(BespokeError, match=problem):
        imported(url, tmp_path / "d")


SAVED = Path(__file__).parent / "saved"
"""Written by `save_to_disk` of datasets 5.2.0: one set in two shards, and one of two parts."""


@pytest.mark.parametrize("name", ["one", "dict", "one/data-00000-of-00002.arrow"])
def test_what_datasets_saved_to_disk_comes_in(tmp_path: Path, name: str) -> None:
    dataset = imported(SAVED / name, tmp_path / "d")
    count = 3 if name.endswith(".arrow") else 5
    assert not dataset.set_aside
    assert {p.text: p.labels for p in dataset.pictures} == {
        f"thing {n}": {"subject": "ab"[n % 2]} for n in range(count)
    }
    for picture in dataset.pictures:
        number = int(picture.text.split()[1])
        blocks = np.random.default_rng(number).integers(0, 255, (6, 6, 3))
        shown = np.asarray(Image.open(tmp_path / "d" / "train" / picture.file))
        np.testing.assert_array_equal(shown, np.kron(blocks, np.ones((8, 8, 1))))
    assert imported(SAVED / name, tmp_path / "d") == dataset


def test_a_saved_dataset_that_is_cut_off_is_told(tmp_path: Path) -> None:
    whole = (SAVED / "one" / "data-00000-of-00002.arrow").read_bytes()
    for cut in (0, 10, 200, len(whole) - 400):
        (tmp_path / "cut.arrow").write_bytes(whole[:cut])
        with pytest.raises(BespokeError, match=r"cut\.arrow cannot be unpacked"):
            imported(tmp_path / "cut.arrow", tmp_path / "d")


def test_pictures_beside_a_saved_dataset_are_walked_as_any_folder(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "in")
    (folder / "state.json").write_text("{}")
    assert len(imported(folder, tmp_path / "d").pictures) == len(GOOD) // 2
