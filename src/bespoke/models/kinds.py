"""A recipe's words for an adapter turned into peft's configuration of it, for the layers of one network."""

import difflib
import math
import re
import warnings
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from bespoke.errors import BespokeError
from bespoke.recipe.training import Model

Groups = Mapping[str, tuple[str, ...]]
ALL_LINEAR = "all-linear"
LORA = ("lora", "dora")
RANKED = (*LORA, "loha", "lokr")
TURNING = ("oft", "boft")
"""Kinds that turn what a layer reads, where the others add to what it says."""
MUTATING = ("pissa", "olora")
"""First weights that are taken out of the base's, which training then goes on without."""
FOR = {
    "rank_pattern": RANKED,
    "alpha_pattern": RANKED,
    "rslora": LORA,
    "init": LORA,
    "decompose_both": ("lokr",),
    "decompose_factor": ("lokr",),
    "block_size": TURNING,
    "quantization": LORA,
}
"""Which kinds a key is for; others do not know it."""


def checked(model: Model) -> Model:
    """The same settings of an adapter, where all of them mean something together.

    Raises: BespokeError when a key was set that the kind does not know.
    """
    fields = type(model).model_fields
    for key, kinds in FOR.items():
        if model.method not in kinds and getattr(model, key) != fields[key].get_default(call_default_factory=True):
            hint = f"Take it out, or set model.method to {_either(kinds)}."
            raise BespokeError(f'model.{key} means nothing to model.method = "{model.method}".', hint)
    if model.init in MUTATING and model.method != "lora":
        problem = f'model.init = "{model.init}" is for LoRA; model.method is "{model.method}".'
        raise BespokeError(problem, 'Set model.method = "lora", or take model.init out.')
    if model.init in MUTATING and model.quantization:
        problem = f'model.init = "{model.init}" takes weights out of the base, and rounded ones are not taken from.'
        raise BespokeError(problem, "Take model.init or model.quantization out.")
    if model.init in MUTATING and model.adapter_file:
        problem = f'model.init = "{model.init}" makes first weights, and model.adapter_file gives others.'
        raise BespokeError(problem, "Take one of them out.")
    return model


def layers_of(network: nn.Module, wanted: Iterable[str], groups: Groups) -> tuple[str, ...]:
    """The ends of the names of the layers that a recipe means, as peft takes them; a group's are those of its family.

    Raises: BespokeError when the network has no layer called so, with the nearest names.
    """
    names = {name: part for name, part in network.named_modules() if isinstance(part, (nn.Linear, nn.Conv2d))}
    found: list[str] = []
    for word in wanted:
        if word == ALL_LINEAR:
            found += [name for name, part in names.items() if isinstance(part, nn.Linear)]
        elif word in groups:
            found += groups[word]
        elif "*" in word:
            meant = [name for name in names if fnmatchcase(name, word) or fnmatchcase(name, f"*.{word}")]
            found += meant or _unknown(word, names, groups)
        else:
            found += [word] if any(_ends(name, word) for name in names) else _unknown(word, names, groups)
    return tuple(dict.fromkeys(found))


def config_of(model: Model, network: nn.Module, groups: Groups) -> Any:
    """Peft's configuration of the adapter that a recipe asks for, for one network.

    Raises: BespokeError when the settings do not fit together, or not the network's layers.
    """
    targets = layers_of(network, checked(model).targets, groups)
    layers = {name: part for name, part in network.named_modules() if any(_ends(name, end) for end in targets)}
    if not layers:
        problem = f"model.targets, {', '.join(model.targets)}, names no layer of the {type(network).__name__}."
        raise BespokeError(problem, "Add attention to it, or train that network no more.")
    _fitting(model, layers)
    return _config(model, list(targets))


