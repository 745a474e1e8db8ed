"""Adapters in networks turned into one file, and such files, also those of other programs, back into networks.

LoRA and DoRA are written in diffusers' form. LoHa and LoKr have LyCORIS's names, which ComfyUI, A1111 and Forge read;
OFT and BOFT have peft's. These four have peft's configuration in the file's metadata, so that it says what it is.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from bespoke.errors import BespokeError
from bespoke.models import adapters, kohyafile, lorafile, lycorisfile
from bespoke.models.lorafile import Parts
from bespoke.models.marks import settle
from bespoke.models.quietly import quiet
from bespoke.workspace import atomic_file

FACTS = "bespoke_adapter"
"""The metadata's key: for each part peft's configuration, as far as it is not peft's default."""


def save(unet: Any, path: Path, text_encoder: Any = None) -> None:
    """Writes the adapter as one file, atomically, with all that is needed to load it.

    LoRA begun by PiSSA or OLoRA is written as a plain LoRA of twice the rank, for the base as it was.
    Source: peft's `LoraModel.subtract_mutated_init`.
    """
    parts: dict[str, Any] = {"unet": unet} | ({"text_encoder": text_encoder} if text_encoder is not None else {})
    with atomic_file(path) as temporary, quiet():
        if _kind(parts) == "LORA":
            lorafile.save(parts, temporary)
        else:
            facts = {name: lycorisfile.facts(adapters.config_of(part)) for name, part in parts.items()}
            content = {
                key: value for name, part in parts.items() for key, value in lycorisfile.named(name, part).items()
            }
            save_file(content, temporary, {"format": "pt", FACTS: json.dumps(facts, sort_keys=True)})
        settle(temporary)


def help_save(part: Any) -> None:
    """Gives this process's parts of an adapter to the one that calls `save`; needed where each has but a part."""
    adapters.tensors_of(part)


def load(unet: Any, path: Path, text_encoder: Any = None) -> None:
    """Puts what `save` wrote into networks that have an adapter of the same shape, in place.

    Raises: BespokeError when the file is of another shape.
    """
    parts: dict[str, Any] = {"unet": unet} | ({"text_encoder": text_encoder} if text_encoder is not None else {})
    content, own = load_file(path), _kind(parts) != "LORA"
    wanted = {key: value for name, part in parts.items() for key, value in _written(name, part, own=own).items()}
    hint = "[model] and train.train_text_encoder must be as when it was trained."
    if {key: value.shape for key, value in content.items()} != {key: value.shape for key, value in wanted.items()}:
        raise BespokeError(f"{path} is an adapter of another shape than the recipe describes.", hint)
    for name, part in parts.items():
        if own:
            adapters.put(part, lycorisfile.unnamed(name, part, content))
        else:
            adapters.put(part, lorafile.halves(part, lorafile.peft_keys(name, content), path))


def begin(parts: Parts, path: Path) -> None:
    """Puts an adapter file of ours, diffusers' or kohya's into networks that have a fresh adapter, in place.

    A file's alphas may be others than the networks': the weights are scaled, so that it does what it did.
    Raises: BespokeError when there is none, or it does not fit, saying what it has and what the recipe asks for.
    """
    for name, state in fitting(parts, path).items():
        adapters.put(parts[name], state)


def fitting(parts: Parts, path: Path) -> dict[str, dict[str, Tensor]]:
    """The tensors of an adapter file for each part, by peft's names; parts may be without weights.

    Raises: BespokeError as `begin`.
    """
    if not path.is_file():
        raise BespokeError(f"There is no adapter at {path}.", "model.adapter_file counts from the recipe's folder.")
    facts, kind = facts_of(path), _kind(parts)
    theirs = next(iter(facts.values()))["peft_type"] if facts else "LORA"
    if theirs != kind:
        raise BespokeError(f"{path} is a {theirs}, and the recipe asks for a {kind}.", "Change model.method.")
    content = load_file(path) if facts else {}
    found = (
        {n: lycorisfile.unnamed(n, part, content) for n, part in parts.items()}
        if facts
        else kohyafile.read(parts, path)
    )
    for name, part in parts.items():
        _same_shape(part, found[name], path)
    return found


def facts_of(path: Path) -> dict[str, dict[str, Any]]:
    """Peft's configurations of the parts in a file of ours that is no LoRA; nothing for others.

    Raises: BespokeError when it cannot be read.
    """
    try:
        with safe_open(path, "pt") as file:
            return json.loads((file.metadata() or {}).get(FACTS, "{}"))
    except (SafetensorError, OSError, ValueError) as error:
        hint = "Name an adapter in a .safetensors file."
        raise BespokeError(f"{path} cannot be read: {str(error).splitlines()[0]}", hint) from None


