"""Prompts and seeds turned into pictures by a diffusers pipeline."""

import warnings
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from PIL import Image

from bespoke.encoding import TextEncoder, fitted, text_encoder, windows
from bespoke.errors import BespokeError
from bespoke.models.conditions import is_joint, joint_width, summary_width, takes_summary
from bespoke.models.families import denoiser_of, readers_of
from bespoke.recipe.tree import Sample
from bespoke.sampling.deepcache import remembering
from bespoke.sampling.preview import Watch, watched
from bespoke.sampling.schedulers import hushed, scheduler, settings_of
from bespoke.sampling.ways import check, check_steps, kept, size_of, way
from bespoke.shapes import Latents
from bespoke.text import escaped, read, unweighed

READING = 2
"""Which way of reading prompts this is; pictures that were drawn by another are not taken for these."""
WITHOUT_EFFECT = frozenset(
    ("seed", "batch_size", "sample_every_n_steps", "prompts", "format", "quality", "adapters", "strength", "compile")
)
"""Settings that say nothing of how a prompt is drawn from noise, or that a model's own marks tell."""
ALWAYS_SAID = frozenset(("num_inference_steps", "guidance_scale", "guidance_end", "negative_prompt", "brackets"))
BOTH = ("prompt_embeds", "add_text_embeds", "add_time_ids", "pooled_prompt_embeds", "mask")
"""What pipelines hold for the prompt and the negative one together, each some of these."""
AT_ONCE = 2**20
"""So many pixels are decoded at once; the pictures of larger batches one after another, which gives the same."""
NO_NUMBER = "what came out is not a number"
"""What is said of a picture that is none."""


def choices(settings: Sample) -> Mapping[str, Any]:
    """The settings that decide what a picture from words looks like, those that are as by default left out."""
    plain = Sample(dtype="fp32")
    said = settings.model_dump(mode="json", exclude=set(WITHOUT_EFFECT)) | {"dtype": settings.dtype or plain.dtype}
    return {key: value for key, value in said.items() if key in ALWAYS_SAID or value != getattr(plain, key)}


@dataclass(frozen=True)
class Request:
    """One picture to draw.

    The first noise depends on the seed alone, as in plain diffusers with `torch.Generator("cpu").manual_seed(seed)`,
    so that anyone can draw the picture again without us. Words of the prompt may have weights, `(red hat:1.3)`, and it
    may be of any length.
    """

    prompt: str
    seed: int
    image: Image.Image | None = None
    """A picture to begin with."""
    mask: Image.Image | None = None
    """What of that picture is drawn anew: all that is white."""


@dataclass(frozen=True)
class Drawn:
    """One picture that was drawn."""

    request: Request
    picture: Image.Image
    flagged: bool = False
    """Whether the model's safety checker put a black picture in its place."""
    broken: bool = False
    """Whether what came out is not a number; there is a black picture in its place."""


def draw(pipeline: Any, requests: Sequence[Request], settings: Sample, watch: Watch | None = None) -> Iterator[Drawn]:
    """The pictures of `requests`, in order, as they are drawn; all begin with a picture, or none does.

    `watch` hears of each step of each batch. Of a picture that is not a number, a warning tells.
    """
    for start in range(0, len(requests), settings.batch_size):
        part = requests[start : start + settings.batch_size]
        again = _again(pipeline, part[0], settings)
        drawn = _drawn(pipeline, part, settings, watch)
        yield from _enlarged(pipeline, drawn, again, watch) if again else drawn


def latents(pipeline: Any, requests: Sequence[Request], settings: Sample) -> Iterator[Latents]:
    """The pictures of `requests` as scaled latents, not decoded, a batch at a time."""
    for start in range(0, len(requests), settings.batch_size):
        yield _run(pipeline, requests[start : start + settings.batch_size], settings, "latent").images.float().cpu()


def _drawn(pipeline: Any, part: Sequence[Request], settings: Sample, watch: Watch | None) -> list[Drawn]:
    with _numbers(pipeline.vae) as broken:
        output = _run(pipeline, part, settings, "pil", watch)
    flags = getattr(output, "nsfw_content_detected", None) or [False] * len(part)
    pictures = [kept(picture, one.image, one.mask) for picture, one in zip(output.images, part, strict=True)]
    return [Drawn(*one) for one in zip(part, pictures, map(bool, flags), broken, strict=True)]


