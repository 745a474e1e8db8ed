"""Adapters in networks turned into one file, and such files, also those of other programs, back into networks.

LoRA and DoRA are written in diffusers' form. LoHa and LoKr have LyCORIS's names, which ComfyUI, A1111 and Forge read;
OFT and BOFT have peft's. These four have peft's configuration in the file's metadata, so that it says what it is.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from bespoke.errors import BespokeError
from bespoke.models import adapters
from bespoke.models.quietly import quiet
from bespoke.models.shards import spread, whole
from bespoke.workspace import atomic_file

FACTS = "bespoke_adapter"
"""The metadata's key: for each part peft's configuration, as far as it is not peft's default."""
LYCORIS = {"unet": "lora_unet_", "text_encoder": "lora_te_"}
"""What the names of layers begin with. Source: kohya's networks/lora.py, LyCORIS's lycoris/kohya.py."""
Parts = Mapping[str, Any]
"""Networks with an adapter by their folders' names: `unet`, `text_encoder`."""
TEXT = "text_model."
"""How the names of CLIP's layers begin, in files and in older transformers."""


def save(unet: Any, path: Path, text_encoder: Any = None) -> None:
    """Writes the adapter as one file, atomically, with all that is needed to load it.

    LoRA begun by PiSSA or OLoRA is written as a plain LoRA of twice the rank, for the base as it was.
    Source: peft's `LoraModel.subtract_mutated_init`.
    """
    parts: dict[str, Any] = {"unet": unet} | ({"text_encoder": text_encoder} if text_encoder is not None else {})
    with atomic_file(path) as temporary, quiet():
        if _kind(parts) == "LORA":
            _save_lora(parts, temporary)
        else:
            facts = {name: _facts(_config(part)) for name, part in parts.items()}
            content = {key: value for name, part in parts.items() for key, value in _named(name, part).items()}
            save_file(content, temporary, {"format": "pt", FACTS: json.dumps(facts, sort_keys=True)})
        _settle(temporary)


def help_save(part: Any) -> None:
    """Gives this process's parts of an adapter to the one that calls `save`; needed where each has but a part."""
    _state(part)


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
            _put(part, _unnamed(name, part, content))
        else:
            _put(part, _halves(part, _peft_keys(name, content), path))


def begin(parts: Parts, path: Path) -> None:
    """Puts an adapter file of ours, diffusers' or kohya's into networks that have a fresh adapter, in place.

    A file's alphas may be others than the networks': the weights are scaled, so that it does what it did.
    Raises: BespokeError when there is none, or it does not fit, saying what it has and what the recipe asks for.
    """
    for name, state in fitting(parts, path).items():
        _put(parts[name], state)


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
    found = {n: _unnamed(n, part, content) for n, part in parts.items()} if facts else _foreign(parts, path)
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
        found = _unnamed(name, part, content)
        if found.keys() != _state(part).keys():
            raise ValueError("it has other layers")
        _put(part, found)
        part.requires_grad_(requires_grad=False)


def mend(text_encoder: Any, path: Path) -> None:
    """Puts DoRA's magnitudes from a file into a text encoder that diffusers loaded it into, in place.

    transformers loads the matrices only, and the magnitudes stay the base's.
    """
    from peft.utils import set_peft_model_state_dict

    content = _fitted(text_encoder, _peft_keys("text_encoder", load_file(path)))
    found = {key: value for key, value in content.items() if "lora_magnitude_vector" in key}
    if found and getattr(text_encoder, "peft_config", None):
        set_peft_model_state_dict(text_encoder, found, adapter_name=next(iter(text_encoder.peft_config)))


def _kind(parts: Parts) -> str:
    """Peft's name for the kind of the parts' adapters."""
    return str(_config(next(iter(parts.values()))).peft_type.value)


def _config(part: Any) -> Any:
    return part.peft_config[adapters.NAME]


def _facts(config: Any) -> dict[str, Any]:
    """A configuration as far as it is not peft's default, ready for JSON."""
    usual = type(config)().to_dict()
    told = {key: value for key, value in config.to_dict().items() if value != usual[key]}
    for away in ("base_model_name_or_path", "inference_mode"):
        told.pop(away, None)
    return told | {"peft_type": config.peft_type.value, "target_modules": sorted(config.target_modules)}


def _state(part: Any) -> dict[str, Tensor]:
    """The adapter's tensors by peft's names."""
    from peft.utils import get_peft_model_state_dict

    found = get_peft_model_state_dict(part, save_embedding_layers=False)
    return {key: _plain(value) for key, value in found.items()}


def _put(part: Any, state: Mapping[str, Tensor]) -> None:
    from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict

    own = get_peft_model_state_dict(part, save_embedding_layers=False)
    laid_out = {key: spread(value, own[key]) if key in own else value for key, value in state.items()}
    left_out = set_peft_model_state_dict(part, laid_out).unexpected_keys
    assert not left_out, left_out


# LoRA and DoRA, in diffusers' form


