"""Folders of pictures and captions turned into a checked dataset, and its pictures into squares for a model."""

from bespoke.data.dataset import build, load
from bespoke.data.export import export
from bespoke.data.inspect import Pixels, Reading, Unreadable, read
from bespoke.data.transforms import fit, signature

__all__ = ["Pixels", "Reading", "Unreadable", "build", "export", "fit", "load", "read", "signature"]
