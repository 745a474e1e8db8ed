"""Votes between pictures of several models turned into win rates, strengths and agreement, each with its interval."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from math import ceil, sqrt
from statistics import NormalDist

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from bespoke.errors import BespokeError
from bespoke.evaluation.significance import Values, multiplicities, percentiles, ratio_of, score_interval

PRIOR = 1.0
"""How many ties each two models begin with: without them a model that never lost would have no finite strength."""
MOST_ROUNDS, CLOSE = 20_000, 1e-9
"""When the search for strengths ends: no logarithm moves by more than this."""

Wins = Float[np.ndarray, "*_ K K"]
"""What the model of the row won against that of the column; a tie is half a win for both."""
Labels = Int[np.ndarray, "_ _"]
"""What each rater (row) said of each unit (column), as numbers from 0; below 0 where nothing was said."""


@dataclass(frozen=True)
class Vote:
    """One rater's answer to one pair of pictures."""

    rater: str
    prompt: str
    """Answers to pictures of one prompt are not independent, so prompts are resampled whole."""
    pair: str
    """Names the two pictures: votes on equal pairs can agree."""
    first: str
    second: str
    score: float
    """What the first model got: 1 for a win, ½ for a tie, 0 for a loss."""


@dataclass(frozen=True)
class WinRate:
    """The part of its comparisons with `second` that `first` won, from 0 to 1, ties counted half, with its interval."""

    first: str
    second: str
    wins: int
    ties: int
    losses: int
    value: float
    low: float
    high: float
    effective: float
    """How many independent votes the votes are worth."""

    @property
    def count(self) -> int:
        """How many votes it rests on."""
        return self.wins + self.ties + self.losses

    @property
    def preferred(self) -> str:
        """The model that is preferred where the interval leaves no doubt, else nothing."""
        return self.first if self.low > 0.5 else self.second if self.high < 0.5 else ""


@dataclass(frozen=True)
class Strength:
    """A model's Bradley–Terry strength: a natural logarithm, whose mean over the models is 0, with its interval.

    A model beats another with the chance 1 / (1 + exp(its strength subtracted from the other's)).
    """

    model: str
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Agreement:
    """How far answers to equal questions agree."""

    share: float
    """The part of all pairs of answers to one question that are equal, from 0 to 1; by chance it is not 0."""
    alpha: float
    """Krippendorff's alpha: 1 is full agreement, 0 what chance gives; not a number where all answers are equal."""
    low: float
    high: float
    units: int
    """How many questions were answered more than once."""


