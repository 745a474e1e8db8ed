"""Working copies: smaller, never enlarged, captions with them, originals untouched, and a kill costs one picture."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageCms

from bespoke.data import Copies, build, load, preview, read, shrink
from bespoke.data.copies import DIARY
from bespoke.errors import BespokeError
from bespoke.recipe import Recipe


def photo(seed: int, width: int, height: int) -> Image.Image:
    small = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Large and small pictures, some under one name in several folders, and what gives no picture."""
    folder = tmp_path / "photos"
    (folder / "trip").mkdir(parents=True)
    photo(0, 300, 200).save(folder / "cat.png")
    photo(1, 200, 300).save(folder / "cat.jpg", quality=95)
    photo(2, 240, 240).save(folder / "trip" / "CAT.bmp")
    photo(3, 60, 40).save(folder / "small.jpg", quality=70)
    photo(4, 90, 60).save(folder / "drawing.bmp")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\noops")
    (folder / "notes.pdf").write_bytes(b"%PDF")
    for name in ("small", "drawing"):
        (folder / f"{name}.txt").write_text(f"the {name} one")
    (folder / "metadata.csv").write_text(
        "file_name,text,subject,repeats,weight\ncat.png,a cat,Ann,3,0.5\ncat.jpg,another cat,Bob,,\n"
        "trip/CAT.bmp,a third,,,\n"
    )
    return folder


