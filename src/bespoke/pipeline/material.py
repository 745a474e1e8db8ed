"""A dataset and a recipe turned into what training reads: everything encoded once, plain pictures drawn."""

import functools
import hashlib
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from bespoke import data
from bespoke.encoding import (
    Cache,
    Encode,
    Items,
    Joined,
    LatentEncoder,
    Progress,
    Rows,
    Stacked,
    Uncached,
    spelling,
    spelt_tokens,
    text_encoder,
    tokens,
    told_long,
    windows,
)
from bespoke.errors import BespokeError
from bespoke.hardware import free_gpu_memory, machine
from bespoke.models import Checkpoint
from bespoke.pipeline import masked
from bespoke.pipeline.mirror import shared
from bespoke.pipeline.prepare import regularisation, with_brackets
from bespoke.pipeline.reporting import Reporter
from bespoke.pipeline.versions import Versions, fitter
from bespoke.pipeline.wordings import mended, reworded
from bespoke.recipe import Recipe
from bespoke.records import Dataset, Picture
from bespoke.sampling import READING, Request, choices, latents
from bespoke.sampling.generate import ALWAYS_SAID
from bespoke.seeds import uniform
from bespoke.text import escaped, plain, read, unweighed
from bespoke.training import Example, Material, masking
from bespoke.workspace import Project

SPARE = 2**30
"""What text encoders compute with takes less, in bytes."""
CERTAIN = -30.0
"""The log variance of a latent that was drawn rather than encoded: nothing is left to chance."""


