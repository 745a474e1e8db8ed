"""What is asked for, held against what the service lets people ask for and what the model is known to be."""

import difflib
import math
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from bespoke.errors import BespokeError
from bespoke.recipe.schedulers import scheduler_name
from bespoke.recipe.service import Serve
from bespoke.recipe.tree import Sample
from bespoke.serving.begun import size_of
from bespoke.serving.envelope import INVALID
from bespoke.serving.jobs import Facts
from bespoke.serving.uploads import BEGUN
from bespoke.serving.wishes import Refusal, Wish
from bespoke.text import checked as read_prompt

ASKABLE = frozenset((
    "brackets", "clip_skip", "deep_cache", "format", "guidance_end", "guidance_rescale", "guidance_scale", "height",
    "hires_scale", "hires_strength", "negative_prompt", "num_inference_steps", "quality", "scheduler", "strength",
    "width",
))  # fmt: skip
"""Keys of `[sample]` that are for those to say who ask; the others are the model's, or the service's."""
MOST_LETTERS = 32_000
"""Letters of a prompt, and of a negative one. Source: OpenAI's limit for its GPT image models."""
LARGEST_SEED = 2**63 - 1
TOO_MUCH = "limit_exceeded"
SIZES = frozenset(("width", "height", "hires_scale"))
"""What decides how large pictures are; where a wish says nothing of it, who runs the service has chosen that."""


def known(models: Mapping[str, Facts], name: str) -> str:
    """The name that is served for a model's name, or for the title of the version that it means now.

    Raises: Refusal of 404, or of 503 when none is served yet.
    """
    if not models:
        raise Refusal(503, "not_ready", "No model is ready yet; ask again when /readyz answers 200.", retry_after=1.0)
    if name in models:
        return name
    for served, facts in models.items():
        if facts.title == name:
            return served
    raise unknown("model", name, models, param="model", status=404)


def unknown(what: str, name: str, known: Iterable[str], *, param: str, status: int = 400) -> Refusal:
    """Why a name that nothing here has is refused, and which is meant perhaps."""
    names, name = sorted(known), name[:80]
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f" Is {near[0]} meant?" if near else f" There are: {', '.join(names[:12])}." if names else " There is none."
    return Refusal(status, f"{what}_not_found", f"There is no {what} {name!r} here.{hint}", param=param)


def settled(wish: Wish, facts: Facts) -> Sample:
    """How the pictures of a wish are drawn: what it says, and for the rest how the model draws of itself.

    The size is that of the picture to begin with, where there is one and the wish names no other.
    Raises: Refusal of 400 naming a setting that is none, or that is not for those who ask.
    """
    if other := sorted(wish.settings.keys() - ASKABLE):
        message = f"{shown(other[0])} is nothing to ask for. Known: {', '.join(sorted(ASKABLE))}."
        raise Refusal(400, INVALID, message, param=other[0])
    size = size_of(wish.image) if wish.image else (facts.width, facts.height)
    said: dict[str, Any] = {**dict(facts.settings), **wish.settings}
    said |= {side: own for side, own in zip(("width", "height"), size, strict=True) if said.get(side) is None}
    try:
        settings = Sample(**said)
        settings = settings.model_copy(update={"scheduler": scheduler_name(settings.scheduler)})
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        key = ".".join(map(str, first["loc"]))
        raise Refusal(400, INVALID, f"{key}: {first['msg']}.", param=key) from None
    except BespokeError as error:
        raise Refusal(400, INVALID, f"{error.problem} {error.hint}", param="scheduler") from None
    if settings.scheduler not in facts.schedulers:
        message = f"This model is not drawn by {settings.scheduler}, but by: {', '.join(facts.schedulers)}."
        raise Refusal(400, INVALID, message, param="scheduler")
    return settings


def checked(wish: Wish, settings: Serve, facts: Facts, adapters: Collection[str] = ()) -> None:
    """Looks whether the service lets people ask for that; `adapters` are the names that it may have.

    Raises: Refusal of 400 saying what is too much, or wrong.
    """
    if not 1 <= wish.count <= settings.most_images:
        raise _too_much(wish.count, "pictures", settings.most_images, "most_images", "n")
    if wish.mask and not wish.image:
        raise Refusal(400, INVALID, "There is a mask, and no picture that it belongs to.", param="mask")
    if wish.image:
        _begun(wish, BEGUN * settings.most_pixels)
    drawn = settled(wish, facts)
    steps = drawn.num_inference_steps
    if steps > settings.most_steps and "num_inference_steps" in wish.settings:
        raise _too_much(steps, "steps", settings.most_steps, "most_steps", "num_inference_steps")
    pixels = math.prod(round((side or 0) * drawn.hires_scale) for side in (drawn.width, drawn.height))
    if pixels > settings.most_pixels and (wish.image or wish.settings.keys() & SIZES):
        raise _too_much(pixels, "pixels", settings.most_pixels, "most_pixels", "size")
    if wish.seed is not None and not 0 <= wish.seed <= LARGEST_SEED + 1 - wish.count:
        raise Refusal(400, INVALID, f"Seeds are from 0 to {LARGEST_SEED}.", param="seed")
    for name, text in (("prompt", wish.prompt), ("negative_prompt", drawn.negative_prompt)):
        _readable(name, text, letters=drawn.brackets == "letters")
    _worn(wish.adapters, adapters)


def shown(text: object, most: int = 80) -> str:
    """What somebody sent, short enough to send it back."""
    said = repr(text)
    return said if len(said) <= most else said[: most - 1] + "…"


def _too_much(asked: int, what: str, most: int, key: str, param: str) -> Refusal:
    return Refusal(400, TOO_MUCH, f"{asked} {what}: from 1 to {most} may be asked for (serve.{key}).", param=param)


def _begun(wish: Wish, most: int) -> None:
    for name, file in (("image", wish.image), ("mask", wish.mask)):
        if file and math.prod(size_of(file, name)) > most:
            raise Refusal(400, TOO_MUCH, f"The {name} has more than {most} pixels; make it smaller.", param=name)


def _readable(name: str, text: str, *, letters: bool) -> None:
    if len(text) > MOST_LETTERS:
        raise Refusal(400, TOO_MUCH, f"The {name} has {len(text)} letters; it may have {MOST_LETTERS}.", param=name)
    try:
        text.encode()
        if not letters:
            read_prompt(text)
    except UnicodeEncodeError:
        raise Refusal(400, INVALID, f"The {name} has a letter that is none: half of a pair.", param=name) from None
    except BespokeError as error:
        raise Refusal(400, INVALID, f"{error.problem} {error.hint}", param=name) from None


def _worn(asked: Mapping[str, float], there: Collection[str]) -> None:
    for name, weight in asked.items():
        if name not in there:
            raise unknown("adapter", name, there, param="lora")
        if not math.isfinite(weight):
            raise Refusal(400, INVALID, f"The weight of the adapter {name} is no number.", param="lora")