def wilson(wins: int | float, count: int | float, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a proportion, within 0 to 1; 0 to 1 where nothing was counted.

    Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference", p. 210.
    """
    assert 0 <= wins <= count
    assert 0 < level < 1
    if not count:
        return 0.0, 1.0
    return score_interval(wins / count, float(count), _normal(level))


def votes_needed(rate: float, *, power: float = 0.8, level: float = 0.95) -> int:
    """How many independent votes tell a true win rate of `rate` from ½ with the chance `power`.

    Source: Fleiss, Levin & Paik 2003, "Statistical Methods for Rates and Proportions", chapter 2 (one sample),
    without a correction for continuity.
    """
    assert 0 < rate < 1
    assert rate != 0.5
    least = _normal(level) * 0.5 + NormalDist().inv_cdf(power) * sqrt(rate * (1 - rate))
    return ceil((least / (rate - 0.5)) ** 2)


def win_rate(votes: Sequence[Vote], first: str, second: str, *, level: float = 0.95) -> WinRate:
    """How often `first` was preferred to `second`, with Wilson's interval for as many votes as are independent.

    Several votes on one prompt - by several raters, or on pictures of several seeds - go together. The scatter between
    prompts says how many independent votes they are worth; where all votes are equal there is none, and each prompt
    counts as one. So the interval is that for other prompts and the same raters.
    Source: Kish 1965, "Survey Sampling", section 8.2 (design effect); Dean & Pagano 2015, "Evaluating confidence
    interval methods for binomial proportions in clustered surveys" (Wilson's interval with it).
    """
    found = [(v.prompt, v.score if v.first == first else 1 - v.score) for v in votes if _between(v, first, second)]
    scores = np.array([score for _, score in found])
    wins, ties, losses = (int((scores == score).sum()) for score in (1.0, 0.5, 0.0))
    effective = _effective(scores, [prompt for prompt, _ in found])
    rate = float(scores.mean()) if len(scores) else float("nan")
    low, high = wilson(rate * effective if len(scores) else 0.0, effective, level)
    return WinRate(first, second, wins, ties, losses, rate, low, high, effective)


def strengths(
    votes: Sequence[Vote], models: Sequence[str], *, draws: int = 1000, seed: int = 0, level: float = 0.95
) -> tuple[Strength, ...]:
    """The strength of each model, and its percentile bootstrap interval over prompts.

    Source: Efron & Tibshirani 1993, equation 13.5; strengths by `bradley_terry` with its prior.

    Raises:
        BespokeError: there are no votes.
    """
    if not votes:
        raise BespokeError("There are no votes to tell strengths from.", "Rate some pairs first.")
    by_prompt = np.stack([wins_of(part, models) for part in _by_prompt(votes)])
    value = bradley_terry(by_prompt.sum(axis=0))
    counts = multiplicities(len(by_prompt), draws, seed, "bradley-terry")
    drawn = bradley_terry(np.tensordot(counts, by_prompt, axes=1))
    intervals = [percentiles(drawn[:, number], level) for number in range(len(models))]
    return tuple(
        Strength(model, float(v), low, high) for model, v, (low, high) in zip(models, value, intervals, strict=True)
    )


def wins_of(votes: Sequence[Vote], models: Sequence[str]) -> Float[np.ndarray, "K K"]:
    """The table of what each model won against each other."""
    place = {model: number for number, model in enumerate(models)}
    wins = np.zeros((len(models), len(models)))
    for vote in votes:
        wins[place[vote.first], place[vote.second]] += vote.score
        wins[place[vote.second], place[vote.first]] += 1 - vote.score
    return wins


def bradley_terry(wins: Wins, *, prior: float = PRIOR) -> Float[np.ndarray, "*_ K"]:
    """The logarithms of the most likely strengths, with mean 0, for each table of wins.

    Each two models first get `prior` ties. Source: Hunter 2004, "MM algorithms for generalized Bradley–Terry models",
    equation 3; ties as half wins; the prior is Jeffreys' for two models (half a win and half a
    loss more; Firth 1993).

    Raises:
        BespokeError: without a prior, there are models of which no finite strength is most likely.
    """
    others = 1 - np.eye(wins.shape[-1])
    wins = (wins + prior / 2) * others
    if not prior and any(_parts(table, "strong") > 1 for table in wins.reshape(-1, *wins.shape[-2:])):
        raise BespokeError(
            "Some models won or lost against all others, or were not compared: no strength explains that best.",
            "Rate more pairs, or give a prior.",
        )
    games = wins + np.swapaxes(wins, -1, -2)
    logs = np.zeros(wins.shape[:-1])
    for _ in range(MOST_ROUNDS):
        power = np.exp(logs)
        expected = (games / (power[..., :, None] + power[..., None, :])).sum(axis=-1)
        after = np.log(wins.sum(axis=-1) / expected)
        after -= after.mean(axis=-1, keepdims=True)
        moved, logs = float(np.abs(after - logs).max()), after
        if moved < CLOSE:
            break
    return logs


def unbounded(votes: Sequence[Vote], models: Sequence[str]) -> tuple[str, ...]:
    """Sentences on what the votes leave open about strengths, where only the prior keeps them finite.

    Source: Ford 1957: strengths are finite only if, however models are split in two, each part won against the other.
    """
    wins = wins_of(votes, models)
    if _parts(wins, "strong") <= 1:
        return ()
    if _parts(wins, "weak") > 1:
        return ("Some models were not compared yet, not even through others: their strengths say nothing.",)
    end = "without the prior of one tie for each two models its strength would have no end."
    never_lost = [model for model, lost in zip(models, wins.sum(axis=0), strict=True) if not lost]
    never_won = [model for model, won in zip(models, wins.sum(axis=1), strict=True) if not won]
    said = [f"{model} lost no comparison: {end}" for model in never_lost]
    said += [f"{model} won no comparison: {end}" for model in never_won]
    return tuple(said) or ("Some models won every comparison with the others: how far apart they are is open.",)


def agreement(
    labels: Labels, groups: Sequence[str] = (), *, draws: int = 1000, seed: int = 0, level: float = 0.95
) -> Agreement:
    """How far raters agree, with alpha's percentile bootstrap interval over units, or over their `groups`.

    Answers are names: no two different ones are nearer than others.
    Source: Krippendorff 2011, "Computing Krippendorff's alpha-reliability", section C; Efron & Tibshirani 1993,
    equation 13.5. An interval's end is infinite where chance agreement cannot be told from 1.
    """
    said = np.stack([(labels == value).sum(axis=0) for value in range(int(labels.max(initial=0)) + 1)], axis=1)
    paired = np.flatnonzero(said.sum(axis=1) > 1)
    said = said[paired].astype(np.float64)
    names = [groups[unit] if groups else str(unit) for unit in paired.tolist()]
    answers = said.sum(axis=1)
    agreeing = (said * (said - 1)).sum(axis=1)
    if not len(paired):
        return Agreement(float("nan"), float("nan"), float("-inf"), float("inf"), 0)
    # A unit's differing pairs of answers, each answer counted once: the off-diagonal of its coincidences.
    differing = answers - agreeing / (answers - 1)
    among = np.array(sorted(set(names)))[:, None] == np.array(names)
    counts = np.concatenate([np.ones((1, len(among))), multiplicities(len(among), draws, seed, "agreement")]) @ among
    observed, expected = counts @ differing, _by_chance(counts @ said)
    ratio, low, high = ratio_of(observed[0], expected[0], observed[1:], expected[1:], level)
    share = float(agreeing.sum() / (answers * (answers - 1)).sum())
    return Agreement(share, float(1 - ratio), float(1 - high), float(1 - low), len(paired))


def krippendorff_alpha(labels: Labels) -> float:
    """Krippendorff's alpha of names; not a number where no unit has two answers, or all answers are equal."""
    return agreement(labels, draws=1).alpha


