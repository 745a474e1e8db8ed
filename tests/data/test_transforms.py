"""Squares for the model: size, place, mirror, and the cache key that tells settings apart."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from bespoke.data import fit, signature


def stripes(width: int, height: int) -> Image.Image:
    """Red grows to the right, green downwards."""
    across, down = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([across, down, np.zeros_like(down)], axis=2).astype(np.uint8))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 300), st.integers(1, 300), st.integers(8, 96), st.booleans(), st.booleans())
def test_every_picture_becomes_a_square_of_bytes(width, height, resolution, center_crop, flip):
    pixels = fit(stripes(width, height), resolution, center_crop=center_crop, flip=flip)
    assert pixels.shape == (resolution, resolution, 3)
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous


def test_the_centre_is_cut_out():
    pixels = fit(stripes(300, 100), 100).astype(int)
    assert abs(pixels[..., 0].mean() - 127.5) < 2
    assert abs(pixels[..., 0].min() - 85) < 3
    assert abs(pixels[..., 0].max() - 170) < 3
    assert np.ptp(pixels[..., 1]) > 250


def test_a_picture_of_the_right_size_is_untouched():
    assert np.array_equal(fit(stripes(64, 64), 64), np.asarray(stripes(64, 64)))


@pytest.mark.parametrize("center_crop", [True, False])
def test_flip_mirrors_the_same_square(center_crop):
    image = stripes(120, 80)
    mirrored = fit(image, 40, center_crop=center_crop, flip=True)
    assert np.array_equal(mirrored[:, ::-1], fit(image, 40, center_crop=center_crop))


def test_random_places_differ_between_pictures_and_never_between_calls():
    images = [stripes(400, 50 + n) for n in range(12)]
    places = [fit(image, 50, center_crop=False)[0, 0, 0] for image in images]
    assert places == [fit(image, 50, center_crop=False)[0, 0, 0] for image in images]
    assert len(set(places)) > 6


def test_shrinking_averages_rather_than_skips():
    board = np.indices((256, 256)).sum(axis=0) % 2 * 255
    pixels = fit(Image.fromarray(np.stack([board] * 3, axis=2).astype(np.uint8)), 32)
    assert np.abs(pixels.astype(int) - 127).max() < 12


def test_signatures_differ_exactly_where_settings_do():
    settings_ = list(itertools.product((64, 512), (True, False), (True, False)))
    signatures = [signature(r, center_crop=c, flip=f) for r, c, f in settings_]
    assert len(set(signatures)) == len(settings_)
    assert signature(512) == "fit-1 resolution=512 crop=center flip=no"
