"""Prompts and seeds turned into pictures by a diffusers pipeline."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from bespoke.encoding import TextEncoder
from bespoke.recipe.tree import Sample
from bespoke.sampling.schedulers import hushed
from bespoke.shapes import Latents
from bespoke.text import unweighed, weighed


@dataclass(frozen=True)
class Request:
    """One picture to draw.

    The first noise depends on the seed alone, as in plain diffusers with `torch.Generator("cpu").manual_seed(seed)`,
    so that anyone can draw the picture again without us. Words of the prompt may have weights: `(red hat:1.3)`.
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
    with hushed():
        return pipeline(
            **_words(pipeline, [request.prompt for request in requests], [settings.negative_prompt] * len(requests)),
            num_inference_steps=settings.num_inference_steps,
            **_guidance(settings),
            generator=[torch.Generator("cpu").manual_seed(request.seed) for request in requests],
            output_type=output,
        )


def _guidance(settings: Sample) -> dict[str, Any]:
    """How the pipeline is told to guide, and when to leave off.

    Source: Kynkäänniemi et al. 2024, arXiv 2404.07724: at low noise guidance is all but needless; how a pipeline is
    told is diffusers' "dynamic classifier-free guidance".
    """
    scale = {} if settings.guidance_scale is None else {"guidance_scale": settings.guidance_scale}
    if settings.guidance_end == 1:
        return scale
    if settings.guidance_end == 0:
        return {"guidance_scale": 1.0}

    def leave_off(pipeline: Any, step: int, _: Any, states: dict[str, Any]) -> dict[str, Any]:
        done = step + 1 >= max(1, round(settings.guidance_end * pipeline.num_timesteps))
        if done and pipeline.do_classifier_free_guidance:
            pipeline._guidance_scale = 1.0  # noqa: SLF001 - there is no other way to tell a pipeline
            states["prompt_embeds"] = states["prompt_embeds"].chunk(2)[1]
        return states

    return scale | {"callback_on_step_end": leave_off, "callback_on_step_end_tensor_inputs": ["prompt_embeds"]}


def _words(pipeline: Any, prompts: Sequence[str], negative: Sequence[str]) -> dict[str, Any]:
    """Prompts as the pipeline takes them: as they are or, where some words have weights, as states.

    What has weights is read as training reads captions; all else as diffusers reads it, to the last bit.
    """
    plain = [[unweighed(text) for text in texts] for texts in (prompts, negative)]
    if not any(weighed(text)[1] for text in (*prompts, *negative)):
        return {"prompt": plain[0], "negative_prompt": plain[1]}
    states = pipeline.encode_prompt(plain[0], pipeline.device, 1, True, plain[1])  # noqa: FBT003 - with negative ones
    encoder = TextEncoder(pipeline.tokenizer, pipeline.text_encoder, pipeline.device)
    named = zip(("prompt_embeds", "negative_prompt_embeds"), (prompts, negative), states, strict=True)
    return {name: _heeded(encoder, texts, rows) for name, texts, rows in named}


def _heeded(encoder: TextEncoder, texts: Sequence[str], states: torch.Tensor) -> torch.Tensor:
    """The states of texts with the weights in them."""
    heeded = states.clone()
    for number, text in enumerate(texts):
        if weighed(text)[1]:
            heeded[number] = encoder([text])[0].to(states)
    return heeded
