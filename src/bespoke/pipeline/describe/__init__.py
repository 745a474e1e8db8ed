"""A dataset turned into the page that shows what came in, what became of it, and what could be better."""

from bespoke.pipeline.describe.report import Described, report_data, why

__all__ = ["Described", "report_data", "why"]
