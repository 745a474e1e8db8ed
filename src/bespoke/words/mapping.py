"""Pairs of rows of two spaces turned into a linear map between them, and how far that can be trusted."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from bespoke.seeds import permutation

Kind = Literal["ridge", "procrustes"]
Table = Float[np.ndarray, "_ _"]
"""Rows of any number and length."""
LEAST = 50
"""Fewer pairs are too few for a map."""
FOLDS, SHUFFLES = 5, 3
RANKS = (1, 5, 10)
TOP = 2
"""How many common directions are taken out of a space, beside its mean."""
PENALTIES = tuple(10.0**power for power in range(-3, 4))
"""Tried for the ridge map, in units of the mean eigenvalue of XᵀX."""
BETTER = 3
"""So many times the shuffled pairs' recall at 10 a map must have."""
BLOCK = 1024


@dataclass(frozen=True)
class Quality:
    """How well a map does on pairs that it was not fitted on, and how well one fitted on shuffled pairs does."""

    kind: Kind
    penalty: float
    """In units of the mean eigenvalue of XᵀX; chosen by the cosine held out. 0 for Procrustes."""
    cosine: float
    """Mean cosine between what is predicted and what is true, both without their common directions."""
    recall: tuple[float, ...]
    """Share of pairs whose true row is among the 1, 5 and 10 nearest to the predicted one, of all anchors'."""
    null_cosine: float
    null_recall: tuple[float, ...]

    @property
    def usable(self) -> bool:
        """Whether its recall at 10 is well above that of shuffled pairs."""
        return self.recall[-1] >= BETTER * self.null_recall[-1]


@dataclass(frozen=True, eq=False)
class Frame:
    """A space's mean and its strongest common directions, which say little of single words.

    Source: Mu, Viswanath 2018, "All-but-the-top", arXiv 1702.01417.
    """

    mean: Float[np.ndarray, " d"]
    top: Float[np.ndarray, "k d"]

    @staticmethod
    def of(rows: Table) -> "Frame":
        """The frame of some rows."""
        mean = rows.mean(axis=0)
        return Frame(mean, _directions(rows - mean, min(TOP, rows.shape[1] - 1)).T)

    def inside(self, rows: Table) -> Table:
        """Rows without mean and common directions, of length 1; rows of zeros stay."""
        bare = rows - self.mean
        bare = bare - bare @ self.top.T @ self.top
        return bare / np.maximum(np.linalg.norm(bare, axis=1, keepdims=True), 1e-12)


@dataclass(frozen=True, eq=False)
class Map:
    """A map from one space to the other."""

    source: Frame
    target: Frame
    matrix: Float[np.ndarray, "d e"]

    def __call__(self, rows: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n e"]:
        """Directions in the other space, its mean left out: only where they point means something."""
        return self.source.inside(rows) @ self.matrix


@dataclass(frozen=True, eq=False)
class Fitted:
    """The better of both maps, if any can be trusted; else why not."""

    map: Map | None
    anchors: int
    tried: tuple[Quality, ...]
    """The better one first."""
    reason: str = ""


def fit(source: Float[np.ndarray, "n d"], target: Float[np.ndarray, "n e"], seed: int) -> Fitted:
    """The map of paired rows, by ridge regression or an orthogonal matrix: whichever finds more pairs held out.

    Where pairs are fewer than 50, or neither map is 3 times better at recall at 10 than one fitted on shuffled pairs,
    there is none, and the reason is said.
    """
    count = len(source)
    if count < LEAST:
        return Fitted(None, count, (), f"only {count} words are known to both sides; a map needs {LEAST}")
    kinds: tuple[Kind, ...] = ("ridge", "procrustes")
    tried = [quality(source, target, kind, seed) for kind in kinds]
    tried.sort(key=lambda found: (-found.recall[-1], -found.cosine))
    best = tried[0]
    if not best.usable:
        found, null = best.recall[-1], best.null_recall[-1]
        reason = (
            f"held out, the map finds {found:.1%} of words among 10; shuffled, {null:.1%}; {BETTER} times are needed"
        )
        return Fitted(None, count, tuple(tried), reason)
    frames = Frame.of(source), Frame.of(target)
    inside = frames[0].inside(source), frames[1].inside(target)
    matrix = ridge(*inside, best.penalty) if best.kind == "ridge" else procrustes(*inside)
    return Fitted(Map(*frames, matrix), count, tuple(tried))


def quality(source: Table, target: Table, kind: Kind, seed: int) -> Quality:
    """The quality of one kind of map over five folds; shuffled pairs choose their own penalty."""
    penalty, cosine, recall = _crossed(source, target, kind, seed)
    count = len(source)
    shuffled = [_crossed(source, target[permutation(count, seed, "null", n)], kind, seed) for n in range(SHUFFLES)]
    # What chance gives on average is known, so a lucky shuffle cannot make a map look good.
    null = [
        max(float(np.mean(parts)), k / count)
        for parts, k in zip(zip(*(s[2] for s in shuffled), strict=True), RANKS, strict=True)
    ]
    return Quality(kind, penalty, cosine, recall, float(np.mean([s[1] for s in shuffled])), tuple(null))


def ridge(x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "n e"], penalty: float) -> Float[np.ndarray, "d e"]:
    """(XᵀX + λI)⁻¹XᵀY, where λ is `penalty` times the mean eigenvalue of XᵀX."""
    gram = x.T @ x
    strength = penalty * np.trace(gram) / len(gram)
    return np.linalg.solve(gram + strength * np.eye(len(gram), dtype=gram.dtype), x.T @ y)


