"""Cached rows and a recipe turned into an adapter, with exact resume and honest validation."""

from bespoke.training.batches import Example, Material
from bespoke.training.loop import Covered, Event, Saved, Step, Stopped, Trainer, Validated
from bespoke.training.track import Tracker, read

__all__ = [
    "Covered", "Event", "Example", "Material", "Saved", "Step", "Stopped", "Tracker", "Trainer", "Validated", "read",
]  # fmt: skip
