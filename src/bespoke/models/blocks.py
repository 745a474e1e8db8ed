"""A denoiser's layers by the blocks that weights of merges are given for: IN00 to IN11, M00, OUT00 to OUT11; or B00….

Source: bbc-mc's sdweb-merge-block-weighted-gui, scripts/mbw/merge_block_weighted.py, after eyriewow's merge-models.
"""

import math
import re
from typing import Any

from bespoke.errors import BespokeError
from bespoke.models.singlefile import unet_name


def names(config: Any) -> list[str]:
    """The names of a denoiser's blocks in the order of their weights; 25 in SD 1.x and 2.x, 19 in XL."""
    if "num_layers" in config:
        return [f"B{n:02d}" for n in range(config.num_layers)]
    side = len(config.block_out_channels) * (config.layers_per_block + 1)
    return [*(f"IN{n:02d}" for n in range(side)), "M00", *(f"OUT{n:02d}" for n in range(side))]


def block_of(key: str, config: Any) -> str:
    """The block of a tensor of a denoiser; what lies before the first, or after the last, counts to it."""
    if "num_layers" in config:
        found = re.match(r"transformer_blocks\.(\d+)\.", key)
        last = names(config)[-1] if key.startswith(("norm_out", "proj_out")) else "B00"
        return f"B{int(found[1]):02d}" if found else last
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
    middle = "" if "M00" not in known else f"{known[len(known) // 2 - 1]}, M00, OUT00 to "
    hint = f"Give {len(known)} numbers with commas: {known[0]} to {middle}{known[-1]}."
    try:
        found = [float(piece) for piece in text.replace(",", " ").split()]
    except ValueError:
        raise BespokeError(f"The weights of blocks are no numbers: {text!r}.", hint) from None
    if len(found) != len(known) or not all(map(math.isfinite, found)):
        raise BespokeError(f"There are {len(known)} blocks and {len(found)} weights.", hint)
    return dict(zip(known, found, strict=True))
