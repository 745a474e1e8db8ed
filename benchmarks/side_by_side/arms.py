"""The commands that are compared: `bespoke train`, and diffusers' example script as its documentation runs it."""

import hashlib
import json
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from bespoke.recipe.files import load

ROOT = Path(__file__).parents[2]
NEVER = 1_000_000
"""A step that no run reaches: so often states and pictures are made."""
LIBRARIES = ("torch", "diffusers", "transformers", "peft", "accelerate", "datasets", "torchvision")


@dataclass(frozen=True)
class Work:
    """What every arm does."""

    model: Path
    pictures: Path
    folder: Path
    """An empty folder for what the arms write."""
    steps: int
    """Steps of a run, those of the warm-up among them."""
    batch: int
    """Pictures of a step, of each process."""
    side: int
    rank: int
    threads: int
    processes: int = 1

    @property
    def launcher(self) -> list[str]:
        """What comes before a program that several processes run."""
        several = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={self.processes}"]
        return several if self.processes > 1 else []

    def environment(self) -> dict[str, str]:
        """The environment of every run but for the hook."""
        fixed = {"OMP_NUM_THREADS": str(self.threads), "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
        return {**os.environ, **fixed, "HF_DATASETS_CACHE": str(self.folder / "datasets")}


@dataclass(frozen=True)
class Arm:
    """One program with its settings."""

    name: str
    python: str
    prepare: tuple[str, ...]
    """Arguments of the command that is run once before, outside all figures; nothing where there is none."""
    command: tuple[str, ...]
    """Arguments of the command that is measured."""
    fresh: tuple[Path, ...]
    """What is deleted before each run, so that none finds what another one computed."""
    source: str = ""
    """A folder that it is read from, where it is not installed."""
    project: Path | None = None
    """What the preparation makes, if there is one."""

    def versions(self) -> dict[str, str]:
        """The libraries that its interpreter finds, and Python's own version."""
        code = (
            "import importlib.metadata as m, importlib.util as u, json, platform as p, sys\n"
            "found = {n: m.version(n) for n in sys.argv[1:] if u.find_spec(n)}\n"
            "print(json.dumps({'python': p.python_version(), **found}))"
        )
        said = subprocess.run([self.python, "-c", code, *LIBRARIES], capture_output=True, text=True, check=True)
        return json.loads(said.stdout)


def ours(work: Work, settings: str) -> Arm:
    """`bespoke train` on a project of its own; `settings` are more of the recipe's, such as "train.max_grad_norm=9"."""
    more = shlex.split(settings)
    place = work.folder / f"bespoke-{hashlib.sha256(settings.encode()).hexdigest()[:8]}"
    sets = [word for value in (*_same_as_theirs(work), *more) for word in ("--set", value)]
    new = ("-m", "bespoke", "new", str(place), "--images", str(work.pictures), "--base", str(work.model), *sets)
    train = (*work.launcher, "-m", "bespoke", "train", str(place / "recipe.toml"), "--json")
    name, fresh = ", ".join(["bespoke", *more]), (place / "cache", place / "runs")
    return Arm(name, sys.executable, new, train, fresh, str(ROOT / "src"), place)


def _same_as_theirs(work: Work) -> list[str]:
    """The settings of a recipe by which it does the same work as the script with its defaults, and nothing beside it.

    Source: the defaults in `parse_args` of diffusers' `train_text_to_image_lora.py`.
    """
    same = {
        "model.rank": work.rank, "data.resolution": work.side, "train.train_batch_size": work.batch,
        "train.max_train_steps": work.steps, "train.learning_rate": 1e-4, "train.lr_scheduler": "constant",
        "train.lr_warmup_steps": 0, "train.adam_beta2": 0.999, "text.proportion_empty_prompts": 0,
        "text.brackets": "letters", "train.num_class_images": 0,
    }  # fmt: skip
    nothing_beside = {
        "data.validation_fraction": 0, "sample.sample_every_n_steps": 0, "train.save_every_n_epochs": 0,
        "train.checkpointing_steps": NEVER, "validation.validation_steps": NEVER,
    }  # fmt: skip
    return [f"{key}={value}" for key, value in {**same, **nothing_beside}.items()]


def theirs(work: Work, script: Path, python: str, arguments: str) -> Arm:
    """The example script with its documented arguments; `arguments` are more, such as "--mixed_precision bf16"."""
    more, output = shlex.split(arguments), work.folder / "peer"
    command = [
        *work.launcher, str(script), f"--pretrained_model_name_or_path={work.model}",
        f"--train_data_dir={work.pictures}", "--caption_column=text", f"--resolution={work.side}",
        f"--train_batch_size={work.batch}", f"--max_train_steps={work.steps}", f"--rank={work.rank}", "--seed=0",
        f"--checkpointing_steps={NEVER}", f"--output_dir={output}", *more,
    ]  # fmt: skip
    name = ", ".join([script.stem, *([" ".join(more)] if more else [])])
    return Arm(name, python, (), tuple(command), (output, work.folder / "datasets"))


def precision(arm: Arm) -> str:
    """The number format that an arm computed in: of ours what its last run says, of theirs what it was told."""
    if arm.project:
        (recipe,) = arm.project.glob("runs/*/recipe.toml")
        return load(recipe).train.mixed_precision or "no"
    words = [part for word in arm.command for part in word.split("=", 1)]
    return words[words.index("--mixed_precision") + 1] if "--mixed_precision" in words else "no"


def told(arm: Arm, work: Work) -> list[str]:
    """The commands as a person types them elsewhere: places of this machine have names instead."""
    names = {str(work.model): "MODEL", str(work.pictures): "PICTURES", str(work.folder): "FOLDER"}
    names |= {word: Path(word).name for word in arm.command if word.endswith(".py")}
    lines = [" ".join(["python", *arguments]) for arguments in (arm.prepare, arm.command) if arguments]
    for place, name in names.items():
        lines = [line.replace(place, name) for line in lines]
    return lines
