"""What may be asked for by OpenAI's protocol for pictures, its fields and ours, each with its limits."""

import difflib
import json
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from fastapi import UploadFile
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from bespoke.errors import BespokeError
from bespoke.recipe.tree import Sample
from bespoke.serving.envelope import INVALID, UNKNOWN
from bespoke.serving.wishes import Refusal, Wish
from bespoke.text.called import called

MOST_SEED = 2**53 - 1
"""JavaScript knows no larger whole number for certain."""
REASONS = {
    "quality": "num_inference_steps says how much care is taken",
    "style": "say it in the prompt",
    "background": "pictures have no transparency",
    "moderation": "the model's own safety checker looks at pictures, and no request turns it down",
}
"""Why fields of OpenAI's are refused that say something which cannot be done."""
SETTINGS = (
    "negative_prompt", "num_inference_steps", "guidance_scale", "scheduler", "guidance_rescale", "guidance_end",
    "clip_skip", "hires_scale", "hires_strength", "strength", "deep_cache", "brackets",
)  # fmt: skip
"""Fields that are keys of `[sample]`."""


WHOLE = BeforeValidator(lambda value: int(value) if isinstance(value, float) and value.is_integer() else value)
"""JSON knows one kind of number: 2.0 is a whole one."""

ELSEWHERE = {
    "steps": "num_inference_steps", "cfg_scale": "guidance_scale", "cfg": "guidance_scale", "sampler": "scheduler",
    "sampler_name": "scheduler", "width": "size", "height": "size", "batch_size": "n", "num_images": "n",
    "loras": "lora", "denoising_strength": "strength",
}  # fmt: skip
"""What other protocols call fields of this one."""


def _only(field: str, *values: str) -> BeforeValidator:
    """What refuses other values of a field, with the reason."""

    def check(value: object) -> object:
        if value is not None and value not in values:
            words = f"only {' and '.join(values) or 'null'} can be had; {REASONS[field]}"
            raise PydanticCustomError("not_here", "{words}", {"words": words})
        return value

    return BeforeValidator(check)


class Lora(BaseModel):
    """An adapter that is worn besides the model's own."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, strict=True)
    id: Annotated[str, Field(min_length=1, max_length=256)]
    """Its name, as GET /v1/models lists it."""
    scale: Annotated[float, Field(ge=-10, le=10)] = 1.0


class Asked(BaseModel):
    """What pictures from words and changed pictures have in common."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, strict=True, use_attribute_docstrings=True)
    form_of: ClassVar[str]
    """What the names of its events begin with."""

    prompt: Annotated[str, Field(min_length=1, max_length=32_000)]
    """What to draw. It may call adapters, `<lora:name:0.8>`, and weigh words, `(red hat:1.3)`."""
    model: Annotated[str, Field(max_length=256)] | None = None
    """A name of GET /v1/models; without one, the only model there is."""
    n: Annotated[int, Field(ge=1, le=10), WHOLE] | None = None
    """How many pictures; 1 by default. Their seeds follow one another."""
    size: Annotated[str, Field(pattern=r"^(auto|[1-9][0-9]{0,4}x[1-9][0-9]{0,4})$")] | None = None
    """`WIDTHxHEIGHT` in pixels, rounded to what the model can draw; `auto` is the model's own."""
    response_format: Literal["b64_json", "url"] | None = None
    """`b64_json` by default; `url`: an address at which the picture can be fetched for a while."""
    output_format: Literal["png", "jpeg", "webp"] | None = None
    output_compression: Annotated[int, Field(ge=0, le=100), WHOLE] | None = None
    """How true `jpeg` and `webp` are: 100 is best. Zero counts as one."""
    quality: Annotated[Literal["auto", "standard"] | None, _only("quality", "auto", "standard")] = None
    background: Annotated[Literal["auto", "opaque"] | None, _only("background", "auto", "opaque")] = None
    moderation: Annotated[Literal["auto"] | None, _only("moderation", "auto")] = None
    user: Annotated[str, Field(max_length=512)] | None = None
    """Accepted, and not used."""
    safety_identifier: Annotated[str, Field(max_length=512)] | None = None
    """Accepted, and not used."""
    stream: bool | None = None
    """Answer with server-sent events."""
    partial_images: Annotated[int, Field(ge=0, le=3), WHOLE] | None = None
    """So many unfinished pictures come on the way, in a stream."""

    progress: bool | None = None
    """Ours: an event for each step, in a stream."""
    negative_prompt: Annotated[str, Field(max_length=32_000)] | None = None
    """Ours: what pictures are pulled away from."""
    seed: Annotated[int, Field(ge=0, le=MOST_SEED), WHOLE] | None = None
    """Ours: of the first picture; the next ones follow. By default any."""
    num_inference_steps: Annotated[int, Field(gt=0), WHOLE] | None = None
    """Ours: steps from noise to picture."""
    guidance_scale: Annotated[float, Field(ge=0, le=100)] | None = None
    """Ours: how strongly the prompt pulls."""
    scheduler: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    """Ours: the way from noise to picture, `euler_a`, `dpm++_2m_karras`, …"""
    guidance_rescale: Annotated[float, Field(ge=0, le=1)] | None = None
    """Ours: how far what guidance did to contrast is taken back."""
    guidance_end: Annotated[float, Field(ge=0, le=1)] | None = None
    """Ours: part of the steps that the prompt's pull guides."""
    clip_skip: Annotated[int, Field(ge=0), WHOLE] | None = None
    """Ours: so many of the text encoder's last layers are left out."""
    hires_scale: Annotated[float, Field(ge=1, le=8)] | None = None
    """Ours: pictures are enlarged so many times and drawn over."""
    hires_strength: Annotated[float, Field(ge=0, le=1)] | None = None
    """Ours: how much of an enlarged picture is drawn anew."""
    deep_cache: Annotated[int, Field(gt=0), WHOLE] | None = None
    """Ours: steps for which the UNet's deep layers answer once; 1: at each step."""
    brackets: Literal["weights", "letters"] | None = None
    """Ours: what brackets in prompts are."""
    lora: Annotated[list[Lora], Field(max_length=16)] | None = None
    """Ours: adapters to wear."""
    deadline_s: Annotated[float, Field(gt=0, le=86_400)] | None = None
    """Ours: seconds in which the pictures are of use."""

    @model_validator(mode="before")
    @classmethod
    def _known(cls, given: Any) -> Any:  # noqa: ANN401 - whatever JSON holds
        """Raises: PydanticCustomError for the first field that is not known, with the nearest that is."""
        if isinstance(given, Mapping):
            names = {str(field.alias or name) for name, field in cls.model_fields.items()}
            for name in (str(key)[:80] for key in given if key not in names):
                near = difflib.get_close_matches(name, sorted(names), n=1, cutoff=0.5)
                meant = ELSEWHERE[name] if ELSEWHERE.get(name) in names else (near or [""])[0]
                words = f"There is no parameter {name!r}." + (f" Is {meant!r} meant?" if meant else "")
                raise PydanticCustomError(UNKNOWN, "{words}", {"words": words, "param": name})
        return given

    def wish(self, model: str, image: bytes | None = None, mask: bytes | None = None) -> Wish:
        """What it asks for. Raises: Refusal when the prompt calls an adapter with a weight that is no number."""
        prompt, adapters = _called(self.prompt)
        for lora in self.lora or ():
            adapters[lora.id] = adapters.get(lora.id, 0.0) + lora.scale
        previews = (self.partial_images or 0) if self.stream else 0
        return Wish(
            model=model, prompt=prompt, count=self.n or 1, seed=self.seed, settings=self._settings(), adapters=adapters,
            image=image, mask=mask, previews=previews, deadline_s=self.deadline_s,
        )  # fmt: skip

    def _settings(self) -> dict[str, Any]:
        asked = self.model_dump(include=set(SETTINGS), exclude_none=True)
        if self.size not in (None, "auto"):
            asked["width"], asked["height"] = (int(side) for side in str(self.size).split("x"))
        form = self.output_format or "png"
        if form != Sample().format:
            asked["format"] = form
        if self.output_compression is not None and form != "png":
            asked["quality"] = max(1, self.output_compression)
        return asked


