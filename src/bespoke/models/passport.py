"""A file's header turned into what it is: an adapter, new words or a whole model, of which family, and who loads it."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from bespoke.errors import BespokeError
from bespoke.models import threefile
from bespoke.models.runtimes import RUNTIMES

WIDTHS = {768: "Stable Diffusion 1.x", 1024: "Stable Diffusion 2.x", 2048: "SDXL", 160: "pico"}
"""Families by how many numbers the states of their texts have."""
OTHERS = {
    "double_blocks": "FLUX",
    "single_transformer_blocks": "FLUX",
    "joint_blocks": threefile.FAMILY,
    "transformer.transformer_blocks": threefile.FAMILY,
    "lora_unet_transformer_blocks": threefile.FAMILY,
    "lora_transformer_transformer_blocks": threefile.FAMILY,
    "lycoris_transformer_blocks": threefile.FAMILY,
    "lora_te2": "SDXL",
    "text_encoder_2": "SDXL",
    "conditioner.embedders.0.model": "SDXL refiner",
    "conditioner.embedders": "SDXL",
}
"""Further families, by what is in their tensors' names."""
TUNED = ("Stable Diffusion 1.x", "Stable Diffusion 2.x", "SDXL", "pico", threefile.FAMILY)
UNREAD = ("diffusers", "A1111", "Forge")
"""Programs that take kohya's and LyCORIS's form, but not of a Stable Diffusion 3, as far as is known."""
FORMATS = {"F32": "fp32", "F16": "fp16", "BF16": "bf16", "F64": "fp64"}
SPELT = (  # kind, a pattern that ends a tensor's name
    ("DoRA", r"(dora_scale|lora_magnitude_vector(\.weight)?)$"),
    ("LoHa", r"hada_w1_[ab]$"),
    ("LoKr", r"lokr_w1(_a)?$"),
    ("BOFT", r"boft_R$"),
    ("OFT", r"(oft_R(\.weight)?|oft_blocks|oft_diag)$"),
    ("LoRA", r"(lora_down\.weight|lora_A(\.\w+)?\.weight|lora\.down\.weight|lora_linear_layer\.down\.weight)$"),
)
ENDS = (
    r"(to_(?:q|k|v|out)|ff_net_\d(?:_proj)?|(?:[qkv]|out)_proj|fc[12]|proj_(?:in|out)|conv\w*|time_emb_proj"
    r"|(?:in|out|emb)_layers_\d|skip_connection|(?<=_)op"
    r"|to_add_out|qkv|(?<=attn_)proj|(?<=attn2_)proj|linear|adaLN_modulation)(?:_[01])?$"
)
"""The names that layers' names end with, diffusers', CompVis's and Stability AI's."""
TRANSFORMER = r"(transformer|lycoris|lora_unet_(joint|transformer)|lora_transformer)_"
"""How the names begin of a transformer's layers, in any form."""
LDM = "model.diffusion_model.input_blocks.0.0.weight"
MMDIT = "model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight"
"""Tensors that every whole model in one file has, and every one of Stable Diffusion 3."""
THREE = "one file, Stability AI's layout"
"""The form of a whole Stable Diffusion 3."""
TOKENS = ("clip_l", "clip_g", "clip_h", "t5xxl", "t5", "emb_params")
"""Keys of textual inversions."""
LOADS = {
    ("LoRA", "kohya"): ("diffusers", "ComfyUI", "A1111", "Forge", "bespoke"),
    ("LoRA", "diffusers"): ("diffusers", "ComfyUI", "bespoke"),
    ("LoRA", "peft"): ("diffusers", "ComfyUI", "bespoke"),
    ("DoRA", "kohya"): ("ComfyUI", "LyCORIS", "bespoke"),
    ("DoRA", "diffusers"): ("diffusers", "bespoke"),
    ("DoRA", "peft"): ("diffusers", "bespoke"),
    ("LoHa", "LyCORIS"): ("ComfyUI", "A1111", "Forge", "bespoke"),
    ("LoKr", "LyCORIS"): ("ComfyUI", "A1111", "Forge", "bespoke"),
    ("OFT", "peft"): (),
    ("BOFT", "peft"): (),
    ("textual inversion", "one key"): ("diffusers", "ComfyUI", "A1111", "Forge", "bespoke"),
    ("textual inversion", "a key for each encoder"): ("diffusers", "ComfyUI", "A1111", "Forge"),
    ("new words", "bespoke"): ("bespoke",),
    ("whole model", "one file, CompVis's layout"): ("A1111", "Forge", "ComfyUI", "diffusers"),
    ("whole model", THREE): ("ComfyUI", "Forge", "diffusers"),
}
"""Who loads a kind in a form, as far as their published code says; the programs themselves were not run."""


