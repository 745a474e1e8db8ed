"""Win rates, strengths and agreement: against scipy, published examples, and by how often they are right."""

import math
import re
from collections.abc import Iterable
from itertools import combinations, permutations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats

from bespoke.errors import BespokeError
from bespoke.evaluation.preference import (
    Vote,
    agreement,
    bradley_terry,
    krippendorff_alpha,
    strengths,
    unbounded,
    votes_needed,
    wilson,
    win_rate,
    wins_of,
)

BASEBALL = np.array([
    [0, 7, 9, 7, 7, 9, 11],
    [6, 0, 7, 5, 11, 9, 9],
    [4, 6, 0, 7, 7, 8, 12],
    [6, 8, 6, 0, 6, 7, 10],
    [6, 2, 6, 7, 0, 7, 12],
    [4, 4, 5, 6, 6, 0, 6],
    [2, 4, 1, 3, 1, 7, 0],
], dtype=float)  # fmt: skip
"""The American League's eastern division in 1987: Agresti 2002, "Categorical Data Analysis", table 10.10."""
NO = -1


def votes(
    scores: Iterable[float], *, rater: str = "Ann", first: str = "a", second: str = "b", at: int = 0
) -> list[Vote]:
    """One vote on each prompt."""
    return [Vote(rater, f"prompt {at + n}", f"{at + n}", first, second, float(score)) for n, score in enumerate(scores)]


@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
@pytest.mark.parametrize("count", [1, 2, 7, 40, 1000])
def test_wilsons_interval_is_that_of_scipy(count, level):
    for wins in sorted({0, 1, count // 3, count // 2, count - 1, count}):
        expected = stats.binomtest(wins, count).proportion_ci(confidence_level=level, method="wilson")
        assert wilson(wins, count, level) == pytest.approx((expected.low, expected.high), abs=1e-12)


@given(st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(0, 2 * n), st.just(n))))
def test_wilsons_interval_holds_the_rate_and_is_the_mirror_image_of_the_losers(counted):
    wins, count = counted[0] / 2, counted[1]
    low, high = wilson(wins, count)
    assert 0 <= low <= wins / count <= high <= 1
    assert wilson(count - wins, count) == pytest.approx((1 - high, 1 - low), abs=1e-12)


def test_nothing_counted_is_nothing_known():
    assert wilson(0, 0) == (0, 1)
    rate = win_rate([], "a", "b")
    assert (rate.count, rate.low, rate.high, rate.preferred) == (0, 0, 1, "") and math.isnan(rate.value)


@pytest.mark.parametrize("rate", [0.6, 0.7, 0.8, 0.35])
def test_as_many_votes_as_are_needed_tell_a_rate_from_half_four_times_in_five(rate):
    count = votes_needed(rate)
    certain = [wins for wins in range(count + 1) if not wilson(wins, count)[0] <= 0.5 <= wilson(wins, count)[1]]
    assert stats.binom.pmf(certain, count, rate).sum() == pytest.approx(0.8, abs=0.06)
    assert votes_needed(rate) == votes_needed(1 - rate) < votes_needed(rate, power=0.9)


def test_the_documented_numbers_of_votes_are_those_of_the_formula():
    page = (Path(__file__).parents[2] / "docs" / "rating.md").read_text("utf-8")
    rows = re.findall(r"^\| (\d+) % \| (\d+) \|$", page, re.MULTILINE)
    assert len(rows) == 7 and [votes_needed(int(rate) / 100) for rate, _ in rows] == [int(votes) for _, votes in rows]


def test_a_win_rate_counts_ties_half_and_says_who_is_preferred():
    rate = win_rate(votes([1] * 12 + [0.5] * 4 + [0] * 2), "a", "b")
    assert (rate.wins, rate.ties, rate.losses, rate.count) == (12, 4, 2, 18)
    assert rate.value == pytest.approx(14 / 18)
    assert (rate.low, rate.high) == pytest.approx(wilson(14, 18), abs=1e-12)
    assert rate.preferred == "a" and rate.effective == pytest.approx(18)
    other = win_rate(votes([1] * 12 + [0.5] * 4 + [0] * 2), "b", "a")
    assert (other.wins, other.losses, other.preferred) == (2, 12, "a")
    assert (other.value, other.low, other.high) == pytest.approx((1 - rate.value, 1 - rate.high, 1 - rate.low))


def test_votes_between_others_do_not_count():
    others = votes([1] * 9, second="c") + votes([0] * 9, first="b", second="c")
    assert win_rate(votes([1, 0]) + others, "a", "b") == win_rate(votes([1, 0]), "a", "b")


