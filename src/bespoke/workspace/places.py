"""Where files lie: those of a project, of a run, and this person's cache."""

import contextlib
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from bespoke.errors import BespokeError


@dataclass(frozen=True)
class Project:
    """The paths of a project's folder."""

    root: Path

    @property
    def recipe(self) -> Path:
        """The recipe."""
        return self.root / "recipe.toml"

    @property
    def cache(self) -> Path:
        """Latents and text states; safe to delete."""
        return self.root / "cache"

    @property
    def runs(self) -> Path:
        """The run folders."""
        return self.root / "runs"

    @property
    def store(self) -> Path:
        """MLflow's store of the runs."""
        return self.root / "bespoke.db"

    @property
    def feedback(self) -> Path:
        """What people say of pictures that a service drew."""
        return self.root / "feedback.db"

    @property
    def samples(self) -> Path:
        """Pictures that the service was allowed to keep, by the hash of what they hold."""
        return self.root / "samples"

    @property
    def updates(self) -> Path:
        """Whether the model in use was to be trained anew, each time that was asked, and what came of it."""
        return self.root / "updates.jsonl"

    @property
    def versions(self) -> Path:
        """The files of registered versions, by the hash of what they hold."""
        return self.root / "versions"

    def new_run(self) -> "Run":
        """A new, empty run folder, named by the time it began (UTC)."""
        stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
        for suffix in ("", *(f"-{n}" for n in range(2, 100))):
            with contextlib.suppress(FileExistsError):
                (self.runs / f"{stamp}{suffix}").mkdir(parents=True)
                return Run(self.runs / f"{stamp}{suffix}")
        raise BespokeError(f"{self.runs} already has a hundred runs of this second", "Wait a second and try again.")


@dataclass(frozen=True)
class Run:
    """The paths of one run's folder."""

    root: Path

    @property
    def recipe(self) -> Path:
        """The recipe as resolved: every derived value written out."""
        return self.root / "recipe.toml"

    @property
    def metrics(self) -> Path:
        """One JSON object a line for each event of the training."""
        return self.root / "metrics.jsonl"

    @property
    def adapter(self) -> Path:
        """The best adapter by validation."""
        return self.root / "adapter.safetensors"

    @property
    def model(self) -> Path:
        """The best weights by validation, where all of them were trained: a whole model in diffusers' layout."""
        return self.root / "model"

    @property
    def begun(self) -> Path:
        """What the training began with and may be changed elsewhere meanwhile: a file of new words."""
        return self.root / "begun" / "words.safetensors"

    @property
    def begun_adapter(self) -> Path:
        """The adapter that it began with, where `model.adapter_file` named one."""
        return self.root / "begun" / "adapter.safetensors"

    @property
    def begun_base(self) -> Path:
        """The hub's commit that it began with, as JSON, where its base came from there."""
        return self.root / "begun" / "base.json"

    @property
    def begun_dataset(self) -> Path:
        """The record of the dataset as it was then."""
        return self.root / "begun" / "dataset.json"

    @property
    def origin(self) -> Path:
        """What it came from, as JSON: hashes and licences of base and pictures, the version of the code."""
        return self.root / "begun" / "origin.json"

    @property
    def attention(self) -> Path:
        """Which way attention of each shape is computed, as JSON, where that was measured."""
        return self.root / "begun" / "attention.json"

    @property
    def scorecard(self) -> Path:
        """Its newest scorecard as JSON."""
        return self.report.with_name("report.json")

    def checkpoint(self, epoch: int) -> Path:
        """The folder of the weights after an epoch, counted from 1."""
        return self.root / "checkpoints" / f"epoch-{epoch}"

    def checkpoints(self) -> list[Path]:
        """The folders of weights after epochs, oldest first."""
        return sorted(self.root.glob("checkpoints/epoch-*"), key=lambda folder: int(folder.name.removeprefix("epoch-")))

    @property
    def last(self) -> Path:
        """The folder of the weights at the last step."""
        return self.root / "last"

    @property
    def samples(self) -> Path:
        """Pictures drawn for this run."""
        return self.root / "samples"

    @property
    def result(self) -> Path:
        """How the training ended; there only when it did."""
        return self.root / "result.json"

    @property
    def report(self) -> Path:
        """The page to open."""
        return self.root / "report" / "index.html"

    def state(self, step: int) -> Path:
        """The folder from which training resumes after `step`."""
        return self.root / "state" / f"step-{step:06d}"

    def states(self) -> list[Path]:
        """The folders of saved states, oldest first; not checked for completeness."""
        return sorted(self.root.glob("state/step-*"))


def cache() -> Path:
    """This person's cache: `~/.cache/bespoke`, or where the variable BESPOKE_CACHE says."""
    return Path(os.environ.get("BESPOKE_CACHE", "~/.cache/bespoke")).expanduser()


def relative(path: Path) -> str:
    """The path from the working directory; as it is where there is none, such as on another drive."""
    try:
        return Path(os.path.relpath(path)).as_posix()
    except ValueError:
        return path.as_posix()


def is_hidden(path: Path) -> bool:
    """Whether a path, or a folder on its way, has a name that begins with a dot; meant for paths below a folder."""
    return any(part.startswith(".") for part in path.parts)
