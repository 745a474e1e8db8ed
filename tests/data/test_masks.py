"""Masks: found under the names that trainers give them, kept beside their pictures, brought where these are brought."""

import csv

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from bespoke import data
from bespoke.data import masks
from bespoke.data.intake.masked import Masks
from bespoke.data.transforms import Transform
from bespoke.errors import BespokeError
from bespoke.recipe import parse
from bespoke.records import Dataset

RECIPE = parse({"clean": {"set_aside": []}, "data": {"processes": 1}}, "the test")
NAMES = ("cat", "dog", "fox")


def picture(number, size=(48, 40)):
    image = Image.new("RGB", size, (40 * number, 200 - 50 * number, 90))
    ImageDraw.Draw(image).rectangle((4, 6, 20 + number, 30), fill=(250, 40 * number, 10))
    return image


def mask(size=(48, 40), box=(4, 6, 23, 29)):
    image = Image.new("L", size)
    ImageDraw.Draw(image).rectangle(box, fill=255)
    return image


def source(folder, where="cat-masklabel.png"):
    folder.mkdir()
    for number, name in enumerate(NAMES):
        picture(number).save(folder / f"{name}.jpg")
        (folder / f"{name}.txt").write_text(f"a {name}")
    (folder / where).parent.mkdir(parents=True, exist_ok=True)
    mask().save(folder / where)
    return folder


def masked(dataset: Dataset):
    return {p.file: round(p.covered, 3) for p in dataset.pictures if p.mask}


COVERED = round(20 * 24 / (48 * 40), 3)


@pytest.mark.parametrize("where", ["cat-masklabel.png", "masks/cat.png", "mask/cat.bmp", "masks/cat.jpg"])
def test_a_mask_is_found_by_its_name_and_kept_apart_from_the_pictures(tmp_path, where):
    files = source(tmp_path / "in", where)
    before = {p: p.read_bytes() for p in files.rglob("*") if p.is_file()}
    made = data.build(files, tmp_path / "set", RECIPE)
    assert made.files == 3 and {p.file for p in made.pictures} == {"cat.jpg", "dog.jpg", "fox.jpg"}
    assert masked(made) == pytest.approx({"cat.jpg": COVERED}, abs=0.01)  # a JPEG of a mask is not quite black
    kept = Image.open(data.mask_of(tmp_path / "set", "cat.jpg"))
    assert kept.mode == "L" and np.abs(np.asarray(kept, int) - np.asarray(mask(), int)).mean() < 3
    assert before == {p: p.read_bytes() for p in files.rglob("*") if p.is_file()}
    assert masked(data.load(tmp_path / "set")) == masked(made)


def test_a_folder_of_masks_may_lie_beside_the_folder_of_pictures(tmp_path):
    (tmp_path / "all").mkdir()
    source(tmp_path / "all" / "3_pets")
    (tmp_path / "all" / "3_pets" / "cat-masklabel.png").unlink()
    for place in ("masks/dog.png", "masks/3_pets/fox.png"):
        (tmp_path / "all" / place).parent.mkdir(exist_ok=True)
        mask().save(tmp_path / "all" / place)
    made = data.build(tmp_path / "all", tmp_path / "set", RECIPE)
    assert made.files == 3 and set(masked(made)) == {"dog.jpg", "fox.jpg"}


@pytest.mark.parametrize("column", ["mask", "mask_file_name"])
def test_a_table_names_masks_and_other_words_in_its_column_stay_labels(tmp_path, column):
    folder = tmp_path / "in"
    folder.mkdir()
    rows = [["file_name", "text", column], ["cat.png", "a cat", "deep/m.png"], ["dog.png", "a dog", "venetian"]]
    rows.append(["fox.png", "a fox", ""])
    for number, name in enumerate(NAMES):
        picture(number).save(folder / f"{name}.png")
    (folder / "deep").mkdir()
    mask().save(folder / "deep" / "m.png")
    with (folder / "metadata.csv").open("w") as file:
        csv.writer(file).writerows(rows)
    made = data.build(folder, tmp_path / "set", RECIPE)
    assert masked(made) == {"cat.png": COVERED} and made.files == 3
    assert {p.file: p.labels for p in made.pictures} == {"cat.png": {}, "dog.png": {column: "venetian"}, "fox.png": {}}