@pytest.mark.parametrize("scores", [[1, 1, 0, 0.5, 1, 0, 1], [1] * 7, [0.5] * 7])
def test_raters_who_only_repeat_each_other_add_nothing(scores):
    alone, echoed = votes(scores), [v for name in ("Ann", "Ben", "Cy") for v in votes(scores, rater=name)]
    one, three = win_rate(alone, "a", "b"), win_rate(echoed, "a", "b")
    assert three.count == 3 * one.count and three.effective == pytest.approx(7)
    assert (three.value, three.low, three.high) == pytest.approx((one.value, one.low, one.high))


def of_prompts(seed: int, prompts: int, raters: int) -> list[Vote]:
    """Raters who agree because some prompts suit one model and some the other; over all prompts they are equal."""
    draw = np.random.default_rng(seed)
    chance = draw.beta(0.5, 0.5, prompts)
    return [v for n in range(raters) for v in votes(draw.random(prompts) < chance, rater=str(n))]


def test_intervals_hold_the_truth_of_all_prompts_although_raters_agree():
    rates = [win_rate(of_prompts(seed, 40, 6), "a", "b") for seed in range(150)]
    assert np.mean([rate.low <= 0.5 <= rate.high for rate in rates]) >= 0.92
    naive = [wilson(rate.wins, rate.count) for rate in rates]
    assert np.mean([low <= 0.5 <= high for low, high in naive]) < 0.75


def test_strengths_are_those_of_a_published_table():
    """Agresti 2002, section 10.6.2 gives them relative to the last team."""
    found = bradley_terry(BASEBALL, prior=0.0)
    assert found - found[-1] == pytest.approx([1.58, 1.44, 1.29, 1.25, 1.11, 0.68, 0], abs=0.006)
    assert found.sum() == pytest.approx(0, abs=1e-9)


def likelihood(logs: np.ndarray, wins: np.ndarray) -> float:
    differences = logs[:, None] - logs[None, :]
    return float((wins * np.log1p(np.exp(-differences))).sum())


@pytest.mark.parametrize("seed", range(5))
def test_strengths_are_the_most_likely_ones(seed):
    draw = np.random.default_rng(seed)
    wins = draw.integers(1, 20, (4, 4)) / 2.0
    np.fill_diagonal(wins, 0)
    best = optimize.minimize(likelihood, np.zeros(4), (wins,), method="BFGS", options={"gtol": 1e-9})
    assert bradley_terry(wins, prior=0.0) == pytest.approx(best.x - best.x.mean(), abs=1e-6)
    order = draw.permutation(4)
    assert bradley_terry(wins[np.ix_(order, order)]) == pytest.approx(bradley_terry(wins)[order], abs=1e-7)


@pytest.mark.parametrize(("won", "lost"), [(3, 1), (10, 0), (2.5, 2.5)])
def test_two_models_have_a_closed_form(won, lost):
    expected = math.log((won + 0.5) / (lost + 0.5))
    first, second = bradley_terry(np.array([[0.0, won], [lost, 0.0]]))
    assert first - second == pytest.approx(expected, abs=1e-8)


def test_what_has_no_end_is_refused_without_a_prior_and_told_with_one():
    never_lost = votes([1] * 5) + votes([1, 0, 1], first="b", second="c") + votes([1], second="c")
    with pytest.raises(BespokeError, match="won or lost against all others"):
        bradley_terry(wins_of(never_lost, "abc"), prior=0.0)
    assert np.isfinite([s.value for s in strengths(never_lost, ["a", "b", "c"])]).all()
    (said,) = unbounded(never_lost, ["a", "b", "c"])
    assert said.startswith("a lost no comparison")
    (said,) = unbounded(votes([0, 0], first="a") + votes([1, 0], first="b", second="c"), ["a", "b", "c"])
    assert said.startswith("a won no comparison")
    (said,) = unbounded(votes([1, 0]) + votes([1, 0], first="c", second="d"), ["a", "b", "c", "d"])
    assert "not compared yet" in said
    two_leagues = votes([1, 0]) + votes([1, 0], first="c", second="d") + votes([1], first="a", second="c")
    (said,) = unbounded(two_leagues, ["a", "b", "c", "d"])
    assert "won every comparison with the others" in said
    assert unbounded(votes([1, 0, 0.5]), ["a", "b"]) == ()


def league(seed: int, prompts: int, truth: dict[str, float]) -> list[Vote]:
    """Every two models once on every prompt, by the chances that their strengths say."""
    draw = np.random.default_rng(seed)
    return [
        Vote("Ann", str(n), str(n), one, other, float(draw.random() < 1 / (1 + math.exp(truth[other] - truth[one]))))
        for n in range(prompts)
        for one, other in combinations(truth, 2)
    ]


def test_strengths_hold_the_truth_as_often_as_they_say():
    truth = {"a": 0.6, "b": 0.0, "c": -0.6}
    hits = [
        strength.low <= truth[strength.model] <= strength.high
        for seed in range(120)
        for strength in strengths(league(seed, 60, truth), list(truth), draws=200)
    ]
    assert 0.90 <= np.mean(hits) <= 0.98


