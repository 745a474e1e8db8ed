"""LoRA of a Stable Diffusion 3's transformer by the names that kohya's trainer and ComfyUI have, turned to and fro.

There a block's queries, keys and values are one layer, and the halves of two kinds of layers are the other way round.
Source: kohya's networks/lora_sd3.py and library/sd3_models.py; ComfyUI's comfy/lora.py (`model_lora_keys_unet`: every
layer by its own name after `lora_unet_`; diffusers' after `transformer.`, `lora_transformer_`, `lycoris_`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bespoke.errors import BespokeError
from bespoke.models import threefile
from bespoke.models.lowrank import LowRank, LowRanks
from bespoke.models.threefile import Place, place_of

PREFIX = "lora_unet_"
FLAT = ("lora_", "lycoris_")
"""How the names begin that have no dots in their layers."""
ALIKE = ("lora_transformer_", "lycoris_")
"""What further stands before diffusers' names of layers. Source: as the module (OneTrainer, SimpleTuner)."""


@dataclass(frozen=True)
class Fused:
    """Layers of diffusers' transformer that are one layer of Stability AI's."""

    layers: tuple[Any, ...]
    turned: bool

    @property
    def weight(self) -> Tensor:
        """The one layer's weights, a copy."""
        whole = torch.cat([layer.weight.detach() for layer in self.layers])
        return threefile.turned(whole) if self.turned else whole

    def put(self, weight: Tensor) -> None:
        """Gives the layers the weights of the one, in place."""
        whole = threefile.turned(weight) if self.turned else weight
        with torch.no_grad():
            for layer, part in zip(self.layers, whole.chunk(len(self.layers)), strict=True):
                layer.weight.copy_(part)


def fused(transformer: Any) -> dict[str, Fused]:
    """The layers of a transformer by kohya's names for them."""
    modules = dict(transformer.named_modules())
    return {
        name: Fused(tuple(modules[layer] for layer, _ in those), those[0][1].turned)
        for name, those in _places(transformer).items()
    }


def joined(layers: Mapping[str, LowRank], transformer: Any) -> dict[str, LowRank]:
    """The changes of a transformer's layers by kohya's names: of queries, keys and values one of the summed ranks.

    Raises: BespokeError for a DoRA, and for a layer that has no name there.
    """
    if any(low.magnitude is not None for low in layers.values()):
        hint = "Use --as diffusers, or --as model: the adapter is worked into the weights there."
        raise BespokeError("A DoRA of Stable Diffusion 3 has no form for kohya and ComfyUI here.", hint)
    left = dict(layers)
    modules = dict(transformer.named_modules())
    found: dict[str, LowRank] = {}
    for name, those in _places(transformer).items():
        own = [left.pop(layer, None) for layer, _ in those]
        if len(those) == 3 and any(own):
            found[name] = _stacked(own, [len(modules[layer].weight) for layer, _ in those])
        elif own[0] is not None:
            low, turned = own[0], those[0][1].turned
            found[name] = LowRank(low.down, threefile.turned(low.up) if turned else low.up, low.alpha)
    if left:
        raise BespokeError(f"kohya and ComfyUI have no {next(iter(left))}.", "Use --as diffusers.")
    return found


def split(
    content: Mapping[str, Tensor], known: Mapping[str, tuple[str, str]], transformer: Any, path: Path
) -> LowRanks:
    """The changes in a file of kohya's or ComfyUI's names, by part and diffusers' layer.

    `known` are the part and layer of names that stand for one layer of ours.

    Raises: BespokeError when the file holds something else.
    """
    files: dict[str, dict[str, Tensor]] = {}
    for key, value in content.items():
        name, _, what = key.partition(".")
        files.setdefault(name, {})[what] = value.float()
    places = _places(transformer)
    found: dict[str, dict[str, LowRank]] = {}
    for name, tensors in files.items():
        low = _low_rank(name, tensors, path)
        if name in known:
            part, layer = known[name]
            found.setdefault(part, {})[layer] = low
        elif name in places:
            found.setdefault("transformer", {}).update(_parts(low, places[name]))
        else:
            hint = "Use it with its own base."
            raise BespokeError(f"{path} changes {name}, which this model has not, or which is not changed here.", hint)
    return found