def procrustes(x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "n e"]) -> Float[np.ndarray, "d e"]:
    """The orthogonal map between the spaces; the larger one is first cut to the directions in which it varies most."""
    from scipy.linalg import orthogonal_procrustes

    width = min(x.shape[1], y.shape[1])
    from_x, to_y = _directions(x, width), _directions(y, width)
    return from_x @ orthogonal_procrustes(x @ from_x, y @ to_y)[0] @ to_y.T


def _directions(rows: Table, count: int) -> Float[np.ndarray, "d k"]:
    """The directions in which rows reach furthest from the origin, orthonormal, as columns."""
    return np.linalg.eigh(rows.T @ rows)[1][:, ::-1][:, :count]


@dataclass(frozen=True, eq=False)
class _Part:
    """One of five: a map is fitted on the pairs `train`, and asked for the rows of those `held`; all are in frames."""

    train: np.ndarray
    held: np.ndarray
    x: Table
    asked: Table
    everything: Table
    """The target rows of all pairs."""

    @staticmethod
    def of(source: Table, target: Table, held: np.ndarray) -> "_Part":
        train = np.setdiff1d(np.arange(len(source)), held)
        one, everything = Frame.of(source[train]), Frame.of(target[train]).inside(target)
        return _Part(train, held, one.inside(source[train]), one.inside(source[held]), everything)

    def predicted(self, kind: Kind, penalty: float) -> Table:
        y = self.everything[self.train]
        return self.asked @ (ridge(self.x, y, penalty) if kind == "ridge" else procrustes(self.x, y))

    def cosines(self, predicted: Table) -> Float[np.ndarray, " n"]:
        lengths = np.maximum(np.linalg.norm(predicted, axis=1), 1e-12)
        return (predicted * self.everything[self.held]).sum(axis=1) / lengths

    def ranks(self, predicted: Table) -> np.ndarray:
        """How many rows lie nearer to each predicted one than its true row does."""
        found: list[np.ndarray] = []
        for start in range(0, len(self.held), BLOCK):
            likeness = predicted[start : start + BLOCK] @ self.everything.T
            own = np.take_along_axis(likeness, self.held[start : start + BLOCK, None], axis=1)
            found.append((likeness > own).sum(axis=1))
        return np.concatenate(found)


def _crossed(source: Table, target: Table, kind: Kind, seed: int) -> tuple[float, float, tuple[float, ...]]:
    """The best penalty, the mean cosine held out, and recall at each rank."""
    folds = np.array_split(permutation(len(source), seed, "folds"), FOLDS)
    parts = [_Part.of(source, target, fold) for fold in folds]
    cosines = {
        penalty: float(np.concatenate([part.cosines(part.predicted(kind, penalty)) for part in parts]).mean())
        for penalty in (PENALTIES if kind == "ridge" else (0.0,))
    }
    best = max(cosines, key=lambda penalty: cosines[penalty])
    rank = np.concatenate([part.ranks(part.predicted(kind, best)) for part in parts])
    return best, cosines[best], tuple(float((rank < k).mean()) for k in RANKS)
