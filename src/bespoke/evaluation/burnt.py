"""Pixels of pictures turned into how harsh they look, and into whether a model was trained until its pictures burnt."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, UInt8
from numpy import fft
from scipy import ndimage

from bespoke.errors import BespokeError
from bespoke.evaluation.features import check_pairs
from bespoke.evaluation.significance import Groups, Values, drawn_groups, numbered, percentiles

Pixels = UInt8[np.ndarray, "_ _ 3"]
Plane = Float[np.ndarray, "_ _"]
LUMA = np.array([0.299, 0.587, 0.114])
"""What red, green and blue add to how bright a colour is. Source: ITU-R BT.601, section 2.5.1."""
ENDS = 2
"""A channel this near to 0 or 255 is clipped: JPEG moves what was clipped by so much."""
COARSE = 256
"""Repetition is looked for at no more pixels a side than this."""
EMPTY = 1e-9
"""A mean power per pixel below this is what rounding leaves of a plain picture."""
FURTHEST = 3.0
"""A picture counts for at most so many spreads: one wild picture does not speak for all."""
CLEAR, SURE = 0.5, 0.25
"""Burnt is what lies so many spreads beyond by the measure, and so many by its interval's near end."""
OUTSIDE = 2.0
"""A picture so many spreads beyond both sets is shown as burnt."""
ENOUGH = 20
"""Below so many pictures a set's own spread is rough."""


@dataclass(frozen=True)
class Look:
    """How harsh one picture looks."""

    saturation: float
    """The mean of max − min over the channels of each pixel, 0..1: unlike HSV's, of no weight in the dark."""
    vividness: float
    """The 95th percentile of the same."""
    contrast: float
    """The standard deviation of luma, 0..0.5. Source: Peli 1990, "Contrast in complex images", equation 2."""
    clipped: float
    """The part of channel values within 2 of 0 or 255."""
    high_frequency: float
    """The part of luma's Fourier power above a quarter of the sampling rate, 0..1, under a Hann window."""
    repetition: float
    """How far luma's autocorrelation comes up again away from lag 0 after it fell, 0..1; a tiled picture has 1."""
    colours: float
    """The entropy of colours at 16 steps a channel, in bits, 0..12: low where few colours are left."""
    side: float
    """The root of the number of pixels. It is no statistic: sets of other sizes cannot be compared in all."""


@dataclass(frozen=True)
class Statistic:
    """One field of a look: what it is called, which way burnt pictures go, the least difference that can be seen."""

    name: str
    label: str
    burnt: Literal["more", "less"]
    visible: float


STATISTICS = (
    Statistic("saturation", "mean saturation", "more", 0.02),
    Statistic("vividness", "saturation of the most vivid twentieth", "more", 0.02),
    Statistic("contrast", "contrast", "more", 0.01),
    Statistic("clipped", "share of clipped values", "more", 0.01),
    Statistic("high_frequency", "share of the finest detail", "more", 0.005),
    Statistic("repetition", "repetition", "more", 0.05),
    Statistic("colours", "variety of colours in bits", "less", 0.25),
)


@dataclass(frozen=True)
class Shift:
    """How far a set lies beyond another in the direction of burnt pictures, in spreads of the other, with interval."""

    value: float
    low: float
    high: float

    @property
    def clear(self) -> bool:
        """Whether that is more than can be chance or taste."""
        return self.value > CLEAR and self.low > SURE


@dataclass(frozen=True)
class Compared:
    """One statistic of the tuned model's pictures: the three sets' medians, and how far beyond both others it lies."""

    statistic: Statistic
    tuned: float
    base: float
    reference: float
    beyond_reference: Shift
    beyond_base: Shift
    pictures: tuple[int, ...]
    """The tuned model's pictures that lie beyond both sets, the furthest first."""

    @property
    def burnt(self) -> bool:
        """Whether the tuned model's pictures lie beyond both sets."""
        return self.beyond_reference.clear and self.beyond_base.clear

    @property
    def sentence(self) -> str:
        """Which statistic, and by how much."""
        verb = "exceeds" if self.statistic.burnt == "more" else "is below"
        return (
            f"The {self.statistic.label} {verb} that of your pictures by {_in_words(self.beyond_reference)} spreads "
            f"and the base's by {_in_words(self.beyond_base)}: typically {self.tuned:.3g}, against "
            f"{self.reference:.3g} in your pictures and {self.base:.3g} from the base."
        )


