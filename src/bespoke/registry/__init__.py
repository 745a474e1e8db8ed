"""Runs and scores turned into versions in an MLflow store: tracked, registered, promoted through a gate."""

from bespoke.registry.blobs import Blob, Manifest, Shelf
from bespoke.registry.catalogue import (
    ALIASES,
    CHALLENGER,
    CHAMPION,
    Catalogue,
    Version,
    checked_alias,
    checked_name,
    is_version,
)
from bespoke.registry.gate import UNKNOWN, Check, Decision, Declared, Measured, Rule, decide, measured
from bespoke.registry.ledger import Record, Standing
from bespoke.registry.places import Place, place, sharing
from bespoke.registry.store import of_file, shown
from bespoke.registry.tracking import About, State, Tracking, tell_scores
from bespoke.registry.unneeded import Unneeded, remove, unneeded
from bespoke.registry.weights import Board, find

__all__ = [
    "ALIASES", "CHALLENGER", "CHAMPION", "UNKNOWN", "About", "Blob", "Board", "Catalogue", "Check", "Decision",
    "Declared", "Manifest", "Measured", "Place", "Record", "Rule", "Shelf", "Standing", "State", "Tracking", "Unneeded",
    "Version", "checked_alias", "checked_name", "decide", "find", "is_version", "measured", "of_file", "place",
    "remove", "sharing", "shown", "tell_scores", "unneeded",
]  # fmt: skip
