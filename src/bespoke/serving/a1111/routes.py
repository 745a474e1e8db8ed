"""The service as clients of A1111 know it: what of its interface draws, and what clients ask besides."""

import asyncio
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request

from bespoke.recipe.schedulers import SCHEDULERS
from bespoke.recipe.service import Serve
from bespoke.serving.a1111 import forms
from bespoke.serving.a1111.answers import answered, picture_info, progressing
from bespoke.serving.a1111.asking import softened, wish_of
from bespoke.serving.a1111.options import Options
from bespoke.serving.a1111.samplers import samplers, types
from bespoke.serving.a1111.underway import Errand, Underway
from bespoke.serving.access import Needs
from bespoke.serving.asked import TOO_MUCH, checked, known, settled
from bespoke.serving.begun import decoded, size_of
from bespoke.serving.jobs import Facts
from bespoke.serving.service import Drawing
from bespoke.serving.uploads import BEGUN
from bespoke.serving.wishes import Refusal

NONE = (
    "extensions", "face-restorers", "hypernetworks", "latent-upscale-modes", "prompt-styles", "realesrgan-models",
    "script-info", "sd-vae",
)  # fmt: skip
"""What clients ask lists of, and there is none of."""
REFUSALS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": forms.Failed, "description": "The request is refused; `detail` says why."},
    "5XX": {"model": forms.Failed, "description": "It could not be drawn; asking again later may help."},
}


class Room:
    """What the routes share: who has chosen what, and what is being drawn."""

    def __init__(self, drawing: Drawing, settings: Serve) -> None:
        self.drawing, self.settings, self.underway = drawing, settings, Underway()
        self._options: dict[str, Options] = {}

    def options(self, owner: str) -> Options:
        """A caller's options, with the model that he draws with."""
        mine, models = self._options.get(owner, Options()), self.drawing.models
        return (
            mine
            if mine.sd_model_checkpoint
            else mine.model_copy(update={"sd_model_checkpoint": next(iter(models), "")})
        )

    def choose(self, owner: str, given: dict[str, Any]) -> None:
        """Changes some of a caller's options. Raises: Refusal when one is none here."""
        self._options[owner] = self._options.get(owner, Options()).changed(given, self.drawing.models)

    def schedulers(self, owner: str) -> tuple[str, ...]:
        """Those that draw with the model that a caller draws with; all of them where it is gone."""
        models, name = self.drawing.models, self.options(owner).sd_model_checkpoint
        facts = next((facts for served, facts in models.items() if name in (served, facts.title)), None)
        return facts.schedulers if facts else tuple(SCHEDULERS)

    async def draw(self, form: forms.Words, name: str, request: Request, owner: str) -> forms.Pictures:
        """The pictures of a form. Raises: Refusal."""
        models, given = self.drawing.models, form.override_settings or {}
        options = self.options(owner).changed(given, models)
        model = known(models, options.sd_model_checkpoint)
        wish = wish_of(form, model, models[model], options)
        checked(wish, self.settings, models[model], self.drawing.adapters if wish.adapters else ())
        drawn = settled(wish, models[model])
        mask = await asyncio.to_thread(softened, form, wish.mask) if wish.mask else None
        wish = replace(wish, mask=mask, previews=options.previews(drawn.num_inference_steps))
        if form.override_settings_restore_afterwards is False:
            self.choose(owner, given)
        errand = Errand(owner, name, wish.count, drawn.num_inference_steps)
        pictures = await self.underway.drawn(errand, request, partial(self.drawing.draw, wish, owner, errand.told))
        return answered(form, drawn, pictures, errand)


def router(drawing: Drawing, settings: Serve, needs: Needs) -> APIRouter:
    """The routes; `needs` makes the dependency that gives the caller's name, or refuses the request."""
    routes = APIRouter(prefix="/sdapi/v1", tags=["A1111"], responses=REFUSALS)
    room = Room(drawing, settings)
    _drawing_routes(routes, room, needs)
    _option_routes(routes, room, needs)
    _lists(routes, room, needs)
    return routes


