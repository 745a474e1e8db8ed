"""Features of a base and a tuned model's pictures in, scores with intervals and a verdict out; no network here."""

from bespoke.evaluation.alignment import agreement
from bespoke.evaluation.distances import kid, kid_gain_interval, kid_interval
from bespoke.evaluation.scorecard import Judgement, Scorecard, scorecard
from bespoke.evaluation.significance import Difference, mean_interval, paired_difference, ratio_interval

__all__ = [
    "Difference",
    "Judgement",
    "Scorecard",
    "agreement",
    "kid",
    "kid_gain_interval",
    "kid_interval",
    "mean_interval",
    "paired_difference",
    "ratio_interval",
    "scorecard",
]
