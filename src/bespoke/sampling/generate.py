"""Prompts and seeds turned into pictures by a diffusers pipeline."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from bespoke.recipe.tree import Sample
from bespoke.shapes import Latents


@dataclass(frozen=True)
class Request:
    """One picture to draw.

    The first noise depends on the seed alone, as in plain diffusers with `torch.Generator("cpu").manual_seed(seed)`,
    so that anyone can draw the picture again without us.
    """

    prompt: str
    seed: int


@dataclass(frozen=True)
class Drawn:
    """One picture that was drawn."""

    request: Request
    picture: Image.Image
    flagged: bool = False
    """Whether the model's safety checker put a black picture in its place."""


def draw(pipeline: Any, requests: Sequence[Request], settings: Sample) -> Iterator[Drawn]:
    """The pictures of `requests`, in order, as they are drawn."""
    for start in range(0, len(requests), settings.batch_size):
        part = requests[start : start + settings.batch_size]
        output = _run(pipeline, part, settings, "pil")
        flags = getattr(output, "nsfw_content_detected", None) or [False] * len(part)
        for request, picture, flag in zip(part, output.images, flags, strict=True):
            yield Drawn(request, picture, bool(flag))


def latents(pipeline: Any, requests: Sequence[Request], settings: Sample) -> Iterator[Latents]:
    """The pictures of `requests` as scaled latents, not decoded, a batch at a time."""
    for start in range(0, len(requests), settings.batch_size):
        yield _run(pipeline, requests[start : start + settings.batch_size], settings, "latent").images.float().cpu()


@torch.no_grad()
def _run(pipeline: Any, requests: Sequence[Request], settings: Sample, output: str) -> Any:
    return pipeline(
        [request.prompt for request in requests],
        negative_prompt=[settings.negative_prompt] * len(requests),
        num_inference_steps=settings.num_inference_steps,
        guidance_scale=settings.guidance_scale,
        generator=[torch.Generator("cpu").manual_seed(request.seed) for request in requests],
        output_type=output,
    )
