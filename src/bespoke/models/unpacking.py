"""A whole model in one file, as A1111 and ComfyUI share them, turned into a folder in diffusers' layout; offline."""

import gzip
import hashlib
import json
import os
import pickle
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from bespoke.errors import BespokeError
from bespoke.models import threefile
from bespoke.models.families import family_of
from bespoke.models.passport import Header, Passport, header, passport
from bespoke.models.quietly import quiet
from bespoke.models.singlefile import ZERO, V
from bespoke.workspace import cache

HERE = Path(__file__).parent
CONFIGS = HERE / "configs"
SHIPPED = {
    "pico": HERE / "pico",
    "Stable Diffusion 1.x": CONFIGS / "sd1",
    "Stable Diffusion 2.x": CONFIGS / "sd2",
    "SDXL": CONFIGS / "sdxl",
}
"""The folder of each family's settings."""
THIRDS = {"3": CONFIGS / "sd3", "3.5": CONFIGS / "sd35"}
"""Those of Stable Diffusion 3 and 3.5, medium, by version; without T5, whose vocabulary does not come along."""
SECOND_V = CONFIGS / "sd2v"
TELLING = "model.diffusion_model.output_blocks.11.1.transformer_blocks.0.norm1.bias"
WIDE = 0.09
"""A Stable Diffusion 2 whose numbers there deviate by more predicts v. Source: ComfyUI's comfy/supported_models.py."""
START, END = "<|startoftext|>", "<|endoftext|>"
EMA, UNET = "model_ema.", "model.diffusion_model."
DTYPES = {"F16": torch.float16, "BF16": torch.bfloat16}
FEW = ("F8_E4M3", "F8_E5M2")
"""Formats whose numbers are exact in those; networks are not kept in them."""
LEFT_OUT = "left-out.json"
"""What of a file is not in the folder that was made of it."""
NOISES = ("edm_mean", "edm_vpred.sigma_max")
"""Tensors of an SDXL that learnt with other noise: Playground 2.5, CosXL. Source: as `_schedule`."""
RESCALED = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
"""A scheduler that begins to draw from noise alone. Source: Lin et al. 2024, sections 3.1 and 3.3."""


def cached(path: Path) -> Path:
    """The folder of a model in one file, unpacked into this person's cache unless it is there already.

    Raises: BespokeError as `unpack`.
    """
    facts = path.stat()
    mark = hashlib.sha256(f"{path.resolve()} {facts.st_size} {facts.st_mtime_ns}".encode()).hexdigest()[:16]
    folder = cache() / "models" / mark
    if not (folder / "model_index.json").is_file():
        unpack(path, folder)
    return folder


def unpack(path: Path, folder: Path, config: Path | None = None, *, ema: bool = False) -> Passport:
    """Writes a model in one file as a folder in diffusers' layout; what it is.

    Its number format is the file's, of several the least that loses nothing: half of it where T5 alone is in 8 bits.

    `config` is a folder with the settings of its networks; by default those that come with the package. With `ema` the
    UNet is the running average that the file holds beside its weights.

    Raises: BespokeError when the file is no whole model, of a family whose settings are not there, or does not fit.
    """
    found = passport(path)
    if found.what != "whole model":
        hint = "Name a whole model. An adapter goes with its base: model.adapter_file, or a run."
        raise BespokeError(f"{path} is no whole model, but: {found.what}.", hint)
    settings = config or SHIPPED.get(found.family) or THIRDS.get(found.version)
    if settings is None:
        hint = (
            "Known are Stable Diffusion 1.x, 2.x, XL, 3 and 3.5 medium; for others give --config FOLDER of a model of "
            "the same shape."
        )
        family = f"{found.family or 'unknown'}{f' ({found.version})' if found.version else ''}"
        raise BespokeError(f"{path} is of a family without settings here: {family}.", hint)
    if config is None and found.family == "Stable Diffusion 2.x" and predicts_v(path):
        settings = SECOND_V
    schedule = {} if found.version else _schedule(path, header(path))  # flow matching has one way to predict
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".unpacked-") as temporary:
        staged, written = Path(temporary) / "config", Path(temporary) / "model"
        _stage(settings, staged, schedule)
        if ema:
            path = _averaged(path, Path(temporary) / "averaged.safetensors")
        _convert(path, staged, _format(header(path)), written)
        if has_t5(path) and not (written / "text_encoder_3").is_dir():
            (written / LEFT_OUT).write_text(json.dumps(["T5"]), encoding="utf-8")
        os.replace(written, folder)
    return found


