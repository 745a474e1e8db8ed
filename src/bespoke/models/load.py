"""A model's name turned into its networks: `pico`, a diffusers folder or a hub id, all by the same code."""

import hashlib
import inspect
import json
import math
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
from bespoke.models.marks import fingerprint
from bespoke.models.quietly import quiet
from bespoke.models.runtimes import runtime_of
from bespoke.models.unpacking import RESCALED, cached
from bespoke.models.vocabulary import Base, NewWords
from bespoke.models.wearing import load_adapter
from bespoke.workspace import sha256

HERE = Path(__file__).parent
PICO = HERE / "pico"
SHIPPED = ("pico-CLIP", "pico-BLIP", "pico-YOLOS")
"""Names of the small models beside pico."""
TRAINED = ("unet", "text_encoder")
"""The parts that training may change."""
WORDED = ("tokenizer", "text_encoder")
"""The parts that know new words."""


@dataclass(frozen=True)
class Checkpoint:
    """A Stable Diffusion on disk in diffusers' layout; each network is read when it is asked for."""

    name: str
    folder: Path
    family: Family
    trained: Path | None = None
    """A folder whose parts stand in for those of `folder`."""
    words: Path | None = None
    """A file of new words, which its tokenizer and text encoder know."""
    rescaled: bool = False
    """Whether its schedule leaves nothing of a picture at the last timestep."""
    commit: str = ""
    """The hub's commit that it came from."""

    def part(self, name: str) -> Path:
        """The folder of one part."""
        instead = self.trained / name if self.trained else None
        return instead if instead and instead.is_dir() else self.folder / name

    def with_trained(self, folder: Path) -> "Checkpoint":
        """The same checkpoint with the parts in `folder` in place of its own."""
        return replace(self, trained=folder)

    def with_words(self, path: Path) -> "Checkpoint":
        """The same checkpoint with the new words in a file.

        Raises: BespokeError when the file holds none, was made for another base, or the family knows none.
        """
        self.check_text_trained("new words")
        NewWords.read(path).fits(self.base)
        return replace(self, words=path)

    def with_rescaled_betas(self) -> "Checkpoint":
        """The same checkpoint with a schedule that leaves nothing of a picture at the last timestep.

        Raises: BespokeError when the model cannot learn or draw by such a schedule.
        """
        import diffusers

        kind = str(self.scheduler_config["_class_name"])
        if self.scheduler_config.get("prediction_type", "epsilon") == "epsilon":
            problem = f"{self.name} predicts the noise, which says nothing of a picture where there is noise alone."
            hint = (
                "Leave out train.rescale_betas_zero_snr, or take a base that predicts v, as Stable Diffusion 2.1 does."
            )
            raise BespokeError(problem, hint)
        if "rescale_betas_zero_snr" not in inspect.signature(getattr(diffusers, kind).__init__).parameters:
            hint = "Save the model with diffusers' DDIMScheduler, or leave out train.rescale_betas_zero_snr."
            raise BespokeError(f"{self.name} is drawn by {kind}, which has no rescaled betas.", hint)
        return replace(self, rescaled=True)

    def check_text_trained(self, what: str) -> None:
        """Raises: BespokeError when text encoders of this family cannot be trained here yet, naming what for."""
        if not self.family.text_trained:
            problem = f"{self.name} is a {self.family.name}, whose text encoders bespoke cannot train yet: {what}."
            raise BespokeError(problem, "Train the UNet alone: take what asks for the text encoder out of the recipe.")

    @property
    def base(self) -> Base:
        """What new words are made for: the model as it is in its folder, untrained."""
        plain = replace(self, trained=None, words=None)
        tokenizer = plain.tokenizer()
        marks = (plain.fingerprint(part) for part in WORDED)
        return Base(self.name, *marks, size=len(tokenizer), eos=int(tokenizer.eos_token_id))

    @property
    def new_words(self) -> NewWords | None:
        """The new words, if there are any."""
        return NewWords.read(self.words) if self.words else None

    def complete(self, folder: Path) -> None:
        """Copies all parts that `folder` lacks into it, so that it is a whole model; the index comes last.

        With new words, the tokenizer and the text encoder, in float32, are written as plain diffusers reads them.
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

    def tokenizer(self) -> Any:
        """The tokenizer."""
        from transformers import CLIPTokenizer

        # Training changes no tokenizer; a model it wrote has one that knows the words already.
        tokenizer = CLIPTokenizer.from_pretrained(self.folder / "tokenizer" if self.words else self.part("tokenizer"))
        return words.extended(tokenizer) if (words := self.new_words) else tokenizer

    def text_encoder(self) -> Any:
        """The frozen text encoder, in float32."""
        from transformers import CLIPTextModel

        encoder = _frozen(CLIPTextModel, self.part("text_encoder"))
        return words.extend(encoder) if (words := self.new_words) else encoder

    def readers(self) -> list[tuple[Any, Any]]:
        """The tokenizers with their frozen text encoders, in float32; more than one in some families."""
        import transformers

        found = [(self.tokenizer(), self.text_encoder())]
        for tokenizer, encoder in self.family.readers[1:]:
            kind = getattr(transformers, self._index[encoder][1])
            words = transformers.CLIPTokenizer.from_pretrained(self.part(tokenizer))
            found.append((words, _frozen(kind, self.part(encoder))))
        return found

    @property
    def _index(self) -> dict[str, Any]:
        """What the model's index says: for each part the library and the class."""
        return json.loads((self.folder / "model_index.json").read_text(encoding="utf-8"))

    @property
    def empty_is_zero(self) -> bool:
        """Whether the states of an empty prompt are zeros, as the model learnt to be guided away from."""
        return bool(self._index.get("force_zeros_for_empty_prompt", False))

    def vae(self) -> Any:
        """The frozen autoencoder, in float32."""
        with quiet():
            from diffusers import AutoencoderKL

        return _frozen(AutoencoderKL, self.part("vae"))

    def unet(self) -> Any:
        """The frozen UNet, in float32."""
        with quiet():
            from diffusers import UNet2DConditionModel

        return _frozen(UNet2DConditionModel, self.part("unet"))

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
            own = [part for part in TRAINED if self.trained and (self.trained / part).is_dir()]
            own += WORDED if self.words else ()
            options |= {part: getattr(self, part)() for part in dict.fromkeys(own)} | dict(parts or {})
            kind = getattr(diffusers, self.family.pipeline)
            pipeline = kind.from_pretrained(self.folder, dtype=torch.float32, **options)
            pipeline.set_progress_bar_config(disable=True)
            if self.rescaled:
                pipeline.scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config, **RESCALED)
            if adapter is not None:
                load_adapter(pipeline, adapter, self.name)
        return pipeline

    @property
    def scheduler_config(self) -> dict[str, Any]:
        """The scheduler's settings."""
        own = json.loads((self.part("scheduler") / "scheduler_config.json").read_text(encoding="utf-8"))
        return own | RESCALED if self.rescaled else own

    @property
    def scaling_factor(self) -> float:
        """What the autoencoder's latents are multiplied with."""
        return float(json.loads((self.part("vae") / "config.json").read_text())["scaling_factor"])

    def moments_shape(self, size: tuple[int, int]) -> tuple[int, int, int]:
        """The shape of the autoencoder's moments for a picture of (width, height) pixels."""
        vae = json.loads((self.part("vae") / "config.json").read_text())
        factor = 2 ** (len(vae["block_out_channels"]) - 1)
        return 2 * int(vae["latent_channels"]), size[1] // factor, size[0] // factor

    @property
    def text_shape(self) -> tuple[int, int]:
        """How many tokens a caption has, and how many features each of its states: those of all text encoders."""
        texts = [json.loads((self.part(part) / "config.json").read_text()) for _, part in self.family.readers]
        return int(texts[0]["max_position_embeddings"]), sum(int(text["hidden_size"]) for text in texts)

    @property
    def resolution(self) -> int:
        """The side, in pixels, that the model was trained at."""
        unet, vae = (json.loads((self.part(part) / "config.json").read_text()) for part in ("unet", "vae"))
        return int(unet["sample_size"]) * 2 ** (len(vae["block_out_channels"]) - 1)

    @property
    def step(self) -> int:
        """What the sides of a picture must be multiples of, in pixels: the autoencoder's factor times the UNet's."""
        parts = (json.loads((self.part(part) / "config.json").read_text()) for part in ("unet", "vae"))
        return math.prod(2 ** (len(part["block_out_channels"]) - 1) for part in parts)

    def fingerprint(self, part: str) -> str:
        """A mark of one part: equal exactly when its settings and weights are, and the new words it knows."""
        mark = fingerprint(self.part(part))
        if self.rescaled and part == "scheduler":
            return f"{mark}-rescaled"
        if not self.words or part not in WORDED:
            return mark
        return hashlib.sha256(f"{mark} {sha256(self.words)}".encode()).hexdigest()[:16]

    def _write_worded(self, folder: Path, words: NewWords) -> None:
        """Writes the parts that know new words, where `folder` has none."""
        tokenizer = words.extended(replace(self, words=None).tokenizer(), plain=True)
        for name, part in (("tokenizer", lambda: tokenizer), ("text_encoder", self.text_encoder)):
            if not (folder / name).exists():
                temporary = folder / f".{name}.tmp"
                part().save_pretrained(temporary)
                os.replace(temporary, folder / name)

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
        raise BespokeError(
            f"{folder} is not a Stable Diffusion in diffusers' layout: it has no model_index.json.", hint
        )
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


def _frozen(kind: Any, folder: Path) -> Any:
    with quiet():
        network = kind.from_pretrained(folder, dtype=torch.float32)
    return network.eval().requires_grad_(requires_grad=False)
