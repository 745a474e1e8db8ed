"""The shape of each picture: within the budget, as near its aspect as can be, and never larger than it unless asked."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bespoke.data import Buckets, kept

STEPS = st.sampled_from([8, 16, 64])
PARTS = st.integers(1, 20)
ASPECTS = st.sampled_from([1.0, 1.3, 2.0, 3.7])
SIDES = st.integers(1, 2500)


def allowed(buckets, width, height):
    """Every shape that the rules allow, found by trying all of them."""
    step, budget = buckets.step, buckets.resolution**2
    longest = int(buckets.resolution * math.sqrt(buckets.maximum_aspect)) + step
    multiples = range(step, longest + 1, step)
    small = [max(step, side) for side in (width, height)]
    return [
        (w, h)
        for w in multiples
        for h in multiples
        if w * h <= budget
        and max(w / h, h / w) <= buckets.maximum_aspect + 1e-9
        and (buckets.upscale or (w <= small[0] and h <= small[1]))
    ]


def error(size, width, height):
    return abs(math.log(size[0] / size[1]) - math.log(width / height))


@settings(max_examples=200)
@given(step=STEPS, parts=PARTS, aspect=ASPECTS, upscale=st.booleans(), width=SIDES, height=SIDES)
def test_the_chosen_shape_is_the_nearest_of_those_that_no_other_covers(step, parts, aspect, upscale, width, height):
    buckets = Buckets(step * parts, step, aspect, upscale)
    every = allowed(buckets, width, height)
    full = [a for a in every if not any(b != a and b[0] >= a[0] and b[1] >= a[1] for b in every)]
    assert sorted(buckets.sizes(width, height)) == sorted(full)
    chosen = buckets.choose(width, height)
    assert chosen in full
    assert error(chosen, width, height) <= min(error(size, width, height) for size in full) + 1e-9


@given(parts=PARTS, aspect=ASPECTS, width=SIDES, height=SIDES, times=st.integers(2, 9))
def test_with_upscale_only_the_aspect_counts(parts, aspect, width, height, times):
    buckets = Buckets(16 * parts, 16, aspect, upscale=True)
    assert buckets.choose(width, height) == buckets.choose(times * width, times * height)


@given(parts=PARTS, aspect=ASPECTS)
def test_a_picture_of_an_open_shape_gets_that_shape_and_loses_nothing(parts, aspect):
    buckets = Buckets(64 * parts, 64, aspect)
    for size in buckets.sizes(10**5, 10**5):
        assert buckets.choose(*size) == size and kept(*size, size) == 1
    assert (64 * parts, 64 * parts) in buckets.sizes(10**5, 10**5)


def test_the_shapes_of_sd15_and_of_sdxl():
    assert Buckets(512, 64).sizes(9999, 9999) == [(640, 384), (576, 448), (512, 512), (448, 576), (384, 640)]
    assert {(1152, 896), (1216, 832), (1344, 768), (832, 1216)} < set(Buckets(1024, 64).sizes(9999, 9999))


@pytest.mark.parametrize(
    ("size", "plain", "enlarged"),
    [((500, 500), (448, 448), (512, 512)), ((640, 480), (576, 448), (576, 448)), ((30, 30), (64, 64), (512, 512))],
)
def test_what_becomes_of_small_pictures(size, plain, enlarged):
    assert Buckets(512, 64).choose(*size) == plain
    assert Buckets(512, 64, upscale=True).choose(*size) == enlarged


def test_what_a_crop_keeps():
    assert kept(200, 100, (64, 64)) == 0.5 == kept(100, 200, (64, 64))
    assert kept(300, 200, (640, 384)) == pytest.approx(0.9)
