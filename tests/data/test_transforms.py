"""What is done to a picture: size, place, mirror, chance that hangs on its key, and the text that tells it apart."""

import colorsys
import math
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageDraw

from bespoke.data import Buckets, Transform, fit, plain, transforms, variants
from bespoke.recipe.dataset import Data

EVERYTHING = {
    "crop": "random", "crop_jitter": 0.1, "random_scale": 1.5, "random_rotation": 20.0, "color_jitter": 0.3,
    "hue_jitter": 0.2,
}  # fmt: skip


def stripes(width: int, height: int) -> Image.Image:
    """Red grows to the right, green downwards."""
    across, down = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([across, down, np.zeros_like(down)], axis=2).astype(np.uint8))


def some(size=(48, 32), original=(200, 160), key=(0, "a"), *, mirror=False, **keys):
    return variants(Data(**keys), size, original, key, mirror=mirror)


SIDES = st.integers(1, 300)
SHAPES = st.tuples(st.sampled_from([16, 48, 64]), st.sampled_from([16, 48, 80]))


@settings(max_examples=60)
@given(width=SIDES, height=SIDES, size=SHAPES, upscale=st.booleans(), picture=st.text(max_size=4))
def test_every_version_of_every_picture_has_its_shape(width, height, size, upscale, picture):
    key = (0, picture)
    for transform in some(size, (width, height), key, mirror=True, upscale=upscale, image_variations=2, **EVERYTHING):
        fitted = fit(stripes(width, height), transform)
        assert fitted.pixels.shape == (size[1], size[0], 3) and fitted.pixels.dtype == np.uint8
        assert fitted.pixels.flags.c_contiguous
        assert fitted.original_size == (height, width) and fitted.target_size == (size[1], size[0])


def test_without_chance_it_is_pillows_resize_and_a_crop_in_the_middle():
    image = stripes(300, 100)
    whole = np.asarray(image.resize((150, 50), Image.Resampling.LANCZOS))
    fitted = fit(image, plain(Data(), (80, 50)))
    assert np.array_equal(fitted.pixels, whole[:, 35:115])
    assert fitted.crops_coords_top_left == (0, 35)
    assert np.array_equal(fit(stripes(64, 64), plain(Data(), (64, 64))).pixels, np.asarray(stripes(64, 64)))


@pytest.mark.parametrize("mode", ["lanczos", "bicubic"])
@pytest.mark.parametrize("side", [20, 128])
def test_the_interpolation_is_the_one_asked_for(mode, side):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8))
    theirs = image.resize((64, 64), Image.Resampling[mode.upper()])
    assert np.array_equal(fit(image, plain(Data(image_interpolation_mode=mode), (64, 64))).pixels, np.asarray(theirs))
    usual = "lanczos" if side > 64 else "bicubic"
    same = np.array_equal(fit(image, plain(Data(), (64, 64))).pixels, np.asarray(theirs))
    assert same == (mode == usual)


def test_a_version_hangs_on_seed_picture_and_number_only():
    few, many = some(image_variations=3, **EVERYTHING), some(image_variations=7, **EVERYTHING)
    assert few == many[:3] and len(set(many)) == 7
    assert few == some(image_variations=3, **EVERYTHING)
    assert not set(few) & set(some(key=(1, "a"), **EVERYTHING))
    assert not set(few) & set(some(key=(0, "b"), **EVERYTHING))


def test_one_choice_does_not_change_when_another_is_switched_on():
    together = some(upscale=True, **EVERYTHING)
    field = {
        "crop": "crop", "crop_jitter": "trim", "random_scale": "zoom", "random_rotation": "angle",
        "color_jitter": "colors", "hue_jitter": "hue",
    }  # fmt: skip
    for key, value in EVERYTHING.items():
        alone = some(upscale=True, **{key: value})
        ours, theirs = ([getattr(t, field[key]) for t in versions] for versions in (alone, together))
        assert ours == theirs and len(set(ours)) == 4
        others = set(field.values()) - {field[key]}
        assert all(getattr(t, o) == getattr(plain(Data(), t.size), o) for t in alone for o in others)


def test_choices_of_one_version_have_nothing_to_do_with_each_other():
    for transform in some((16, 16), (2000, 2000), **EVERYTHING):
        drawn = [transform.angle / 40 + 0.5, transform.zoom / 0.5 - 2, transform.trim[0] / 0.1]
        drawn += [part for part in transform.crop[:1] if isinstance(part, float)]
        drawn += [(transform.colors[0] - 0.7) / 0.6, transform.hue / 0.4 + 0.5]
        assert len({round(part, 6) for part in drawn}) == len(drawn)


