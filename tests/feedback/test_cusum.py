"""The chart: Montgomery's worked example and tables, and limits that simulated histories keep."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bespoke.feedback.cusum import Sums, allowance, course, limit, run_length, simulated_limit

EXAMPLE = (
    9.45, 7.99, 9.29, 11.66, 12.16, 10.18, 8.04, 11.46, 9.20, 10.34, 9.03, 11.47, 10.51, 9.40, 10.08,
    9.37, 10.62, 10.31, 8.52, 10.84, 10.90, 9.33, 12.29, 11.50, 10.60, 11.08, 10.38, 11.62, 11.31, 10.52,
)  # fmt: skip
"""Montgomery, "Introduction to Statistical Quality Control", 7th edition, tables 9.1 and 9.2; mean 10, spread 1."""
LENGTHS = {
    # Table 9.3 there: shift: h = 4, h = 5, both with k = 1/2.
    0.0: (168, 465), 0.25: (74.2, 139), 0.5: (26.6, 38.0), 0.75: (13.3, 17.0), 1.0: (8.38, 10.4),
    1.5: (4.75, 5.75), 2.0: (3.34, 4.01), 2.5: (2.62, 3.11), 3.0: (2.19, 2.57), 4.0: (1.71, 2.01),
}  # fmt: skip
HAWKINS = {0.25: 8.01, 0.5: 4.77, 0.75: 3.34, 1.0: 2.52, 1.25: 1.99, 1.5: 1.61}
"""Table 9.4 there, after Hawkins 1993: k: h for a run length of 370."""


def test_montgomerys_example_rings_at_the_29th_observation():
    found = course([value - 10 for value in EXAMPLE], 0.5, 5.0)
    assert [n for n, (_, rang) in enumerate(found, start=1) if rang] == [29]
    assert [round(sums.high, 2) for sums, _ in found[:8]] == [0, 0, 0, 1.16, 2.82, 2.5, 0.04, 1.0]
    assert [round(sums.high, 2) for sums, _ in found[22:29]] == [1.79, 2.79, 2.89, 3.47, 3.35, 4.47, 5.28]
    assert [round(sums.low, 2) for sums, _ in found[:4]] == [0.05, 1.56, 1.77, 0]


@pytest.mark.parametrize("shift", LENGTHS)
@pytest.mark.parametrize("place", [0, 1])
def test_run_lengths_are_those_of_the_table(shift, place):
    wanted = LENGTHS[shift][place]
    assert run_length(shift, 0.5, (4.0, 5.0)[place]) == pytest.approx(wanted, rel=0.04 if shift <= 2 else 0.17)
    assert run_length(-shift, 0.5, 4.0) == run_length(shift, 0.5, 4.0)


@pytest.mark.parametrize(("k", "h"), HAWKINS.items())
def test_limits_are_those_of_the_table(k, h):
    assert limit(370.0, k) == pytest.approx(h, abs=0.08)


def test_a_simulated_chart_rings_as_often_as_the_table_says():
    scores = np.random.default_rng(0).normal(1.0, 1, 60_000)
    alarms = sum(rang for _, rang in course([float(score) for score in scores], 0.5, 4.0))
    assert len(scores) / alarms == pytest.approx(8.38, rel=0.03)


@given(st.lists(st.floats(-5, 5), max_size=40), st.integers(0, 40))
def test_a_chart_that_was_left_and_taken_up_is_the_one_that_went_on(scores, cut):
    sums = Sums()
    for score in scores[:cut]:
        sums = sums.after(score, 0.5)
    for score in scores[cut:]:
        sums = sums.after(score, 0.5)
    whole = Sums()
    for score in scores:
        whole = whole.after(score, 0.5)
    assert sums == whole
    mirrored = Sums()
    for score in scores:
        mirrored = mirrored.after(-score, 0.5)
    assert mirrored == Sums(whole.low, whole.high) and min(whole) >= 0


@pytest.mark.parametrize("share", [0.0, 0.05, 0.2])
def test_the_simulated_limit_is_kept_by_other_histories(share):
    days, chance = 200, 0.05
    k = allowance(share, chance)
    h = simulated_limit(days, chance, share, k)
    draw = np.random.default_rng(1)
    off, passed = draw.normal(0, math.sqrt(share), 4000), np.zeros(4000, bool)
    high, low = np.zeros(4000), np.zeros(4000)
    for _ in range(days):
        score = off + draw.normal(0, math.sqrt(1 - share), 4000)
        high, low = np.maximum(0, high + score - k), np.maximum(0, low - score - k)
        passed |= np.maximum(high, low) > h
    assert passed.mean() == pytest.approx(chance, abs=4 * math.sqrt(chance / 4000))


def test_the_simulated_limit_agrees_with_siegmunds_where_all_is_known():
    h = simulated_limit(200, 0.1, 0.0, 0.5)
    assert 1 - math.exp(-200 / run_length(0.0, 0.5, h)) == pytest.approx(0.1, rel=0.15)


def test_without_the_allowance_a_reference_of_bad_luck_rings():
    naive = limit(2000.0, 0.5)
    high = np.zeros(2000)
    draw = np.random.default_rng(2)
    off, passed = draw.normal(0, math.sqrt(0.1), 2000), np.zeros(2000, bool)
    for _ in range(200):
        high = np.maximum(0, high + off + draw.normal(0, math.sqrt(0.9), 2000) - 0.5)
        passed |= high > naive
    assert passed.mean() > 0.15  # where one in twenty would be expected
    assert simulated_limit(200, 0.1, 0.1, allowance(0.1, 0.1)) < naive  # a larger k needs a smaller h
