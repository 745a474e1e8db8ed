"""Files of models and adapters loaded as other programs load them, each with the name of what loaded it."""

import json
from pathlib import Path
from typing import Any

import torch

from bespoke.models import adapterfile, formulas, kohyafile, threefile
from bespoke.models.families import networks_of
from bespoke.models.load import Checkpoint, find
from bespoke.models.runtimes import Runtime
from bespoke.models.unpacking import RESCALED

ALONE: dict[str, Any] = {"local_files_only": True}
UNCHECKED: dict[str, Any] = ALONE | {"safety_checker": None, "requires_safety_checker": False}


def folder(path: Path) -> tuple[Any, str]:
    """A model's folder, by plain diffusers."""
    from diffusers import DiffusionPipeline

    index = json.loads((path / "model_index.json").read_text(encoding="utf-8"))
    options = UNCHECKED if "safety_checker" in index else ALONE
    return DiffusionPipeline.from_pretrained(path, dtype=torch.float32, **options), "diffusers' from_pretrained"


def single_file(path: Path, checkpoint: Checkpoint) -> tuple[Any, str]:
    """A model in one file, by diffusers with the configurations of its base."""
    import diffusers

    kind: Any = getattr(diffusers, checkpoint.family.pipeline)
    options = (UNCHECKED if checkpoint.family.checked else ALONE) | dict.fromkeys(checkpoint.lacked)
    pipeline = kind.from_single_file(str(path), config=str(checkpoint.folder), torch_dtype=torch.float32, **options)
    if hasattr(pipeline, "transformer"):
        threefile.mend(pipeline, path)
    if checkpoint.rescaled:  # a file of weights says nothing of the schedule
        pipeline.scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config, **RESCALED)
    return pipeline, "diffusers' from_single_file"


def by_diffusers(path: Path, checkpoint: Checkpoint) -> tuple[Any, str]:
    """A LoRA on its base, by diffusers' `load_lora_weights`, which has a reader for kohya's form."""
    pipeline = checkpoint.pipeline(safety_checker=False)
    found = kohyafile.readable(path, networks_of(pipeline))
    pipeline.load_lora_weights(found, weight_name=path.name)
    adapterfile.mend(networks_of(pipeline), path)
    turned = "" if isinstance(found, str) else ", kohya's names turned into its own"
    return pipeline, f"diffusers' load_lora_weights{turned}"


def by_formulas(path: Path, checkpoint: Checkpoint, *, as_comfyui: bool) -> tuple[Any, str]:
    """An adapter worked into its base by the formulas that the programs publish which read it."""
    pipeline = checkpoint.pipeline(safety_checker=False)
    formulas.work_in(networks_of(pipeline), path, as_comfyui=as_comfyui)
    return pipeline, f"{'ComfyUI' if as_comfyui else 'LyCORIS'}'s published formulas"


def by_runtime(path: Path, runtime: Runtime) -> tuple[Any, str]:
    """A model exported for a runtime, each network computed by that."""
    return find(str(path)).pipeline(safety_checker=False), runtime.title
