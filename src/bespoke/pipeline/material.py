"""A dataset and a recipe turned into what training reads: everything encoded once, plain pictures drawn."""

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from bespoke import data
from bespoke.encoding import Cache, LatentEncoder, Rows, TextEncoder, too_long
from bespoke.hardware import machine
from bespoke.models import Checkpoint
from bespoke.pipeline.reporting import Reporter
from bespoke.recipe import Recipe
from bespoke.records import Dataset, Picture
from bespoke.sampling import Request, latents
from bespoke.text import plain
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
        kept = [*train, *validation]
        rows = self._latents(kept, folder, flip=False)
        mirrored = self._latents(train, folder, flip=True) if self.recipe.data.random_flip else None
        drawn = self._drawn(prior)
        joined = _Joined([rows, *([mirrored] if mirrored else []), *([drawn] if drawn else [])])
        text = {caption: number for number, caption in enumerate(captions)}
        examples = [
            Example(
                p.pixels,
                n,
                text[p.text],
                joined.place(1, n) if mirrored and p.split == "train" else None,
                repeats=p.repeats,
            )
            for n, p in enumerate(kept)
        ]
        weight, last = self.recipe.train.prior_loss_weight, len(joined.parts) - 1
        priors = [Example(f"plain-{n}", joined.place(last, n), text[c], weight=weight) for n, c in enumerate(prior)]
        return Material(
            joined, texts, text[""], (*examples[: len(train)], *priors), tuple(examples[len(train) :]), self._scale()
        )

    def _plain_captions(self, train: Sequence[Picture]) -> list[str]:
        """The training captions without the trigger: what the plain pictures are drawn from."""
        trigger, count = self.recipe.text.trigger or "", self.recipe.train.num_class_images or 0
        return [plain(picture.text, trigger) for picture in train][:count] if trigger else []

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

    def _latents(self, pictures: Sequence[Picture], folder: Path, *, flip: bool) -> Rows:
        resolution = self.recipe.data.resolution
        assert resolution is not None
        signature = data.signature(resolution, flip=flip)
        cache = Cache(self.project.cache / "latents" / self._hash("vae"))
        encoder = functools.cache(lambda: LatentEncoder(self.checkpoint.vae(), _device()))

        def pixels(number: int) -> data.Pixels:
            return data.fit(data.read(folder / "train" / pictures[number].file).image, resolution, flip=flip)

        return cache.rows(
            [_key(signature, picture.pixels) for picture in pictures],
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
        self.parts = parts
        super().__init__([place for part in parts for place in part.places])

    def place(self, part: int, number: int) -> int:
        """The number, in the whole, of a part's row."""
        return sum(len(p) for p in self.parts[:part]) + number


def _device() -> torch.device:
    return torch.device(machine().device)


def _key(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()
