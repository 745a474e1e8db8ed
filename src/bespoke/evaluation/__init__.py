"""Features of models' pictures in, scores with intervals and a verdict out; no network here."""

from bespoke.evaluation.alignment import agreement
from bespoke.evaluation.distances import DISTANCES
from bespoke.evaluation.kernels import kid, kid_gain_interval, kid_interval
from bespoke.evaluation.scorecard import Instrument, Row, Scorecard, combined
from bespoke.evaluation.significance import Change, Difference, mean_interval, paired_difference, ratio_interval
from bespoke.evaluation.verdict import Judgement, Margins, verdict

__all__ = [
    "DISTANCES", "Change", "Difference", "Instrument", "Judgement", "Margins", "Row", "Scorecard", "agreement",
    "combined", "kid", "kid_gain_interval", "kid_interval", "mean_interval", "paired_difference", "ratio_interval",
    "verdict",
]  # fmt: skip
