"""Runs turned into records in an MLflow store that other tools read; a later issue adds versions and gates."""

from bespoke.registry.store import of_file, shown
from bespoke.registry.tracking import About, State, Tracking
from bespoke.registry.weights import Board, find

__all__ = ["About", "Board", "State", "Tracking", "find", "of_file", "shown"]