def _again(pipeline: Any, request: Request, settings: Sample) -> Sample | None:
    """How pictures that are to be enlarged are drawn the second time; nothing where they stay as they are.

    Raises: BespokeError when they cannot be, before anything is drawn.
    """
    if settings.hires_scale == 1:
        return None
    across, down = size_of(pipeline, settings, request.image.size if request.image else None)
    wanted = {"width": round(across * settings.hires_scale), "height": round(down * settings.hires_scale)}
    again = settings.model_copy(
        update={**wanted, "hires_scale": 1.0, "strength": settings.hires_strength, "guidance_rescale": 0.0}
    )
    size_of(pipeline, again)
    if again.strength:
        check_steps(again, "sample.hires_strength")
    return again


def _enlarged(pipeline: Any, drawn: Sequence[Drawn], again: Sample, watch: Watch | None) -> Iterator[Drawn]:
    """The pictures enlarged and drawn over, so that a large one has one subject, and detail of its own.

    Source: A1111's "Hires. fix" with Lanczos.
    """
    size = size_of(pipeline, again)
    larger = [one.picture.resize(size, Image.Resampling.LANCZOS) for one in drawn]
    if not again.strength:
        yield from (replace(one, picture=picture) for one, picture in zip(drawn, larger, strict=True))
        return
    begun = [Request(one.request.prompt, one.request.seed, picture) for one, picture in zip(drawn, larger, strict=True)]
    for first, second in zip(drawn, _drawn(pipeline, begun, again, watch), strict=True):
        flagged, broken = first.flagged or second.flagged, first.broken or second.broken
        yield Drawn(first.request, second.picture, flagged, broken)


@torch.no_grad()
def _run(pipeline: Any, requests: Sequence[Request], settings: Sample, output: str, watch: Watch | None = None) -> Any:
    images = [request.image for request in requests if request.image]
    masks = [request.mask for request in requests if request.mask]
    check(settings, settings_of(pipeline.scheduler), denoiser_of(pipeline).config)
    with ExitStack() as stack:
        stack.enter_context(hushed())
        stack.enter_context(_scheduled(pipeline, settings, watch))
        order = getattr(pipeline.scheduler, "order", 1)  # so often the UNet is asked in a step
        stack.enter_context(remembering(denoiser_of(pipeline), settings.deep_cache, order))
        stack.enter_context(_decoded(pipeline, requests, settings))
        drawing, more = way(pipeline, images, masks, settings)
        stack.enter_context(_told_once(denoiser_of(pipeline)))
        return drawing(
            **_words(pipeline, [request.prompt for request in requests], settings),
            **more,
            num_inference_steps=settings.num_inference_steps,
            **_guidance(settings, [name for name in BOTH if name in drawing._callback_tensor_inputs]),  # noqa: SLF001
            generator=[torch.Generator("cpu").manual_seed(request.seed) for request in requests],
            output_type=output,
        )


@contextmanager
def _scheduled(pipeline: Any, settings: Sample, watch: Watch | None) -> Generator[None, None, None]:
    """A block in which a pipeline has the scheduler that is asked for, and `watch` hears of its steps."""
    own = pipeline.scheduler
    pipeline.scheduler = scheduler(settings.scheduler, own)
    try:
        with watched(pipeline.scheduler, watch):
            yield
    finally:
        pipeline.scheduler = own


@contextmanager
def _numbers(vae: Any) -> Generator[list[bool], None, None]:
    """A block in which a decoded picture that is not a number becomes black: for each, in order, whether it was one.

    Numpy would make something of it that depends on the processor, and warn without saying which it was.
    """
    own, broken = vae.decode, list[bool]()

    def decode(*args: Any, **named: Any) -> Any:
        answer = own(*args, **named)
        pixels = answer[0]
        broken.extend((~pixels.isfinite().flatten(1).all(dim=1)).tolist())
        pixels[broken[-len(pixels) :]] = -1.0
        return answer

    vae.decode = decode
    try:
        yield broken
    finally:
        del vae.decode  # the class's own is there again
    if any(broken):
        warnings.warn(NO_NUMBER, RuntimeWarning, stacklevel=2)


