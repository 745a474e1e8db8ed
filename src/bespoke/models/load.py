"""A model's name turned into its networks: `pico`, a diffusers folder or a hub id, all by the same code."""

import hashlib
import importlib
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
from bespoke.models.conditions import joint_width, takes_summary
from bespoke.models.families import T5_TOKENS, Family, family_of, halving
from bespoke.models.marks import fingerprint
from bespoke.models.quietly import quiet
from bespoke.models.runtimes import runtime_of
from bespoke.models.unpacking import RESCALED, cached
from bespoke.models.vocabulary import ENCODERS, Base, NewWords
from bespoke.models.wearing import load_adapter
from bespoke.workspace import sha256

HERE = Path(__file__).parent
PICO = HERE / "pico"
SHIPPED = ("pico-CLIP", "pico-BLIP", "pico-YOLOS")
"""Names of the small models beside pico."""


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

        Raises: BespokeError when the file holds none, was made for another base, or lacks rows of a text encoder.
        """
        found = NewWords.read(path)
        found.fits(self.base)
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

    @property
    def base(self) -> Base:
        """What new words are made for: the model as it is in its folder, untrained."""
        plain = replace(self, trained=None, words=None)
        tokenizer = plain.tokenizer()
        marks = ("-".join(map(plain.fingerprint, parts)) for parts in zip(*self._learning, strict=True))
        return Base(self.name, *marks, size=len(tokenizer), eos=int(tokenizer.eos_token_id))

    @property
    def new_words(self) -> NewWords | None:
        """The new words, if there are any."""
        return NewWords.read(self.words) if self.words else None

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

    def tokenizer(self, part: str = "tokenizer") -> Any:
        """A tokenizer; of several, the first."""
        import transformers

        kind = transformers.CLIPTokenizer if part == "tokenizer" else getattr(transformers, self._index[part][1])
        # Training changes no tokenizer; a model it wrote has one that knows the words already.
        tokenizer = kind.from_pretrained(self.folder / part if self.words else self.part(part))
        words = self.new_words if part in self._worded else None
        return words.extended(tokenizer) if words else tokenizer

    def tokenizers(self) -> list[Any]:
        """The tokenizers of the text encoders that can be trained; more than one in some families."""
        return [self.tokenizer(tokenizer) for tokenizer, _ in self._learning]

    def text_encoder(self) -> Any:
        """The frozen text encoder, in float32; of several, the first."""
        return self.network("text_encoder")

    def readers(self) -> list[tuple[Any, Any]]:
        """The tokenizers with their frozen text encoders, in float32; more than one in some families."""
        return [(self.tokenizer(tokenizer), self.network(encoder)) for tokenizer, encoder in self.reading]

    def measure(self) -> Any:
        """The tokenizer that says whether a prompt is too long: of several that of the text encoder that reads most."""
        last = self.reading[-1][0]
        return self.tokenizer(last if self.joint_width and last in self.family.optional else "tokenizer")

    @property
    def reading(self) -> tuple[tuple[str, str], ...]:
        """The folders of the tokenizers and text encoders that it has, of all that its family knows."""
        there, lacked = (pair for pair in self.family.readers if self.part(pair[1]).is_dir()), self.lacked
        return tuple(pair for pair in there if pair[1] not in lacked)

    @property
    def lacked(self) -> tuple[str, ...]:
        """The folders that its family knows and it does without: one is missing, or its index leaves it out."""
        index, those = self._index, self.family.optional
        there = all((index.get(part) or [None])[0] and self.part(part).is_dir() for part in those)
        return () if there else those

    @property
    def rows_for(self) -> dict[str, str]:
        """The folders of the text encoders that know new words, by what files call their rows."""
        return {ENCODERS[encoder]: encoder for _, encoder in self._learning}

    @property
    def _learning(self) -> tuple[tuple[str, str], ...]:
        """The folders of the text encoders that can be trained and know new words, with their tokenizers."""
        return tuple(pair for pair in self.reading if pair[1] in ENCODERS)

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
        return self.network("vae")

    def denoiser(self) -> Any:
        """The frozen network that draws, a UNet or a transformer, in float32."""
        return self.network(self.family.denoiser)

    def network(self, part: str) -> Any:
        """One frozen network, in float32; a text encoder knows the new words."""
        network = self._read(self._kind(part), self.part(part)).eval().requires_grad_(requires_grad=False)
        words = self.new_words if part in ENCODERS else None
        return words.extend(network, ENCODERS[part]) if words else network

    def _kind(self, part: str) -> Any:
        """The class of a network, by the model's index."""
        library, kind = self._index[part]
        with quiet():
            return getattr(importlib.import_module(library), kind)

    def _read(self, kind: Any, folder: Path) -> Any:
        with quiet():
            return kind.from_pretrained(folder, dtype=torch.float32)

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
            own += self._worded if self.words else ()
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

    @property
    def _worded(self) -> tuple[str, ...]:
        """The parts that know new words."""
        return tuple(part for pair in self._learning for part in pair)

    @property
    def scheduler_config(self) -> dict[str, Any]:
        """The scheduler's settings."""
        own = json.loads((self.part("scheduler") / "scheduler_config.json").read_text(encoding="utf-8"))
        return own | RESCALED if self.rescaled else own

    @property
    def flows(self) -> bool:
        """Whether it was trained by flow matching."""
        return str(self.scheduler_config["_class_name"]).startswith("FlowMatch")

    @property
    def scaling(self) -> tuple[float, float]:
        """What the autoencoder's latents are multiplied with, after the second number is taken from them."""
        vae = self.config("vae")
        return float(vae["scaling_factor"]), float(vae.get("shift_factor") or 0.0)

    def moments_shape(self, size: tuple[int, int]) -> tuple[int, int, int]:
        """The shape of the autoencoder's moments for a picture of (width, height) pixels."""
        factor = halving(self.config("vae"))
        return 2 * int(self.config("vae")["latent_channels"]), size[1] // factor, size[0] // factor

    @property
    def summarised(self) -> bool:
        """Whether the last row of a text's states is a summary of it."""
        return takes_summary(self.config(self.family.denoiser))

    @property
    def joint_width(self) -> int:
        """The width of the states that a transformer attends to together with a picture; 0 for a UNet."""
        return joint_width(self.config(self.family.denoiser))

    @property
    def windowed(self) -> bool:
        """Whether longer prompts are read in several windows."""
        return not self.joint_width

    @property
    def text_shape(self) -> tuple[int, int]:
        """How many tokens a caption has, and how many features each of its states: those of all text encoders.

        A summary is a row more.
        """
        texts = [self.config(encoder) for _, encoder in self.family.readers[:2]]
        tokens = int(texts[0]["max_position_embeddings"])
        if width := self.joint_width:
            return tokens + T5_TOKENS, width
        return tokens, sum(int(text["hidden_size"]) for text in texts)

    @property
    def resolution(self) -> int:
        """The side, in pixels, that the model was trained at."""
        return int(self.config(self.family.denoiser)["sample_size"]) * halving(self.config("vae"))

    @property
    def step(self) -> int:
        """What the sides of a picture must be multiples of, in pixels: the autoencoder's times the denoiser's."""
        return halving(self.config("vae")) * halving(self.config(self.family.denoiser))

    def config(self, part: str) -> dict[str, Any]:
        """The settings of one network."""
        return json.loads((self.part(part) / "config.json").read_text(encoding="utf-8"))

    def fingerprint(self, part: str) -> str:
        """A mark of one part: equal exactly when its settings and weights are, and the new words it knows."""
        mark = fingerprint(self.part(part))
        if self.rescaled and part == "scheduler":
            return f"{mark}-rescaled"
        if not self.words or part not in self._worded:
            return mark
        return hashlib.sha256(f"{mark} {sha256(self.words)}".encode()).hexdigest()[:16]

    def _write_worded(self, folder: Path, words: NewWords) -> None:
        """Writes the parts that know new words, where `folder` has none."""
        bare = replace(self, words=None)
        for part in self._worded:
            if not (folder / part).exists():
                temporary = folder / f".{part}.tmp"
                tokens = part.startswith("tokenizer")
                made = words.extended(bare.tokenizer(part), plain=True) if tokens else self.network(part)
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
