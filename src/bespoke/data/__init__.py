"""Pictures and captions turned into a checked dataset, and its pictures into squares for a model."""

from bespoke.data.dataset import load
from bespoke.data.export import export
from bespoke.data.importing import build
from bespoke.data.inspect import Facts
from bespoke.data.reading import Pixels, Reading, Unreadable, read
from bespoke.data.sorting import Inspected, clean, inspect, restore
from bespoke.data.transforms import fit, signature

__all__ = [
    "Facts", "Inspected", "Pixels", "Reading", "Unreadable",
    "build", "clean", "export", "fit", "inspect", "load", "read", "restore", "signature",
]  # fmt: skip
