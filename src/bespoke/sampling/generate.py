"""Prompts and seeds turned into pictures by a diffusers pipeline."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from bespoke.encoding import TextEncoder, fitted, windows
from bespoke.recipe.tree import Sample
from bespoke.sampling.schedulers import hushed
from bespoke.shapes import Latents
from bespoke.text import escaped, read, unweighed

READING = 2
"""Which way of reading prompts this is; pictures that were drawn by another are not taken for these."""


@dataclass(frozen=True)
class Request:
    """One picture to draw.

    The first noise depends on the seed alone, as in plain diffusers with `torch.Generator("cpu").manual_seed(seed)`,
    so that anyone can draw the picture again without us. Words of the prompt may have weights, `(red hat:1.3)`, and it
    may be of any length.
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
            **_words(pipeline, [request.prompt for request in requests], settings),
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


def _words(pipeline: Any, prompts: Sequence[str], settings: Sample) -> dict[str, Any]:
    """Prompts as the pipeline takes them: as they are or, where some have weights or are long, as states.

    Those are read as training reads captions; all else as diffusers reads it, to the last bit.
    """
    negative = [settings.negative_prompt] * len(prompts)
    if settings.brackets == "letters":
        prompts, negative = [escaped(text) for text in prompts], [escaped(text) for text in negative]
    texts = (*prompts, *negative)
    simple = {text: _simple(pipeline.tokenizer, text) for text in texts}
    asked = [[unweighed(text) if simple[text] else "" for text in part] for part in (prompts, negative)]
    if all(simple.values()):
        return {"prompt": asked[0], "negative_prompt": asked[1]}
    states = torch.cat(pipeline.encode_prompt(asked[0], pipeline.device, 1, True, asked[1]))  # noqa: FBT003 - both
    encoder = TextEncoder(pipeline.tokenizer, pipeline.text_encoder, pipeline.device)
    rows = [row if simple[text] else encoder([text])[0].to(row) for text, row in zip(texts, states, strict=True)]
    both = fitted(rows)
    return {"prompt_embeds": both[: len(prompts)], "negative_prompt_embeds": both[len(prompts) :]}


def _simple(tokenizer: Any, text: str) -> bool:
    """Whether any program reads a prompt alike: it has no weights, and one window holds it."""
    return read(text).plain and len(windows(tokenizer, read(text))) == 1
