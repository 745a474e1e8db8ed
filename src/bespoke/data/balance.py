"""What pictures have in common turned into shares of the training, and shares into how often each is to count."""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from bespoke.data import colours
from bespoke.data import dataset as datasets
from bespoke.data.inspect import Facts
from bespoke.data.sorting import Inspected, inspect
from bespoke.data.tables import MOST_REPEATS
from bespoke.errors import BespokeError
from bespoke.recipe import Recipe
from bespoke.recipe.dataset import Balance
from bespoke.records import Dataset, Picture

COLOUR, SOURCE, TAG = "colour", "source", "tag"
"""Ways to group pictures without a column of their own."""
USUAL = ("category", "subject", COLOUR)
"""What pictures are balanced by where nobody says: the first of these that is there."""
TAG_COLUMNS = ("tags", TAG)
"""Columns whose cells hold several tags with commas between them."""


@dataclass(frozen=True)
class Share:
    """One group of training pictures: its part of what training sees, now and as proposed."""

    group: str
    """Empty for pictures that nothing is said of."""
    pictures: int
    now: float
    proposed: float
    factor: float
    """How many times as often as they came its pictures are to count, or what their loss is to be multiplied by."""


@dataclass(frozen=True)
class Balanced:
    """A dataset, the shares of its groups by each way to form them, and what is proposed."""

    dataset: Dataset
    by: str
    """The way that the proposal goes by."""
    shares: dict[str, tuple[Share, ...]]
    """By each way, the largest group first."""
    proposed: Dataset
    """The dataset with repeats and weights as proposed."""

    @property
    def changed(self) -> tuple[Picture, ...]:
        """The pictures that would count otherwise, as they would."""
        before = {picture.file: (picture.repeats, picture.weight) for picture in self.dataset.pictures}
        return tuple(p for p in self.proposed.pictures if before[p.file] != (p.repeats, p.weight))


def balance(
    folder: Path, recipe: Recipe, progress: Callable[[int, int], None] | None = None, *, apply: bool = False
) -> Balanced:
    """The shares of the training pictures of the dataset in `folder`, and the recipe's proposal to even them out.

    With `apply` that is written into `train/metadata.csv`. A proposal rests on repeats and weights as they were before
    the first was applied: to apply it twice is to apply it once.

    Raises: BespokeError when `folder` is no dataset or is damaged, or the recipe names what is not there.
    """
    dataset, inspected = inspect(folder, recipe, progress)
    kept = inspected[: len(dataset.pictures)]
    known = dict.fromkeys((*_columns(kept), TAG, COLOUR, SOURCE))
    by = recipe.balance.by or next(way for way in USUAL if way in known)
    if by not in known:
        problem = f"The pictures cannot be balanced by {by!r}: no training picture has such a thing."
        raise BespokeError(problem, f"Known here: {', '.join(known)}.")
    proposed = replace(dataset, pictures=_proposed(kept, by, recipe.balance))
    names = dict.fromkeys((by, *ways(kept)))
    made = Balanced(dataset, by, {way: shares(kept, proposed.pictures, way) for way in names}, proposed)
    if apply:
        datasets.save(folder, proposed)
    return made


def unbalance(folder: Path) -> tuple[Dataset, int]:
    """The dataset with repeats and weights as they were before balancing, written, and how many pictures that changed.

    Raises: BespokeError when `folder` is no dataset, or its table cannot be used.
    """
    dataset = datasets.captioned(folder, datasets.record(folder))
    changed = [picture for picture in dataset.pictures if picture.unbalanced]
    after = replace(dataset, pictures=tuple(_counting(picture, *_before(picture)) for picture in dataset.pictures))
    return datasets.save(folder, after), len(changed)


def ways(kept: Sequence[Inspected]) -> list[str]:
    """The ways to group training pictures that say something: columns with values that recur, tags, colour, source.

    A column that tells nearly every picture apart, such as a number, is no such way.
    """
    found = [*_columns(kept), *(way for way in (TAG, COLOUR, SOURCE) if way not in _columns(kept))]
    return [way for way in found if _says_something([group for item in kept for group in groups_of(item, way)])]


def groups_of(item: Inspected, way: str) -> tuple[str, ...]:
    """The groups that a picture belongs to by one way: one of them, several tags, or none."""
    labels = item.picture.labels
    if way in labels and way not in TAG_COLUMNS:
        return (labels[way],)
    if way in TAG_COLUMNS:
        tags = next((labels[column] for column in TAG_COLUMNS if column in labels), None)
        return tuple(dict.fromkeys(_parts(tags if tags is not None else _listed(item.picture.text))))
    if way == COLOUR:
        return (dominant(item.facts),)
    return (source_of(item.picture),) if way == SOURCE else ()


def dominant(facts: Facts) -> str:
    """The colour that takes most of a picture."""
    return colours.dominant(facts.thumbnail)


def source_of(picture: Picture) -> str:
    """The folder, archive or Parquet file that a picture came from."""
    parts = PurePosixPath(picture.source).parts
    table = next((n for n, part in enumerate(parts[:-1], start=1) if part.lower().endswith(".parquet")), None)
    return str(PurePosixPath(*parts[: table or -1]))


