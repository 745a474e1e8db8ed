"""Captions in, better captions out; no torch here."""

from bespoke.text.trigger import common_trigger, plain, uses

__all__ = ["common_trigger", "plain", "uses"]
