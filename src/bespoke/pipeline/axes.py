"""Words such as `cfg=1,2,4` turned into the axes of a grid, and axes into the pictures that are to be drawn."""

import csv
import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from bespoke.errors import BespokeError
from bespoke.pipeline.naming import Named, named_from
from bespoke.recipe.schedulers import OWN, scheduler_name
from bespoke.recipe.tree import Sample
from bespoke.sampling import Request

Given = str | Mapping[str, Any]
"""An axis as it is asked for: "cfg=1,2,4" or {"cfg": [1, 2, 4]}."""

PROMPT = "prompt"
EXAMPLE = "Example: --x cfg=1,2,4 --y steps=5..20..4"
SEEDS = 2**63
"""Torch takes seeds below it."""


@dataclass(frozen=True)
class Axis:
    """One setting, and the values it takes; an axis without a setting has one place, where nothing changes."""

    setting: str = ""
    values: tuple[Any, ...] = (None,)
    labels: tuple[str, ...] = ("",)


@dataclass(frozen=True)
class Cell:
    """One picture of a grid: who draws it, and all that is said about how."""

    source: Named
    request: Request
    settings: Sample
    weight: float = 1.0

    def words(self) -> str:
        """Everything that an axis can change but the prompt: "pico, cfg 2, 20 steps, seed 0"."""
        said = [self.source.name, f"cfg {self.settings.guidance_scale:g}", f"{self.settings.num_inference_steps} steps"]
        said += [f"seed {self.request.seed}"]
        said += [f"guided to {self.settings.guidance_end:g}"] if self.settings.guidance_end != 1 else []
        said += [f"scheduler {self.settings.scheduler}"] if self.settings.scheduler != OWN else []
        said += [f"adapter's weight {self.weight:g}"] if self.source.adapted and self.weight != 1 else []
        return ", ".join(said)


def axis(given: Given, model: str, prompt: str) -> Axis:
    """The axis that is asked for, for a grid of this model and prompt.

    Raises: BespokeError for a setting that no axis has, with the nearest one, and for a value that the setting cannot
    have.
    """
    name, values = _parted(given)
    setting = _setting(name)
    found = _values(setting, values)
    if setting == PROMPT and found[0] not in prompt:
        hint = "The first value of a prompt axis is what the others take the place of."
        raise BespokeError(f"{found[0]!r} does not occur in the prompt: {prompt}", hint)
    if setting == "checkpoint":
        named = {label: source for value in found for label, source in named_from(model, value).items()}
        return Axis(setting, tuple(named.values()), tuple(named))
    read = [_read(setting, value) for value in found]
    labels = {_label(setting, value): value for value in read}
    return Axis(setting, tuple(labels.values()), tuple(labels))


def different(axes: Iterable[Axis]) -> None:
    """Nothing, for axes that change different things; prompts may be changed twice, in different words.

    Raises: BespokeError when two axes change the same.
    """
    seen: set[tuple[str, str]] = set()
    for one in axes:
        what = (one.setting, one.values[0] if one.setting == PROMPT else "")
        if one.setting and what in seen:
            raise BespokeError(f"Two axes change {what[1] or one.setting!r}.", "Give each setting one axis.")
        seen.add(what)


def cell(start: Cell, chosen: Sequence[tuple[Axis, int]]) -> Cell:
    """The picture where these places of the axes meet; what no axis changes is as in `start`.

    Raises: BespokeError when the words that two axes change lie in one another.
    """
    values = {axis.setting: axis.values[place] for axis, place in chosen}
    swapped = {axis.values[0]: axis.values[place] for axis, place in chosen if axis.setting == PROMPT}
    known = {key: value for key, value in values.items() if key in Sample.model_fields and key != "seed"}
    return replace(
        start,
        source=values.get("checkpoint", start.source),
        request=Request(replaced(start.request.prompt, swapped), values.get("seed", start.request.seed)),
        settings=start.settings.model_copy(update=known),
        weight=values.get("weight", start.weight),
    )


def replaced(prompt: str, words: Mapping[str, str]) -> str:
    """The prompt with each key of `words` replaced by its value, all at once: what was put in is not replaced again.

    Source: A1111's "Prompt S/R", which does one after the other.
    Raises: BespokeError when a key never stands alone, since it is a part of another.
    """
    if not words:
        return prompt
    pattern = re.compile("|".join(re.escape(key) for key in sorted(words, key=len, reverse=True)))
    hidden = words.keys() - set(pattern.findall(prompt))
    if hidden:
        hint = "Let each prompt axis begin with words of its own."
        raise BespokeError(f"{min(hidden)!r} is a part of what another axis replaces in the prompt: {prompt}", hint)
    return pattern.sub(lambda match: words[match[0]], prompt)


