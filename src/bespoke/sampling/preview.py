"""Pictures that are still being drawn turned into what can be shown of them."""

import functools
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch.nn import functional

from bespoke.diffusion.flow import flows
from bespoke.models import quiet
from bespoke.sampling.schedulers import settings_of
from bespoke.shapes import Latents

EACH, SIDE = 24, 64
"""So many pictures of each kind of patches, so many pixels wide, tell how an autoencoder's latents mean colours."""


@dataclass(frozen=True)
class Step:
    """One step of a drawing that has been made."""

    number: int
    """From 1."""
    steps: int
    pictures: int
    estimate: Callable[[], Latents]
    """The scaled latents of the pictures as they would be by what the network says now."""


Watch = Callable[[Step], None]


@contextmanager
def watched(scheduler: Any, watch: Watch | None) -> Generator[None, None, None]:
    """A block in which `watch` hears of each step that the scheduler makes; what it raises ends the drawing."""
    if watch is None:
        yield
        return
    own, made, before_first = scheduler.step, 0, 0

    @functools.wraps(own)  # pipelines look at the signature, and give a generator only where it has one
    def step(model_output: Any, timestep: Any, sample: Any, *args: Any, **named: Any) -> Any:
        nonlocal made, before_first
        before_first = before_first if made else _left_out(scheduler, timestep)
        before = _plain(scheduler, model_output, timestep, sample)
        result = own(model_output, timestep, sample, *args, **named)
        made += 1
        told = result[1] if isinstance(result, tuple) and len(result) > 1 else None
        watch(
            Step(
                made,
                len(scheduler.timesteps) - before_first,
                len(sample),
                (lambda: told) if told is not None else before,
            )
        )
        return result

    scheduler.step = step
    try:
        yield
    finally:
        del scheduler.step


def _left_out(scheduler: Any, first: Any) -> int:
    """How many of a scheduler's timesteps come before the first one of a drawing: some, if it begins with a picture."""
    if getattr(scheduler, "begin_index", None) is not None:
        return int(scheduler.begin_index)
    same = (scheduler.timesteps == first).nonzero()
    return int(same[0]) if len(same) else 0


def _plain(scheduler: Any, output: Any, timestep: Any, sample: Any) -> Callable[[], Latents]:
    """What the picture would be, for schedulers that do not say it themselves; all but flows keep the variance.

    Source: Ho et al. 2020, eq. 15; Salimans & Ho 2022, appendix D, for v; Esser et al. 2024, section 2, for flows.
    """

    def estimate() -> Latents:
        if flows(settings_of(scheduler)):
            return sample - float(timestep) / scheduler.config.num_train_timesteps * output
        alpha = scheduler.alphas_cumprod[int(timestep)].item()
        signal, noise = alpha**0.5, (1 - alpha) ** 0.5
        kind = scheduler.config.prediction_type
        if kind == "sample":
            return output
        if kind == "v_prediction":
            return signal * sample - noise * output
        return (sample - noise * output) / signal

    return estimate


class Glimpse:
    """What can be seen of a step's pictures, as large as they will be."""

    def __init__(self, pipeline: Any) -> None:
        self._vae, self._factor = pipeline.vae, pipeline.vae_scale_factor
        self._colours: Colours | None = None

    def __call__(self, step: Step) -> list[Image.Image]:
        """A picture for each of the step's."""
        self._colours = self._colours or Colours(self._vae)
        small = self._colours(step.estimate())
        size = small[0].width * self._factor, small[0].height * self._factor
        return [one.resize(size, Image.Resampling.BICUBIC) for one in small]


class Colours:
    """The colours that latents stand for, roughly: small pictures in no time, where decoding takes as long as a step.

    A linear map from the channels of scaled latents, at a place and around it, to red, green and blue, fitted to what
    the autoencoder makes of coloured patches; so there is one for every model.
    """

    def __init__(self, vae: Any) -> None:
        pixels, dtype = _patches().to(vae.device), vae.dtype
        with torch.no_grad(), quiet():
            vae.to(torch.float32)  # some have no place in 16 bits; the way there and back changes nothing
            latents = vae.encode(pixels).latent_dist.mode().cpu() - (vae.config.get("shift_factor") or 0.0)
            latents *= vae.config.scaling_factor
            vae.to(dtype)
        wanted = functional.adaptive_avg_pool2d(pixels.float().cpu(), latents.shape[-2:]).movedim(1, -1)
        self._map = torch.linalg.lstsq(_around(latents).flatten(0, 2), wanted.flatten(0, 2)).solution

    def __call__(self, latents: Latents) -> list[Image.Image]:
        """A picture for each, with a pixel for each place of the latents."""
        colours = _around(latents.detach().float().cpu()) @ self._map
        pixels = colours.clamp(-1, 1).add(1).mul(127.5).round().byte().numpy()
        return [Image.fromarray(each) for each in pixels]


def _around(latents: torch.Tensor) -> torch.Tensor:
    """For each place the channels there and at its eight neighbours, and a one: [pictures, height, width, features]."""
    count, _, height, width = latents.shape
    near = functional.unfold(functional.pad(latents, (1, 1, 1, 1), mode="replicate"), 3)
    return torch.cat([near.reshape(count, -1, height, width), torch.ones(count, 1, height, width)], 1).movedim(1, -1)


def _patches() -> torch.Tensor:
    """Pictures, from -1 to 1, of one colour, of squares, and of colours that change slowly; equal at each call."""
    made: list[torch.Tensor] = []
    for cells, mode in ((1, "nearest"), (4, "nearest"), (8, "bilinear")):
        coarse = torch.rand(EACH, 3, cells, cells, generator=torch.Generator().manual_seed(cells)) * 2 - 1
        made.append(functional.interpolate(coarse, size=(SIDE, SIDE), mode=mode))
    return torch.cat(made)
