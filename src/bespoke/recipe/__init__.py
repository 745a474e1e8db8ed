"""The recipe: what a person asks for, with everything left out derived and explained."""

from bespoke.recipe.derive import Facts, derive
from bespoke.recipe.files import comments, dump, load, parse, put
from bespoke.recipe.tree import Recipe

__all__ = ["Facts", "Recipe", "comments", "derive", "dump", "load", "parse", "put"]
