"""Shares of pictures: published examples, and by how often intervals hold the truth."""

import numpy as np
import pytest

from bespoke.evaluation.rates import difference, share


def test_the_interval_of_the_difference_is_newcombes():
    """His worked example 56/70 and 48/80: 0.2, from 0.0524 to 0.3339."""
    tuned, base = (share(np.arange(count) < hits, np.arange(count), 0.95) for hits, count in ((56, 70), (48, 80)))
    found = difference(tuned, base)
    assert (found.value, found.low, found.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=1e-4)


@pytest.mark.parametrize("together", [False, True])
def test_intervals_over_prompts_hold_the_truth_as_often_as_they_say(together):
    """Whether pictures of one prompt are copied together or not."""
    hits = []
    prompts = np.repeat(np.arange(30), 6)
    for seed in range(400):
        rng = np.random.default_rng(seed)
        of_prompts, alone = rng.random(30) < 0.3, rng.random(180) < 0.3
        found = share(of_prompts[prompts] if together else alone, prompts, 0.95)
        hits.append(found.low <= 0.3 <= found.high)
    assert 0.90 <= np.mean(hits) <= 0.99


def test_prompts_drawn_several_times_widen_the_interval_where_nothing_is_copied():
    one = share(np.zeros(60, bool), np.arange(60), 0.95)
    grouped = share(np.zeros(60, bool), np.repeat(np.arange(15), 4), 0.95)
    assert one.high < grouped.high == pytest.approx(share(np.zeros(15, bool), np.arange(15), 0.95).high)
