"""The table of distances between a model's pictures and the references, each measured in the same two ways.

Row i of both models' features has the same prompt and seed; `groups` gives the number of each picture's prompt, so that
all pictures of a prompt are drawn anew, swapped or left out together. Intervals are at 95 %.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np

from bespoke import seeds
from bespoke.evaluation.diversity import vendi, vendi_left_out
from bespoke.evaluation.features import FeatureSet
from bespoke.evaluation.frechet import frechet_left_out
from bespoke.evaluation.kernels import CMMD, CMMD_UNBIASED, KID, Discrepancy, Resampled, multi_bandwidth
from bespoke.evaluation.manifold import coverage_left_out, density_left_out, precision_left_out, recall_left_out
from bespoke.evaluation.sets import comparable, compared
from bespoke.evaluation.significance import (
    Change,
    Estimate,
    Groups,
    Labels,
    LeftOut,
    blocks,
    jackknife,
    jackknife_p,
    jackknife_ratio,
    members,
    number_of,
    percentiles,
    ratio_of,
    share_interval,
    swap_p,
)
from bespoke.evaluation.sliced import mind_left_out

LEVEL = 0.95
FID_INCEPTION = "FID's Inception"
"""The extractor that declares itself to have the weights of published FID, whatever its name."""
CMMD_CLIP = "openai/clip-vit-large-patch14-336"
"""The extractor of published CMMD."""

Better = Literal["lower", "higher", "nearer"]
"""Which way is good; `nearer` is nearer to the references' own figure, the `target` of an `Estimate`."""


class Comparison(NamedTuple):
    """The figures of both models and what changed between them, all on one footing."""

    base: Estimate
    tuned: Estimate
    change: Change


@runtime_checkable
class Method(Protocol):
    """How a figure, its interval and its change come from features in float64 that are comparable."""

    def of(self, pictures: FeatureSet, reference: FeatureSet, groups: Labels, seed: int) -> Estimate:
        """The figure of one model's pictures."""
        ...

    def comparison(
        self, base: FeatureSet, tuned: FeatureSet, reference: FeatureSet, groups: Labels, seed: int
    ) -> Comparison:
        """The figures of both models' paired pictures, and what changed."""
        ...


@dataclass(frozen=True)
class Distance:
    """One row of the table: what a figure is called, what it means, and how it is had."""

    name: str
    plain: str
    """What it is called on the features of any extractor."""
    better: Better
    explanation: str
    enough: int
    """Below so many pictures, in either set, the figure means little, and its note says so."""
    method: Method
    published: str = ""
    """What papers call it on the features of one extractor."""
    extractor: str = ""
    """The name of that extractor."""

    def label(self, extractor: str, *, is_fid: bool = False) -> str:
        """What to call it on the features of the extractor of that name: on others' it is another figure.

        `is_fid` says that the extractor declares itself to be the Inception of FID.
        """
        own = bool(self.published) and self.extractor == (FID_INCEPTION if is_fid else extractor)
        return self.published if own else f"{self.plain} on {extractor} features"

    def of(self, pictures: FeatureSet, reference: FeatureSet, groups: Groups = None, seed: int = 0) -> Estimate:
        """The figure of one model's pictures, with its interval.

        Raises:
            BespokeError: a set has fewer than two pictures or broken features, the sets' widths differ, or `groups`
                does not fit or holds one group only.
        """
        pictures, reference = comparable(pictures, reference)
        return self._noted(
            self.method.of(pictures, reference, members(len(pictures), groups), seed), len(pictures), len(reference)
        )

    def change(
        self,
        base: FeatureSet,
        tuned: FeatureSet,
        reference: FeatureSet,
        groups: Groups = None,
        seed: int = 0,
    ) -> Change:
        """What tuning changed.

        Raises:
            BespokeError: as in `of`, or the models' pictures are no pairs.
        """
        return self.comparison(base, tuned, reference, groups, seed).change

    def comparison(
        self,
        base: FeatureSet,
        tuned: FeatureSet,
        reference: FeatureSet,
        groups: Groups = None,
        seed: int = 0,
    ) -> Comparison:
        """The figures of both models and what changed, in one go; the base's figure is `of` its pictures.

        The tuned model's is `of` its own too, but for kernels that are chosen for the pictures: both models then have
        the one chosen for the base.

        Raises:
            BespokeError: as in `of`, or the models' pictures are no pairs.
        """
        base, tuned, reference = compared(base, tuned, reference)
        found = self.method.comparison(base, tuned, reference, members(len(base), groups), seed)
        of_base, of_tuned = (self._noted(one, len(base), len(reference)) for one in (found.base, found.tuned))
        return Comparison(of_base, of_tuned, found.change)

    def improved(self, found: Comparison) -> bool | None:
        """Whether tuning made the figure better; None where the interval of the difference allows both."""
        if found.change.low <= 0 <= found.change.high:
            return None
        return found.change.difference > 0 if self._higher_is_better(found) else found.change.difference < 0

    def _higher_is_better(self, found: Comparison) -> bool:
        if found.base.target is None:
            return self.better == "higher"
        return found.base.target > (found.base.value + found.tuned.value) / 2

    def _noted(self, estimate: Estimate, drawn: int, references: int) -> Estimate:
        few = min(drawn, references)
        if few >= self.enough:
            return estimate
        note = f"means little below {self.enough} pictures and rests on {few} ({drawn} drawn, {references} of yours)"
        return replace(estimate, note=note)


