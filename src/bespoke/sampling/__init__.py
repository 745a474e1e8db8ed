"""A model and prompts turned into pictures, grids and the metadata that says how they were made."""

from bespoke.recipe.made import Made, made
from bespoke.sampling.generate import NO_NUMBER, READING, Drawn, Request, choices, draw, latents
from bespoke.sampling.grid import grid, table
from bespoke.sampling.stamp import FORMATS, save_picture, stamped

__all__ = [
    "FORMATS", "NO_NUMBER", "READING", "Drawn", "Made", "Request", "choices", "draw", "grid", "latents", "made",
    "save_picture", "stamped", "table",
]  # fmt: skip
