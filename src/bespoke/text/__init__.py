"""Captions in, better captions out; no torch here."""

from bespoke.text.mirroring import unmirrorable
from bespoke.text.trigger import common_trigger, plain

__all__ = ["common_trigger", "plain", "unmirrorable"]
