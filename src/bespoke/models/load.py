"""A model's name turned into its networks: `pico`, a diffusers folder or a hub id, all by the same code."""

import inspect
import json
import os
import shutil
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from bespoke.errors import BespokeError
from bespoke.models import hub
from bespoke.models.families import Family, family_of
from bespoke.models.quietly import quiet
from bespoke.models.readers import Readers
from bespoke.models.runtimes import runtime_of
from bespoke.models.unpacking import RESCALED, cached
from bespoke.models.vocabulary import NewWords
from bespoke.models.wearing import load_adapter

HERE = Path(__file__).parent
PICO = HERE / "pico"
SHIPPED = ("pico-CLIP", "pico-BLIP", "pico-YOLOS")
"""Names of the small models beside pico."""


@dataclass(frozen=True)
class Checkpoint(Readers):
    """A Stable Diffusion on disk, drawn with by its pipeline, and written again as a whole folder."""

    def with_trained(self, folder: Path) -> "Checkpoint":
        """The same checkpoint with the parts in `folder` in place of its own."""
        return replace(self, trained=folder)

    def with_words(self, path: Path) -> "Checkpoint":
        """The same checkpoint with the new words in a file; T5, where there is one, may have rows for them or not.

        Raises: BespokeError when the file holds none, was made for another base, or lacks rows of a CLIP.
        """
        found = NewWords.read(path)
        found.fits(self.base_with(*found.rows))
        lacking = {*self.rows_for} - {*found.rows} if found.words else set[str]()
        if lacking:
            raise BespokeError(f"{path} has no rows for {' and '.join(sorted(lacking))}.", "Make the words anew.")
        return replace(self, words=path)

    def with_rescaled_betas(self) -> "Checkpoint":
        """The same checkpoint with a schedule that leaves nothing of a picture at the last timestep.

        Raises: BespokeError when the model cannot learn or draw by such a schedule.
        """
        import diffusers

        kind = str(self.scheduler_config["_class_name"])
        if self.flows:
            problem = f"{self.name} learnt by flow matching, whose way ends in noise alone as it is."
            raise BespokeError(problem, "Leave out train.rescale_betas_zero_snr.")
        if self.scheduler_config.get("prediction_type", "epsilon") == "epsilon":
            problem = f"{self.name} predicts the noise, which says nothing of a picture where there is noise alone."
            hint = "Leave out train.rescale_betas_zero_snr, or take one that predicts v, as Stable Diffusion 2.1 does."
            raise BespokeError(problem, hint)
        if "rescale_betas_zero_snr" not in inspect.signature(getattr(diffusers, kind).__init__).parameters:
            hint = "Save the model with diffusers' DDIMScheduler, or leave out train.rescale_betas_zero_snr."
            raise BespokeError(f"{self.name} is drawn by {kind}, which has no rescaled betas.", hint)
        return replace(self, rescaled=True)

    def complete(self, folder: Path) -> None:
        """Copies all parts that `folder` lacks into it, so that it is a whole model; the index comes last.

        With new words, tokenizers and text encoders, in float32, are written as plain diffusers reads them.
        """
        if words := self.new_words:
            self._write_worded(folder, words)
        if self.rescaled:
            self._write_rescaled(folder)
        index = "model_index.json"
        entries = [entry for entry in sorted(self.folder.iterdir()) if entry.name != index and not _apart(entry)]
        for entry in (*entries, self.folder / index):
            if (folder / entry.name).exists():
                continue
            temporary = folder / f".{entry.name}.tmp"
            shutil.copytree(self.part(entry.name), temporary) if entry.is_dir() else shutil.copyfile(entry, temporary)
            os.replace(temporary, folder / entry.name)

    def vae(self) -> Any:
        """The frozen autoencoder, in float32."""
        return self.network("vae")

    def denoiser(self) -> Any:
        """The frozen network that draws, a UNet or a transformer, in float32."""
        return self.network(self.family.denoiser)

    def pipeline(
        self, adapter: Path | None = None, *, safety_checker: bool = True, parts: Mapping[str, Any] | None = None
    ) -> Any:
        """The whole pipeline in float32, with an adapter if one is given; the checker is left out only on request.

        `parts` are networks to take as they are instead of those on disk, such as the UNet that is being trained.

        Raises: BespokeError when the adapter does not fit the model.
        """
        with quiet():
            import diffusers

            options: dict[str, Any] = {}
            if self.family.checked and not safety_checker:
                options = {"safety_checker": None, "requires_safety_checker": False}
            own = [part for part in self.family.worded if self.trained and (self.trained / part).is_dir()]
            own += self.worded if self.words else ()
            options |= {part: self._network_or_tokenizer(part) for part in dict.fromkeys(own)} | dict(parts or {})
            options |= dict.fromkeys(self.lacked)
            kind = getattr(diffusers, self.family.pipeline)
            pipeline = kind.from_pretrained(self.folder, dtype=torch.float32, **options)
            pipeline.set_progress_bar_config(disable=True)
            if self.rescaled:
                pipeline.scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config, **RESCALED)
            if adapter is not None:
                load_adapter(pipeline, adapter, self.name)
        return pipeline

    def _network_or_tokenizer(self, part: str) -> Any:
        return self.tokenizer(part) if part.startswith("tokenizer") else self.network(part)

    def _write_worded(self, folder: Path, words: NewWords) -> None:
        """Writes the parts that know new words, where `folder` has none."""
        bare = replace(self, words=None)
        for part in self.worded:
            if not (folder / part).exists():
                temporary = folder / f".{part}.tmp"
                tokens = part.startswith("tokenizer")
                own = bare.tokenizer(part) if tokens else self.network(part)
                made = words.extended(own, self.name_of(part), plain=True) if tokens else own
                made.save_pretrained(temporary)
                os.replace(temporary, folder / part)

    def _write_rescaled(self, folder: Path) -> None:
        """Writes the scheduler with its rescaled betas, where `folder` has none."""
        if not (folder / "scheduler").exists():
            temporary = folder / ".scheduler.tmp"
            shutil.copytree(self.part("scheduler"), temporary)
            content = json.dumps(self.scheduler_config, indent=2) + "\n"
            (temporary / "scheduler_config.json").write_text(content, encoding="utf-8")
            os.replace(temporary, folder / "scheduler")


