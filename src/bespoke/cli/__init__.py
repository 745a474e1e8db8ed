"""The command line."""

from bespoke.cli.commands import main

__all__ = ["main"]