def _parted(given: Given) -> tuple[str, list[Any]]:
    """An axis' name and its values, not read yet."""
    if isinstance(given, Mapping):
        if len(given) != 1:
            raise BespokeError(f"An axis has one setting, not {len(given)}.", 'Example: x={"cfg": [1, 2, 4]}')
        ((name, values),) = given.items()
        listed = isinstance(values, Sequence) and not isinstance(values, str)
        return str(name), list(cast(Sequence[Any], values)) if listed else _split(str(values))
    name, equals, values = given.partition("=")
    if not equals:
        raise BespokeError(f"{given!r} is not of the form SETTING=VALUES.", EXAMPLE)
    return name, _split(values)


def _split(text: str) -> list[Any]:
    """The values between commas; those in double quotes may hold commas."""
    return [value.strip() for row in csv.reader([text], skipinitialspace=True) for value in row if value.strip()]


def _setting(name: str) -> str:
    plain = "_".join(name.lower().replace("-", " ").replace("_", " ").split())
    known = {alias: setting for setting, aliases in SETTINGS.items() for alias in (setting, *aliases)}
    if plain in known:
        return known[plain]
    near = difflib.get_close_matches(plain, known, n=1, cutoff=0.6)
    meant = f"Did you mean {near[0]}? " if near else ""
    told = ", ".join(f"{setting} ({SHORT[setting]})" if setting in SHORT else setting for setting in SETTINGS)
    raise BespokeError(f"No axis is called {name!r}.", f"{meant}There are: {told}.")


def _values(setting: str, values: Sequence[Any]) -> list[Any]:
    """The values with ranges written out.

    Raises: BespokeError when there are none, or a range has no count.
    """
    ranged = setting in NUMBERS
    found = [one for value in values for one in (_range(setting, value) if ranged and ".." in str(value) else [value])]
    if not found:
        raise BespokeError(f"The axis {setting} has no values.", EXAMPLE)
    return found


def _range(setting: str, text: Any) -> list[int | float]:
    """So many numbers from the first to the last: "1..20..5" gives 1, 5.75, 10.5, 15.25 and 20; whole ones rounded."""
    parts = str(text).split("..")
    try:
        first, last, count = float(parts[0]), float(parts[1]), int(parts[2])
    except (ValueError, IndexError):
        first, last, count = 0.0, 0.0, 0
    if len(parts) != 3 or count < 1 or not (math.isfinite(first) and math.isfinite(last)):
        raise BespokeError(f"{setting}: {text!r} is no range.", "A range is first..last..count: 1..20..5.")
    step = (last - first) / max(1, count - 1)
    numbers = (first + step * place for place in range(count))
    return [round(number) if setting in WHOLE else float(f"{number:.6g}") for number in numbers]


def _read(setting: str, value: Any) -> Any:
    """One value as the setting holds it.

    Raises: BespokeError when it cannot have that value.
    """
    if setting in NUMBERS:
        return _number(setting, value)
    return scheduler_name(str(value)) if setting == "scheduler" else str(value)


def _number(setting: str, value: Any) -> int | float:
    kind: Callable[[Any], int | float] = int if setting in WHOLE else float
    least, most, words = NUMBERS[setting]
    try:
        number = kind(str(value))
    except ValueError:
        raise BespokeError(f"{setting}: {value!r} is {words}.", EXAMPLE) from None
    if not (math.isfinite(number) and least <= number < most):
        raise BespokeError(f"{setting}: {value!r} is {words}.", EXAMPLE)
    return number


def _label(setting: str, value: Any) -> str:
    """What stands beside a row or above a column."""
    if setting not in NUMBERS:
        return value
    return f"{SHORT.get(setting, setting)} {value if setting in WHOLE else format(value, 'g')}"


SETTINGS = {
    "guidance_scale": ("cfg", "cfg_scale", "guidance"),
    "guidance_end": ("cfg_end",),
    "num_inference_steps": ("steps",),
    "seed": (),
    "checkpoint": ("model", "ckpt"),
    "weight": ("adapter_weight", "lora_weight"),
    "scheduler": ("sampler",),
    PROMPT: ("prompt_s/r",),
}
"""What an axis can change, with its other names."""
SHORT = {"guidance_scale": "cfg", "guidance_end": "cfg end", "num_inference_steps": "steps"}
"""What most people call them."""
WHOLE = {"num_inference_steps", "seed"}
NUMBERS = {
    "guidance_scale": (0, math.inf, "no number of at least 0"),
    "guidance_end": (0, math.nextafter(1, 2), "no number from 0 to 1"),
    "num_inference_steps": (1, math.inf, "no whole number of at least 1"),
    "seed": (0, SEEDS, "no whole number from 0 to 2⁶³ − 1"),
    "weight": (-math.inf, math.inf, "no number"),
}
"""The settings that are numbers: the least one, the first that is too large, and what others are."""
