"""The size of a picture turned into the shape it is trained in: near its own, within a budget of pixels."""

import math
from dataclasses import dataclass

Size = tuple[int, int]
"""Width and height in pixels."""


@dataclass(frozen=True)
class Buckets:
    """The shapes that pictures may be trained in."""

    resolution: int
    """A shape has at most this number of pixels squared."""
    step: int
    """Both sides are multiples of this: the autoencoder's factor times the UNet's."""
    maximum_aspect: float = 2.0
    """Longer side by shorter side, at most."""
    upscale: bool = False
    """Whether a shape may have more pixels than the picture, in width or height."""

    def sizes(self, width: int, height: int) -> list[Size]:
        """The shapes open to a picture of that size, widest first: those that no other one covers.

        Without `upscale` none is wider or higher than the picture; of one that is smaller than a step in width or
        height, that side counts as a step.
        """
        within_width, within_height = (self._limit(width), self._limit(height))
        found: list[Size] = []
        for wide in range(within_width, 0, -self.step):
            high = min(within_height, self._floor(self._budget / wide), self._floor(wide * self.maximum_aspect))
            if high * self.maximum_aspect >= wide and high > (found[-1][1] if found else 0):
                found.append((wide, high))
        return found

    def choose(self, width: int, height: int) -> Size:
        """The open shape whose aspect is nearest to the picture's; of two, the wider.

        Nearness is |log(aspect / picture's aspect)|: how much of the picture a crop to the shape takes away.
        Source: NovelAI 2022, "Aspect Ratio Bucketing"; kohya's bucket_no_upscale for what is small.
        """
        return min(self.sizes(width, height), key=lambda size: abs(math.log(size[0] / size[1] * height / width)))

    @property
    def _budget(self) -> int:
        return max(self.resolution, self.step) ** 2

    def _limit(self, side: int) -> int:
        """The longest side that a shape may have for a picture's side."""
        longest = self._floor(math.sqrt(self._budget * self.maximum_aspect))
        return longest if self.upscale else min(longest, max(self.step, self._floor(side)))

    def _floor(self, pixels: float | int) -> int:
        return int(pixels / self.step + 1e-9) * self.step


def kept(width: int, height: int, size: Size) -> float:
    """The share of a picture's area that a crop to the aspect of `size` keeps."""
    ratio = (size[0] / size[1]) / (width / height)
    return min(ratio, 1 / ratio)
