"""Canaries: the same bits, the bits of rounding, and another picture are told apart on real pictures and features."""

import numpy as np
import pytest
from PIL import Image

from bespoke.feedback.canaries import NUDGE, Canary, nudge, returned, worst
from bespoke.models import Clip

CANARIES = (Canary("a red apple", 0), Canary("a blue car", 1))


@pytest.fixture(scope="module")
def clip() -> Clip:
    return Clip("pico-CLIP")


def pictures() -> list[np.ndarray]:
    """A red disc and a blue square, each on its ground."""
    y, x = np.mgrid[:64, :64]
    disc, square = np.full((64, 64, 3), (90, 160, 90), np.uint8), np.full((64, 64, 3), (220, 210, 120), np.uint8)
    disc[(x - 32) ** 2 + (y - 32) ** 2 < 400] = (200, 30, 30)
    square[16:48, 16:48] = (30, 60, 200)
    return [disc, square]


def features(clip: Clip, seen: list[np.ndarray]) -> np.ndarray:
    return clip.pictures([Image.fromarray(one) for one in seen])


def became(clip: Clip, now: list[np.ndarray]) -> list[str]:
    first = pictures()
    nudged = [nudge(one, canary) for one, canary in zip(first, CANARIES, strict=True)]
    same = np.array([np.array_equal(a, b) for a, b in zip(first, now, strict=True)])
    found = returned(CANARIES, same, *(features(clip, some) for some in (first, now, nudged)))
    return [one.became for one in found]


def test_equal_pictures_are_the_same(clip):
    assert became(clip, pictures()) == ["same", "same"]


def test_a_bit_of_rounding_is_told_and_no_more(clip):
    draw = np.random.default_rng(7)
    rounded = [
        np.clip(one.astype(int) + draw.integers(-1, 2, one.shape), 0, 255).astype(np.uint8) for one in pictures()
    ]
    assert became(clip, rounded) == ["other bits", "other bits"]
    one = pictures()
    one[0][5, 5, 0] += 1
    assert became(clip, one) == ["other bits", "same"]


def test_another_picture_is_found_among_those_that_stayed(clip):
    disc, square = pictures()
    assert became(clip, [square, square]) == ["changed", "same"]
    assert became(clip, [disc[::-1] // 2, square]) == ["changed", "same"]


def test_the_worst_speaks_for_all(clip):
    first = features(clip, pictures())
    found = returned(CANARIES, np.array([True, False]), first, first[::-1].copy(), first + 1e-6)
    assert worst(found) == "changed" and worst(found[:1]) == "same" and worst(()) == ""
    assert found[0].distance == 0 and found[1].distance > found[1].rounding


def test_a_nudge_is_small_and_always_the_same():
    disc = pictures()[0]
    moved = nudge(disc, CANARIES[0])
    assert np.array_equal(moved, nudge(disc, CANARIES[0])) and not np.array_equal(moved, nudge(disc, CANARIES[1]))
    assert np.abs(moved.astype(int) - disc).max() == NUDGE