def _save_lora(parts: Parts, path: Path) -> None:
    with quiet():
        from diffusers import StableDiffusionPipeline
    options: dict[str, Any] = {}
    for name, part in parts.items():
        options[f"{name}_lora_layers"] = _layers(part)
        options[f"{name}_lora_adapter_metadata"] = _metadata(part)
    StableDiffusionPipeline.save_lora_weights(path.parent, weight_name=path.name, **options)


def _metadata(part: Any) -> dict[str, Any]:
    """What a loader must know.

    Without rank and alpha in the file it takes alpha for the rank, and the adapter's strength is lost.
    """
    config = _config(part).to_dict()
    told: dict[str, Any] = {key: config[key] for key in ("r", "lora_alpha")}
    told |= {"target_modules": sorted(config["target_modules"])}
    told |= {key: config[key] for key in ("rank_pattern", "alpha_pattern", "use_rslora", "use_dora") if config[key]}
    if hasattr(part, adapters.FIRST):
        # The scale, alpha / rank or alpha / √rank, stays as it is while the rank doubles.
        more = 2**0.5 if config["use_rslora"] else 2
        told |= {"r": 2 * told["r"], "lora_alpha": more * told["lora_alpha"]}
        ranks, alphas = told.get("rank_pattern", {}), told.get("alpha_pattern", {})
        told |= {"rank_pattern": {key: 2 * value for key, value in ranks.items()}} if ranks else {}
        told |= {"alpha_pattern": {key: more * value for key, value in alphas.items()}} if alphas else {}
    return told


def _layers(part: Any) -> dict[str, Tensor]:
    """The adapter's matrices by the names that diffusers gives them; those of PiSSA for the base as it was.

    diffusers has old names for attention and peft's for all else, and reads a file with both wrongly: then all are
    peft's, which it reads, too.
    """
    from diffusers.utils import convert_state_dict_to_diffusers

    state = _doubled(part, _state(part))
    named = convert_state_dict_to_diffusers(dict(state))
    return state if any(".lora_A." in key for key in named) else named