class Generation(Asked):
    """Pictures from words."""

    form_of: ClassVar[str] = "image_generation"
    style: Annotated[None, _only("style")] = None


def _parsed(value: object) -> object:
    """What the fields of a form hold as JSON."""
    if not isinstance(value, list):
        return value
    try:
        found = [json.loads(part) if isinstance(part, str) else part for part in value]
    except (ValueError, RecursionError):
        raise PydanticCustomError("json", "It is no JSON") from None
    return found[0] if len(found) == 1 and isinstance(found[0], list) else found


def _as_form(schema: dict[str, Any]) -> None:
    """Describes what the form has to have: no field of one is null, and the list is for OpenAI's client alone."""
    fields = schema["properties"]
    del fields["image[]"]
    for field in fields.values():
        for kind in field.pop("anyOf", ()):
            field.update(kind if kind != {"type": "null"} else {})
        field.pop("default", None)
    for file in ("image", "mask"):
        fields[file] = {"type": "string", "format": "binary", "description": fields[file]["description"]}
    schema["required"] = [*schema["required"], "image"]


class Edit(Asked):
    """A picture, or a part of it, drawn anew."""

    model_config = ConfigDict(strict=False, json_schema_extra=_as_form)
    form_of: ClassVar[str] = "image_edit"

    image: UploadFile | None = None
    """The picture to begin with: PNG, JPEG or WebP."""
    images: Annotated[list[UploadFile], Field(alias="image[]", max_length=16)] = []
    """The same as OpenAI's client sends a list; one is taken."""
    mask: UploadFile | None = None
    """A PNG of the picture's size: what is transparent in it is drawn anew."""
    input_fidelity: Literal["high", "low"] | None = None
    """Accepted, and not used: `strength` says how much is drawn anew."""
    strength: Annotated[float, Field(ge=0, le=1)] | None = None
    """Ours: how much is drawn anew: 0 is nothing, 1 everything."""
    lora: Annotated[list[Lora] | None, Field(max_length=16), BeforeValidator(_parsed)] = None
    """Ours: adapters to wear; each as JSON in a field of its own, or all in one."""


def _called(prompt: str) -> tuple[str, dict[str, float]]:
    try:
        return called(prompt)
    except BespokeError as error:
        raise Refusal(400, INVALID, f"{error.problem} {error.hint}", param="prompt") from None


def fingerprint(route: str, asked: Asked, *files: bytes | None) -> bytes:
    """What is the same for two requests that ask for the same."""
    said = asked.model_dump(mode="json", exclude_unset=True, exclude={"image", "images", "mask"})
    return json.dumps([route, said, [file and len(file) for file in files]], sort_keys=True).encode() + b"".join(
        file or b"" for file in files
    )
