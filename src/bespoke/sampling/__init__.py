"""A model and prompts turned into pictures, grids and the metadata that says how they were made."""

from bespoke.sampling.generate import READING, Drawn, Request, choices, draw, latents
from bespoke.sampling.grid import grid, table
from bespoke.sampling.stamp import FORMATS, Made, made, save_picture

__all__ = [
    "FORMATS", "READING", "Drawn", "Made", "Request", "choices", "draw", "grid", "latents", "made", "save_picture",
    "table",
]  # fmt: skip
