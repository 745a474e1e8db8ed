"""A function over many records, or one carried out by a group, turned into results, whatever does the work."""

from bespoke.scale.mapping import ALONE, PATIENCE, Backend, Failed, Workers, batches, map  # noqa: A004 - what everybody calls it

__all__ = ["ALONE", "PATIENCE", "Backend", "Failed", "Workers", "batches", "map"]
