"""Measurements turned into the decision to stop: for how long has none been clearly better than the best before?

Source: Prechelt 1998, "Early stopping - but when?", for patience. The test is paired, because the difference of two
means may be noise.
"""

import math
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.special import stdtr  # scipy.stats has it too, and takes a second to load

from bespoke.recipe.training import Validation
from bespoke.training.validate import Measurement

FEWEST = 3
"""Pictures below which no test says anything, so that training never stops early."""


@dataclass(frozen=True)
class Patience:
    """The measurement that later ones must beat, and how many in a row did not."""

    anchor: list[list[float]] = field(default_factory=list)
    """Its losses, [n strata]; empty before the first."""
    step: int = 0
    waited: int = 0

    def after(
        self, now: Measurement, step: int, settings: Validation, *, warm: bool
    ) -> tuple["Patience", float | None]:
        """Patience after a measurement, and the chance that this one is no better than the anchor.

        The anchor moves only to a clearly better measurement, so that many small improvements together count as one.
        While training is not yet `warm`, nothing is counted.
        """
        if not self.anchor:
            return Patience(now.losses.tolist(), step), None
        chance = chance_of_none(now, Measurement(np.array(self.anchor)))
        if chance < settings.significance:
            return Patience(now.losses.tolist(), step), chance
        return replace(self, waited=self.waited + warm), chance

    def verdict(self, settings: Validation) -> str | None:
        """Why to stop, or None to go on."""
        if not settings.early_stopping or self.waited < settings.patience or len(self.anchor) < FEWEST:
            return None
        return (
            f"stopped early: none of {self.waited} measurements after step {self.step} was clearly better "
            f"(paired test over {len(self.anchor)} pictures, {100 * settings.significance:g} %)"
        )


def chance_of_none(now: Measurement, before: Measurement) -> float:
    """The chance of so large an improvement on `before` if there was none, 0 to 1; 1 for fewer than 3 pictures.

    A one-sided paired t-test over the pictures' mean log-ratios; a signed-rank test cannot reach 5 % with four.
    Source: Student 1908.
    """
    each = now.per_picture(before)
    if len(each) < FEWEST or not np.isfinite(each).all():
        return 1.0
    error = each.std(ddof=1) / math.sqrt(len(each))
    if error == 0:
        return 0.0 if each[0] < 0 else 1.0
    return float(stdtr(len(each) - 1, each.mean() / error))
