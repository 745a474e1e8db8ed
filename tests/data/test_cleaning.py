"""The rules: what counts as the same picture and what does not, and which of several is kept."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from bespoke.data import split
from bespoke.data.clean import Gallery, Verdict, judge, looks_same
from bespoke.data.inspect import Facts, Reading, facts, pixel_hash
from bespoke.data.sources import Found
from bespoke.errors import BespokeError


def flat(shape: str, ground: str = "skyblue", ink: str = "red", side: int = 64) -> Image.Image:
    image = Image.new("RGB", (side, side), ground)
    box = tuple(round(side * part) for part in (0.3, 0.3, 0.7, 0.7))
    draw = ImageDraw.Draw(image)
    if shape == "circle":
        draw.ellipse(box, fill=ink)
    elif shape == "square":
        draw.rectangle(box, fill=ink)
    elif shape == "triangle":
        draw.polygon([(box[0], box[3]), (box[2], box[3]), (side // 2, box[1])], fill=ink)
    return image


def known(image: Image.Image) -> Facts:
    return facts(Reading(image, "", pixel_hash(image), *image.size, ".png", ()))


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


def reasons(*images: Image.Image, texts: tuple[str, ...] = ()) -> list[str]:
    texts = texts or ("a caption",) * len(images)
    items = [
        (Found(f"{n}.png", None, text), known(image)) for n, (image, text) in enumerate(zip(images, texts, strict=True))
    ]
    return [outcome.reason if isinstance(outcome, Verdict) else "kept" for _, outcome in judge(items)]


def photo(seed: int = 0, side: int = 256) -> Image.Image:
    small = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC)


def test_equal_pixels_are_duplicates_and_the_first_is_kept():
    items = [(Found(name, None, "x"), known(photo())) for name in ("a.png", "b.png")]
    (_, first), (_, second) = judge(items)
    assert isinstance(first, Facts)
    assert second == Verdict("duplicate", "the same pixels as a.png, which is kept")


def test_recompressed_and_resized_copies_are_near_duplicates():
    assert reasons(photo(), jpeg(photo(), 80)) == ["kept", "near-duplicate"]
    assert reasons(photo(), photo().resize((100, 100), Image.Resampling.LANCZOS)) == ["kept", "near-duplicate"]
    assert reasons(flat("circle", side=512), jpeg(flat("circle", side=512), 60)) == ["kept", "near-duplicate"]


def test_other_pictures_are_kept():
    assert reasons(*(photo(seed) for seed in range(50))) == ["kept"] * 50


def test_different_objects_on_the_same_ground_are_kept():
    assert reasons(flat("circle"), flat("square"), flat("triangle"), flat("nothing")) == ["kept"] * 4


def test_the_same_object_in_other_colours_or_on_other_grounds_is_kept():
    inks = [flat("circle", ink=ink) for ink in ("red", "orange", "brown", "green")]
    grounds = [flat("circle", ground=ground) for ground in ("pink", "lightgrey", "white", "navy")]
    assert reasons(*inks, *grounds) == ["kept"] * 8


def test_a_small_change_in_one_place_is_no_near_duplicate():
    one, other = flat("circle"), flat("circle")
    ImageDraw.Draw(other).rectangle((4, 4, 11, 11), fill="black")
    assert reasons(one, other) == ["kept", "kept"]


def test_a_slight_change_everywhere_is_no_near_duplicate():
    one = photo().point(lambda value: value * 0.8)
    assert reasons(one, one.point(lambda value: value + 2)) == ["kept", "near-duplicate"]
    assert reasons(one, one.point(lambda value: value + 5)) == ["kept", "kept"]
    grey = np.full((32, 32, 3), 100, dtype=np.uint8)
    warmer = grey + np.array([5, 0, 5], dtype=np.uint8)
    halves = np.where(np.arange(32)[:, None, None] < 16, grey + np.uint8(5), grey - np.uint8(5))
    assert not looks_same(grey, warmer)
    assert not looks_same(grey, halves)


def test_captionless_and_small_pictures_are_set_aside_and_do_not_displace_others():
    assert reasons(photo(), photo(), texts=("", "caption")) == ["no caption", "kept"]
    assert reasons(photo(side=31), photo(side=32)) == ["too small", "kept"]


def test_minimum_side_is_the_shorter_one():
    item = (Found("a.png", None, "x"), known(photo().resize((500, 63))))
    ((_, outcome),) = judge([item], minimum_side=64)
    assert outcome == Verdict("too small", "500×63; the shorter side must have 64 pixels")


def test_a_large_gallery_finds_what_it_holds_and_nothing_else():
    rng = np.random.default_rng(0)
    thumbnail = np.zeros((32, 32, 3), dtype=np.uint8)
    gallery = Gallery()
    for number in range(1_000):
        item = Facts("", str(number), 64, 64, ".png", (), int(rng.integers(2**63)), thumbnail)
        assert not gallery.alike(item)
        gallery.add(item, str(number))
    assert gallery.alike(item) == "999"


@given(st.integers(0, 2**32))
def test_looking_the_same_is_symmetric_and_reflexive(seed):
    rng = np.random.default_rng(seed)
    one = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
    other = (one.astype(int) + rng.integers(-6, 7, one.shape)).clip(0, 255).astype(np.uint8)
    assert looks_same(one, one)
    assert looks_same(one, other) == looks_same(other, one)


hashes = st.sets(st.text("0123456789abcdef", min_size=8, max_size=8), min_size=2, max_size=60)


@given(hashes, st.floats(0, 0.9), st.integers(0, 5))
def test_the_split_is_a_function_of_the_set_and_leaves_something_to_train_on(pictures, fraction, seed):
    held_out = split.validation(sorted(pictures), fraction, seed)
    assert held_out == split.validation(sorted(pictures, reverse=True), fraction, seed)
    assert held_out < pictures
    assert bool(held_out) == (fraction > 0)
    assert len(held_out) <= 64
    if fraction:
        assert len(held_out) >= max(1, min(4, len(pictures) // 4))


def test_pictures_keep_their_side_when_others_are_added():
    pictures = [f"{number:08x}" for number in range(400)]
    before = split.validation(pictures[:200], 0.1, 7)
    after = split.validation(pictures, 0.1, 7)
    assert before == after & set(pictures[:200])
    assert 4 < len(before) < len(after) < 64


def test_the_split_follows_fraction_and_seed():
    pictures = [f"{number:08x}" for number in range(300)]
    assert len(split.validation(pictures, 0.15, 1)) == pytest.approx(45, abs=18)
    assert split.validation(pictures, 0.15, 1) != split.validation(pictures, 0.15, 2)
    assert split.validation(pictures, 0.05, 1) < split.validation(pictures, 0.15, 1)
    assert len(split.validation(pictures, 0.9, 1)) == 64


@pytest.mark.parametrize("fraction", [-0.1, 1.0, float("nan"), 12.0])
def test_a_wrong_fraction_is_refused(fraction):
    with pytest.raises(BespokeError, match="at least 0 and below 1"):
        split.validation(["a", "b"], fraction, 0)
