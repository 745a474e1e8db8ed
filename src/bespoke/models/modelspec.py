"""What a file says of itself in its metadata: Stability AI's ModelSpec, and the keys that kohya's trainer writes."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import safetensors.torch
from torch import Tensor

from bespoke.models.load import Checkpoint
from bespoke.models.marks import settle
from bespoke.workspace import atomic_file

VERSION = "1.0.0"
DIFFUSERS, STABILITY = "diffusers", "https://github.com/Stability-AI/generative-models"
"""ModelSpec's words for whose code defines a layout."""
KINDS = {"1": "sd_v1", "2": "sd_v2", "xl": "sdxl_base_v1-0", "3": "medium", "3.5": "5-medium"}
"""Kinds of bases by kohya's names. Source: kohya's sdxl_train_network.py and library/sai_model_spec.py; of
a Stable Diffusion 3 the `model_type` of its library/sd3_utils.py."""
PREDICTIONS = {"v_prediction": "v", "epsilon": "epsilon"}
"""ModelSpec's words for what a network predicts; of a flow kohya's trainer says none."""
BLOCK = 0x100000
"""Where kohya's older mark of a file begins."""


@dataclass(frozen=True)
class Facts:
    """What is known of a model where it is written."""

    title: str
    base: str
    kind: str
    """The base's kind, as `KINDS` has it."""
    prediction: str
    """`epsilon`, `v_prediction` or `flow`."""
    resolution: int
    trigger: str = ""
    words: tuple[str, ...] = ()
    """New words that prompts may have."""
    licence: str = ""
    date: str = ""
    """When it was made, as ISO 8601 has it."""
    training: Mapping[str, str] = field(default_factory=dict[str, str])
    """How it was trained, by kohya's keys."""

    @staticmethod
    def of(checkpoint: Checkpoint, title: str) -> "Facts":
        """What a checkpoint's own files say."""
        text = json.loads((checkpoint.part("text_encoder") / "config.json").read_text(encoding="utf-8"))
        prediction = "flow" if checkpoint.flows else str(checkpoint.scheduler_config.get("prediction_type", "epsilon"))
        kind = "xl" if checkpoint.family.sized else "2" if text.get("hidden_act") == "gelu" else "1"
        if checkpoint.joint_width:
            kind = "3.5" if checkpoint.config("transformer").get("dual_attention_layers") else "3"
        return Facts(title, checkpoint.name, kind, prediction, checkpoint.resolution)

    @property
    def architecture(self) -> str:
        """ModelSpec's name of the base's kind. Source: kohya's library/sai_model_spec.py; of 3.x as SwarmUI has it."""
        if self.kind in ("3", "3.5"):
            return f"stable-diffusion-v{self.kind}-medium"
        if self.kind == "2":
            return "stable-diffusion-v2-768-v" if self.prediction == "v_prediction" else "stable-diffusion-v2-512"
        return "stable-diffusion-v1" if self.kind == "1" else "stable-diffusion-xl-v1-base"


@dataclass(frozen=True)
class Network:
    """What kohya's keys say of an adapter."""

    module: str
    """Which of its modules reads it: `networks.lora` or `lycoris.kohya`."""
    ranks: frozenset[int]
    alphas: frozenset[float]
    args: Mapping[str, str] = field(default_factory=dict[str, str])


def write(
    content: Mapping[str, Tensor], path: Path, facts: Facts, network: Network | None, own: Mapping[str, str] = {}
) -> dict[str, str]:
    """The metadata of a file of these tensors, which is written with it, atomically; equal contents are equal files.

    `network` is for adapters; `own` are further keys. Source: https://github.com/Stability-AI/ModelSpec; kohya's
    train_network.py and library/train_util.py (`ss_…`, `sshs_…`).
    """
    told = _kohya(facts, network) if network else {}
    told |= _modelspec(facts, network) | dict(own) | {"format": "pt"}
    tensors = {key: value.contiguous() for key, value in content.items()}
    if network:
        told["sshs_model_hash"], told["sshs_legacy_hash"] = kohya_hashes(tensors, told)
    told["modelspec.hash_sha256"] = f"0x{_data_hash(tensors)}"
    _save(tensors, path, told)
    return told


