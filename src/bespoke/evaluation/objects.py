"""Features of the things a detector found in pictures turned into how far two models' things differ, class by class."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from bespoke import seeds
from bespoke.errors import BespokeError
from bespoke.evaluation.clusters import Numbers, Points, k_means, nearest_centres, principal_axes
from bespoke.evaluation.features import check_pairs, measurable
from bespoke.evaluation.significance import (
    Groups,
    Labels,
    Ratio,
    Values,
    multiplicities,
    numbered,
    percentiles,
    ratio_of,
)
from bespoke.evaluation.things import Divergence, Divergences, Facts, Mode, ObjectClass, Objects, Things

Counts = Float[np.ndarray, "_ _"]
"""How many things of each kind (across) each picture or prompt holds, or each sample (down)."""
LEAST, ENOUGH = 30, 100
"""A class with fewer things in a set is left out; below the second it carries a note."""
SMOOTHING = 0.5
"""What is added to each bin. Source: Krichevsky & Trofimov 1981, "The performance of universal encoding"."""
VARIANCE, DIMENSIONS = 0.9, 10
"""The principal components that are clustered hold so much of the variance, and are at most so many."""
PER_CLUSTER, CLUSTERS = 10, (2, 16)
"""One cluster for so many things of the smallest set, within these limits."""
SETS = ("original", "base", "tuned")
PAIRS = {"drift": ("base", "tuned"), "tuned": ("original", "tuned"), "base": ("original", "base")}
MATCHED = 100
"""At most so many exchanges where each takes clusters of its own."""


@dataclass(frozen=True)
class _Chance:
    """What samples are made of: how often each unit is drawn, and which units of a pair make up the first set."""

    drawn: Mapping[str, Counts]
    """By set: [draws, units]."""
    first: Mapping[str, Counts]
    """By pair: [exchanges, units of both], 1 where a unit is in the first set and 0 in the second."""


@dataclass(frozen=True)
class _Raw:
    """A divergence with its bootstrap samples, and what it is after exchanges."""

    kl: float
    js: float
    samples: Values
    exchanged: Values
    added: float
    """What chance adds to `kl`."""

    @property
    def corrected(self) -> float:
        return max(0.0, self.kl - self.added)

    @property
    def mirrored(self) -> Values:
        """The samples around the corrected value, on the other side of their mean."""
        return np.maximum(0, self.kl - self.added - (self.samples - self.samples.mean()))


@dataclass(frozen=True)
class _Class:
    """The things of one class in all sets: their points, and the number of the unit that each is in."""

    points: Mapping[str, Points]
    units: Mapping[str, Numbers]
    sizes: Mapping[str, int]
    """How many units each set has."""
    key: tuple[seeds.Key, ...]


def objects(
    *,
    original: Things,
    base: Things,
    tuned: Things,
    groups: Groups = None,
    mode: Mode = "pooled",
    least: int = LEAST,
    draws: int = 1000,
    exchanges: int = 400,
    seed: int = 0,
    level: float = 0.95,
) -> Objects:
    """How the things in the tuned model's pictures differ from the base's and from the original pictures'.

    Picture i of both models has the same prompt and seed; `groups` tells which are of one prompt. Of each class of
    which every set has at least `least` things, features are brought to their principal components and counted by
    clusters: "pooled" by those of all sets together, in equal parts; "matched" by clusters of each set, of which those
    that overlap are matched one to one and all others count in a bin of their set's own. Whole pictures (or prompts)
    are drawn anew for intervals, and exchanged between sets for floors: the things in one are not independent. The
    clusters stay as they are meanwhile, but for matched ones under exchange, which are made anew.
    Source: Krichevsky & Trofimov 1981 (smoothing); Lin 1991, "Divergence measures based on the Shannon entropy" (JS);
    Cover & Thomas 2006, theorem 2.5.3 (classes weighted by the first set's); Kuhn 1955 (the match); Davison & Hinkley
    1997, sections 4.3 (exchange), 5.2 (the mirrored interval).

    Raises:
        BespokeError: the models' pictures are no pairs, a set has fewer than two pictures, features are broken or of
            other widths, or a thing is in a picture that is not there.
    """
    sets = {"original": original, "base": base, "tuned": tuned}
    _checked(sets)
    labels = {name: numbered(things.pictures, None if name == "original" else groups) for name, things in sets.items()}
    chance = _chance(labels, draws, min(exchanges, MATCHED) if mode == "matched" else exchanges, seed)
    counts = {name: _counts(name, sets) for name in sorted(set().union(*(things.crops for things in sets.values())))}
    measured = [name for name, numbers in counts.items() if min(numbers) >= least]
    raw = {name: _raw(_class(name, sets, labels, seed), mode, chance) for name in measured}
    mean = {pair: _mean(pair, raw, counts) for pair in PAIRS} if raw else {}
    tables = {name: _class_table(things, list(counts), labels[name]) for name, things in sets.items()}
    gain = _gain(mean, level)
    return Objects(
        mode,
        tuple(ObjectClass(name, counts[name], _told(raw[name], level), _few(counts[name])) for name in measured),
        _told(mean, level) if mean else None,
        _told({pair: _pair(tables, pair, chance) for pair in PAIRS}, level),
        gain,
        {name: _facts(things) for name, things in sets.items()},
        {name: numbers for name, numbers in counts.items() if name not in measured},
        _note(mean, len(counts) - len(measured), least),
    )


def kl_divergence(first: Values, second: Values) -> float:
    """KL(first‖second) of two histograms of counts in nats, each bin with half a count more.

    Source: Cover & Thomas 2006, "Elements of Information Theory", equation 2.26; Krichevsky & Trofimov 1981 (the half).
    """
    return float(_kl(first[None], second[None])[0])


def js_divergence(first: Values, second: Values) -> float:
    """The Jensen–Shannon divergence of two histograms of counts in nats, each bin with half a count more.

    Source: Lin 1991, "Divergence measures based on the Shannon entropy", equation 3.5 with equal weights.
    """
    p, q = _smoothed(first), _smoothed(second)
    middle = (p + q) / 2
    return float((p * np.log(p / middle)).sum() + (q * np.log(q / middle)).sum()) / 2


def _smoothed(counts: Values | Counts) -> np.ndarray:
    return (counts + SMOOTHING) / (counts.sum(axis=-1, keepdims=True) + SMOOTHING * counts.shape[-1])


def _kl(first: Counts, second: Counts) -> Values:
    p, q = _smoothed(first), _smoothed(second)
    return (p * np.log(p / q)).sum(axis=1)


def _checked(sets: Mapping[str, Things]) -> None:
    check_pairs(sets["base"].pictures, sets["tuned"].pictures)
    few = min(things.pictures for things in sets.values())
    if few < 2:
        raise BespokeError(
            f"A comparison needs at least 2 pictures in each set, and one has {few}.", "Draw or add more pictures."
        )
    widths = {crops.features.shape[1] for things in sets.values() for crops in things.crops.values()}
    if len(widths) > 1:
        raise BespokeError(
            f"Features of {min(widths)} numbers cannot be compared with features of {max(widths)}.",
            "Compute all sets with the same extractor.",
        )
    for name, things in sets.items():
        if any((crops.pictures >= things.pictures).any() for crops in things.crops.values()):
            raise BespokeError(
                f"A thing of the {name} set is in a picture beyond its {things.pictures}.",
                "Number the pictures from 0, and count those without things too.",
            )


def _counts(name: str, sets: Mapping[str, Things]) -> tuple[int, int, int]:
    original, base, tuned = (len(sets[s].crops[name].pictures) if name in sets[s].crops else 0 for s in SETS)
    return original, base, tuned


def _chance(labels: Mapping[str, Labels], draws: int, exchanges: int, seed: int) -> _Chance:
    """The samples; both models are drawn together and exchanged within each pair, for row i of both goes together."""
    units = {name: int(own.max()) + 1 for name, own in labels.items()}
    models = multiplicities(units["base"], draws, seed, "objects", "models")
    originals = multiplicities(units["original"], draws, seed, "objects", "original")
    kept = seeds.generator(seed, "objects", "swapped").integers(0, 2, (exchanges, units["base"])).astype(np.float64)
    first = {"drift": np.concatenate([kept, 1 - kept], axis=1)}
    for pair in ("tuned", "base"):
        start = np.arange(units["original"] + units[pair]) < units["original"]
        rows = np.repeat(start[None].astype(np.float64), exchanges, axis=0)
        first[pair] = seeds.generator(seed, "objects", "exchanged").permuted(rows, axis=1)
    return _Chance({"original": originals, "base": models, "tuned": models}, first)


def _class(name: str, sets: Mapping[str, Things], labels: Mapping[str, Labels], seed: int) -> _Class:
    """The things of a class along the principal components of equal parts of all sets."""
    crops = {s: sets[s].crops[name] for s in SETS}
    features = {s: measurable(crops[s].features, f"things ({name})") for s in SETS}
    key = (seed, "objects", name)
    axes = principal_axes(_balanced(features, *key), DIMENSIONS, VARIANCE)
    return _Class(
        {s: axes(features[s]) for s in SETS},
        {s: labels[s][crops[s].pictures] for s in SETS},
        {s: int(labels[s].max()) + 1 for s in SETS},
        key,
    )


def _balanced(points: Mapping[str, Points], *key: seeds.Key) -> Points:
    """As many points of each set as the smallest has."""
    count = min(len(some) for some in points.values())
    return np.concatenate([some[seeds.permutation(len(some), *key, s)[:count]] for s, some in points.items()])


def _clusters(count: int) -> int:
    return int(np.clip(count // PER_CLUSTER, *CLUSTERS))


def _raw(things: _Class, mode: Mode, chance: _Chance) -> dict[str, _Raw]:
    if mode == "matched":
        return {pair: _matched(things, pair, chance) for pair in PAIRS}
    count = min(len(points) for points in things.points.values())
    centres = k_means(_balanced(things.points, *things.key), _clusters(count), *things.key)
    tables = {
        s: _table(things.units[s], nearest_centres(things.points[s], centres), things.sizes[s], len(centres))
        for s in SETS
    }
    return {pair: _pair(tables, pair, chance) for pair in PAIRS}


def _table(units: Numbers, bins: Numbers, size: int, width: int) -> Counts:
    """How many things each unit (down) has in each bin (across)."""
    return np.bincount(units * width + bins, minlength=size * width).reshape(size, width).astype(np.float64)


def _class_table(things: Things, names: Sequence[str], labels: Labels) -> Counts:
    """How many things of each class each unit has, and in the last column how many pictures without any."""
    found = np.zeros((things.pictures, len(names) + 1))
    for column, name in enumerate(names):
        if name in things.crops:
            found[:, column] = np.bincount(things.crops[name].pictures, minlength=things.pictures)
    found[:, -1] = found.sum(axis=1) == 0
    table = np.zeros((int(labels.max()) + 1, len(names) + 1))
    np.add.at(table, labels, found)
    return table


def _pair(tables: Mapping[str, Counts], pair: str, chance: _Chance) -> _Raw:
    """The divergence of two sets whose things are counted by the same bins."""
    one, two = PAIRS[pair]
    both, first = np.concatenate([tables[one], tables[two]]), chance.first[pair]
    kl, js, samples = _sampled(tables[one], tables[two], pair, chance)
    # Chance adds to a sample what it added to the sets. Source: Efron & Tibshirani 1993, equation 10.6.
    return _Raw(kl, js, samples, _kl(first @ both, (1 - first) @ both), float(samples.mean()) - kl)


def _sampled(one: Counts, two: Counts, pair: str, chance: _Chance) -> tuple[float, float, Values]:
    """Both divergences of two tables, and the first of each bootstrap sample."""
    of_one, of_two = (chance.drawn[name] for name in PAIRS[pair])
    p, q = one.sum(axis=0), two.sum(axis=0)
    return kl_divergence(p, q), js_divergence(p, q), _kl(of_one @ one, of_two @ two)


def _matched(things: _Class, pair: str, chance: _Chance) -> _Raw:
    """The divergence of two sets by clusters of each, matched; each exchange is clustered anew."""
    one, two = PAIRS[pair]
    points = np.concatenate([things.points[one], things.points[two]])
    units = np.concatenate([things.units[one], things.units[two] + things.sizes[one]])
    exchanged: list[float] = []
    for row in chance.first[pair]:
        is_first = row[units] > 0
        bins = _matched_bins(points[is_first], points[~is_first], things.key)
        exchanged.append(kl_divergence(*(np.bincount(own, minlength=bins[2]).astype(np.float64) for own in bins[:2])))
    first, second, width = _matched_bins(things.points[one], things.points[two], things.key)
    of_one = _table(things.units[one], first, things.sizes[one], width)
    of_two = _table(things.units[two], second, things.sizes[two], width)
    kl, js, samples = _sampled(of_one, of_two, pair, chance)
    # Samples keep the clusters, so that of what these add to the divergence only exchanges tell.
    return _Raw(kl, js, samples, np.array(exchanged), float(np.mean(exchanged)))


def _matched_bins(x: Points, y: Points, key: tuple[seeds.Key, ...]) -> tuple[Numbers, Numbers, int]:
    """The bin of each point of both sets, and how many bins there are.

    Clusters are matched one to one so that their centres are nearest in sum; a match holds if the two overlap, that is
    if their radii (root mean squares) together reach from centre to centre. The last two bins are for what is left.
    """
    (of_x, centres_x, radii_x), (of_y, centres_y, radii_y) = (_clustered(points, key) for points in (x, y))
    far = cdist(centres_x, centres_y)
    rows, columns = linear_sum_assignment(far)
    held = far[rows, columns] <= radii_x[rows] + radii_y[columns]
    rows, columns = rows[held], columns[held]
    bins_x, bins_y = np.full(len(centres_x), len(rows)), np.full(len(centres_y), len(rows) + 1)
    bins_x[rows] = bins_y[columns] = np.arange(len(rows))
    return bins_x[of_x], bins_y[of_y], len(rows) + 2


def _clustered(points: Points, key: tuple[seeds.Key, ...]) -> tuple[Numbers, Points, Values]:
    """The cluster of each point, the centres and the radii."""
    if not len(points):
        return np.zeros(0, np.int64), points, np.zeros(0)
    centres = k_means(points, _clusters(len(points)), *key, restarts=1)
    own = nearest_centres(points, centres)
    squares = ((points - centres[own]) ** 2).sum(axis=1)
    sizes = np.bincount(own, minlength=len(centres))
    return own, centres, np.sqrt(np.bincount(own, squares, len(centres)) / np.maximum(sizes, 1))


def _mean(pair: str, raw: Mapping[str, Mapping[str, _Raw]], counts: Mapping[str, tuple[int, int, int]]) -> _Raw:
    """The mean over classes, each weighted by its share of the first set's things."""
    column = SETS.index(PAIRS[pair][0])
    weights = np.array([counts[name][column] for name in raw], np.float64)
    weights /= weights.sum()
    each = [of_pairs[pair] for of_pairs in raw.values()]
    return _Raw(
        float(weights @ [one.kl for one in each]),
        float(weights @ [one.js for one in each]),
        weights @ np.array([one.samples for one in each]),
        weights @ np.array([one.exchanged for one in each]),
        float(weights @ [one.added for one in each]),
    )


def _told(raw: Mapping[str, _Raw], level: float) -> Divergences:
    return Divergences(**{pair: _divergence(one, level) for pair, one in raw.items()})


def _divergence(raw: _Raw, level: float) -> Divergence:
    low, high = percentiles(raw.mirrored, level)
    _, floor = percentiles(raw.exchanged, 0.9)
    return Divergence(raw.kl, floor, raw.corrected, low, high, raw.js)


def _gain(mean: Mapping[str, _Raw], level: float) -> Ratio:
    if not mean:
        return float("nan"), -float("inf"), float("inf")
    tuned, base = mean["tuned"], mean["base"]
    ratio, low, high = ratio_of(tuned.corrected, base.corrected, tuned.mirrored, base.mirrored, level)
    return 1 - ratio, 1 - high, 1 - low


def _facts(things: Things) -> Facts:
    confidences = [crops.confidences for crops in things.crops.values() if len(crops.confidences)]
    classes = {name: len(crops.pictures) for name, crops in things.crops.items()}
    total = sum(classes.values())
    sure = float(np.concatenate(confidences).mean()) if confidences else float("nan")
    return Facts(things.pictures, total, total / things.pictures, sure, classes)


def _few(numbers: tuple[int, int, int]) -> str:
    return f"rests on only {min(numbers)} things in one set" if min(numbers) < ENOUGH else ""


def _note(mean: Mapping[str, _Raw], left_out: int, least: int) -> str:
    notes: list[str] = []
    if not mean:
        notes.append(f"No class has {least} things in each set, so things cannot be compared: draw more pictures.")
    elif left_out:
        notes.append(f"{left_out} classes have fewer than {least} things in a set and were left out.")
    if mean and mean["base"].kl <= percentiles(mean["base"].exchanged, 0.9)[1]:
        notes.append("The base's things cannot be told from those of your pictures, so the gain says nothing.")
    return " ".join(notes)