def test_where_nothing_is_random_there_is_one_version_and_with_its_mirror_two():
    for crop in ("center", "saliency"):
        (one,) = some(crop=crop, image_variations=9)
        assert one == plain(Data(crop=crop), (48, 32))
        assert some(crop=crop, mirror=True) == [one, replace(one, mirrored=True)]


@pytest.mark.parametrize("count", [1, 3, 4])
def test_half_of_the_versions_are_mirrored(count):
    versions = some(mirror=True, image_variations=count, **EVERYTHING)
    assert len(versions) in (count, count + 1)
    assert sum(t.mirrored for t in versions) * 2 == len(versions)


def test_measuring_leaves_nothing_to_chance():
    assert plain(Data(**EVERYTHING), (48, 32)) == Transform((48, 32))


@settings(max_examples=150)
@given(width=SIDES, height=SIDES, picture=st.text(max_size=4), number=st.integers(0, 3))
def test_cuts_stop_where_the_rest_would_have_to_be_enlarged(width, height, picture, number):
    size = Buckets(64, 16).choose(width, height)
    transform = some(size, (width, height), (0, picture), **EVERYTHING)[number]
    _, left = transforms._turned_and_trimmed(Image.new("RGB", (width, height)), transform)
    scale = max(size[0] / left.width, size[1] / left.height) * transform.zoom
    small = width < size[0] or height < size[1]
    assert scale <= 1 + 1e-9 or small
    if small:  # it is enlarged in any case: not more than needed
        assert left.size == (width, height) and transform.zoom == 1 and transform.angle == 0


def test_cuts_reach_as_far_as_they_may():
    versions = some((64, 64), (2000, 2000), image_variations=200, **EVERYTHING)
    for values, most in (
        ([t.zoom - 1 for t in versions], 0.5),
        ([abs(t.angle) for t in versions], 20),
        ([part for t in versions for part in t.trim], 0.1),
        ([abs(part - 1) for t in versions for part in t.colors], 0.3),
        ([abs(t.hue) for t in versions], 0.2),
        ([part for t in versions for part in t.crop if isinstance(part, float)], 1.0),
    ):
        assert 0.9 * most < max(values) <= most and min(values) < 0.1 * most


@given(width=st.integers(20, 200), height=st.integers(20, 200), angle=st.floats(-45, 45))
def test_a_turned_picture_has_no_empty_corners(width, height, angle):
    white = Image.new("RGB", (width, height), "white")
    pixels = fit(white, Transform((16, 16), angle=angle)).pixels
    assert pixels.min() >= 250


def test_turning_turns_to_the_left():
    image = Image.new("RGB", (101, 101))
    ImageDraw.Draw(image).rectangle((48, 0, 53, 100), fill="white")  # an upright bar
    turned = fit(image, Transform((101, 101), angle=30.0)).pixels[..., 0].astype(float)
    top, bottom = (float((row * np.arange(101)).sum() / row.sum()) for row in (turned[10], turned[90]))
    assert math.degrees(math.atan2(bottom - top, 80)) == pytest.approx(30, abs=2)


@settings(max_examples=40)
@given(
    width=st.integers(100, 300), height=st.integers(100, 300), picture=st.text(max_size=4), number=st.integers(0, 3),
    jitter=st.sampled_from([0.0, 0.1]), zoom=st.sampled_from([1.0, 1.5]),
)  # fmt: skip
def test_sdxl_can_find_the_cut_again(width, height, picture, number, jitter, zoom):
    """The colours at the cut's corner are those of that place in the whole picture, resized."""
    keys = {"crop": "random", "crop_jitter": jitter, "random_scale": zoom, "color_jitter": 0.0, "hue_jitter": 0.0}
    transform = some((48, 32), (width, height), (0, picture), mirror=True, **keys)[number]
    fitted = fit(stripes(width, height), transform)
    top, left = fitted.crops_coords_top_left
    inside = 1 - np.array([transform.trim[0] + transform.trim[2], transform.trim[1] + transform.trim[3]])
    scale = max(48 / (width * inside[0]), 32 / (height * inside[1])) * transform.zoom
    red, green = (255 * (place + 1) / (side * scale) for place, side in ((left, width), (top, height)))
    red = 255 - red if transform.mirrored else red
    slack = 4 * 255 / (scale * min(width, height))
    assert float(fitted.pixels[0, 0, 0]) == pytest.approx(red, abs=slack)
    assert float(fitted.pixels[0, 0, 1]) == pytest.approx(green, abs=slack)