def snapshot(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*")) if p.is_file()}


def opened(path: Path) -> Image.Image:
    with Image.open(path) as image:
        image.load()
        return image


@pytest.mark.parametrize(("kind", "ending"), [("webp", ".webp"), ("jpeg", ".jpg"), ("png", ".png")])
def test_copies_are_small_complete_and_of_the_format_wanted(source, tmp_path, kind, ending):
    before = snapshot(source)
    out = tmp_path / "out"
    made = shrink(source, out, Copies(100, kind, 90))
    assert snapshot(source) == before
    files = {p.name for p in out.iterdir()} - {DIARY, "metadata.csv"}
    assert files == {f"cat{ending}", f"cat-2{ending}", f"trip-CAT{ending}", f"drawing{ending}", "small.jpg"}
    sizes = {name: opened(out / name).size for name in files}
    assert sizes == {
        f"cat-2{ending}": (100, 67), f"cat{ending}": (67, 100), f"trip-CAT{ending}": (100, 100),
        f"drawing{ending}": (90, 60), "small.jpg": (60, 40),
    }  # fmt: skip
    assert (out / "small.jpg").read_bytes() == (source / "small.jpg").read_bytes()
    read_ = [p for p in source.rglob("*") if p.suffix in (".png", ".jpg", ".bmp") and p.name != "broken.png"]
    assert (made.pictures, made.as_they_were, made.left_out) == (5, 1, {"not a picture": 1, "unreadable": 1})
    assert made.bytes_before == sum(p.stat().st_size for p in read_)
    assert made.bytes_after == sum((out / name).stat().st_size for name in files) < made.bytes_before
    assert made.shorter == (67, 67, 100)


def test_the_copies_are_imported_with_all_that_was_said_of_them(source, tmp_path):
    shrink(source, tmp_path / "out", Copies(100, "png"))
    build(source, tmp_path / "large", Recipe())
    build(tmp_path / "out", tmp_path / "dataset", Recipe())
    one, other = ({p.text: p for p in load(tmp_path / name).pictures} for name in ("large", "dataset"))
    assert one.keys() == other.keys() == {"a cat", "another cat", "a third", "the small one", "the drawing one"}
    for text, picture in one.items():
        assert (picture.repeats, picture.weight, picture.labels) == (
            other[text].repeats, other[text].weight, other[text].labels,
        )  # fmt: skip
    assert (one["a cat"].repeats, one["a cat"].weight, one["a cat"].labels) == (3, 0.5, {"subject": "Ann"})


def test_a_dataset_gives_the_pictures_it_keeps_with_captions_as_edited(source, tmp_path):
    build(source, tmp_path / "dataset", Recipe())
    table = tmp_path / "dataset/train/metadata.csv"
    table.write_text(table.read_text().replace("a third", "edited"))
    before = snapshot(tmp_path / "dataset")
    made = shrink(tmp_path / "dataset", tmp_path / "out", Copies(50))
    assert (made.pictures, made.left_out) == (5, {})
    assert set(pd.read_csv(tmp_path / "out/metadata.csv").text) == {p.text for p in load(tmp_path / "dataset").pictures}
    assert "edited" in (tmp_path / "out/metadata.csv").read_text()
    assert snapshot(tmp_path / "dataset") == before


def test_copies_are_upright_in_srgb_and_on_white(tmp_path):
    source = tmp_path / "s"
    source.mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    photo(1, 300, 200).save(source / "turned.jpg", exif=exif, quality=95)
    Image.new("RGBA", (300, 300), (255, 0, 0, 0)).save(source / "clear.png")
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    wide = ImageCms.profileToProfile(photo(2, 300, 300), ImageCms.createProfile("sRGB"), lab, outputMode="LAB")
    wide.save(source / "lab.tif", icc_profile=lab.tobytes())
    shrink(source, tmp_path / "out", Copies(150, "png"))
    assert opened(tmp_path / "out/turned.png").size == (100, 150)
    assert opened(tmp_path / "out/clear.png").getpixel((70, 70)) == (255, 255, 255)
    back = np.asarray(opened(tmp_path / "out/lab.png")).astype(int)
    assert np.abs(back - np.asarray(photo(2, 300, 300).resize((150, 150)))).mean() < 3
    for name in ("turned", "clear", "lab"):
        assert not {"icc_profile", "exif"} & opened(tmp_path / f"out/{name}.png").info.keys()


class Killed(Exception):
    pass


@pytest.mark.parametrize("after", [1, 3, 5, 7])
def test_after_a_kill_the_same_command_goes_on(source, tmp_path, monkeypatch, after):
    shrink(source, tmp_path / "whole", Copies(100))
    wanted = snapshot(tmp_path / "whole")

    def kill(done: int, whole: int) -> None:
        if done == after:
            raise Killed

    out = tmp_path / "out"
    with pytest.raises(Killed):
        shrink(source, out, Copies(100), progress=kill)
    with (out / DIARY).open("a") as file:
        file.write('{"source": "torn')
    (out / ".cat.webp.0123abcd.tmp").write_bytes(b"half")
    assert not (out / "metadata.csv").exists()
    decoded: list[str] = []
    monkeypatch.setattr("bespoke.data.copies.read", lambda path, of: decoded.append(path.name) or read(path, of))
    made = shrink(source, out, Copies(100))
    assert len(decoded) == max(0, 7 - after)
    assert snapshot(out) == wanted
    decoded.clear()
    assert shrink(source, out, Copies(100)) == made
    assert snapshot(out) == wanted
    assert decoded == []


def test_a_changed_picture_or_a_damaged_copy_is_made_anew_and_names_stay(source, tmp_path):
    out = tmp_path / "out"
    shrink(source, out, Copies(100))
    before = snapshot(out)
    (out / "cat.webp").write_bytes(b"damaged")
    photo(9, 20, 20).save(source / "trip" / "CAT.bmp")
    photo(10, 200, 200).save(source / "a new one.png")
    made = shrink(source, out, Copies(100))
    after = snapshot(out)
    assert made.pictures == 6
    assert {
        n: h for n, h in before.items() if n not in (DIARY, "metadata.csv", "trip-CAT.webp")
    }.items() <= after.items()
    assert after.keys() - before.keys() <= {"a new one.webp", "trip-CAT.bmp"}
    (name,) = (n for n in after if n.startswith("trip-CAT"))
    assert opened(out / name).size == (20, 20)


def test_what_cannot_be_done_is_refused(source, tmp_path):
    for copies, problem in [
        (Copies(0), "longest side"),
        (Copies(100, "webp", 0), "quality"),
        (Copies(20_000), "longest side"),
    ]:
        with pytest.raises(BespokeError, match=problem):
            shrink(source, tmp_path / "out", copies)
    with pytest.raises(BespokeError, match="lie within one another"):
        shrink(source, source / "out", Copies())
    shrink(source, tmp_path / "out", Copies(100))
    with pytest.raises(BespokeError, match="made otherwise: side 100"):
        shrink(source, tmp_path / "out", Copies(80))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/letter.txt").write_text("mine")
    with pytest.raises(BespokeError, match=r"letter\.txt"):
        shrink(source, tmp_path / "mine", Copies(100))
    (tmp_path / "none").mkdir()
    (tmp_path / "none/notes.pdf").write_bytes(b"%PDF")
    with pytest.raises(BespokeError, match="no picture that can be read"):
        shrink(tmp_path / "none", tmp_path / "nothing", Copies())
    assert json.loads((tmp_path / "out" / DIARY).read_text().splitlines()[0]) == {
        "side": 100,
        "format": "webp",
        "quality": 90,
    }


def test_a_preview_is_the_picture_as_it_is_read_and_large_ones_come_smaller(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    photo(1, 1600, 800).save(tmp_path / "large.jpg", exif=exif)
    small = preview(tmp_path / "large.jpg", 128)
    assert small is not None and small.size == (400, 800) and small.mode == "RGB"
    Image.fromarray(np.full((40, 40), 257 * 100, np.uint16)).save(tmp_path / "deep.png")
    Image.new("RGBA", (40, 40), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    for name in ("deep.png", "clear.png"):
        image = preview(tmp_path / name, 128)
        assert image is not None and (np.asarray(image) == np.asarray(read(tmp_path / name).image)).all()
    whole = (tmp_path / "deep.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    assert [preview(tmp_path / name, 128) for name in ("cut.png", "none.png", ".")] == [None] * 3
