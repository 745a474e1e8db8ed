"""A scheduler's usual name turned into diffusers' class with its options."""

import importlib
import warnings
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

from bespoke.diffusion.flow import flows
from bespoke.errors import BespokeError
from bespoke.models import quiet
from bespoke.recipe.schedulers import FLOWING, OWN, SCHEDULERS, scheduler_names


def scheduler(name: str, own: Any) -> Any:
    """The scheduler of that name with the settings of a model's `own`; that itself where its name is `default`.

    Raises: BespokeError when the model was trained by flow matching, and there is none of that name for it.
    """
    if name == OWN:
        return own
    config = settings_of(own)
    check_scheduler(name, config)
    wanted = (FLOWING if flows(config) else SCHEDULERS)[name]
    shift = {"flow_shift": own.config.get("shift", 1.0)} if "use_flow_sigmas" in wanted.options else {}
    with quiet(), hushed():
        kind = getattr(importlib.import_module("diffusers"), wanted.kind)
        made = kind.from_config(own.config, **wanted.options, **shift)
    if shift:  # by this name pipelines that begin with a picture call for noise
        made.scale_noise = lambda sample, timestep, noise: made.add_noise(sample, noise, timestep)
    return made


def settings_of(scheduler: Any) -> dict[str, Any]:
    """A scheduler's settings with its class, as its file has them; one that was made of another's still names that."""
    return {**scheduler.config, "_class_name": type(scheduler).__name__}


def check_scheduler(name: str, own: Mapping[str, Any]) -> None:
    """Raises: BespokeError when a model whose own scheduler has these settings cannot be drawn by that of this name."""
    if name != OWN and flows(own) and name not in FLOWING:
        problem = f"sample.scheduler = {name!r} is none for models that were trained by flow matching."
        raise BespokeError(problem, f"Those that are: {', '.join(scheduler_names(flows=True))}.")


@contextmanager
def hushed() -> Generator[None, None, None]:
    """A block without numpy 2's warnings of `__array__` and `__array_wrap__`, by which schedulers give it tensors."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "__array", DeprecationWarning)
        yield