def _drawing_routes(routes: APIRouter, room: Room, needs: Needs) -> None:
    caller, ruler = Depends(needs("draw")), Depends(needs("admin"))

    @routes.post("/txt2img")
    async def txt2img(form: forms.TextToImage, request: Request, owner: Annotated[str, caller]) -> forms.Pictures:
        """Pictures from words."""
        return await room.draw(form, "txt2img", request, owner)

    @routes.post("/img2img")
    async def img2img(form: forms.ImageToImage, request: Request, owner: Annotated[str, caller]) -> forms.Pictures:
        """A picture, or a part of it, drawn anew."""
        return await room.draw(form, "img2img", request, owner)

    @routes.get("/progress")
    async def progress(owner: Annotated[str, caller], *, skip_current_image: bool = False) -> forms.Progressing:
        """How far the caller's first request is."""
        return progressing(room.underway.of(owner), picture=not skip_current_image)

    @routes.post("/interrupt")
    async def interrupt(owner: Annotated[str, caller]) -> dict[str, Any]:
        """Leaves off all that is being drawn for the caller."""
        room.underway.interrupt(owner)
        return {}

    @routes.post("/interrupt-all")
    async def interrupt_all(_: Annotated[str, ruler]) -> dict[str, int]:
        """Leaves off all that is being drawn, for whomever, by this interface."""
        return {"interrupted": room.underway.interrupt()}

    @routes.post("/png-info")
    async def png_info(upload: forms.Upload, _: Annotated[str, caller]) -> forms.PictureInfo:
        """What a picture's file says of how it was made."""
        file = decoded(upload.image, "image")
        if math.prod(size_of(file)) > BEGUN * room.settings.most_pixels:
            raise Refusal(400, TOO_MUCH, "The image has too many pixels.", param="image")
        return await asyncio.to_thread(picture_info, file)


def _option_routes(routes: APIRouter, room: Room, needs: Needs) -> None:
    caller = Depends(needs("draw"))

    @routes.get("/options")
    async def options(owner: Annotated[str, caller]) -> Options:
        """The caller's options."""
        return room.options(owner)

    @routes.post("/options")
    async def choose(given: dict[str, Any], owner: Annotated[str, caller]) -> None:
        """Changes options of the caller, and of nobody else."""
        room.choose(owner, given)

    @routes.get("/cmd-flags")
    async def flags(_: Annotated[str, caller]) -> dict[str, Any]:
        """What the service was started with is nobody's business."""
        return {}

    @routes.post("/refresh-checkpoints")
    @routes.post("/refresh-loras")
    async def refresh(_: Annotated[str, caller]) -> None:
        """Nothing: lists are always as things are."""


def _lists(routes: APIRouter, room: Room, needs: Needs) -> None:
    caller = Depends(needs("draw"))

    def listing(content: Callable[[Room, str], Any]) -> Callable[..., Any]:
        async def listed(owner: Annotated[str, caller]) -> Any:  # noqa: ANN401 - the route says what it is
            return content(room, owner)

        return listed

    for name, (kind, content) in LISTS.items():
        routes.get(f"/{name}", response_model=kind, name=name, description=content.__doc__)(listing(content))


def _samplers(room: Room, owner: str) -> list[forms.Sampler]:
    """Ways from noise to picture with the caller's model, with the schedule that `Automatic` is for them."""
    made = samplers(room.schedulers(owner)).items()
    return [forms.Sampler(name=key, aliases=[name], options={"scheduler": kind}) for key, (name, kind) in made]


def _schedulers(room: Room, owner: str) -> list[forms.Schedule]:
    """How steps are spread with the caller's model."""
    return [forms.Schedule(name=name, label=label) for name, label in types(room.schedulers(owner)).items()]


def _checkpoints(room: Room, _: str) -> list[forms.Checkpoint]:
    """Models by the names that are served; the file's is what a name means now, never where it lies."""
    return [_checkpoint(name, facts) for name, facts in room.drawing.models.items()]


def _checkpoint(name: str, facts: Facts) -> forms.Checkpoint:
    digest = dict(facts.facts).get("hash")
    short = digest[:10] if digest else None
    return forms.Checkpoint(title=name, model_name=name, filename=facts.title, sha256=digest, hash=short)


def _loras(room: Room, _: str) -> list[forms.Lora]:
    """Adapters that prompts may call."""
    return [forms.Lora(name=name, alias=name, path=name) for name in room.drawing.adapters]


def _upscalers(_room: Room, _: str) -> list[forms.Upscaler]:
    """What `hr_upscaler` may be."""
    return [forms.Upscaler(name="Lanczos", scale=4)]


def _embeddings(_room: Room, _: str) -> forms.Embeddings:
    """None: words that a model has learnt are its own."""
    return forms.Embeddings()


def _scripts(_room: Room, _: str) -> forms.Scripts:
    """None."""
    return forms.Scripts()


def _none(_room: Room, _: str) -> list[dict[str, Any]]:
    """None."""
    return []


LISTS: dict[str, tuple[Any, Callable[[Room, str], Any]]] = {
    "samplers": (list[forms.Sampler], _samplers),
    "schedulers": (list[forms.Schedule], _schedulers),
    "sd-models": (list[forms.Checkpoint], _checkpoints),
    "loras": (list[forms.Lora], _loras),
    "upscalers": (list[forms.Upscaler], _upscalers),
    "embeddings": (forms.Embeddings, _embeddings),
    "scripts": (forms.Scripts, _scripts),
    **dict.fromkeys(NONE, (list[dict[str, Any]], _none)),
}
"""What clients ask lists of, with what they are answered."""