@contextmanager
def _decoded(pipeline: Any, requests: Sequence[Request], settings: Sample) -> Generator[None, None, None]:
    """A block in which a batch that is large as pictures is decoded a picture, or a tile, at a time."""
    vae, begun = pipeline.vae, requests[0].image
    width, height = size_of(pipeline, settings, begun.size if begun else None)
    sliced = len(requests) > 1 and len(requests) * width * height > AT_ONCE and hasattr(vae, "enable_slicing")
    if settings.vae_tiling and not hasattr(vae, "enable_tiling"):
        raise BespokeError("A model exported for a runtime decodes whole pictures.", "Set sample.vae_tiling = false.")
    if sliced:
        vae.enable_slicing()
    if settings.vae_tiling:
        vae.enable_tiling()
    try:
        yield
    finally:
        if sliced:
            vae.disable_slicing()
        if settings.vae_tiling:
            vae.disable_tiling()


def _guidance(settings: Sample, inputs: Sequence[str]) -> dict[str, Any]:
    """How the pipeline is told to guide, and when to leave off; `inputs` are what it holds for both at once.

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
            return {name: value.chunk(2)[1] for name, value in states.items()}
        return states

    return scale | {"callback_on_step_end": leave_off, "callback_on_step_end_tensor_inputs": list(inputs)}


@contextmanager
def _told_once(denoiser: Any) -> Generator[None, None, None]:
    """A block in which a transformer that draws without guidance is told the prompts alone.

    Not all of its pipelines let go of the negative prompts' summaries when guidance is left off.
    """

    def halved(_: Any, args: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        for name in ("encoder_hidden_states", "pooled_projections"):
            if len(named[name]) == 2 * len(named["hidden_states"]):
                named[name] = named[name].chunk(2)[1]
        return args, named

    if not is_joint(denoiser.config):
        yield
        return
    handle = denoiser.register_forward_pre_hook(halved, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def _words(pipeline: Any, prompts: Sequence[str], settings: Sample) -> dict[str, Any]:
    """Prompts as the pipeline takes them: as they are or, where some have weights or are long, as states.

    Those are read as training reads captions; all else as diffusers reads it, to the last bit.
    """
    negative = [settings.negative_prompt] * len(prompts)
    if settings.brackets == "letters":
        prompts, negative = [escaped(text) for text in prompts], [escaped(text) for text in negative]
    texts = (*prompts, *negative)
    if takes_summary(denoiser_of(pipeline).config):
        return _summarised(pipeline, texts, settings)
    encoder = TextEncoder(pipeline.tokenizer, pipeline.text_encoder, pipeline.device, skip=settings.clip_skip)
    if settings.clip_skip:
        both = encoder(texts).to(denoiser_of(pipeline).device, denoiser_of(pipeline).dtype)
        return {"prompt_embeds": both[: len(prompts)], "negative_prompt_embeds": both[len(prompts) :]}
    simple = {text: _simple(pipeline.tokenizer, text) for text in texts}
    asked = [[unweighed(text) if simple[text] else "" for text in part] for part in (prompts, negative)]
    if all(simple.values()):
        return {"prompt": asked[0], "negative_prompt": asked[1]}
    states = torch.cat(pipeline.encode_prompt(asked[0], pipeline.device, 1, True, asked[1]))  # noqa: FBT003 - both
    rows = [row if simple[text] else encoder([text])[0].to(row) for text, row in zip(texts, states, strict=True)]
    both = fitted(rows)
    return {"prompt_embeds": both[: len(prompts)], "negative_prompt_embeds": both[len(prompts) :]}


def _summarised(pipeline: Any, texts: Sequence[str], settings: Sample) -> dict[str, Any]:
    """Prompts and as many negative ones as states and summaries."""
    denoiser = denoiser_of(pipeline)
    joint = joint_width(denoiser.config)
    both = text_encoder(readers_of(pipeline), pipeline.device, settings.clip_skip, joint)(texts)
    both = both.to(denoiser.device, denoiser.dtype)
    if pipeline.config.get("force_zeros_for_empty_prompt"):
        both[[number >= len(texts) // 2 and not text for number, text in enumerate(texts)]] = 0.0
    states, summaries = both[:, :-1], both[:, -1, : summary_width(denoiser)]
    halves = slice(len(texts) // 2), slice(len(texts) // 2, None)
    told = (
        {f"{prefix}prompt_embeds": states[half], f"{prefix}pooled_prompt_embeds": summaries[half]}
        for prefix, half in zip(("", "negative_"), halves, strict=True)
    )
    return {name: value for each in told for name, value in each.items()}


def _simple(tokenizer: Any, text: str) -> bool:
    """Whether any program reads a prompt alike: it has no weights, and one window holds it."""
    return read(text).plain and len(windows(tokenizer, read(text))) == 1