def test_colours_are_multiplied():
    grey = Image.new("RGB", (16, 16), (100, 100, 100))
    assert fit(grey, Transform((16, 16), colors=(1.3, 1.0, 1.0))).pixels.max() == 130
    red = fit(Image.new("RGB", (16, 16), (200, 100, 100)), Transform((16, 16), colors=(1.0, 1.0, 0.0))).pixels
    assert np.ptp(red.astype(int), axis=2).max() == 0  # without saturation it is grey
    assert np.ptp(fit(stripes(16, 16), Transform((16, 16), colors=(1.0, 0.5, 1.0))).pixels[..., 0]) < 140


def test_shrinking_averages_rather_than_skips():
    board = np.indices((256, 256)).sum(axis=0) % 2 * 255
    pixels = fit(Image.fromarray(np.stack([board] * 3, axis=2).astype(np.uint8)), Transform((32, 32))).pixels
    assert np.abs(pixels.astype(int) - 127).max() < 12


# --- saliency ---


def scene(width: int, height: int, at: tuple[int, int], ground: str) -> Image.Image:
    """A small drawing at a place on a plain, a graded or a noisy ground."""
    image = stripes(width, height) if ground == "graded" else Image.new("RGB", (width, height), (90, 140, 200))
    if ground == "noisy":
        noise = np.random.default_rng(1).normal(0, 12, (height, width, 3))
        image = Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    x, y = at
    draw.ellipse((x - 25, y - 25, x + 25, y + 25), fill=(250, 220, 40), outline="black", width=4)
    draw.ellipse((x - 12, y - 10, x - 4, y - 2), fill="black")
    draw.ellipse((x + 4, y - 10, x + 12, y - 2), fill="black")
    return image


@pytest.mark.parametrize("ground", ["plain", "graded", "noisy"])
@pytest.mark.parametrize("at", [40, 150, 260, 360])
@pytest.mark.parametrize("tall", [False, True])
def test_the_salient_crop_holds_the_whole_object_wherever_it_is(ground, at, tall):
    image = scene(140, 400, (70, at), ground) if tall else scene(400, 140, (at, 70), ground)
    fitted = fit(image, plain(Data(crop="saliency"), (140, 140)))
    first = fitted.crops_coords_top_left[0 if tall else 1]
    assert first <= at - 25 and at + 25 <= first + 140


def test_where_nothing_stands_out_the_crop_is_in_the_middle():
    fitted = fit(Image.new("RGB", (400, 100), "green"), plain(Data(crop="saliency"), (100, 100)))
    assert abs(fitted.crops_coords_top_left[1] - 150) <= 5


@settings(max_examples=40)
@given(width=SIDES, height=SIDES, size=SHAPES)
def test_a_salient_crop_of_anything_lies_in_the_picture_and_is_always_the_same(width, height, size):
    transform = plain(Data(crop="saliency"), size)
    one, two = (fit(stripes(width, height), transform) for _ in range(2))
    assert np.array_equal(one.pixels, two.pixels) and one.pixels.shape[:2] == size[::-1]
    assert min(one.crops_coords_top_left) >= 0


@given(hnp.arrays(np.uint8, (3, 4, 3)), st.floats(-0.5, 0.5))
def test_hues_are_turned_and_nothing_else_is(pixels, hue):
    ours = transforms.hue_turned(pixels, hue).astype(float)
    for place in np.ndindex(3, 4):
        h, s, v = colorsys.rgb_to_hsv(*(pixels[place] / 255).tolist())
        theirs = 255 * np.array(colorsys.hsv_to_rgb((h + hue) % 1, s, v))
        assert np.abs(ours[place] - theirs).max() <= 0.501
    assert (ours.max(axis=2) == pixels.max(axis=2)).all() and (ours.min(axis=2) == pixels.min(axis=2)).all()


def test_a_turn_of_a_third_makes_red_green_and_a_whole_one_nothing():
    red = Image.new("RGB", (16, 16), (200, 10, 10))
    assert (fit(red, Transform((16, 16), hue=1 / 3)).pixels == (10, 200, 10)).all()
    whole, none = (fit(stripes(16, 16), Transform((16, 16), hue=hue)).pixels for hue in (1.0, 0.0))
    assert (whole == none).all()


# --- cache keys ---


def test_signatures_differ_exactly_where_transforms_do():
    first = Transform((64, 64))
    other = {
        "size": (64, 48), "angle": 1.0, "trim": (0.0, 0.0, 0.0, 0.1), "zoom": 1.1, "interpolation": "bicubic",
        "crop": "saliency", "mirrored": True, "colors": (1.0, 1.0, 0.9), "hue": 0.1,
    }  # fmt: skip
    assert other.keys() == {field.name for field in fields(Transform)}
    changed = [replace(first, **{name: value}) for name, value in other.items()]
    assert len({first.signature(), *(t.signature() for t in changed)}) == len(changed) + 1
    assert first.signature() == Transform((64, 64)).signature()
    assert "hue" not in first.signature()  # what was cached before there was one is found again