def test_what_has_a_caption_of_its_own_is_a_picture_whatever_it_is_called(tmp_path):
    files = source(tmp_path / "in", "masks/cat.png")
    (files / "masks" / "cat.txt").write_text("a white mask on black ground")
    made = data.build(files, tmp_path / "set", RECIPE)
    assert len(made.pictures) == 4 and not masked(made)


def test_a_picture_s_own_transparency_is_its_mask_and_a_file_goes_before_it(tmp_path):
    folder = source(tmp_path / "in", "fox-masklabel.png")
    for name in ("cat", "fox"):
        (folder / f"{name}.jpg").unlink()
        see_through = picture(NAMES.index(name))
        see_through.putalpha(mask(box=(0, 0, 23, 39)))
        see_through.save(folder / f"{name}.png")
    made = data.build(folder, tmp_path / "set", RECIPE)
    assert masked(made) == {"cat.png": 0.5, "fox.png": COVERED}


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda path: mask((40, 48)).save(path), "has 40×48 pixels, the picture 48×40"),
        (lambda path: path.write_bytes(b"no picture"), "unreadable"),
        (lambda path: Image.new("L", (48, 40)).save(path), "covers nothing"),
    ],
)
def test_a_picture_whose_mask_does_not_fit_is_set_aside_until_it_is_mended(tmp_path, spoil, why):
    folder = source(tmp_path / "in")
    spoil(folder / "cat-masklabel.png")
    made = data.build(folder, tmp_path / "set", RECIPE)
    assert [(item.file, item.reason) for item in made.set_aside] == [("cat.jpg", "mask")]
    assert why in made.set_aside[0].detail and "cat-masklabel.png" in made.set_aside[0].detail
    mask().save(folder / "cat-masklabel.png")
    again = data.build(folder, tmp_path / "set", RECIPE)
    assert len(again.pictures) == 3 and masked(again) == {"cat.jpg": COVERED}


def test_a_named_mask_that_is_not_there_sets_its_picture_aside(tmp_path):
    folder = source(tmp_path / "in")
    (folder / "metadata.csv").write_text("file_name,text,mask\ndog.jpg,a dog,masks/dog.png\n")
    made = data.build(folder, tmp_path / "set", RECIPE)
    assert [(item.reason, item.detail[:37]) for item in made.set_aside] == [
        ("mask", "its mask masks/dog.png is not in the ")
    ]


def test_what_shows_through_in_a_mask_covers_nothing(tmp_path):
    folder = source(tmp_path / "in")
    cut = Image.new("RGBA", (48, 40), (255, 255, 255, 0))
    cut.paste((255, 255, 255, 255), (0, 0, 12, 40))
    cut.save(folder / "cat-masklabel.png")
    assert masked(data.build(folder, tmp_path / "set", RECIPE)) == {"cat.jpg": 0.25}


def test_a_mask_stays_with_its_picture_through_cleaning_splitting_and_restoring(tmp_path):
    folder = tmp_path / "set"
    before = masked(data.build(source(tmp_path / "in"), folder, RECIPE))
    strict = parse({"clean": {"set_aside": ["too small"], "minimum_side": 41}}, "the test")
    with pytest.raises(BespokeError):
        data.clean(folder, strict)  # all would go
    Image.new("RGB", (90, 90), "red").save(tmp_path / "in" / "more.jpg")
    picture(3, (60, 50)).save(tmp_path / "in" / "yak.jpg")
    for name in ("more", "yak"):
        (tmp_path / "in" / f"{name}.txt").write_text(name)
    data.build(tmp_path / "in", folder, RECIPE)
    assert not masked(data.clean(folder, strict))
    assert masked(data.restore(folder, ["cat.jpg"], RECIPE)) == before
    moved, _ = data.split_up(folder, parse({"data": {"validation_fraction": 0.5}, "validation": {"seed": 3}}, "it"))
    assert masked(moved) == before == masked(data.load(folder))


@pytest.mark.parametrize("layout", ["imagefolder", "kohya"])
def test_an_export_with_masks_imports_again_to_the_same(tmp_path, layout):
    made = data.build(source(tmp_path / "in"), tmp_path / "set", RECIPE)
    _, unsaid = data.export(tmp_path / "set", tmp_path / "out", layout)
    again = data.build(tmp_path / "out", tmp_path / "again", RECIPE)
    assert not unsaid and masked(again) == masked(made) and again.files == made.files