@dataclass(frozen=True)
class Encoder:
    """Encodes one dataset for one checkpoint into one project's cache."""

    project: Project
    checkpoint: Checkpoint
    recipe: Recipe
    report: Reporter

    def material(self, dataset: Dataset, folder: Path) -> Material:
        """All that training reads; whatever is in the cache already is not made again."""
        most, train = self.recipe.validation.max_items, self._mended(dataset.part("train"))
        measured = {"validation": (folder, self._mended(dataset.part("validation")[:most]))} | self._sets(most)
        prior, regular = self._plain_captions(train), regularisation(self.recipe, self.project)
        parts = [(folder, train), *measured.values(), regular]
        pictures = [(place, p) for place, part in parts for p in part]
        wordings = reworded(train, self.recipe, self.checkpoint, self.project, self.report)
        others = {p.pixels: wordings.others(p) for p in train}
        captions = sorted({p.text for _, p in pictures} | {*prior, *itertools.chain(*others.values()), ""})
        texts = self._texts(captions)
        versions = Versions(self.recipe, self.checkpoint.step)
        versioned = [(place, p, versions.of(p)) for place, p in pictures]
        shown = [(place, p, transform) for place, p, transforms in versioned for transform in transforms]
        rows, masks = self._latents(shown), self._masks(shown)
        told = self._sizes(rows, len(shown), len(prior))
        self._tell(train, versions)
        drawn = self._drawn(prior)
        text = {caption: number for number, caption in enumerate(captions)}
        # The versions of a picture lie one after another, and after all pictures those that the base drew.
        places, weight = itertools.count(), self.recipe.train.prior_loss_weight
        plainly = [
            Example(p.pixels, tuple(itertools.islice(places, len(those))), text[p.text], p.weight, p.repeats)
            for _, p, those in versioned
        ]
        plainly = [replace(one, sizes=tuple(told[row] for row in one.latents if told)) for one in plainly]
        examples = iter([masks.on(made, p) for made, (_, p, _) in zip(plainly, versioned, strict=True)])
        priors = [
            Example(f"plain-{n}", (place,), text[c], weight, drawn=True, sizes=(told[place],) if told else ())
            for (n, c), place in zip(enumerate(prior), places, strict=False)
        ]
        own = tuple(
            replace(example, wordings=tuple(text[other] for other in others[example.key]))
            for example in itertools.islice(examples, len(train))
        )
        sets = {name: tuple(itertools.islice(examples, len(part))) for name, (_, part) in measured.items()}
        priors += self._regular(list(examples), sum(example.repeats for example in own))
        probed = self.recipe.validation.probe and sets["validation"]
        sets = ({"probe": self._probe(own, len(sets["validation"]))} if probed else {}) | sets
        sets = {name: masks.measurable(those, self.recipe.train, self.report) for name, those in sets.items()}
        scale, shift = self.checkpoint.scaling
        return Material(
            Joined([rows, *([drawn] if drawn else [])]), texts, text[""], (*own, *priors), sets.pop("validation"),
            scale, sets, masks.rows, masking.of(self.recipe.train),
            self.checkpoint.summarised and not self.recipe.trains_text, shift,
        )  # fmt: skip

    def _sizes(self, rows: Rows, count: int, drawn: int) -> list[tuple[int, ...]]:
        """What the network is told of the sizes behind each row, those that the base draws last; nothing for most."""
        if not self.checkpoint.family.sized:
            return []
        names, side = ("original_size", "crops_coords_top_left", "target_size"), self.checkpoint.resolution
        kept = [rows.facts(number) for number in range(count)]
        if not all(kept):
            hint = "Take data.cache_latents = false out of the recipe."
            raise BespokeError(f"{self.checkpoint.name} is told where pictures were cut, which a cache keeps.", hint)
        return [tuple(n for name in names for n in one[name]) for one in kept] + [
            (side, side, 0, 0, side, side)
        ] * drawn

    def _tell(self, train: Sequence[Picture], versions: Versions) -> None:
        """Tells what a person should know about the training pictures."""
        said = versions.told(train) | {masked.SUBJECT: masked.told(train, self.recipe.train)}
        for subject, words in said.items():
            if words:
                self.report(subject, len(train), len(train), words)

    def _masks(self, shown: Sequence[masked.Shown]) -> masked.Masks:
        """The masks of shown versions, where the recipe heeds them."""
        if not self.recipe.train.masked_training:
            return masked.Masks()
        cache = Cache(self.project.cache / "masks")
        return masked.encoded(shown, self.checkpoint.moments_shape, cache, _key, self.report)

    def _regular(self, examples: Sequence[Example], visits: float) -> list[Example]:
        """The pictures of the regularisation set, together so often as the recipe's share of `visits` says."""
        train, all_of_them = self.recipe.train, sum(example.repeats for example in examples)
        often = train.regularisation_share * visits / all_of_them if examples else 0.0
        return [
            replace(
                example, key=f"regular-{example.key}", weight=example.weight * train.prior_loss_weight,
                repeats=example.repeats * often, drawn=True, taught=train.regularisation_target == "base",
            )
            for example in examples
            if often
        ]  # fmt: skip

    def _mended(self, pictures: tuple[Picture, ...]) -> tuple[Picture, ...]:
        """The pictures with misspelt words of their captions mended, where the recipe says so."""
        if not self.recipe.text.repair or not pictures:
            return pictures
        found, changed = mended(pictures, self.checkpoint, self.project)
        examples = ", ".join(f"{wrong} → {right}" for wrong, right in list(changed.items())[:3])
        self.report("mend captions", len(found), len(found), f"{len(changed)} words: {examples}" if changed else "none")
        return tuple(found)

    def _sets(self, most: int) -> dict[str, tuple[Path, tuple[Picture, ...]]]:
        """The pictures of each further set to measure on, and the dataset they lie in; all are shown plain.

        Raises: BespokeError when one is no dataset, or has the name of one that every training measures.
        """
        found: dict[str, tuple[Path, tuple[Picture, ...]]] = {}
        for name, path in self.recipe.validation.sets.items():
            if name in ("validation", "probe"):
                raise BespokeError(f"validation.sets has a {name!r}, which every training has.", "Name it otherwise.")
            folder = self.project.root / path
            pictures = with_brackets(data.load(folder), self.recipe).pictures[:most]
            found[name] = (folder, tuple(replace(picture, split="validation") for picture in pictures))
        return found

    def _probe(self, train: Sequence[Example], count: int) -> tuple[Example, ...]:
        """So many training pictures, always the same ones while they are there."""
        seed = self.recipe.validation.seed
        return tuple(sorted(train, key=lambda example: (uniform(seed, "probe", example.key), example.key))[:count])

    def _plain_captions(self, train: Sequence[Picture]) -> list[str]:
        """What plain pictures are drawn from: the recipe's prompts, or the training captions without the trigger."""
        trigger, count = unweighed(self.recipe.text.trigger or ""), self.recipe.train.num_class_images or 0
        if prompts := self.recipe.train.class_prompts:
            letters = self.recipe.text.brackets == "letters"
            return [escaped(one) if letters else one for one in itertools.islice(itertools.cycle(prompts), count)]
        return [escaped(plain(unweighed(picture.text), trigger)) for picture in train][:count] if trigger else []

    def _texts(self, captions: list[str]) -> Rows:
        tokenizer = self.checkpoint.tokenizer()
        if self.recipe.trains_text:
            self._tell_cut(captions)
            return self._tokens(captions)
        joint = self.checkpoint.joint_width

        @functools.cache
        def encoder() -> Any:
            readers = self.checkpoint.readers()
            return text_encoder(readers, self._place([network for _, network in readers]), joint=joint)

        parts = [part for pair in self.checkpoint.reading for part in pair]
        marks = [*(["zeros"] if self.checkpoint.empty_is_zero else []), *([f"joint{joint}"] if joint else [])]
        counts = [1 if joint else len(windows(tokenizer, read(caption))) for caption in captions]
        rows = self._kept(
            f"text/{'-'.join([*map(self._hash, parts), *marks])}",
            Items([_key("windows", caption) for caption in captions], counts),
            lambda numbers: self._unheard(encoder()([captions[n] for n in numbers]), [captions[n] for n in numbers]),
            lambda done, total: self.report("encode captions", done, total),
        )
        self._tell_cut(captions)
        return rows

    def _tokens(self, captions: list[str]) -> Rows:
        """Captions for text encoders that are trained; below them T5's tokens if it learns words, else its states."""
        base = self.checkpoint
        rows = tokens(base.tokenizers(), captions, zeros=base.empty_is_zero, opening=not base.windowed)
        above = Rows([row[0].numpy() for row in rows])
        if base.windowed or base.lacked:
            return above
        parts = base.t5()
        if self.recipe.trains_t5:
            spelt = spelt_tokens(base.tokenizer(parts[0]), captions)
            return Stacked(above, Rows([row[0].numpy() for row in spelt]))

        @functools.cache
        def encode() -> Any:
            network = base.network(parts[1])
            return spelling(base.tokenizer(parts[0]), network, self._place([network]))

        below = self._kept(
            f"text/{'-'.join(map(self._hash, parts))}-below",
            Items([_key("below", caption) for caption in captions]),
            lambda numbers: torch.stack([encode()(captions[n]) for n in numbers]),
            lambda done, total: self.report("encode captions", done, total),
        )
        return Stacked(above, below)

    def _place(self, networks: Sequence[torch.nn.Module]) -> torch.device:
        """Where text encoders read: T5 takes 18 GB in float32, which many GPUs have not."""
        taken, free = sum(one.nbytes for network in networks for one in network.parameters()), free_gpu_memory()
        place = roomy(_device(), taken, free)
        if place != _device():
            why = f"they take {taken / 2**30:.1f} GB, and the GPU has {free / 2**30:.1f} free"
            self.report("encode captions", 0, 1, f"the processor runs the text encoders: {why}")
        return place

    def _unheard(self, states: torch.Tensor, captions: Sequence[str]) -> torch.Tensor:
        """The states of captions, of empty ones zeros where the model is guided away from these."""
        if self.checkpoint.empty_is_zero:
            states[[not caption for caption in captions]] = 0.0
        return states

    def _tell_cut(self, captions: list[str]) -> None:
        long = told_long(self.checkpoint.measure(), captions, windowed=self.checkpoint.windowed)
        notes = [long, _odd(captions), self.checkpoint.unread]
        self.report("encode captions", len(captions), len(captions), "; ".join(filter(None, notes)))

    def _latents(self, shown: Sequence[masked.Shown]) -> Rows:
        encoder = functools.cache(lambda: LatentEncoder(self.checkpoint.vae(), _device()))
        fit = fitter()
        facts: dict[int, dict[str, tuple[int, int]]] = {}

        def pixels(number: int) -> data.Pixels:
            folder, picture, transform = shown[number]
            fitted = fit(folder / data.TRAIN / picture.file, transform)
            facts[number] = fitted.facts()
            return fitted.pixels

        if not self.recipe.data.cache_latents:
            shapes = [self.checkpoint.moments_shape(transform.size) for *_, transform in shown]
            return Uncached(shapes, lambda numbers: encoder()(pixels, numbers))
        keys = [_key(transform.signature(), picture.pixels) for _, picture, transform in shown]
        return self._kept(
            f"latents/{self._hash('vae')}",
            Items(keys, [transform.size for *_, transform in shown], facts.pop),
            lambda numbers: encoder()(pixels, numbers),
            lambda done, total: self.report("encode pictures", done, total),
        )

    def _drawn(self, captions: list[str]) -> Rows | None:
        """Latents that the untouched base draws for plain captions, as certain moments."""
        if not captions:
            return None
        more = {"batch_size": min(16, self.recipe.sample.batch_size * 2), "brackets": "weights"}  # they are escaped
        own_size = {"width": None, "height": None, "hires_scale": 1.0}
        settings = self.recipe.sample.model_copy(update=more | own_size)
        base = replace(self.checkpoint, rescaled=False)  # it learnt by the schedule that it came with
        readers = [encoder for _, encoder in base.reading]
        parts = "-".join(base.fingerprint(part) for part in (base.family.denoiser, "vae", *readers, "scheduler"))
        seed, (scale, shift) = self.recipe.train.seed, base.scaling
        pipeline = functools.cache(lambda: base.pipeline(safety_checker=False).to(_device()))

        def encode(numbers: Sequence[int]) -> torch.Tensor:
            requests = [Request(captions[n], (seed + 1) * 1_000_003 + n) for n in numbers]
            batches: list[torch.Tensor] = []
            for batch in latents(pipeline(), requests, settings):
                batches.append(batch / scale + shift)
                self.report("draw plain pictures", sum(map(len, batches)), len(requests))
            mean = torch.cat(batches)
            return torch.cat([mean, torch.full_like(mean, CERTAIN)], dim=1)

        drawing = f"{settings.num_inference_steps} {settings.guidance_scale} {settings.guidance_end} "
        drawing += f"{settings.negative_prompt!r} {seed} {READING}"
        others = {key: value for key, value in choices(settings).items() if key not in ALWAYS_SAID}
        drawing += json.dumps(others, sort_keys=True) if others else ""
        keys = [_key(drawing, str(n), caption) for n, caption in enumerate(captions)]
        return self._kept(f"plain/{_key(parts)[:16]}", Items(keys), encode)

    def _kept(self, name: str, items: Items, encode: Encode, progress: Progress | None = None) -> Rows:
        """The rows of the project's cache of that name, which others may share."""
        folder, url = self.project.cache / name, self.recipe.remote.cache
        with shared(folder, url and f"{url.rstrip('/')}/{name}"):
            return Cache(folder).rows(items, encode, progress)

    def _hash(self, part: str) -> str:
        return self.checkpoint.fingerprint(part)


def _odd(captions: Sequence[str]) -> str:
    """How many captions have brackets that close or open nothing."""
    odd = [caption for caption in captions if read(caption).faults]
    return f"{len(odd)} with a bracket that is read as a letter, such as {odd[0][:40]!r}" if odd else ""


def roomy(device: torch.device, taken: int, free: int) -> torch.device:
    """A device, or the processor where a GPU with so many free bytes cannot hold what takes so many, and compute."""
    return torch.device("cpu") if device.type == "cuda" and taken + SPARE > free else device


def _device() -> torch.device:
    return torch.device(machine().device)


def _key(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()
