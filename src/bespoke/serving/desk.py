"""Wishes before they are drawn: what asks too much is refused, what is drawn is noted."""

import difflib
import time
from collections.abc import Iterable, Mapping, Sequence

from bespoke.recipe.service import Serve
from bespoke.serving.hearing import Hearing
from bespoke.serving.jobs import Facts, Picture
from bespoke.serving.keys import Keys
from bespoke.serving.limits import Buckets
from bespoke.serving.logs import note
from bespoke.serving.service import Drawing
from bespoke.serving.uploads import size_of
from bespoke.serving.wishes import Refusal, Told, Wish

AGAIN_S = 10.0
"""Seconds after which to ask a service again that is not ready."""
UNDRAWN = frozenset((429, 503))
"""Statuses of wishes that were refused before anything was done for them: they do not count to a key's rate."""


class Desk(Drawing):
    """A drawing that takes no more than `[serve]` allows, whatever protocol the wishes came by."""

    def __init__(
        self, drawing: Drawing, settings: Serve, keys: Keys | None, buckets: Buckets, hearing: Hearing | None = None
    ) -> None:
        self._drawing, self._settings, self._keys, self._buckets = drawing, settings, keys, buckets
        self._hearing = hearing

    @property
    def state(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride] - it is only read
        """What the drawing is at."""
        return self._drawing.state

    @property
    def models(self) -> Mapping[str, Facts]:
        """What each name that is served means now."""
        return self._drawing.models

    @property
    def adapters(self) -> Sequence[str]:
        """The names of adapters that wishes may have."""
        return self._drawing.adapters

    async def draw(self, wish: Wish, owner: str, told: Told | None = None) -> list[Picture]:
        """The pictures of a wish. Raises: Refusal when it is too large, comes too soon, or the drawing refuses it."""
        note(wanted=wish.count, prompt=wish.prompt if self._settings.log_prompts else None)
        within(wish, self._facts(wish.model), self._settings)
        for name in wish.adapters:
            if name not in self.adapters:
                raise unknown("adapter", name, self.adapters, param="lora")
        share = (owner, wish.count, self._rate(owner), self._settings.most_images)
        self._buckets.take(*share)
        began = time.monotonic()
        try:
            pictures = await self._drawing.draw(wish, owner, told)
        except Refusal as refusal:
            if refusal.status in UNDRAWN:
                self._buckets.give_back(*share)
            raise
        note(model=pictures[0].model, pictures=len(pictures), flagged=sum(one.flagged for one in pictures) or None)
        if self._hearing:
            self._hearing.drew(wish, owner, pictures, time.monotonic() - began)
        return pictures

    def _facts(self, model: str) -> Facts:
        """What is known of a model, by its name or by the title of the version that it means."""
        titles = {facts.title: facts for facts in self.models.values()}
        if found := self.models.get(model) or titles.get(model):
            return found
        if self.state != "ready":
            message = f"The service is {self.state}; ask again when /readyz answers 200."
            raise Refusal(503, "not_ready", message, retry_after=AGAIN_S)
        raise unknown("model", model, self.models, param="model", status=404)

    def _rate(self, owner: str) -> float:
        key = self._keys.named(owner) if self._keys is not None else None
        return self._settings.rate_per_minute if key is None or key.rate_per_minute is None else key.rate_per_minute


def within(wish: Wish, facts: Facts, settings: Serve) -> None:
    """Raises: Refusal of 400 when a wish asks for more than `[serve]` allows, naming the limit."""
    drawn = {**dict(facts.settings), **wish.settings}
    scale = float(drawn.get("hires_scale") or 1.0)
    # Of a picture to begin with the size is kept, unless another one is asked for.
    own = size_of(wish.image) if wish.image else (facts.width, facts.height)
    across, down = (wish.settings.get(side) or size for side, size in zip(("width", "height"), own, strict=True))
    pixels = round(across * scale) * round(down * scale)
    if wish.count > settings.most_images:
        raise _too_much("n", f"{wish.count} pictures are", settings.most_images, "most_images")
    if pixels > settings.most_pixels:
        raise _too_much("size", f"{pixels} pixels are", settings.most_pixels, "most_pixels")
    # How the model draws of itself was chosen by who runs the service.
    steps = wish.settings.get("num_inference_steps") or 0
    if steps > settings.most_steps:
        raise _too_much("num_inference_steps", f"{steps} steps are", settings.most_steps, "most_steps")


def unknown(what: str, name: str, known: Iterable[str], *, param: str, status: int = 400) -> Refusal:
    """Why a name that nothing here has is refused, and which is meant perhaps."""
    names, name = sorted(known), name[:80]
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f" Is {near[0]} meant?" if near else f" There are: {', '.join(names[:12])}." if names else " There is none."
    return Refusal(status, f"{what}_not_found", f"There is no {what} {name!r} here.{hint}", param=param)


def _too_much(param: str, what: str, limit: int, key: str) -> Refusal:
    return Refusal(400, "limit_exceeded", f"{what} asked for; the most is {limit} (serve.{key}).", param=param)
