"""Captions in, better captions out; no torch here."""

from bespoke.text.mirroring import unmirrorable
from bespoke.text.trigger import common_trigger, plain
from bespoke.text.weights import Span, unweighed, weighed

__all__ = ["Span", "common_trigger", "plain", "unmirrorable", "unweighed", "weighed"]