@dataclass(frozen=True)
class Passport:
    """What a file or folder is, from headers alone."""

    path: Path
    what: str
    """`LoRA`, `DoRA`, `LoHa`, `LoKr`, `OFT`, `BOFT`, `textual inversion`, `new words`, `whole model`, `unknown`."""
    form: str = ""
    """Whose names its tensors have: `kohya`, `diffusers`, `peft`, `LyCORIS`, …"""
    family: str = ""
    version: str = ""
    """Which of its family a whole Stable Diffusion 3 is: `3`, `3.5` (medium) or `3.5-large`."""
    ranks: tuple[int, ...] = ()
    alphas: tuple[float, ...] = ()
    layers: Mapping[str, Mapping[str, int]] = field(default_factory=dict[str, Mapping[str, int]])
    """For each part how many layers are changed, by the ends of their names."""
    dtype: str = ""
    numbers: int = 0
    """How many numbers the tensors have together."""
    base: str = ""
    base_hash: str = ""
    title: str = ""
    trigger: str = ""
    words: tuple[str, ...] = ()
    licence: str = ""
    training: Mapping[str, str] = field(default_factory=dict[str, str])
    loads: tuple[str, ...] = ()
    """Which programs load it."""

    def lines(self) -> Iterator[tuple[str, str]]:
        """What is known, a name and a sentence each."""
        yield "file", str(self.path)
        runtime = RUNTIMES.get(self.form)
        form = f"for {runtime.title}" if runtime else self.form and f"{self.form} names"
        yield "what", ", ".join(filter(None, (self.what, form)))
        yield "family", (self.family or "unknown") + (f": {self.version}" if self.version else "")
        yield from ((name, said) for name, said in self._numbers() if said)
        told = {"base": self.base, "base hash": self.base_hash, "title": self.title, "trigger": self.trigger}
        told |= {"new words": ", ".join(self.words), "licence": self.licence}
        yield from ((name, said) for name, said in told.items() if said)
        yield from (("trained", f"{name} {said}") for name, said in self.training.items())
        yield "loaded by", ", ".join(self.loads) or "nothing that is known"

    def _numbers(self) -> Iterator[tuple[str, str]]:
        yield "rank", ", ".join(map(str, self.ranks))
        yield "alpha", ", ".join(f"{alpha:g}" for alpha in self.alphas)
        for part, ends in self.layers.items():
            yield "layers", f"{part}: {', '.join(f'{count} {end}' for end, count in ends.items())}"
        yield "numbers", f"{self.numbers:,} in {self.dtype}" if self.dtype else ""


@dataclass(frozen=True)
class Header:
    """What stands before the tensors of a safetensors file."""

    tensors: Mapping[str, tuple[str, tuple[int, ...]]]
    """Format and shape by name."""
    metadata: Mapping[str, str]

    @property
    def dtype(self) -> str:
        """The formats of its numbers; single numbers do not count."""
        found = {FORMATS.get(kind, kind.lower()) for kind, shape in self.tensors.values() if len(shape) > 0}
        return ", ".join(sorted(found))

    @property
    def numbers(self) -> int:
        """How many numbers the tensors have together."""
        total = 0
        for _, shape in self.tensors.values():
            count = 1
            for side in shape:
                count *= side
            total += count
        return total