@dataclass(frozen=True)
class ByKernel:
    """Kernel distances: bootstrap intervals, and the p of swapping pictures, exact up to 12 prompts.

    Source: Efron & Tibshirani 1993, equation 13.5; Gretton et al. 2012, "A kernel two-sample test".
    """

    kernel: Callable[[FeatureSet, FeatureSet], Discrepancy]
    """The kernel for references and base; of a model alone, for references and its pictures."""

    def of(self, pictures: FeatureSet, reference: FeatureSet, groups: Labels, seed: int) -> Estimate:
        """The distance of one model's pictures."""
        kernel = self.kernel(reference, pictures)
        return _estimate(*kernel.resampled([pictures], reference, groups, seed=seed))

    def comparison(
        self, base: FeatureSet, tuned: FeatureSet, reference: FeatureSet, groups: Labels, seed: int
    ) -> Comparison:
        """The figures of both models' paired pictures, drawn anew together."""
        kernel = self.kernel(reference, base)
        of_base, of_tuned = kernel.resampled([base, tuned], reference, groups, seed=seed)
        p = swap_p(kernel.swaps(base, tuned, reference), groups, seed=seed)
        low, high = percentiles(of_tuned.draws - of_base.draws, LEVEL)
        ratio = ratio_of(of_tuned.value, of_base.value, of_tuned.draws, of_base.draws, LEVEL)
        change = Change(of_tuned.value - of_base.value, low, high, ratio, p)
        return Comparison(_estimate(of_base), _estimate(of_tuned), change)


class Cut(NamedTuple):
    """What a statistic is told of how to leave out: blocks of both sets, groups of pictures, key of random choices."""

    blocks: Labels
    other_blocks: Labels
    groups: Labels
    seed: int


@dataclass(frozen=True)
class ByJackknife:
    """Distances that a bootstrap would bias: intervals from leaving blocks of pictures and of references out.

    p is that of swapping pictures where the figure is a mean over pictures. Elsewhere swapping would take as many
    whole computations as it has swaps, and p is that of Student's t of the jackknife.
    """

    statistic: Callable[[FeatureSet, FeatureSet, Cut], LeftOut]
    share: bool = False
    """Whether the figure is a share: its interval is then within 0 and 1, and of some width at both ends."""
    target: Callable[[FeatureSet, int, int], float] | None = None
    """The references' own figure, for a number of pictures and a seed."""

    def of(self, pictures: FeatureSet, reference: FeatureSet, groups: Labels, seed: int) -> Estimate:
        """The figure of one model's pictures."""
        cut = _cut(len(reference), groups, seed)
        return self._estimate(self.statistic(pictures, reference, cut), reference, groups, seed)

    def comparison(
        self, base: FeatureSet, tuned: FeatureSet, reference: FeatureSet, groups: Labels, seed: int
    ) -> Comparison:
        """The figures of both models' paired pictures, left out together."""
        cut = _cut(len(reference), groups, seed)
        of_base, of_tuned = (self.statistic(features, reference, cut) for features in (base, tuned))
        apart, count = of_tuned - of_base, number_of(groups)
        p = jackknife_p(apart, count) if apart.each is None else swap_p(apart.each, groups, seed=seed)
        ratio = jackknife_ratio(of_tuned, of_base, level=LEVEL)
        change = Change(apart.value, *jackknife(apart, level=LEVEL), ratio, p)
        estimate = partial(self._estimate, reference=reference, groups=groups, seed=seed)
        return Comparison(estimate(of_base), estimate(of_tuned), change)

    def _estimate(self, found: LeftOut, reference: FeatureSet, groups: Labels, seed: int) -> Estimate:
        low, high = jackknife(found, level=LEVEL)
        if self.share:
            least = min(number_of(groups), len(reference))
            low, high = share_interval(found, least, level=LEVEL)
        target = self.target(reference, len(groups), seed) if self.target else None
        return Estimate(found.value, max(low, 0.0), high, target=target)


