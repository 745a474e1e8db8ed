"""Captions in, better captions out; no torch here."""

from bespoke.text.trigger import common_trigger, plain

__all__ = ["common_trigger", "plain"]