def test_more_prompts_narrow_the_interval_and_the_seed_decides_it():
    truth = {"a": 0.6, "b": 0.0, "c": -0.6}
    few, many = (strengths(league(1, count, truth), "abc")[0] for count in (20, 320))
    assert many.high - many.low < 0.4 * (few.high - few.low)
    again, other = (strengths(league(1, 20, truth), "abc", seed=seed)[0] for seed in (0, 1))
    assert again == few and other != few
    with pytest.raises(BespokeError, match="no votes"):
        strengths([], "abc")


FOUR_OBSERVERS = np.array([
    [1, 2, 3, 3, 2, 1, 4, 1, 2, NO, NO, NO],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NO, 3],
    [NO, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NO],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NO],
])  # fmt: skip
TWO_OBSERVERS = np.array([[ord(c) - 97 for c in line] for line in ("aabbdcccedda", "babbbccceddd")])
BINARY = np.array([[0, 1, 0, 0, 0, 0, 0, 0, 1, 0], [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]])


@pytest.mark.parametrize(("labels", "alpha"), [(BINARY, 0.095), (TWO_OBSERVERS, 0.692), (FOUR_OBSERVERS, 0.743)])
def test_alpha_is_that_of_its_authors_examples(labels, alpha):
    """Krippendorff 2011, "Computing Krippendorff's alpha-reliability", examples A, B and C."""
    assert krippendorff_alpha(labels) == pytest.approx(alpha, abs=0.0006)
    found = agreement(labels)
    assert found.low < found.alpha < found.high <= 1
    assert found.units == (labels >= 0).sum(axis=0).tolist().count(1) * -1 + labels.shape[1]


def by_definition(labels: np.ndarray) -> tuple[float, float]:
    """Alpha and the share of equal pairs: disagreement within units, each weighed by its answers, over that of all."""
    units = [[int(v) for v in unit if v >= 0] for unit in labels.T]
    units = [unit for unit in units if len(unit) > 1]
    pairs = [(a, b) for unit in units for a, b in permutations(unit, 2)]
    answers = [value for unit in units for value in unit]
    observed = sum(sum(a != b for a, b in permutations(unit, 2)) / (len(unit) - 1) for unit in units) / len(answers)
    all_pairs = list(permutations(answers, 2))
    expected = sum(a != b for a, b in all_pairs) / len(all_pairs)
    return (1 - observed / expected if expected else math.nan), sum(a == b for a, b in pairs) / len(pairs)


tables = st.tuples(st.integers(2, 4), st.integers(1, 8)).flatmap(
    lambda shape: st.lists(
        st.lists(st.integers(NO, 2), min_size=shape[1], max_size=shape[1]), min_size=shape[0], max_size=shape[0]
    )
)


@given(tables, st.randoms(use_true_random=False))
def test_alpha_is_what_its_definition_says_whoever_comes_first_and_whatever_answers_are_called(table, random):
    labels = np.array(table)
    found = agreement(labels, draws=20)
    if not ((labels >= 0).sum(axis=0) > 1).any():
        assert found.units == 0 and math.isnan(found.alpha) and math.isnan(found.share)
        return
    assert (found.alpha, found.share) == pytest.approx(by_definition(labels), abs=1e-12, nan_ok=True)
    called = np.array(random.sample(range(3), 3))
    renamed = np.where(labels < 0, NO, called[labels])
    raters = random.sample(range(len(labels)), len(labels))
    assert krippendorff_alpha(renamed[raters]) == pytest.approx(found.alpha, abs=1e-12, nan_ok=True)


def test_all_equal_answers_agree_fully_but_tell_nothing_of_chance():
    found = agreement(np.ones((2, 9), dtype=int))
    assert found.share == 1 and math.isnan(found.alpha) and (found.low, found.high) == (-math.inf, math.inf)


def test_raters_who_guess_agree_by_chance_only():
    draw = np.random.default_rng(1)
    found = agreement(draw.integers(0, 3, (3, 400)))
    assert found.low < 0 < found.high and found.alpha == pytest.approx(0, abs=0.05)
    assert found.share == pytest.approx(1 / 3, abs=0.05)


def test_units_of_one_group_go_together():
    labels = np.random.default_rng(2).integers(0, 2, (2, 30))
    tripled = np.tile(labels, 3)
    names = [str(n) for n in range(30)] * 3
    alone, together, apart = agreement(labels), agreement(tripled, names), agreement(tripled)
    assert together.high - together.low == pytest.approx(alone.high - alone.low, rel=0.15)
    assert apart.high - apart.low < 0.75 * (alone.high - alone.low)