def _by_chance(margins: Float[np.ndarray, "_ _"]) -> Values:
    """The differing pairs that answers would make if they were shuffled over all units, for each row of margins."""
    total = margins.sum(axis=1)
    return (total**2 - (margins**2).sum(axis=1)) / (total - 1)


def _by_prompt(votes: Sequence[Vote]) -> list[list[Vote]]:
    ordered = sorted(votes, key=lambda vote: vote.prompt)
    return [list(part) for _, part in groupby(ordered, key=lambda vote: vote.prompt)]


def _between(vote: Vote, first: str, second: str) -> bool:
    return {vote.first, vote.second} == {first, second}


def _effective(scores: Values, prompts: Sequence[str]) -> float:
    if not len(scores):
        return 0.0
    residuals = scores - scores.mean()
    alone = float((residuals**2).sum())
    if not alone:
        return float(len(set(prompts)))
    sums = [residuals[np.array(prompts) == prompt].sum() for prompt in sorted(set(prompts))]
    return len(scores) / max(1.0, float(np.square(sums).sum()) / alone)


def _parts(wins: Float[np.ndarray, "K K"], connection: str) -> int:
    count, _ = connected_components(csr_array(wins > 0), directed=True, connection=connection)
    return int(count)


def _normal(level: float) -> float:
    return NormalDist().inv_cdf(0.5 + level / 2)