@dataclass(frozen=True)
class Burnt:
    """All statistics of a tuned model's pictures beside its base's and the references'."""

    statistics: tuple[Compared, ...]
    note: str
    """What weakens the figures; empty where nothing does."""

    @property
    def burnt(self) -> bool:
        """Whether any statistic lies beyond both sets."""
        return any(compared.burnt for compared in self.statistics)

    @property
    def sentence(self) -> str:
        """What is burnt, or that nothing is."""
        found = [compared.sentence for compared in self.statistics if compared.burnt]
        if not found:
            return "Not burnt: in no statistic do the pictures lie clearly beyond both yours and the base's."
        return " ".join(["Burnt.", *found])


def looks(pixels: Pixels) -> Look:
    """How harsh a picture looks, from its RGB pixels in 0..255."""
    values = pixels.astype(np.float64) / 255
    chroma = values.max(axis=2) - values.min(axis=2)
    luma = values @ LUMA
    return Look(
        saturation=float(chroma.mean()),
        vividness=float(np.quantile(chroma, 0.95)),
        contrast=float(luma.std()),
        clipped=float(((pixels <= ENDS) | (pixels >= 255 - ENDS)).mean()),
        high_frequency=_high_frequency(luma),
        repetition=_repetition(luma),
        colours=_entropy(pixels),
        side=float(luma.size**0.5),
    )