def wear(parts: Parts, path: Path) -> None:
    """Puts an adapter of ours that is no LoRA into bare networks, in place, by what the file itself says; frozen.

    Raises: KeyError, RuntimeError or ValueError when it does not fit.
    """
    from peft import get_peft_config

    content = load_file(path)
    for name, facts in facts_of(path).items():
        part = parts[name]
        with quiet():
            adapters.attach(part, get_peft_config(dict(facts)), seed=0)
        found = lycorisfile.unnamed(name, part, content)
        if found.keys() != adapters.tensors_of(part).keys():
            raise ValueError("it has other layers")
        adapters.put(part, found)
        part.requires_grad_(requires_grad=False)


def wear_low_ranks(parts: Parts, path: Path) -> None:
    """Puts a LoRA or DoRA of any program into bare networks, in place; frozen.

    Raises: BespokeError, KeyError, RuntimeError or ValueError when it does not fit.
    """
    from peft import LoraConfig

    for name, layers in kohyafile.low_ranks(parts, path).items():
        ranks = {re.escape(layer): low.rank for layer, low in layers.items()}
        alphas = {re.escape(layer): low.alpha for layer, low in layers.items()}
        tensors: dict[str, Tensor] = {}
        for layer, low in layers.items():
            tensors |= {f"{layer}.lora_A.weight": low.down, f"{layer}.lora_B.weight": low.up}
            tensors |= {} if low.magnitude is None else {f"{layer}.lora_magnitude_vector": low.magnitude}
        dora = any(low.magnitude is not None for low in layers.values())
        patterns: dict[str, Any] = {"rank_pattern": ranks, "alpha_pattern": alphas}
        with quiet():
            adapters.attach(parts[name], LoraConfig(target_modules=list(layers), use_dora=dora, **patterns), seed=0)
        adapters.put(parts[name], tensors)
        parts[name].requires_grad_(requires_grad=False)


def mend(parts: Parts, path: Path, adapter: str | None = None) -> None:
    """Puts DoRA's magnitudes from a file into the text encoders that diffusers loaded it into, in place.

    transformers loads the matrices only, and the magnitudes stay the base's. `adapter` is what it is called there; left
    out, there is but one.
    """
    from peft.utils import set_peft_model_state_dict

    whole = load_file(path)
    for name, part in parts.items():
        if name == "unet" or not getattr(part, "peft_config", None):
            continue
        content = lorafile.fitted(part, lorafile.peft_keys(name, whole))
        if found := {key: value for key, value in content.items() if "lora_magnitude_vector" in key}:
            set_peft_model_state_dict(part, found, adapter_name=adapter or next(iter(part.peft_config)))


def _kind(parts: Parts) -> str:
    """Peft's name for the kind of the parts' adapters."""
    return adapters.kind_of(next(iter(parts.values())))


def _written(name: str, part: Any, *, own: bool) -> dict[str, Tensor]:
    """The tensors of a part as `save` writes them."""
    if own:
        return lycorisfile.named(name, part)
    return {f"{name}.{key}": value for key, value in lorafile.layers(part).items()}


def _same_shape(part: Any, found: Mapping[str, Tensor], path: Path) -> None:
    """Raises: BespokeError when a file's tensors are not those of a part, naming both."""
    wanted = adapters.tensors_of(part)
    if {key: value.shape for key, value in found.items()} == {key: value.shape for key, value in wanted.items()}:
        return
    problem = f"{path} has {_described(found)}; the recipe asks for {_described(wanted)}."
    raise BespokeError(problem, "Set model.rank, model.targets and what goes with them as the file has them.")


def _described(state: Mapping[str, Tensor]) -> str:
    """A part's tensors in words: the ranks or shapes, and the ends of the layers' names."""
    ranks = sorted({len(value) for key, value in state.items() if "lora_A" in key})
    shapes = sorted({"×".join(map(str, value.shape)) for value in state.values()})
    layers = {key.rpartition(".lora_" if ranks else ".")[0] for key in state}
    ends = sorted({re.sub(r".*?([^.0-9]+(\.\d+)*)$", r"\1", layer) for layer in layers})
    what = f"rank {', '.join(map(str, ranks))}" if ranks else f"shapes {', '.join(shapes[:6])}"
    extra = " with magnitudes" if any("magnitude" in key for key in state) else ""
    return f"{what}{extra} on {len(layers)} layers ({', '.join(ends)})" if state else "nothing"