def _estimate(found: Resampled) -> Estimate:
    return Estimate(found.value, *percentiles(found.draws, LEVEL))


def _cut(others: int, groups: Labels, seed: int) -> Cut:
    return Cut(blocks(len(groups), groups, seed=seed), blocks(others, seed=seed), groups, seed)


def _equally_many(count: int, others: int, seed: int) -> np.ndarray:
    """Which of `count` pictures to take where there are `others` of the other set: as many of each."""
    return np.sort(seeds.permutation(count, seed, "equally many")[: min(count, others)])


def _vendi(pictures: FeatureSet, reference: FeatureSet, cut: Cut) -> LeftOut:
    """The Vendi score of as many pictures as there are references, for it grows with their number."""
    rows = _equally_many(len(pictures), len(reference), cut.seed)
    return vendi_left_out(pictures[rows], blocks(len(rows), cut.groups[rows], seed=cut.seed))


def _vendi_of_references(reference: FeatureSet, count: int, seed: int) -> float:
    return vendi(reference[_equally_many(len(reference), count, seed)])


DISTANCES: tuple[Distance, ...] = (
    Distance(
        "kid",
        "KID",
        "lower",
        "How far the model's pictures are from yours as a whole; 0 on average if nobody could tell the two apart.",
        50,
        ByKernel(lambda _reference, _base: KID),
        "KID",
        FID_INCEPTION,
    ),
    Distance(
        "fid",
        "Fréchet distance",
        "lower",
        "How far the average and the spread of the model's pictures are from yours; few pictures make it larger.",
        10_000,
        ByJackknife(lambda pictures, reference, cut: frechet_left_out(pictures, reference, *cut[:2])),
        "FID",
        FID_INCEPTION,
    ),
    Distance(
        "cmmd",
        "Biased CMMD",
        "lower",
        "How far the model's average picture is from your average picture; few pictures make it larger.",
        1000,
        ByKernel(lambda _reference, _base: CMMD),
        "CMMD",
        CMMD_CLIP,
    ),
    Distance(
        "cmmd_unbiased",
        "CMMD without its bias",
        "lower",
        "How far the model's average picture is from your average picture; 0 on average if they are the same.",
        50,
        ByKernel(lambda _reference, _base: CMMD_UNBIASED),
        "CMMD without its bias",
        CMMD_CLIP,
    ),
    Distance(
        "mmd",
        "Kernel distance at several scales",
        "lower",
        "How far the model's pictures are from yours, in large and in small; 0 on average if none can tell them apart.",
        50,
        ByKernel(multi_bandwidth),
    ),
    Distance(
        "mind",
        "Sliced Wasserstein distance",
        "lower",
        "How far the model's pictures would have to move to lie as yours do; few pictures make it larger.",
        1000,
        ByJackknife(lambda pictures, reference, cut: mind_left_out(pictures, reference, *cut[:2], seed=cut.seed)),
        "MIND",
        FID_INCEPTION,
    ),
    Distance(
        "precision",
        "Precision",
        "higher",
        "The share of the model's pictures that are as near to one of yours as yours are to each other.",
        100,
        ByJackknife(
            lambda pictures, reference, cut: precision_left_out(pictures, reference, *cut[:2]),
            share=True,
        ),
    ),
    Distance(
        "recall",
        "Recall",
        "higher",
        "The share of your pictures that are as near to one of the model's as the model's are to each other.",
        100,
        ByJackknife(
            lambda pictures, reference, cut: recall_left_out(pictures, reference, *cut[:2]),
            share=True,
        ),
    ),
    Distance(
        "density",
        "Density",
        "higher",
        "How crowded with your pictures the places are where the model's lie; 1 is as crowded as where yours lie.",
        100,
        ByJackknife(lambda pictures, reference, cut: density_left_out(pictures, reference, *cut[:2])),
    ),
    Distance(
        "coverage",
        "Coverage",
        "higher",
        "The share of your pictures that have one of the model's close by.",
        100,
        ByJackknife(
            lambda pictures, reference, cut: coverage_left_out(pictures, reference, *cut[:2]),
            share=True,
        ),
    ),
    Distance(
        "vendi",
        "Vendi score",
        "nearer",
        "How many clearly different kinds of pictures the model draws; best is as many as yours are.",
        50,
        ByJackknife(_vendi, target=_vendi_of_references),
    ),
)
"""All distances, in the order in which a scorecard shows them."""