def _config(model: Model, targets: list[str]) -> Any:
    """Source: peft's configurations; the papers of each kind are named in docs/models.md."""
    import peft

    alpha = model.alpha or model.rank
    ranked: dict[str, Any] = {"r": model.rank, "target_modules": targets}
    ranked |= {"rank_pattern": dict(model.rank_pattern), "alpha_pattern": dict(model.alpha_pattern)}
    match model.method:
        case "loha":
            return peft.LoHaConfig(**ranked, alpha=alpha, rank_dropout=model.dropout)
        case "lokr":
            factors: dict[str, Any] = {
                "decompose_both": model.decompose_both,
                "decompose_factor": model.decompose_factor,
            }
            return peft.LoKrConfig(**ranked, alpha=alpha, rank_dropout=model.dropout, **factors)
        case "oft":
            return peft.OFTConfig(oft_block_size=model.block_size, target_modules=targets, module_dropout=model.dropout)
        case "boft":
            return peft.BOFTConfig(boft_block_size=model.block_size, target_modules=targets, boft_dropout=model.dropout)
        case _:
            first: Any = True if model.init == "default" else model.init
            switches: dict[str, Any] = {"use_rslora": model.rslora, "use_dora": model.method == "dora"}
            with warnings.catch_warnings():
                # peft cannot undo PiSSA where rslora and patterns meet; we do, in `adapterfile`.
                warnings.filterwarnings("ignore", "Using Rank-Stabilized LoRA with rank_pattern", UserWarning)
                return peft.LoraConfig(
                    **ranked, lora_alpha=alpha, init_lora_weights=first, lora_dropout=model.dropout, **switches
                )


def _fitting(model: Model, layers: Mapping[str, nn.Module]) -> None:
    """Raises: BespokeError when a layer is too small for the rank, not divided by the blocks, or of a wrong kind."""
    for name, layer in layers.items():
        wide = isinstance(layer, nn.Conv2d) and layer.kernel_size != (1, 1)
        # peft's OFT turns overlapping patches and adds them up: a fresh one would not be the base. Its BOFT multiplies
        # square matrices of all values under the kernel in each pass: minutes a step even on pico.
        if (wide and model.method in TURNING) or (isinstance(layer, nn.Conv2d) and model.init in MUTATING):
            what = model.method.upper() if model.method in TURNING else f'model.init = "{model.init}"'
            hint = "Take convolutions out of model.targets, or choose lora, dora, loha or lokr."
            raise BespokeError(f"{what} cannot be used on the convolution {name}.", hint)
        enters, leaves = _sides(layer)
        rank = _rank(model, name)
        if model.method in (*LORA, "loha") and rank > min(enters, leaves):
            problem = f"A rank of {rank} is more than {name} has: it is {leaves} × {enters}."
            hint = f"Set model.rank to at most {min(enters, leaves)}, or that layer's in model.rank_pattern."
            raise BespokeError(problem, hint)
    if model.method in TURNING:
        _divisible(model, layers)


def _divisible(model: Model, layers: Mapping[str, nn.Module]) -> None:
    sizes = {name: _sides(layer)[0] for name, layer in layers.items()}
    for name, size in sizes.items():
        if size % model.block_size:
            whole = math.gcd(*sizes.values())
            fit = ", ".join(str(side) for side in range(2, whole + 1) if whole % side == 0) or "none"
            problem = f"Blocks of {model.block_size} do not divide the {size} values that go into {name}."
            raise BespokeError(problem, f"Set model.block_size to what divides all layers' inputs: {fit}.")


def unmatched(model: Model, layers: Iterable[str]) -> list[str]:
    """The patterns of ranks and alphas that no layer's name ends with."""
    names = list(layers)
    patterns = (*model.rank_pattern, *model.alpha_pattern)
    return [pattern for pattern in patterns if not any(_matches(pattern, name) for name in names)]


def _rank(model: Model, layer: str) -> int:
    return next((rank for pattern, rank in model.rank_pattern.items() if _matches(pattern, layer)), model.rank)


def _matches(pattern: str, layer: str) -> bool:
    """Whether peft takes a pattern for a layer. Source: `get_pattern_key` in peft's utils/other.py."""
    return re.match(rf"(.*\.)?({pattern})$", layer) is not None


def _sides(layer: nn.Module) -> tuple[int, int]:
    """How many values go into a layer's weights, and how many come out."""
    weight: Any = layer.weight
    return weight[0].numel(), len(weight)


def _ends(name: str, end: str) -> bool:
    return name == end or name.endswith(f".{end}")


def _unknown(word: str, names: Iterable[str], groups: Groups) -> list[str]:
    ends = {".".join(name.split(".")[-length:]) for name in names for length in (1, 2)}
    known = [*groups, ALL_LINEAR, *sorted(end for end in ends if not end[0].isdigit())]
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    hint = f"Did you mean {near[0]}? " if near else ""
    raise BespokeError(f"model.targets: no layer is called {word!r}.", f"{hint}Known are {', '.join(known[:12])} …")


def _either(words: Iterable[str]) -> str:
    return " or ".join(f'"{word}"' for word in words)
