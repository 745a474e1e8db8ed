"""Cached rows and a recipe turned into an adapter, with exact resume and honest validation."""

from bespoke.training import masking
from bespoke.training.batches import Example, Material
from bespoke.training.events import Covered, Event, Kept, Noted, Saved, Staged, Step, Stopped, Validated
from bespoke.training.loop import Trainer
from bespoke.training.track import Tracker, read

__all__ = [
    "Covered", "Event", "Example", "Kept", "Material", "Noted", "Saved", "Staged", "Step", "Stopped", "Tracker",
    "Trainer", "Validated", "masking", "read",
]  # fmt: skip