def header(path: Path) -> Header:
    """The header of a safetensors file.

    Raises: BespokeError when there is none, or it is damaged.
    """
    hint = "Name a .safetensors file. A .ckpt, .pt or .bin can hold programs, and is not opened."
    if path.suffix != ".safetensors":
        raise BespokeError(f"{path} is no safetensors file.", hint)
    try:
        with safe_open(path, "pt") as file:
            slices = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118 - it is no dictionary
            tensors = {key: (str(part.get_dtype()), tuple(part.get_shape())) for key, part in slices.items()}
            return Header(tensors, dict(file.metadata() or {}))
    except (SafetensorError, OSError) as error:
        raise BespokeError(f"{path} cannot be read: {str(error).splitlines()[0]}", hint) from None


def passport(path: Path) -> Passport:
    """What a safetensors file is.

    Raises: BespokeError when it cannot be read.
    """
    head = header(path)
    what, form = _kind(head)
    if what in ("LoRA", "DoRA", "LoHa", "LoKr", "OFT", "BOFT"):
        ranks, alphas = _ranks(head), _alphas(head, path)
        about: dict[str, Any] = {"ranks": ranks, "alphas": alphas, "layers": _layers(head)}
    else:
        about = {}
    family = _family(head)
    if form == THREE:
        about["version"] = threefile.version_of(head.tensors)
    loads = LOADS.get((what, form), ()) if family else ()
    if what in ("OFT", "BOFT") and "bespoke_adapter" in head.metadata:
        loads = (*loads, "bespoke")
    if family == threefile.FAMILY and form in ("kohya", "LyCORIS"):
        loads = tuple(name for name in loads if name not in UNREAD)
    if family not in TUNED:
        loads = tuple(name for name in loads if name != "bespoke")
    return Passport(
        path, what, form, family, dtype=head.dtype, numbers=head.numbers, loads=loads, **about, **_told(head.metadata)
    )


def _kind(head: Header) -> tuple[str, str]:
    """What a file is, and whose names its tensors have."""
    names = head.tensors
    if LDM in names:
        return "whole model", "one file, CompVis's layout"
    if MMDIT in names:
        return "whole model", THREE
    for kind, pattern in SPELT:
        if any(re.search(pattern, name) for name in names):
            return kind, _form(kind, names)
    if "words" in _read(head.metadata, "bespoke"):
        return "new words", "bespoke"
    if names and len(names) <= len(TOKENS) and all(len(shape) in (1, 2) for _, shape in names.values()):
        several = set(names) <= set(TOKENS) and len(names) > 1
        if several or len(names) == 1:
            return "textual inversion", "a key for each encoder" if several else "one key"
    return "unknown", ""


def _form(kind: str, names: Mapping[str, Any]) -> str:
    first = next(iter(names))
    if first.startswith(("lora_", "lycoris_")) and kind in ("LoHa", "LoKr", "OFT"):
        return "LyCORIS"
    if first.startswith("lora_"):
        return "kohya"
    return "peft" if any(".lora_A." in name or "_R" in name for name in names) else "diffusers"


def _family(head: Header) -> str:
    """The family by what the file says, by names, or by how wide the states of texts are."""
    said = head.metadata.get("modelspec.architecture", "") + head.metadata.get("ss_base_model_version", "")
    spelt = "clip_g" in head.tensors and {"t5xxl", "t5"} & {*head.tensors}
    three = [threefile.FAMILY] if spelt or re.search("diffusion-v?3", said) else []
    names = (family for name, family in OTHERS.items() if any(name in key for key in head.tensors))
    if found := next(iter((*three, *names)), ""):
        return found
    if "xl" in said:
        return "SDXL"
    for key, (_, shape) in head.tensors.items():
        if re.search(r"attn2.to_[kv]\.weight$|attn2.*to_[kv].*(down|lora_A|w1_b)", key):
            return WIDTHS.get(shape[-1], f"texts of {shape[-1]} numbers")
        if len(head.tensors) == 1 and len(shape) in (1, 2):
            return WIDTHS.get(shape[-1], f"texts of {shape[-1]} numbers")
    if "clip_l" in head.tensors:
        return WIDTHS.get(head.tensors["clip_l"][1][-1], "")
    v2 = "sd_v2" in said or "diffusion-v2" in said
    return "Stable Diffusion 2.x" if v2 else ("Stable Diffusion 1.x" if "v1" in said else "")


