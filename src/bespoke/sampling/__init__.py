"""A model and prompts turned into pictures, grids and the metadata that says how they were made."""

from bespoke.sampling.generate import READING, Drawn, Request, draw, latents
from bespoke.sampling.grid import grid, table
from bespoke.sampling.stamp import save_png

__all__ = ["READING", "Drawn", "Request", "draw", "grid", "latents", "save_png", "table"]