def _apart(entry: Path) -> bool:
    """Whether a file beside a model's parts is none of them: a whole model in one file, a card, hidden ones."""
    return entry.name.startswith(".") or (entry.is_file() and entry.suffix != ".json")


def find(name: str, *, download: bool = True) -> Checkpoint:
    """The checkpoint of that name: `pico`, a folder, a model in one .safetensors file, or a hub id.

    A hub id may end with a branch, tag or commit: `OWNER/NAME@REVISION`. A folder that was exported for a runtime gives
    a checkpoint that draws only.

    Raises: BespokeError when there is no such model, or it is of a kind that is not known; without `download` also when
    it is not on this machine.
    """
    folder, commit = PICO if name == "pico" else Path(name), ""
    if name != "pico" and folder.is_file():
        folder = cached(folder)
    elif name != "pico" and not folder.is_dir():
        folder = hub.folder_of(name, download=download)
        commit = hub.commit_of(folder)
    index = folder / "model_index.json"
    if not index.is_file():
        hint = "A model folder holds model_index.json and the folders unet, vae, text_encoder, tokenizer, scheduler."
        problem = f"{folder} is not a Stable Diffusion in diffusers' layout: it has no model_index.json."
        raise BespokeError(problem, hint)
    try:
        pipeline = json.loads(index.read_text(encoding="utf-8"))["_class_name"]
    except (ValueError, KeyError, TypeError):
        raise BespokeError(f"{index} is damaged: it names no pipeline.", "Copy or download the model again.") from None
    family = family_of(pipeline, name)
    kind, parts = _kind_of(folder, family)
    missing = [part for part in parts if not (folder / part).is_dir()]
    if missing:
        hint = "Copy or download the whole model again."
        raise BespokeError(f"{folder} lacks the folders of: {', '.join(missing)}.", hint)
    return kind(name, folder, family, commit=commit)


def _kind_of(folder: Path, family: Family) -> tuple[type[Checkpoint], tuple[str, ...]]:
    """What a model's folder holds, networks of torch or such as were exported for a runtime, and the parts it needs."""
    if runtime_of(folder) is None:
        return Checkpoint, family.parts
    from bespoke.models.compiled import Compiled, needed

    return Compiled, needed(family)


def shipped(name: str | Path) -> str | Path:
    """The folder of a small model in the package, where that is what is named: `pico-CLIP`; else the name as it is."""
    folder = HERE / str(name).lower().replace("-", "_")
    return folder if str(name) in SHIPPED else name


@contextmanager
def sought(name: str | Path, kind: str, *known: str) -> Generator[None, None, None]:
    """A block that reads a model of that kind from a folder or the hub; `known` are names to advise.

    Raises: BespokeError when there is none.
    """
    try:
        yield
    except (OSError, ValueError) as error:
        hint = f"Name {known[0]}, a folder, or a hub id such as {known[1]}."
        raise BespokeError(f"{name} gives no {kind}: {str(error).splitlines()[0]}", hint) from None