def _doubled(part: Any, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """What training added, B·A - B₀·A₀, as one LoRA of twice the rank; as it is where nothing was taken out."""
    first: Mapping[str, tuple[Tensor, Tensor]] = getattr(part, adapters.FIRST, {})
    for name, (a, b) in first.items():
        keys = (f"{name}.lora_A.weight", f"{name}.lora_B.weight")
        state[keys[0]] = torch.cat([state[keys[0]], _plain(a)], dim=0)
        state[keys[1]] = torch.cat([state[keys[1]], -_plain(b)], dim=1)
    return state


def _halves(part: Any, state: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """What `_doubled` was made of; what was taken out of the base must be what is taken out of it here.

    Raises: BespokeError when it is not.
    """
    first: Mapping[str, tuple[Tensor, Tensor]] = getattr(part, adapters.FIRST, {})
    for name, (a, b) in first.items():
        keys, rank = (f"{name}.lora_A.weight", f"{name}.lora_B.weight"), len(a)
        whole = state[keys[0]], state[keys[1]]
        taken = -whole[1][:, rank:] @ whole[0][rank:]
        # Singular vectors have signs and orders of their own on each machine; their product has not.
        if not torch.allclose(taken, _plain(b) @ _plain(a), rtol=1e-3, atol=1e-4):
            hint = "Continue it as a plain LoRA of that rank: take model.init out."
            raise BespokeError(f"{path} was not begun with these first weights.", hint)
        state[keys[0]], state[keys[1]] = whole[0][:rank].contiguous(), whole[1][:, :rank].contiguous()
    return state


def _peft_keys(name: str, content: Mapping[str, Any]) -> dict[str, Any]:
    """One part's tensors of a LoRA in diffusers' form, by peft's names."""
    from diffusers.utils import convert_state_dict_to_peft, convert_unet_state_dict_to_peft

    own = {key.removeprefix(f"{name}."): value for key, value in content.items() if key.startswith(f"{name}.")}
    if name == "unet" or not any("lora_linear_layer" in key for key in own):
        return convert_unet_state_dict_to_peft(own)
    return convert_state_dict_to_peft(own)


def _foreign(parts: Parts, path: Path) -> dict[str, dict[str, Tensor]]:
    """A LoRA of any program, by peft's names and scaled for the parts, as diffusers reads it.

    Raises: BespokeError when diffusers cannot.
    """
    with quiet():
        from diffusers import StableDiffusionPipeline

        try:
            options = {"weight_name": path.name, "return_lora_metadata": True, "local_files_only": True}
            read: Any = StableDiffusionPipeline.lora_state_dict(str(path.parent), **options)
        except (RuntimeError, ValueError, KeyError, OSError, AttributeError) as error:
            hint = "Name a LoRA of a Stable Diffusion 1.x or 2.x, by bespoke, diffusers or kohya."
            raise BespokeError(f"{path} gives no LoRA: {str(error).splitlines()[0]}", hint) from None
    content, alphas, told = read
    if extra := [key for key in content if key.partition(".")[0] not in parts]:
        hint = "Set train.train_text_encoder = true." if extra[0].startswith("text_encoder") else "Take another file."
        raise BespokeError(f"{path} also has {extra[0]}, which is not trained here.", hint)
    found: dict[str, dict[str, Tensor]] = {}
    for name, part in parts.items():
        state = _fitted(part, _peft_keys(name, content))
        scales = _scales(name, state, alphas, told)
        own = {layer: adapters.scale_of(module) for layer, module in adapters.tuned_layers(part)}
        for layer, scale in scales.items():
            if scale != own.get(layer, scale):
                state[f"{layer}.lora_B.weight"] = state[f"{layer}.lora_B.weight"] * (scale / own[layer])
        found[name] = state
    return found


def _scales(name: str, state: Mapping[str, Tensor], alphas: Any, told: Any) -> dict[str, float]:
    """What each layer's matrices are multiplied with where the file comes from."""
    from peft import LoraConfig
    from peft.utils.other import get_pattern_key

    ranks = {key.removesuffix(".lora_A.weight"): len(v) for key, v in state.items() if key.endswith(".lora_A.weight")}
    if told:
        own = {key.removeprefix(f"{name}."): value for key, value in told.items() if key.startswith(f"{name}.")}
        config: Any = LoraConfig(**own)
        pattern = config.alpha_pattern
        alpha = {layer: pattern.get(get_pattern_key(list(pattern), layer), config.lora_alpha) for layer in ranks}
        return {layer: alpha[layer] / (rank**0.5 if config.use_rslora else rank) for layer, rank in ranks.items()}
    # kohya's: diffusers names each by one of the two matrices it is for.
    named = _peft_keys(name, {key.removesuffix(".alpha"): value for key, value in (alphas or {}).items()})
    known = {key.partition(".lora_")[0]: value for key, value in named.items()}
    found = {layer: known.get(layer, known.get(TEXT + layer, rank)) for layer, rank in ranks.items()}
    return {layer: float(found[layer]) / rank for layer, rank in ranks.items()}


def _fitted(part: Any, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors, text encoders' by the names that this version of transformers has, in float32."""
    here = any(name.startswith(TEXT) for name, _ in part.named_modules())
    return {key if here else key.removeprefix(TEXT): _plain(value) for key, value in state.items()}


# The other kinds, in forms of their own


def _written(name: str, part: Any, *, own: bool) -> dict[str, Tensor]:
    """The tensors of a part as `save` writes them."""
    return _named(name, part) if own else {f"{name}.{key}": value for key, value in _layers(part).items()}


def _named(name: str, part: Any) -> dict[str, Tensor]:
    """The tensors of a part by the names in the file: LyCORIS's, with each layer's alpha, or peft's."""
    state, layers = _state(part), dict(adapters.tuned_layers(part))
    if _kind({name: part}) not in ("LOHA", "LOKR"):
        return {f"{name}.{key}": value for key, value in state.items()}
    found = {_key(name, key): value * _folded(key, state, layers) for key, value in state.items()}
    for layer, module in layers.items():
        found[_key(name, f"{layer}.alpha")] = torch.tensor(float(module.alpha[adapters.NAME]))
    return found


def _unnamed(name: str, part: Any, content: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What `_named` wrote for a part, by peft's names; what the file lacks is left out."""
    state, layers = _state(part), dict(adapters.tuned_layers(part))
    if _kind({name: part}) not in ("LOHA", "LOKR"):
        return {key: content[f"{name}.{key}"] for key in state if f"{name}.{key}" in content}
    keys = {key: _key(name, key) for key in state}
    return {key: content[k] / _folded(key, state, layers) for key, k in keys.items() if k in content}


def _key(name: str, key: str) -> str:
    """LyCORIS's name for a tensor that peft calls `key`."""
    layer, _, kind = key.rpartition(".")
    whole = layer if name == "unet" or layer.startswith(TEXT) else TEXT + layer
    return f"{LYCORIS[name]}{whole.replace('.', '_')}.{kind}"


def _folded(key: str, state: Mapping[str, Tensor], layers: Mapping[str, Any]) -> float:
    """What a tensor is multiplied with in the file.

    Where both of LoKr's factors are whole, other programs know no rank and leave alpha / rank out: it goes into the
    second factor. Source: ComfyUI's comfy/weight_adapter/lokr.py, LyCORIS's modules/lokr.py.
    """
    layer, _, kind = key.rpartition(".")
    return adapters.scale_of(layers[layer]) if kind == "lokr_w2" and f"{layer}.lokr_w1" in state else 1.0


def _same_shape(part: Any, found: Mapping[str, Tensor], path: Path) -> None:
    """Raises: BespokeError when a file's tensors are not those of a part, naming both."""
    wanted = _state(part)
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


def _settle(path: Path) -> None:
    """Sorts a file's metadata, which safetensors writes in random order: equal adapters become equal files."""
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode().ljust(length)
        assert len(text) == length, "the same words in another order have the same length"
        file.seek(8)
        file.write(text)


def _plain(tensor: Tensor) -> Tensor:
    return tensor if tensor.is_meta else whole(tensor.detach()).float().cpu().contiguous()