def store(content: Mapping[str, Tensor], path: Path, told: Mapping[str, str]) -> None:
    """Writes tensors that keep what their file said of them, with a new hash, atomically."""
    tensors = {key: value.contiguous() for key, value in content.items()}
    _save(tensors, path, {**told, "format": "pt", "modelspec.hash_sha256": f"0x{_data_hash(tensors)}"})


def _save(tensors: dict[str, Tensor], path: Path, told: dict[str, str]) -> None:
    with atomic_file(path) as temporary:
        safetensors.torch.save_file(tensors, temporary, told)
        settle(temporary)


def kohya_hashes(content: Mapping[str, Tensor], metadata: Mapping[str, str]) -> tuple[str, str]:
    """Kohya's two marks of an adapter: of its tensors, and of a block of the file as it is with `ss_` keys alone.

    Source: `precalculate_safetensors_hashes` in kohya's library/train_util.py.
    """
    kept = {key: value for key, value in metadata.items() if key.startswith("ss_")}
    whole = safetensors.torch.save(dict(content), kept)
    return hashlib.sha256(_data(whole)).hexdigest(), hashlib.sha256(whole[BLOCK : BLOCK + 0x10000]).hexdigest()[:8]


def legacy_hash(path: Path) -> str:
    """The eight digits by which A1111 first knew models. Source: `model_hash` in kohya's library/train_util.py."""
    with path.open("rb") as file:
        file.seek(BLOCK)
        return hashlib.sha256(file.read(0x10000)).hexdigest()[:8]


def _modelspec(facts: Facts, network: Network | None) -> dict[str, str]:
    told = {
        "modelspec.sai_model_spec": VERSION,
        "modelspec.architecture": facts.architecture + ("/lora" if network else ""),
        "modelspec.implementation": DIFFUSERS if network else STABILITY,
        "modelspec.title": facts.title,
        "modelspec.resolution": f"{facts.resolution}x{facts.resolution}",
        "modelspec.prediction_type": PREDICTIONS.get(facts.prediction, ""),
        "modelspec.trigger_phrase": facts.trigger,
        "modelspec.license": facts.licence,
        "modelspec.date": facts.date,
        "modelspec.usage_hint": f"New words: {', '.join(facts.words)}" if facts.words else "",
    }
    return {key: value for key, value in told.items() if value}


def _kohya(facts: Facts, network: Network) -> dict[str, str]:
    several = "Dynamic"  # as kohya's networks/resize_lora.py says it
    dims = {f"{next(iter(network.ranks))}"} if len(network.ranks) == 1 else {several}
    alphas = {f"{next(iter(network.alphas)):g}"} if len(network.alphas) == 1 else {several}
    told = {
        "ss_network_module": network.module,
        "ss_network_dim": dims.pop(),
        "ss_network_alpha": alphas.pop(),
        "ss_base_model_version": KINDS[facts.kind],
        "ss_v2": str(facts.kind == "2"),
        "ss_sd_model_name": facts.base,
        "ss_output_name": facts.title,
        "ss_resolution": f"({facts.resolution}, {facts.resolution})",
    }
    told |= {"ss_network_args": json.dumps(dict(network.args), sort_keys=True)} if network.args else {}
    return told | dict(facts.training)


def _data(whole: bytes) -> bytes:
    """A safetensors file's tensors, without what stands before them."""
    return whole[8 + int.from_bytes(whole[:8], "little") :]


def _data_hash(content: Mapping[str, Tensor]) -> str:
    """The SHA-256 of the tensors one after another as the file has them."""
    return hashlib.sha256(_data(safetensors.torch.save(dict(content)))).hexdigest()