def _ranks(head: Header) -> tuple[int, ...]:
    """The ranks of a file's layers, each once."""
    pattern = r"(lora_down|lora\.down|lora_linear_layer\.down|lora_A(\.\w+)?)\.weight$|hada_w1_b$|lokr_w[12]_b$"
    return tuple(sorted({shape[0] for key, (_, shape) in head.tensors.items() if re.search(pattern, key)}))


def _alphas(head: Header, path: Path) -> tuple[float, ...]:
    """The alphas of a file's layers, each once: single numbers beside them, or what diffusers' metadata say."""
    keys = [key for key in head.tensors if key.endswith(".alpha")]
    if keys:
        with safe_open(path, "pt") as file:
            return tuple(sorted({float(file.get_tensor(key)) for key in keys}))
    told = _read(head.metadata, "lora_adapter_metadata")
    found = {float(value) for key, value in told.items() if key.endswith("lora_alpha")}
    for key, value in told.items():
        found |= {float(alpha) for alpha in value.values()} if key.endswith("alpha_pattern") else set()
    return tuple(sorted(found))


def _layers(head: Header) -> dict[str, dict[str, int]]:
    """How many layers of each part are changed, by the ends of their names."""
    found: dict[str, dict[str, int]] = {}
    for layer in sorted({_layer(key) for key in head.tensors}):
        second = layer.startswith(("lora_te2", "text_encoder_2"))
        part = "text encoder" if layer.startswith(("lora_te", "text_encoder")) else "unet"
        part = "transformer" if re.match(TRANSFORMER, layer) else part
        part += " 2" if second else ""
        end = re.search(ENDS, layer)
        name = end[1] if end else layer
        counts = found.setdefault(part, {})
        counts[name] = counts.get(name, 0) + 1
    return found


def _layer(key: str) -> str:
    """The layer that a tensor of an adapter is for, with underlines."""
    if key.startswith(("lora_", "lycoris_")):
        return key.partition(".")[0]
    return re.split(r"[._](?:lora|oft|boft)[._]", key)[0].replace(".", "_")


def _read(metadata: Mapping[str, str], key: str) -> dict[str, Any]:
    """An object that is written as JSON in a file's metadata; nothing where there is none."""
    try:
        found: Any = json.loads(metadata.get(key, "{}"))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _told(metadata: Mapping[str, str]) -> dict[str, Any]:
    """What a file's metadata say of its origin."""
    own = _read(metadata, "bespoke")
    base: Mapping[str, Any] = own.get("base", {})
    words = [word["surface"] for word in (*own.get("words", ()), *([own["word"]] if "word" in own else []))]
    hashes = (metadata.get("ss_new_sd_model_hash"), metadata.get("ss_sd_model_hash"), base.get("text_encoder"))
    kept = ("ss_network_module", "ss_network_dim", "ss_network_alpha", "ss_sd_model_name", "ss_output_name")
    training = {
        key.removeprefix("ss_"): value
        for key, value in sorted(metadata.items())
        if key.startswith("ss_") and key not in kept and len(value) <= 120
    }
    return {
        "base": metadata.get("ss_sd_model_name") or str(base.get("name", "")),
        "base_hash": str(next(filter(None, hashes), "")),
        "title": metadata.get("modelspec.title") or metadata.get("ss_output_name") or "",
        "trigger": metadata.get("modelspec.trigger_phrase", ""),
        "words": tuple(words),
        "licence": metadata.get("modelspec.license", ""),
        "training": training,
    }
