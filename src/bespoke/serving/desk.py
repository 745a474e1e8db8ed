"""Wishes before they are drawn: what asks too much is refused, what is drawn is noted."""

import time
from collections.abc import Mapping, Sequence

from bespoke.recipe.service import Serve
from bespoke.serving.asked import checked, known
from bespoke.serving.hearing import Hearing
from bespoke.serving.jobs import Facts, Picture
from bespoke.serving.keys import Keys
from bespoke.serving.limits import Buckets
from bespoke.serving.logs import note
from bespoke.serving.service import Drawing
from bespoke.serving.wishes import Refusal, Told, Wish

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
        models = self.models
        checked(wish, self._settings, models[known(models, wish.model)], self.adapters if wish.adapters else ())
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

    def _rate(self, owner: str) -> float:
        key = self._keys.named(owner) if self._keys is not None else None
        return self._settings.rate_per_minute if key is None or key.rate_per_minute is None else key.rate_per_minute