def shares(kept: Sequence[Inspected], proposed: Sequence[Picture], way: str) -> tuple[Share, ...]:
    """The share of each group of training pictures by one way, now and with the proposed pictures; largest first.

    What a picture counts is its repeats times its weight.
    """
    then = {picture.file: picture for picture in proposed}
    now, after, was = (defaultdict[str, float](float) for _ in range(3))
    count = Counter[str]()
    for item in _training(kept):
        for group in groups_of(item, way) or ("",):
            now[group] += _counts(item.picture)
            after[group] += _counts(then[item.picture.file])
            was[group] += math.prod(_before(item.picture))
            count[group] += 1
    whole = [sum(_counts(p) for p in part) for part in (_pictures(kept), [then[p.file] for p in _pictures(kept)])]
    found = [
        Share(group, count[group], now[group] / whole[0], after[group] / whole[1], after[group] / was[group])
        for group in now
    ]
    return tuple(sorted(found, key=lambda share: (-share.pictures, share.group)))


def factors(masses: Mapping[str, float], rules: Balance) -> dict[str, float]:
    """How many times as often as they came the pictures of each group are to count; the largest group's once.

    `masses` are the sums of what the pictures of each group count.

    Raises: BespokeError when a share is given to a group that is not there, or shares are more than a whole.
    """
    unknown = sorted(rules.shares.keys() - masses.keys())
    if unknown:
        raise BespokeError(
            f"balance.shares names {unknown[0]!r}, and no picture is of that.", f"There are: {_some(masses)}."
        )
    given = sum(rules.shares.values())
    if given > 1 + 1e-9:
        raise BespokeError(f"The shares in balance.shares come to {given:g}, more than a whole.", "Leave 1 at most.")
    power = 1.0 if rules.target == "equal" else 0.5
    others = {group: mass**-power for group, mass in masses.items() if group not in rules.shares}
    rest = sum(masses[group] * factor for group, factor in others.items())
    # A group that is to have no share at all still counts once: nothing is dropped.
    left = max(1 - given, 1e-9) / rest if rest and rules.shares else 1.0
    found = {group: factor * left for group, factor in others.items()}
    found |= {group: share / masses[group] for group, share in rules.shares.items()}
    least = min(found.values(), default=1.0)
    return {group: min(factor / least, rules.max_repeats) for group, factor in found.items()}


def _proposed(kept: Sequence[Inspected], by: str, rules: Balance) -> tuple[Picture, ...]:
    """The pictures with repeats or weights that even the groups out.

    One of several groups counts as its rarest asks for, and one of none as before.
    Source: Gupta et al. 2019, "LVIS", section 4.3, repeat factor sampling.
    """
    masses = defaultdict[str, float](float)
    for item in _training(kept):
        for group in groups_of(item, by):
            masses[group] += math.prod(_before(item.picture))
    asked = factors(masses, rules)
    wanted = {
        item.picture.file: max(map(asked.__getitem__, groups_of(item, by)), default=1.0) for item in _training(kept)
    }
    before = {item.picture.file: _before(item.picture) for item in kept}
    if rules.write == "repeats":
        made = {file: (_rounded(before[file][0] * factor, rules), before[file][1]) for file, factor in wanted.items()}
    else:
        # Weights of 1 in the mean leave the learning rate what it is.
        whole, grown = (
            sum(before[f][0] * before[f][1] * x for f, x in part) for part in (_ones(wanted), wanted.items())
        )
        made = {f: (before[f][0], round(before[f][1] * factor * whole / grown, 4)) for f, factor in wanted.items()}
    return tuple(_counting(p, *made.get(p.file, before[p.file])) for p in (item.picture for item in kept))


def _ones(wanted: Mapping[str, float]) -> list[tuple[str, float]]:
    return [(file, 1.0) for file in wanted]


def _rounded(repeats: float, rules: Balance) -> float:
    repeats = min(repeats, MOST_REPEATS)
    return float(max(1, round(repeats))) if rules.whole else max(0.01, round(repeats, 2))


def _counting(picture: Picture, repeats: float, weight: float) -> Picture:
    """The picture counting so; what it counted before is remembered where that is something else."""
    before = _before(picture)
    return replace(picture, repeats=repeats, weight=weight, unbalanced=None if before == (repeats, weight) else before)


def _before(picture: Picture) -> tuple[float, float]:
    """Repeats and weight as they were before they were balanced."""
    return picture.unbalanced or (picture.repeats, picture.weight)


def _counts(picture: Picture) -> float:
    return picture.repeats * picture.weight


def _training(kept: Sequence[Inspected]) -> list[Inspected]:
    return [item for item in kept if item.picture.split == "train"]


def _pictures(kept: Sequence[Inspected]) -> list[Picture]:
    return [item.picture for item in _training(kept)]


def _columns(kept: Sequence[Inspected]) -> list[str]:
    return list(dict.fromkeys(column for item in _training(kept) for column in item.picture.labels))


def _says_something(found: Sequence[str]) -> bool:
    """Whether values recur and differ."""
    different = len(set(found))
    return 1 < different <= max(2, len(found) / 2)


def _parts(text: str) -> list[str]:
    return [part.strip().lower() for part in text.split(",") if part.strip()]


def _listed(caption: str) -> str:
    """The caption if it is a list of tags; a sentence is not."""
    return caption if "," in caption else ""


def _some(groups: Mapping[str, float]) -> str:
    names = sorted(groups, key=lambda group: -groups[group])
    return ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