@pytest.mark.parametrize("of", ["in", "set"])
def test_smaller_copies_have_smaller_masks(tmp_path, of):
    data.build(source(tmp_path / "in"), tmp_path / "set", RECIPE)
    data.shrink(tmp_path / of, tmp_path / "small", data.Copies(24))
    small = data.build(tmp_path / "small", tmp_path / "again", RECIPE)
    assert small.files == 3 and small.pictures[0].width == 24
    assert masked(small) == pytest.approx({small.pictures[0].file: COVERED}, abs=0.02)


@pytest.mark.parametrize("layout", ["everydream2", "parquet", "webdataset"])
def test_an_export_that_holds_no_masks_says_so(tmp_path, layout):
    data.build(source(tmp_path / "in"), tmp_path / "set", RECIPE)
    assert "masks" in data.export(tmp_path / "set", tmp_path / "out", layout)[1]


def test_a_damaged_mask_is_no_dataset_and_importing_again_mends_it(tmp_path):
    folder = tmp_path / "set"
    data.build(source(tmp_path / "in"), folder, RECIPE)
    data.mask_of(folder, "cat.jpg").write_bytes(b"")
    with pytest.raises(BespokeError, match=r"masks.cat.jpg.png has changed"):
        data.load(folder)
    data.build(tmp_path / "in", folder, RECIPE)
    assert masked(data.load(folder))


@settings(deadline=None, max_examples=60)
@given(
    size=st.tuples(st.integers(24, 120), st.integers(24, 120)),
    shape=st.sampled_from([(64, 64), (32, 64), (64, 48)]),
    angle=st.floats(-20, 20),
    trim=st.tuples(*[st.floats(0, 0.2)] * 4),
    zoom=st.floats(1, 2),
    crop=st.one_of(st.just("saliency"), st.tuples(st.floats(0, 1), st.floats(0, 1))),
    mirrored=st.booleans(),
    box=st.tuples(*[st.floats(0, 1)] * 4),
)
def test_a_mask_lies_where_its_subject_lies_whatever_is_done_to_the_picture(
    size, shape, angle, trim, zoom, crop, mirrored, box
):
    """The subject is white on black, so that the picture itself says where the mask must be."""
    whole = Image.new("L", size)
    (x0, x1), (y0, y1) = sorted(box[:2]), sorted(box[2:])
    wide, high = size
    ImageDraw.Draw(whole).rectangle((x0 * wide, y0 * high, x1 * wide, y1 * high), fill=255)
    transform = Transform(shape, angle, trim, zoom, crop=crop, mirrored=mirrored, colors=(1.0, 1.0, 1.0))
    made = data.fit(whole.convert("RGB"), transform, whole)
    assert made.mask is not None and made.mask.shape == (shape[1], shape[0])
    # Another filter gives the picture's edges: on the whole they agree all the same.
    assert np.abs(made.pixels[..., 0].astype(int) - made.mask).mean() < 12
    assert np.array_equal(made.pixels, data.fit(whole.convert("RGB"), transform).pixels)


@settings(deadline=None, max_examples=40)
@given(rows=st.integers(1, 9), columns=st.integers(1, 9), times=st.integers(1, 8), seed=st.integers(0, 999))
def test_a_mask_at_latent_size_is_the_mean_of_each_area(rows, columns, times, seed):
    mask = np.random.default_rng(seed).integers(0, 256, (rows * times, columns * times), dtype=np.uint8)
    oracle = torch.nn.functional.interpolate(torch.from_numpy(mask)[None, None].double(), (rows, columns), mode="area")
    assert np.allclose(masks.area_mean(mask, (rows, columns)), oracle[0, 0].numpy() / 255, atol=1e-6)


def test_the_nearest_mask_is_the_one():
    found = Masks()
    found.beside(["a/b/cat.png", "a/b/masks/cat.png", "a/masks/b/cat.png", "masks/cat.png"], lambda _: False)
    assert found.of == {"a/b/cat.png": "a/b/masks/cat.png"}
