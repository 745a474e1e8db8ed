"""What each place counts for, against OneTrainer's formulas written once more in plain numbers."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bespoke.diffusion import Loss, Schedule, kept_places, squared_errors, subject_places

parts = st.floats(0, 1, width=32)
grids = st.integers(0, 2**32 - 1).map(
    lambda seed: np.random.default_rng(seed).random((2, 1, 3, 4)).round(seed % 3).astype(np.float32)
)


def of_onetrainer(losses, prior, mask, unmasked_weight, weight, normalize):
    """Source: OneTrainer's masked_losses_with_prior, in numpy and float64: the mean over each picture."""
    held = np.maximum(mask.astype(float), unmasked_weight)
    own, rest = losses * held, prior * (1 - held) * weight
    if normalize:
        own = own / held.mean(axis=(1, 2, 3), keepdims=True)
        rest = rest / (1 - held).mean(axis=(1, 2, 3), keepdims=True)
    return (own + rest).mean(axis=(1, 2, 3))


@given(mask=grids, seed=st.integers(0, 999), unmasked=st.floats(0.01, 0.9), weight=st.floats(0, 3), even=st.booleans())
def test_places_weigh_errors_as_onetrainer_does(mask, seed, unmasked, weight, even):
    mask[:, :, 0, 0], mask[:, :, 0, 1] = 0.25, 1  # something of both is there
    unmasked = min(unmasked, 0.9)
    generator = np.random.default_rng(seed)
    answer, target, base = (generator.normal(size=(2, 4, 3, 4)).astype(np.float32) for _ in range(3))
    wanted = of_onetrainer((answer - target) ** 2, (answer - base) ** 2, mask, unmasked, weight, even)
    held, a, t, b = (torch.from_numpy(values) for values in (mask, answer, target, base))
    ours = squared_errors(a, t, subject_places(held, unmasked, normalize=even))
    kept = kept_places(held, unmasked, weight, normalize=even)
    ours = ours + squared_errors(a, b, kept)
    np.testing.assert_allclose(ours.numpy(), wanted, rtol=2e-5, atol=1e-6)


@given(unmasked=parts, even=st.booleans())
def test_a_mask_of_the_whole_picture_is_no_mask(unmasked, even):
    whole = torch.ones(1, 1, 3, 4)
    assert torch.equal(subject_places(whole, unmasked, normalize=even), whole)
    assert not kept_places(whole, unmasked, 2.0, normalize=even).any()


def test_a_subject_that_a_cut_took_away_teaches_nothing_and_is_a_number():
    none = torch.zeros(1, 1, 3, 4)
    assert not subject_places(none, 0.0, normalize=True).any()
    assert torch.equal(kept_places(none, 0.0, 2.0, normalize=True), none + 2)


@pytest.mark.parametrize("kind", ["l2", "huber", "smooth_l1"])
def test_every_loss_hears_only_the_places_that_count(kind):
    schedule = Schedule.from_config({"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012,
                                     "beta_schedule": "scaled_linear", "prediction_type": "epsilon"})  # fmt: skip
    answer, target, times = torch.randn(2, 4, 6, 6), torch.randn(2, 4, 6, 6), torch.tensor([3, 700])
    places = torch.zeros(2, 1, 6, 6)
    places[:, :, 2:5, 1:4] = 1
    counted = Loss(kind).errors(answer, target, times, schedule, places)
    cut = Loss(kind).errors(answer[:, :, 2:5, 1:4], target[:, :, 2:5, 1:4], times, schedule)
    assert torch.allclose(counted, cut * 9 / 36)
    assert torch.equal(
        Loss(kind).errors(answer, target, times, schedule, torch.ones(2, 1, 6, 6)),
        Loss(kind).errors(answer, target, times, schedule),
    )
