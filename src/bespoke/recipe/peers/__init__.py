"""Other trainers' files of settings turned into a recipe, with an account of what became of every option."""

from bespoke.recipe.peers.reading import nearby, read_settings
from bespoke.recipe.peers.table import Carried, Epochs, Line, Part, Source
from bespoke.recipe.peers.telling import account, as_json, reasons, summary, told

__all__ = [
    "Carried", "Epochs", "Line", "Part", "Source", "account", "as_json", "nearby", "read_settings", "reasons",
    "summary", "told",
]  # fmt: skip
