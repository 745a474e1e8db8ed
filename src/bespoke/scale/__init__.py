"""A function over many records turned into its results, in order, whatever does the work."""

from bespoke.scale.processes import PATIENCE, Failed, map  # noqa: A004 - what everybody calls it

__all__ = ["PATIENCE", "Failed", "map"]
