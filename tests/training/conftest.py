"""What the training tests share: ten flat drawings, encoded once by pico, and trainers on copies of one UNet."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image, ImageDraw

NOUNS = ("cat", "dog", "house", "tree", "fish", "moon", "car", "cup", "star", "boat")
SMALL = {
    "max_train_steps": 8,
    "train_batch_size": 2,
    "learning_rate": 1e-3,
    "lr_warmup_steps": 2,
    "mixed_precision": "no",
    "checkpointing_steps": 3,
    "num_class_images": 0,
    "log_every": 1,
    "save_every_n_epochs": 0,
}


def drawing(number: int) -> Image.Image:
    """A flat picture that no other number gives: another colour, another number of corners, another size."""
    image = Image.new("RGB", (64, 64), (25 * number, 255 - 20 * number, 60 + 15 * number))
    ImageDraw.Draw(image).regular_polygon((32, 32, 8 + 2 * number), 3 + number, fill=(255 - 25 * number, 30, 200))
    return image


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten PNGs with captions beside them."""
    folder = tmp_path_factory.mktemp("pictures")
    for number, noun in enumerate(NOUNS):
        drawing(number).save(folder / f"{noun}.png")
        (folder / f"{noun}.txt").write_text(f"8bit illustration of a {noun}", encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def checkpoint() -> Any:
    from bespoke.models import find

    return find("pico")


@pytest.fixture(scope="session")
def recipe() -> Callable[..., Any]:
    """Small recipes in which nothing is left open; keywords are sections."""
    from bespoke.recipe import parse

    def make(**sections: dict[str, Any]) -> Any:
        content: dict[str, Any] = {
            "model": {"rank": 4},
            "data": {"resolution": 64},
            "text": {"trigger": "8bit illustration of"},
            "train": SMALL,
            "validation": {"validation_steps": 2, "strata": 1, "early_stopping": False},
        }
        for name, keys in sections.items():
            content[name] = {**content.get(name, {}), **keys} if isinstance(keys, dict) else keys
        return parse(content, "the test's recipe")

    return make


@pytest.fixture(scope="session")
def material(pictures: Path, encode: Callable[..., Any]) -> Any:
    """The ten drawings as training reads them: eight to learn from, two to measure by."""
    made = encode(pictures)
    assert len(made.train) + len(made.validation) == len(NOUNS)
    assert made.validation
    return made


@pytest.fixture(scope="session")
def tokens(pictures: Path, encode: Callable[..., Any]) -> Any:
    """The ten drawings for a text encoder that is trained: tokens in place of its states."""
    return encode(pictures, train={"train_text_encoder": True})


SIZES = {"cat": (100, 60), "fish": (50, 90), "house": (320, 200), "moon": (96, 60), "car": (40, 70)}
"""Sizes of the drawings that are not square in the mixed material; two are smaller than their shape."""


@pytest.fixture(scope="session")
def mixed(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ten drawings as PNGs with captions, five of them wide or high; two count more than once."""
    folder = tmp_path_factory.mktemp("mixed")
    rows = ["file_name,text,repeats"]
    for number, noun in enumerate(NOUNS):
        drawing(number).resize(SIZES.get(noun, (64, 64))).save(folder / f"{noun}.png")
        rows.append(f"{noun}.png,8bit illustration of a {noun},{2 if noun in ('cat', 'tree') else 1}")
    (folder / "metadata.csv").write_text("\n".join(rows), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def encode(checkpoint: Any, recipe: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Encodes a folder of pictures for a recipe, each time in the same project or in a fresh one."""
    from bespoke import data
    from bespoke.pipeline.material import Encoder
    from bespoke.pipeline.reporting import silent
    from bespoke.recipe import parse
    from bespoke.workspace import Project

    def make(source: Path, root: Path | None = None, report: Any = silent, **sections: dict[str, Any]) -> Any:
        project = Project(root or tmp_path_factory.mktemp("project"))
        split = parse({"data": {"validation_fraction": 0.2}}, "the test")
        dataset = data.build(source, project.root / "dataset", split)
        return Encoder(project, checkpoint, recipe(**sections), report).material(dataset, project.root / "dataset")

    return make


@pytest.fixture(scope="session")
def mixed_material(mixed: Path, encode: Callable[..., Any]) -> Any:
    """The mixed drawings in buckets, with random versions, as training reads them."""
    return encode(mixed, data={"enable_bucket": True, "crop": "random", "random_flip": True, "image_variations": 2})


@pytest.fixture(scope="session")
def base(checkpoint: Any) -> Any:
    """The pico UNet, never changed: copy it."""
    return checkpoint.denoiser()


@pytest.fixture(scope="session")
def trainer(base: Any, checkpoint: Any, material: Any, recipe: Callable[..., Any]) -> Callable[..., Any]:
    """Makes trainers: each on a copy of the UNet, with a fresh adapter or all weights, as the pipeline makes them."""
    from bespoke.diffusion import Schedule
    from bespoke.models import Checkpoint, tuned
    from bespoke.pipeline.processes import accelerator
    from bespoke.training import Trainer
    from bespoke.workspace import Run

    class Copied(Checkpoint):
        """The checkpoint, whose UNet is copied instead of being read again."""

        def __init__(self) -> None:
            super().__init__(checkpoint.name, checkpoint.folder, checkpoint.family)

        def unet(self) -> Any:
            return copy.deepcopy(base)

    def make(root: Path, *, of: Any = None, scheduler: dict[str, Any] | None = None, **sections: dict[str, Any]) -> Any:
        wanted = recipe(**sections)
        network = tuned(Copied(), wanted)
        schedule = Schedule.from_config({**checkpoint.scheduler_config, **(scheduler or {})})
        return Trainer(network, of or material, schedule, wanted, Run(root), accelerator(wanted.train))

    return make


@pytest.fixture(scope="session")
def everything() -> Callable[[Any], dict[str, torch.Tensor]]:
    """All tensors that training changes, copied: weights, the optimizer's memory, the running average."""

    def tensors(trainer: Any) -> dict[str, torch.Tensor]:
        state = trainer.optimizer.optimizer.state
        moments = {
            f"{kind} {n}": torch.as_tensor(v) for n, p in trainer.parameters.items() for kind, v in state[p].items()
        }
        averages = {f"average {n}": v for n, v in trainer.average.values.items()}
        return {name: t.detach().clone() for name, t in ({**trainer.parameters, **moments, **averages}).items()}

    return tensors
