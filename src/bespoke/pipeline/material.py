"""A dataset and a recipe turned into what training reads: everything encoded once, plain pictures drawn."""

import functools
import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from bespoke import data
from bespoke.encoding import Cache, Items, LatentEncoder, Rows, TextEncoder, too_long
from bespoke.hardware import machine
from bespoke.models import Checkpoint
from bespoke.pipeline.reporting import Reporter
from bespoke.pipeline.versions import Versions
from bespoke.recipe import Recipe
from bespoke.records import Dataset, Picture
from bespoke.sampling import Request, latents
from bespoke.text import plain, unweighed
from bespoke.training import Example, Material
from bespoke.workspace import Project

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
        train, validation = dataset.part("train"), dataset.part("validation")[: self.recipe.validation.max_items]
        prior = self._plain_captions(train)
        captions = sorted({p.text for p in (*train, *validation)} | set(prior) | {""})
        texts = self._texts(captions)
        versions = Versions(self.recipe, self.checkpoint.step)
        shown = [(p, versions.of(p)) for p in (*train, *validation)]
        rows = self._latents([(p, transform) for p, transforms in shown for transform in transforms], folder)
        for subject, words in versions.told(train).items():
            self.report(subject, len(train), len(train), words)
        drawn = self._drawn(prior)
        text = {caption: number for number, caption in enumerate(captions)}
        # The versions of a picture lie one after another, and after all pictures those that the base drew.
        places, weight = itertools.count(), self.recipe.train.prior_loss_weight
        examples = [
            Example(p.pixels, tuple(itertools.islice(places, len(transforms))), text[p.text], p.weight, p.repeats)
            for p, transforms in shown
        ]
        priors = [Example(f"plain-{n}", (next(places),), text[c], weight, drawn=True) for n, c in enumerate(prior)]
        joined, split = _Joined([rows, *([drawn] if drawn else [])]), len(train)
        return Material(joined, texts, text[""], (*examples[:split], *priors), tuple(examples[split:]), self._scale())

    def _plain_captions(self, train: Sequence[Picture]) -> list[str]:
        """The training captions without the trigger: what the plain pictures are drawn from."""
        trigger, count = self.recipe.text.trigger or "", self.recipe.train.num_class_images or 0
        return [plain(unweighed(picture.text), trigger) for picture in train][:count] if trigger else []

    def _texts(self, captions: list[str]) -> Rows:
        cache = Cache(self.project.cache / "text" / f"{self._hash('tokenizer')}-{self._hash('text_encoder')}")
        tokenizer = self.checkpoint.tokenizer()
        encoder = functools.cache(lambda: TextEncoder(tokenizer, self.checkpoint.text_encoder(), _device()))
        rows = cache.rows(
            [_key(caption) for caption in captions],
            lambda numbers: encoder()([captions[n] for n in numbers]),
            lambda done, total: self.report("encode captions", done, total),
        )
        cut = too_long(tokenizer, captions)
        note = f"the model does not see the end of {len(cut)}, such as {cut[0][:40]!r}…" if cut else ""
        self.report("encode captions", len(captions), len(captions), note)
        return rows

    def _latents(self, shown: Sequence[tuple[Picture, data.Transform]], folder: Path) -> Rows:
        cache = Cache(self.project.cache / "latents" / self._hash("vae"))
        encoder = functools.cache(lambda: LatentEncoder(self.checkpoint.vae(), _device()))
        # The versions of a picture come one after another.
        read = functools.lru_cache(maxsize=1)(lambda file: data.read(folder / "train" / file).image)
        facts: dict[int, dict[str, tuple[int, int]]] = {}

        def pixels(number: int) -> data.Pixels:
            picture, transform = shown[number]
            fitted = data.fit(read(picture.file), transform)
            facts[number] = fitted.facts()
            return fitted.pixels

        keys = [_key(transform.signature(), picture.pixels) for picture, transform in shown]
        return cache.rows(
            Items(keys, [transform.size for _, transform in shown], facts.pop),
            lambda numbers: encoder()(pixels, numbers),
            lambda done, total: self.report("encode pictures", done, total),
        )

    def _drawn(self, captions: list[str]) -> Rows | None:
        """Latents that the untouched base draws for plain captions, as certain moments."""
        if not captions:
            return None
        settings = self.recipe.sample.model_copy(update={"batch_size": min(16, self.recipe.sample.batch_size * 2)})
        parts = "-".join(self._hash(part) for part in ("unet", "vae", "text_encoder", "scheduler"))
        cache = Cache(self.project.cache / "plain" / _key(parts)[:16])
        seed = self.recipe.train.seed
        pipeline = functools.cache(lambda: self.checkpoint.pipeline(safety_checker=False).to(_device()))

        def encode(numbers: Sequence[int]) -> torch.Tensor:
            requests = [Request(captions[n], (seed + 1) * 1_000_003 + n) for n in numbers]
            batches: list[torch.Tensor] = []
            for batch in latents(pipeline(), requests, settings):
                batches.append(batch / self._scale())
                self.report("draw plain pictures", sum(map(len, batches)), len(requests))
            mean = torch.cat(batches)
            return torch.cat([mean, torch.full_like(mean, CERTAIN)], dim=1)

        drawing = f"{settings.num_inference_steps} {settings.guidance_scale} {settings.negative_prompt!r} {seed}"
        keys = [_key(drawing, str(n), caption) for n, caption in enumerate(captions)]
        return cache.rows(keys, encode)

    def _hash(self, part: str) -> str:
        return self.checkpoint.fingerprint(part)

    def _scale(self) -> float:
        return self.checkpoint.scaling_factor


class _Joined(Rows):
    """Several sets of rows as one."""

    def __init__(self, parts: list[Rows]) -> None:
        places = [place for part in parts for place in part.places]
        super().__init__(places, [part.facts(n) for part in parts for n in range(len(part))])


def _device() -> torch.device:
    return torch.device(machine().device)


def _key(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()
