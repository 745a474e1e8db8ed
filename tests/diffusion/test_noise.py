"""Noise as a function of its key: what it is for ever, and what its layers do to it."""

import numpy as np
import pytest
import torch
from scipy import stats

from bespoke.diffusion.noise import Pyramid, noise, perturbed
from bespoke.seeds import normal

SHAPE = (4, 24, 16)
PYRAMID = Pyramid(6, 0.5)


def many(count=200, **options):
    return np.stack([noise(SHAPE, (0, 0, f"key {n}", 0), **options) for n in range(count)])


def test_plain_noise_is_the_keyed_normal_itself():
    assert np.array_equal(noise(SHAPE, (3, 1, "key", 0)), normal(SHAPE, "noise", 3, 1, "key", 0))


@pytest.mark.parametrize("options", [{}, {"offset": 0.1}, {"pyramid": PYRAMID}, {"offset": 0.1, "pyramid": PYRAMID}])
def test_noise_hangs_on_its_key_alone(options):
    key = (0, 2, "key", 1)
    first = noise(SHAPE, key, **options)
    assert first.dtype == np.float32 and first.shape == SHAPE
    assert np.array_equal(first, noise(SHAPE, key, **options))
    for other in ((1, 2, "key", 1), (0, 3, "key", 1), (0, 2, "other", 1), (0, 2, "key", 2)):
        assert not np.array_equal(first, noise(SHAPE, other, **options))


def test_layered_noise_has_a_variance_of_one_and_more_of_it_in_large_shapes():
    plain, layered = many(), many(pyramid=PYRAMID)
    np.testing.assert_allclose(layered.std(axis=(1, 2, 3), ddof=1), 1.0, rtol=1e-5)
    assert stats.kstest(plain[0].ravel(), "norm").pvalue > 1e-3

    assert low_power(plain) == pytest.approx(4 / (SHAPE[1] * SHAPE[2]), rel=0.15)
    parts = [low_power(many(pyramid=Pyramid(6, discount))) for discount in (0.2, 0.5, 0.8)]
    assert low_power(plain) < parts[0] < parts[1] < parts[2]


def low_power(of):
    """The power of the lowest frequencies, as a part of the whole."""
    spectrum = np.abs(np.fft.fft2(of)) ** 2
    return float((spectrum[..., :2, :2].sum(axis=(-1, -2)) / spectrum.sum(axis=(-1, -2))).mean())


def as_in_kohya(count, iterations, discount):
    """What library/custom_train_functions.py of sd-scripts adds up, a picture at a time, with torch's upsampling."""
    source, random = torch.Generator().manual_seed(0), np.random.default_rng(0)
    channels, rows, columns = SHAPE
    stretch = torch.nn.Upsample(size=(rows, columns), mode="bilinear")
    for _ in range(count):
        total = torch.randn(1, *SHAPE, generator=source)
        for n in range(iterations):
            ratio = random.uniform(2, 4) ** n
            height, width = (max(1, int(side / ratio)) for side in (rows, columns))
            total += discount**n * stretch(torch.randn(1, channels, height, width, generator=source))
            if min(height, width) == 1:
                break
        yield (total / total.std())[0].numpy()


@pytest.mark.parametrize("discount", [0.3, 0.8])
def test_layered_noise_has_the_spectrum_of_kohyas(discount):
    ours, theirs = many(600, pyramid=Pyramid(6, discount)), np.stack(list(as_in_kohya(600, 6, discount)))
    powers = [np.abs(np.fft.fft2(of)) ** 2 for of in (ours, theirs)]
    low, middle, high = slice(3), slice(3, 6), slice(6, 9)
    for part in (slice(1), low, middle, high):
        means = [power[:, :, part, part].mean(axis=(1, 2, 3)) for power in powers]
        assert stats.ks_2samp(*means).pvalue > 1e-3


def test_the_first_layer_is_as_fine_as_the_noise_and_the_last_is_one_point():
    """One layer of the first kind adds white noise to white noise; beyond one point there is no coarser layer."""
    one = many(pyramid=Pyramid(1, 0.5))
    assert stats.kstest(one[0].ravel(), "norm").pvalue > 1e-3
    neighbours = float((one[..., 1:] * one[..., :-1]).mean())
    assert abs(neighbours) < 5 / one.size**0.5
    assert np.array_equal(many(3, pyramid=Pyramid(50, 0.5)), many(3, pyramid=Pyramid(10, 0.5)))


def test_layers_do_not_hang_on_the_neighbours_in_a_batch():
    """Latents of a single row or column have layers, too."""
    thin = noise((4, 1, 8), (0, 0, "key", 0), pyramid=PYRAMID)
    assert thin.shape == (4, 1, 8) and np.isfinite(thin).all()


def test_perturbed_noise_is_the_noise_and_as_much_as_was_asked_of_other_noise():
    plain = many()
    found = np.stack([perturbed(one, 0.3, (0, 0, f"key {n}", 0)) for n, one in enumerate(plain)])
    more = (found - plain).ravel()
    assert stats.kstest(more / 0.3, "norm").pvalue > 1e-3
    assert abs(np.corrcoef(more, plain.ravel())[0, 1]) < 5 / more.size**0.5
    assert found.dtype == np.float32
