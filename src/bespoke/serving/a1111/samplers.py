"""Our schedulers as A1111 has them: a sampler, and the type of its schedule."""

from collections.abc import Collection, Mapping

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


def samplers(there: Collection[str]) -> dict[str, tuple[str, str]]:
    """Our name of each sampler, by what A1111 calls it, and the type of schedule that `Automatic` means for it.

    `there` are those of our schedulers that count.
    """
    found = {sampler: name for name, (sampler, kind) in _PAIRS.items() if kind == PLAIN and name in there}
    return {sampler: (name, _PAIRS[_automatic(name, there)][1]) for sampler, name in found.items()}


def types(there: Collection[str]) -> dict[str, str]:
    """What A1111 calls the types of schedules of those of our schedulers, by their names."""
    found = {AUTO, *(_PAIRS[name][1] for name in there if name in _PAIRS)}
    return {name: label for name, label in TYPES.items() if label in found}


def as_a1111(name: str) -> tuple[str, str]:
    """The sampler and the type of schedule of one of our schedulers; a model's own is the sampler `default`."""
    return (OWN, AUTO) if name == OWN else _PAIRS[name]


def from_a1111(sampler: str | None, kind: str | None, there: Collection[str] = tuple(SCHEDULERS)) -> str | None:
    """Our scheduler of a sampler and a type of schedule; nothing where neither is asked for: it is the model's own.

    Until 1.8 A1111 had the type in the sampler's name, `DPM++ 2M Karras`. Where no type is said, it is that; where it
    is said to be `Automatic`, and the name has none, it is what A1111 takes, if the model has it. `there` are those of
    our schedulers that draw with the model.

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
        message = f"There is no sampler {sampler[:80]!r}. Known: {', '.join(samplers(there))}."
        raise Refusal(400, INVALID, message, param="sampler_name") from error
    base, own = as_a1111(name)
    if base != OWN and base not in samplers(there):
        message = f"The sampler {base} does not draw with this model. Those that do: {', '.join(samplers(there))}."
        raise Refusal(400, INVALID, message, param="sampler_name")
    found = _automatic(name, there) if wanted == AUTO else name
    if wanted not in (None, AUTO):
        found = _NAMES.get((base, wanted)) if own in (PLAIN, wanted) else None
    if found == OWN or (found and found in there):
        return found
    kinds = [each for (one, each), ours in _NAMES.items() if one == base and ours in there]
    message = (
        f"The sampler {base} has no schedule of the type {wanted or own} here. It has: {', '.join(kinds) or AUTO}."
    )
    raise Refusal(400, INVALID, message, param="scheduler")


def steady(sampler: str | None, eta: float | None) -> bool:
    """Whether a sampler of ours, by A1111's name, draws as its `eta` says, or nothing depends on that."""
    if eta is None:
        return True
    if sampler in FRESH:
        return eta == 1
    return eta == 0 or sampler not in (None, OWN, "DDIM")


def _automatic(name: str, there: Collection[str]) -> str:
    """What `Automatic` makes of one of our schedulers."""
    found = AUTOMATIC.get(name, name)
    return found if found in there else name


def _type(kind: str | None) -> str | None:
    if not kind:
        return None
    plain = "_".join(kind.lower().split()).replace("sgmuniform", "sgm_uniform")
    if plain not in TYPES:
        message = f"There is no schedule of the type {kind[:80]!r}. Known: {', '.join(TYPES.values())}."
        raise Refusal(400, INVALID, message, param="scheduler")
    return TYPES[plain]
