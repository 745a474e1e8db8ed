"""Our schedulers as A1111 has them: a sampler, and the type of its schedule."""

from collections.abc import Mapping

from bespoke.errors import BespokeError
from bespoke.recipe.schedulers import AUTOMATIC, OWN, SCHEDULERS, scheduler_name
from bespoke.serving.envelope import INVALID
from bespoke.serving.wishes import Refusal

# Source: A1111 1.10, modules/sd_schedulers.py; those of its types that diffusers' schedulers here have.
AUTO, PLAIN = "Automatic", "Uniform"
TYPES = {"automatic": AUTO, "uniform": PLAIN, "karras": "Karras", "sgm_uniform": "SGM Uniform", "beta": "Beta"}
"""What A1111 calls the types of schedules, by their names. `Automatic` is what it takes for a sampler of itself."""
FRESH = frozenset(("DDPM", "DPM++ 2M SDE", "DPM++ SDE", "DPM2 a", "Euler a", "LCM"))
"""Samplers that draw fresh noise at each step, as much as A1111's `eta` of 1 does."""


def _told(title: str) -> tuple[str, str]:
    """A scheduler's title as a sampler's, and the type of its schedule."""
    titles = {one.title for one in SCHEDULERS.values()}
    for kind in TYPES.values():
        sampler = title.removesuffix(f" {kind}")
        if sampler != title and sampler in titles:
            return sampler, kind
    return title, PLAIN


_PAIRS: Mapping[str, tuple[str, str]] = {name: _told(one.title) for name, one in SCHEDULERS.items()}
_NAMES = {pair: name for name, pair in _PAIRS.items()}
SAMPLERS: Mapping[str, tuple[str, str]] = {
    sampler: (name, _PAIRS[AUTOMATIC[name]][1] if name in AUTOMATIC else PLAIN)
    for name, (sampler, kind) in _PAIRS.items()
    if kind == PLAIN
}
"""Our name of each sampler, by what A1111 calls it, and the type of schedule that `Automatic` means for it."""


def as_a1111(name: str) -> tuple[str, str]:
    """The sampler and the type of schedule of one of our schedulers; a model's own is the sampler `default`."""
    return (OWN, AUTO) if name == OWN else _PAIRS[name]


def from_a1111(sampler: str | None, kind: str | None) -> str | None:
    """Our scheduler of a sampler and a type of schedule; nothing where neither is asked for: it is the model's own.

    Until 1.8 A1111 had the type in the sampler's name, `DPM++ 2M Karras`. Where no type is said, it is that; where it
    is said to be `Automatic`, and the name has none, it is what A1111 takes.

    Raises: Refusal of 400 when there is no such sampler, or not with such a schedule.
    """
    wanted = _type(kind)
    if not sampler:
        if wanted in (None, AUTO):
            return None
        raise Refusal(400, INVALID, f"The schedule type {wanted} needs a sampler_name.", param="scheduler")
    try:
        name = scheduler_name(sampler)
    except BespokeError as error:
        message = f"There is no sampler {sampler[:80]!r}. Known: {', '.join(SAMPLERS)}."
        raise Refusal(400, INVALID, message, param="sampler_name") from error
    if wanted is None or (wanted == AUTO and name not in AUTOMATIC):
        return name
    base, own = as_a1111(name)
    if wanted == AUTO:
        return AUTOMATIC[name]
    found = _NAMES.get((base, wanted))
    if found and own in (PLAIN, wanted):
        return found
    there = [each for one, each in _NAMES if one == base]
    message = f"The sampler {base} has no schedule of the type {wanted} here. It has: {', '.join(there) or AUTO}."
    raise Refusal(400, INVALID, message, param="scheduler")


def steady(sampler: str | None, eta: float | None) -> bool:
    """Whether a sampler of ours, by A1111's name, draws as its `eta` says, or nothing depends on that."""
    if eta is None:
        return True
    if sampler in FRESH:
        return eta == 1
    return eta == 0 or sampler not in (None, OWN, "DDIM")


def _type(kind: str | None) -> str | None:
    if not kind:
        return None
    plain = "_".join(kind.lower().split()).replace("sgmuniform", "sgm_uniform")
    if plain not in TYPES:
        message = f"There is no schedule of the type {kind[:80]!r}. Known: {', '.join(TYPES.values())}."
        raise Refusal(400, INVALID, message, param="scheduler")
    return TYPES[plain]