def has_average(path: Path) -> bool:
    """Whether a model in one file holds a running average (EMA) of its UNet beside the weights."""
    return any(key.startswith(EMA) for key in header(path).tensors)


def has_t5(path: Path) -> bool:
    """Whether a Stable Diffusion 3 in one file holds T5."""
    return any(key.startswith(threefile.TEXTS["text_encoder_3"]) for key in header(path).tensors)


def left_out(folder: Path) -> tuple[str, ...]:
    """What a file held that is not in the folder which was made of it."""
    file = folder / LEFT_OUT
    return tuple(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else ()


def _format(head: Header) -> torch.dtype:
    """The number format of few bits that all numbers of a file are exact in; else float32."""
    kinds = {kind for kind, shape in head.tensors.values() if len(shape) > 0 and kind[0] in "FB" and kind not in FEW}
    return DTYPES.get(kinds.pop(), torch.float32) if len(kinds) == 1 else torch.float32


def _averaged(path: Path, out: Path) -> Path:
    """A file whose UNet is the running average in another. Source: CompVis's ldm/modules/ema.py (names without dots).

    Raises: BespokeError when there is none, or it lacks a layer.
    """
    content = load_file(path)
    names = {key: EMA + "".join(key.split(".")[1:]) for key in content if key.startswith(UNET)}
    lacking = [key for key, name in names.items() if name not in content]
    if lacking:
        problem = (
            f"{path} holds no running average (EMA) of {'its UNet' if len(lacking) == len(names) else lacking[0]}."
        )
        raise BespokeError(problem, "Leave --ema out.")
    averages = {key: content[name] for key, name in names.items()}
    save_file({key: value for key, value in content.items() if not key.startswith(EMA)} | averages, out)
    return out


def predicts_v(path: Path) -> bool:
    """Whether a Stable Diffusion 2 in one file predicts v: what it says or, where it says nothing, how it looks."""
    with safe_open(path, "pt") as file:
        said = (file.metadata() or {}).get("modelspec.prediction_type", "")
        if said or TELLING not in file.keys():  # noqa: SIM118 - it is no dictionary
            return said.startswith("v")
        return float(file.get_tensor(TELLING).float().std(correction=0)) > WIDE


def from_pickle(path: Path, out: Path) -> None:
    """Writes the tensors of a .ckpt as a safetensors file; only plain tensors are read, no program in it is run.

    Raises: BespokeError when it holds anything else.
    """
    content = unpickled(path)
    state = content.get("state_dict", content)
    save_file({k: v.contiguous().clone() for k, v in state.items() if isinstance(v, torch.Tensor)}, out)


def unpickled(path: Path) -> dict[str, Any]:
    """What a pickle of PyTorch holds by name; only tensors and plain values are read, no program in it is run.

    Raises: BespokeError when it holds anything else.
    """
    hint = "Ask its maker for a safetensors file."
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        first = str(error).splitlines()[0]
        raise BespokeError(f"{path} holds more than tensors, or is damaged: {first}", hint) from None
    if not isinstance(content, dict):
        raise BespokeError(f"{path} holds no tensors by name.", hint)
    return content


def _convert(path: Path, config: Path, dtype: torch.dtype, out: Path) -> None:
    index = json.loads((config / "model_index.json").read_text(encoding="utf-8"))
    family = family_of(index["_class_name"], str(path))
    lacks = threefile.lacks(header(path).tensors) if family.optional else []
    if set(lacks) - set(family.optional):
        hint = "Take the file that has them in it (…_incl_clips), or the folder in diffusers' layout."
        raise BespokeError(f"{path} has no text encoders.", hint)
    without = lacks or not all((index.get(part) or [None])[0] for part in family.optional)
    with quiet():
        import diffusers

        options: dict[str, Any] = {"local_files_only": True, "torch_dtype": dtype}
        options |= {"safety_checker": None, "requires_safety_checker": False} if family.checked else {}
        hint = "Download it again, or give --config FOLDER of a model of the same shape."
        options |= dict.fromkeys(family.optional) if without else {}
        try:
            kind: Any = getattr(diffusers, family.pipeline)
            pipeline: Any = kind.from_single_file(str(path), config=str(config), **options)
            if family.optional:
                threefile.mend(pipeline, path)
        except (RuntimeError, ValueError, KeyError, OSError) as error:
            raise BespokeError(f"{path} does not fit its family: {str(error).splitlines()[0]}", hint) from None
        networks = {name: getattr(pipeline, name) for name in ("vae", *family.worded, *family.optional)}
        for name in (name for name, network in networks.items() if hasattr(network, "state_dict")):
            weights = networks[name].state_dict().items()
            if lacking := next((key for key, weight in weights if weight.is_meta), ""):  # which diffusers leaves so
                raise BespokeError(f"{path} does not fit its family: it lacks {name}.{lacking}.", hint)
        pipeline.save_pretrained(out)


def _schedule(path: Path, head: Header) -> dict[str, Any]:
    """What a file says of its scheduler: what is predicted, and where the schedule ends.

    Source: ModelSpec 1.0.0; ComfyUI's comfy/supported_models.py, which reads the names of an SDXL's tensors.

    Raises: BespokeError when it learnt with noise of a kind that is not built here.
    """
    if strange := next((name for name in NOISES if name in head.tensors), ""):
        problem = f"{path} is an SDXL that learnt with another noise (EDM): it holds {strange}."
        raise BespokeError(problem, "Take a model that predicts the noise or v; this kind is not built here.")
    said = "v" if V in head.tensors else head.metadata.get("modelspec.prediction_type", "")
    told = {"prediction_type": "v_prediction" if said.startswith("v") else said} if said else {}
    return told | (RESCALED if V in head.tensors and ZERO in head.tensors else {})


def _stage(settings: Path, out: Path, schedule: Mapping[str, Any]) -> None:
    """Settings as diffusers reads them: with tokenizers, and with what the file says of its scheduler."""
    shutil.copytree(settings, out, ignore=shutil.ignore_patterns("*.safetensors", "*.bin"))
    for tokenizer in out.glob("tokenizer*"):
        if not any((tokenizer / name).exists() for name in ("vocab.json", "tokenizer.json")):
            merges = gzip.decompress((CONFIGS / "merges.txt.gz").read_bytes()).decode()
            (tokenizer / "merges.txt").write_text(f"#version: 0.2\n{merges}", encoding="utf-8")
            (tokenizer / "vocab.json").write_text(json.dumps(_vocabulary(merges)), encoding="utf-8")
    if schedule:
        scheduler = out / "scheduler" / "scheduler_config.json"
        told = json.loads(scheduler.read_text(encoding="utf-8"))
        scheduler.write_text(json.dumps(told | dict(schedule), indent=2), encoding="utf-8")


def _vocabulary(merges: str) -> dict[str, int]:
    """CLIP's 49,408 tokens: letters of bytes, the same at a word's end, merges, start and end.

    Source: `SimpleTokenizer` and `bytes_to_unicode` of openai/CLIP.
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    letters = [chr(b) for b in printable] + [chr(256 + n) for n in range(256 - len(printable))]
    joined = ["".join(line.split()) for line in merges.splitlines()]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *joined, START, END]
    return {token: number for number, token in enumerate(tokens)}