def scaled(layers: LowRanks) -> LowRanks:
    """The same changes with alphas that are the ranks, as readers take them that know no alphas."""
    return {
        part: {
            layer: LowRank(low.down, low.up * (low.alpha / low.rank), float(low.rank)) for layer, low in those.items()
        }
        for part, those in layers.items()
    }


def _places(transformer: Any) -> dict[str, list[tuple[str, Place]]]:
    """The layers of diffusers', in order, that are one layer of kohya's name."""
    found: dict[str, list[tuple[str, Place]]] = {}
    for layer, module in transformer.named_modules():
        try:
            place = place_of(layer, transformer.config.num_layers - 1)
        except KeyError:  # a block of layers, or an adapter's own
            continue
        if getattr(module, "weight", None) is not None:
            found.setdefault(PREFIX + place.name.replace(".", "_"), []).append((layer, place))
    return {name: sorted(those, key=lambda one: one[1].third or 0) for name, those in found.items()}


def _stacked(lows: list[LowRank | None], sizes: list[int]) -> LowRank:
    """One change for three layers that read the same; where all have one first matrix, it stays one."""
    there = [low for low in lows if low is not None]
    scale = next((low.alpha / low.rank for low in there if low.alpha), 1.0)
    ups = [None if low is None else _by(low, scale) for low in lows]
    first = there[0].down
    if len(there) == len(lows) and all(torch.equal(low.down, first) for low in there[1:]):
        return LowRank(first, torch.cat([up for up in ups if up is not None]), scale * len(first))
    rank, before = sum(low.rank for low in there), 0
    rows: list[Tensor] = []
    for up, size in zip(ups, sizes, strict=True):
        row = first.new_zeros(size, rank)
        if up is not None:
            row[:, before : before + up.shape[1]] = up
            before += up.shape[1]
        rows.append(row)
    return LowRank(torch.cat([low.down for low in there]), torch.cat(rows), scale * rank)


def _by(low: LowRank, scale: float) -> Tensor:
    """The second matrix of a change that is to have another scale."""
    own = low.alpha / low.rank
    return low.up if own == scale else low.up * (own / scale)


def _parts(low: LowRank, places: list[tuple[str, Place]]) -> dict[str, LowRank]:
    """The changes of the layers that one layer is here."""
    up = threefile.turned(low.up) if places[0][1].turned else low.up
    ups = up.chunk(len(places))
    found: dict[str, LowRank] = {}
    for (layer, _), own, rows in zip(places, ups, _rows(ups), strict=True):
        if len(rows):
            alpha = low.alpha / low.rank * len(rows)
            found[layer] = LowRank(low.down[rows].contiguous(), own[:, rows].contiguous(), alpha)
    return found


def _rows(ups: tuple[Tensor, ...]) -> list[Tensor]:
    """Which of the ranks belong to each of the layers that are one layer in a file.

    All do, unless each is used by one at most, as where several changes were put together. What none uses belongs to
    those whose second matrix is zero, as training begins with it; where nothing is left over, such layers have none.
    """
    used = torch.stack([own.any(dim=0) for own in ups])
    rank = used.shape[1]
    if len(ups) == 1 or bool((used.sum(dim=0) > 1).any()):
        return [torch.arange(rank)] * len(ups)
    found = [one.nonzero().flatten() for one in used]
    zero = [number for number, rows in enumerate(found) if not len(rows)]
    if zero:
        free = (~used.any(dim=0)).nonzero().flatten()
        for number, rows in zip(zero, free.tensor_split(len(zero)), strict=True):
            found[number] = rows
    return found


def _low_rank(name: str, tensors: Mapping[str, Tensor], path: Path) -> LowRank:
    down, up = tensors.get("lora_down.weight"), tensors.get("lora_up.weight")
    if strange := sorted(tensors.keys() - {"lora_down.weight", "lora_up.weight", "alpha"}):
        what = "a DoRA in kohya's form" if "dora_scale" in strange else f"{name} with {strange[0]}"
        hint = "Of Stable Diffusion 3 take a LoRA, or a DoRA in diffusers' form."
        raise BespokeError(f"{path} is {what}, which is not read here.", hint)
    if down is None or up is None:
        raise BespokeError(f"{path} is not whole: {name} lacks a matrix.", "Load the file down again.")
    return LowRank(down, up, float(tensors.get("alpha", torch.tensor(float(len(down))))))