def burnt(
    tuned: Sequence[Look],
    base: Sequence[Look],
    reference: Sequence[Look],
    groups: Groups = None,
    *,
    draws: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Burnt:
    """Whether the tuned model's pictures lie beyond the references and the base's in the direction of burnt pictures.

    Picture i of both models has the same prompt and seed; `groups` tells which are of one prompt. Each picture counts
    by its distance from the other set's median in that set's spreads (half of what its middle 68 % span, at least what
    can be seen), at most 3 of them; a shift is the difference of the two sets' means of that. The interval is a
    bootstrap with the median and spread as they are. Burnt is what is more than half a spread beyond both sets, and
    by the interval's near end more than a quarter.
    Source: Huber & Ronchetti 2009, "Robust Statistics", section 1.5 (bounded influence); Efron & Tibshirani 1993,
    equation 13.5 (interval).

    Raises:
        BespokeError: a set has fewer than two pictures, or the models' pictures are no pairs.
    """
    _checked(tuned, base, reference)
    of_models = drawn_groups(numbered(len(tuned), groups), draws, seed, "burnt", "models")
    of_reference = drawn_groups(numbered(len(reference), None), draws, seed, "burnt", "reference")
    compared: list[Compared] = []
    for statistic in STATISTICS:
        ours, bases, yours = (_values(some, statistic) for some in (tuned, base, reference))
        sign = 1 if statistic.burnt == "more" else -1
        to_yours, to_base = _Ruler(sign * yours, statistic.visible), _Ruler(sign * bases, statistic.visible)
        compared.append(
            Compared(
                statistic,
                float(np.median(ours)),
                float(np.median(bases)),
                float(np.median(yours)),
                to_yours.shift(sign * ours, of_models, of_reference, level),
                to_base.shift(sign * ours, of_models, of_models, level),
                _outside(np.minimum(to_yours(sign * ours), to_base(sign * ours))),
            )
        )
    return Burnt(tuple(compared), _note(tuned, base, reference))


class _Ruler:
    """Values measured from a set's median in its spreads."""

    def __init__(self, values: Values, visible: float) -> None:
        low, self._middle, high = np.quantile(values, [0.16, 0.5, 0.84])
        self._spread = max((high - low) / 2, visible)
        self._own = self(values)

    def __call__(self, values: Values) -> Values:
        return (values - self._middle) / self._spread

    def shift(
        self, values: Values, drawn_values: Float[np.ndarray, "_ _"], drawn_own: Float[np.ndarray, "_ _"], level: float
    ) -> Shift:
        ours, own = (np.clip(some, -FURTHEST, FURTHEST) for some in (self(values), self._own))
        shifts = _means(ours, drawn_values) - _means(own, drawn_own)
        return Shift(float(ours.mean() - own.mean()), *percentiles(shifts, level))


def _means(values: Values, counts: Float[np.ndarray, "_ _"]) -> Values:
    return counts @ values / counts.sum(axis=1)


def _values(some: Sequence[Look], statistic: Statistic) -> Values:
    return np.array([getattr(one, statistic.name) for one in some], dtype=np.float64)


def _outside(distances: Values) -> tuple[int, ...]:
    order = np.argsort(-distances, kind="stable")
    return tuple(int(row) for row in order if distances[row] > OUTSIDE)


def _checked(tuned: Sequence[Look], base: Sequence[Look], reference: Sequence[Look]) -> None:
    check_pairs(len(base), len(tuned))
    few = min(len(tuned), len(reference))
    if few < 2:
        raise BespokeError(
            f"A comparison needs at least 2 pictures in each set, and one has {few}.",
            "Draw more pictures, or add references.",
        )


def _note(tuned: Sequence[Look], base: Sequence[Look], reference: Sequence[Look]) -> str:
    notes: list[str] = []
    few = min(len(tuned), len(reference))
    if few < ENOUGH:
        notes.append(f"This rests on only {few} pictures in one set.")
    sides = [float(np.median([one.side for one in some])) for some in (tuned, base, reference)]
    if max(sides) > 1.25 * min(sides):
        notes.append(
            "The sets have pictures of other sizes (typically {:.0f}, {:.0f} and {:.0f} pixels a side): detail and "
            "repetition cannot be compared.".format(*sides)
        )
    return " ".join(notes)


def _in_words(shift: Shift) -> str:
    return f"{shift.value:.1f} ({shift.low:.1f} to {shift.high:.1f})"


def _high_frequency(luma: Plane) -> float:
    """The part of Fourier power above a quarter of the sampling rate.

    The window keeps the jump between opposite edges out. Source: Harris 1978, "On the use of windows for harmonic
    analysis with the discrete Fourier transform", section V.C (Hann).
    """
    window = np.outer(*(np.hanning(side + 2)[1:-1] for side in luma.shape))
    power = np.abs(fft.fft2((luma - np.average(luma, weights=window)) * window)) ** 2
    rows, columns = (fft.fftfreq(side) for side in luma.shape)
    high = np.hypot(rows[:, None], columns) > 0.25
    # Two sums of the same powers may differ in the last bit.
    return min(1.0, float(power[high].sum() / power.sum())) if power.sum() > EMPTY * luma.size**2 else 0.0


def _repetition(luma: Plane) -> float:
    """How far the autocorrelation comes up again, after it fell on the straight way from lag 0, within half a side.

    What is wider than an eighth of the picture is taken off first: slow changes of light are alike at every lag.
    """
    coarse = _coarse(luma)
    correlation = _autocorrelation(coarse - ndimage.gaussian_filter(coarse, max(coarse.shape) / 8, mode="reflect"))
    rows, columns = coarse.shape
    near = max(2, round(min(coarse.shape) / 16))
    peaks = correlation == ndimage.maximum_filter(correlation, size=2 * near + 1)
    lags = np.argwhere(peaks) - (rows, columns)
    within = (np.abs(lags).max(axis=1) > near) & (np.abs(lags) <= (rows // 2 + 1, columns // 2 + 1)).all(axis=1)
    rises = [_rise(correlation, lag, (rows, columns)) for lag in lags[within & (lags[:, 0] >= 0)]]
    return float(np.clip(max(rises, default=0.0), 0, 1))


def _rise(correlation: Plane, lag: np.ndarray, zero: tuple[int, int]) -> float:
    """The correlation at a lag less the lowest, but at least 0, on the straight way to it."""
    steps = np.linspace(0, 1, 1 + int(np.abs(lag).max()))[:, None]
    way = np.rint(zero + steps * lag).astype(int)
    heights = correlation[way[:, 0], way[:, 1]]
    return float(heights[-1] - max(heights.min(), 0.0))


def _coarse(luma: Plane) -> Plane:
    """The plane as means of square blocks, so that it has at most `COARSE` pixels a side, roughly."""
    block = max(1, round(max(luma.shape) / COARSE))
    rows, columns = (max(1, side // block) for side in luma.shape)
    if block == 1 or min(luma.shape) < block:
        return luma
    return luma[: rows * block, : columns * block].reshape(rows, block, columns, block).mean(axis=(1, 3))


def _autocorrelation(plane: Plane) -> Plane:
    """The cosine between the plane and itself moved by each lag where the two overlap; lag 0 is in the middle."""
    shape = [2 * side for side in plane.shape]
    spectrum, squares, ones = (fft.rfft2(part, shape) for part in (plane, plane**2, np.ones_like(plane)))
    products = fft.irfft2(np.abs(spectrum) ** 2, shape)
    energy = fft.irfft2(squares * np.conj(ones), shape)
    # The other part of the overlap is the one at the opposite lag.
    opposite = np.roll(energy[::-1, ::-1], 1, axis=(0, 1))
    known = (energy > EMPTY * plane.size) & (opposite > EMPTY * plane.size)
    lengths = np.sqrt(np.where(known, energy * opposite, 1))
    return fft.fftshift(np.where(known, products / lengths, 0))


def _entropy(pixels: Pixels) -> float:
    codes = (pixels >> 4).astype(np.int64) @ np.array([256, 16, 1])
    shares = np.bincount(codes.ravel()) / codes.size
    return float(-(shares * np.log2(np.where(shares > 0, shares, 1))).sum())
