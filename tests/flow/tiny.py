"""What tests of tiny random models of each family share: plain diffusers' pipelines, projects, runs gone on with."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from pico import families
from PIL import Image

import bespoke
from bespoke import recipe as recipes
from bespoke.models import adapterfile, adapters, find
from bespoke.models import kinds as kinds_of
from bespoke.pipeline.train import resume
from bespoke.recipe.training import Model
from bespoke.workspace import Run

BLOTS = [f"blot of a {name}" for name in ("cat", "dog", "fox", "cow", "pig", "bee", "owl", "car")]
"""Captions of pictures."""
BRIEF = (
    "train.lr_warmup_steps=0", "sample.num_inference_steps=2", "validation.strata=2", "validation.validation_steps=2",
    "train.train_batch_size=2", "train.checkpointing_steps=2", "track.mlflow=false", "track.tensorboard=false",
)  # fmt: skip
"""Settings of trainings of few steps."""


def model_of(kind: str, factory: Any) -> Path:
    """A model of a kind, as `pico.families` has them."""
    folder = factory.mktemp(kind) / "base"
    families.write(kind, folder)
    return folder


def plain_of(folder: Path) -> Any:
    """The model as diffusers alone reads it, which must be told where there is no T5."""
    kind = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))["_class_name"]
    options: dict[str, Any] = {"add_watermarker": False} if "XL" in kind else {}
    if "3" in kind and not (folder / "text_encoder_3").is_dir():
        options |= {"text_encoder_3": None, "tokenizer_3": None}
    pipeline = getattr(diffusers, kind).from_pretrained(folder, **options)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def by_diffusers(pipeline: Any, prompt: str = "blot of a red cat", **more: Any) -> np.ndarray:
    """The picture of seed 3 by a plain pipeline, in whole numbers."""
    generator = torch.Generator("cpu").manual_seed(3)
    made = pipeline(prompt, num_inference_steps=3, guidance_scale=4.0, generator=generator, **more)
    return np.asarray(made.images[0], int)


def project_of(
    base: Path, factory: Any, captions: Sequence[str] = BLOTS,
    size: Callable[[int], tuple[int, int]] = lambda _: (64, 64),
) -> Path:  # fmt: skip
    """A project of pictures of noise with these captions, each of a (width, height) by its number."""
    pictures = factory.mktemp("pictures")
    for number, caption in enumerate(captions):
        width, height = size(number)
        pixels = np.random.default_rng(number).integers(0, 255, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(pictures / f"{number}.png")
        (pictures / f"{number}.txt").write_text(caption)
    return bespoke.new(factory.mktemp("project") / "p", pictures, base=str(base)).project


def again(run: Path) -> Run:
    """A copy of a run of four steps, without whatever came after the second, that goes on from there to the end."""
    copied = Run(run.with_name(f"{run.name}-again"))
    shutil.copytree(run, copied.root)
    for folder in (copied.state(4), copied.last):
        shutil.rmtree(folder)
    (copied.root / "result.json").unlink()
    assert resume(copied.root).steps == 4
    return copied


def family_project(factory: Any, kinds: Sequence[str]) -> Path:
    """A folder with a model of each kind, a run on each, and adapters: of the denoiser, of all parts, a DoRA."""
    folder = factory.mktemp("families")
    for number, kind in enumerate(kinds):
        base, run = folder / kind, folder / "runs" / kind
        families.write(kind, base)
        run.mkdir(parents=True)
        said = {"model": {"base": kind, "rank": 4}, "sample": {"guidance_scale": 4.0, "num_inference_steps": 3}}
        (run / "recipe.toml").write_text(recipes.dump(recipes.parse(said, "the test")))
        shaken(base, run / "adapter.safetensors", 10 * number)
        shaken(base, folder / "loras" / f"{kind}-one.safetensors", 10 * number + 1)
        shaken(base, folder / "loras" / f"{kind}-all.safetensors", 10 * number + 2, parts=find(str(base)).family.worded)
        shaken(base, folder / "loras" / f"{kind}-dora.safetensors", 10 * number + 3, "dora")
    return folder


def shaken(base: Path, file: Path, seed: int, method: str = "lora", parts: Sequence[str] = ()) -> None:
    """Writes an adapter of a model's denoiser, or of these parts, that no training made and everyone sees."""
    checkpoint, networks = find(str(base)), dict[str, Any]()
    source = torch.Generator().manual_seed(seed)
    for part in parts or (checkpoint.family.denoiser,):
        network = networks[part] = checkpoint.network(part)
        wish, groups = Model.model_validate({"method": method, "rank": 4}), checkpoint.family.groups(part)
        adapters.attach(network, kinds_of.config_of(wish, network, groups), seed=0)
        with torch.no_grad():
            for parameter in adapters.trainable(network).values():
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=source))
    file.parent.mkdir(parents=True, exist_ok=True)
    adapterfile.save(networks, file)
