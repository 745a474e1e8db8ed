"""Words made known to a model: rows for new tokens, chosen, refined and judged."""

from bespoke.words.anchors import Vectors
from bespoke.words.each import make_rows_for_each
from bespoke.words.gates import Gate
from bespoke.words.making import make_rows
from bespoke.words.mapping import Quality
from bespoke.words.report import Method, RowsReport, WordReport
from bespoke.words.rows import several
from bespoke.words.spelt import with_t5

__all__ = [
    "Gate", "Method", "Quality", "RowsReport", "Vectors", "WordReport", "make_rows", "make_rows_for_each", "several",
    "with_t5",
]  # fmt: skip
