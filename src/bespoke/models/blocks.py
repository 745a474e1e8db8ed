"""A UNet's layers by the blocks that weights of merges are given for: IN00 to IN11, M00, OUT00 to OUT11.

Source: bbc-mc's sdweb-merge-block-weighted-gui, scripts/mbw/merge_block_weighted.py, after eyriewow's merge-models.
"""

import math
from typing import Any

from bespoke.errors import BespokeError
from bespoke.models.singlefile import unet_name


def names(config: Any) -> list[str]:
    """The names of a UNet's blocks in the order of their weights; 25 in Stable Diffusion 1.x and 2.x, 19 in XL."""
    side = len(config.block_out_channels) * (config.layers_per_block + 1)
    return [*(f"IN{n:02d}" for n in range(side)), "M00", *(f"OUT{n:02d}" for n in range(side))]


def block_of(key: str, config: Any) -> str:
    """The block of a tensor of diffusers' UNet; what lies before the first, or after the last, counts to it."""
    place, number, *_ = unet_name(key, config).split(".")
    if place == "input_blocks":
        return f"IN{int(number):02d}"
    if place == "output_blocks":
        return f"OUT{int(number):02d}"
    return {"time_embed": "IN00", "label_emb": "IN00", "middle_block": "M00", "out": names(config)[-1]}[place]


def weights(text: str, config: Any) -> dict[str, float]:
    """The weight of each block, from numbers with commas between them.

    Raises: BespokeError when one is no number, or there are more or fewer than blocks.
    """
    known = names(config)
    hint = (
        f"Give {len(known)} numbers with commas: {known[0]} to {known[len(known) // 2 - 1]}, M00, OUT00 to {known[-1]}."
    )
    try:
        found = [float(piece) for piece in text.replace(",", " ").split()]
    except ValueError:
        raise BespokeError(f"The weights of blocks are no numbers: {text!r}.", hint) from None
    if len(found) != len(known) or not all(map(math.isfinite, found)):
        raise BespokeError(f"There are {len(known)} blocks and {len(found)} weights.", hint)
    return dict(zip(known, found, strict=True))
