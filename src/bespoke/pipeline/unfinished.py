"""The steps of pictures that are being drawn, told to the service, and what can be seen of them so far."""

import io
from collections.abc import Callable, Sequence
from contextlib import suppress

from PIL import Image

from bespoke.errors import BespokeError
from bespoke.recipe.tree import Sample
from bespoke.sampling.preview import Glimpse, Watch
from bespoke.sampling.preview import Step as Made
from bespoke.serving.jobs import Step


class Unfinished:
    """The pictures of a batch while they are drawn, in one go or several, told as if it were one.

    How many steps there are is known of the present go; those to come are taken to be as long.
    """

    def __init__(
        self, glimpse: Glimpse, settings: Sample, begun: Sequence[Image.Image | None], goes: int,
        watch: Callable[[Step], None],
    ) -> None:  # fmt: skip
        """`begun` are the pictures to begin with, which are seen until there is something else."""
        self._glimpse, self._watch, self._pictures = glimpse, watch, list(begun)
        self._left = goes * (2 if settings.hires_scale > 1 and settings.hires_strength else 1)
        self._before, self.steps = 0, 0
        """So many were made."""

    def of(self, numbers: Sequence[int]) -> Watch:
        """What hears of the steps of one go, in which the pictures of these numbers are drawn."""

        def told(step: Made) -> None:
            if step.number == 1:
                self._before = self.steps
                self._left -= 1
            self.steps += 1

            def previews() -> Sequence[bytes]:
                with suppress(BespokeError):  # a model exported without its encoder lets nobody see
                    for number, picture in zip(numbers, self._glimpse(step), strict=True):
                        self._pictures[number] = picture
                return [_png(picture) for picture in self._pictures]

            whole = self._before + step.steps * (1 + max(0, self._left))
            self._watch(Step(self.steps, whole, previews))

        return told


def _png(picture: Image.Image | None) -> bytes:
    """A PNG file; empty for what nothing can be seen of."""
    file = io.BytesIO()
    if picture:
        picture.save(file, format="PNG")
    return file.getvalue()
