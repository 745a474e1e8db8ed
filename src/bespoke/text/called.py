"""Adapters that a prompt calls, `a cat <lora:style:0.8>`, parted from its words."""

import re

from bespoke.errors import BespokeError

# The blanks before a call go with it; looked for from their first alone, or many blanks would take a square of time.
_CALL = re.compile(r"(?<!\s)\s*<(lora|lyco):([^:<>]+)(?::([^<>]*))?>")


def called(prompt: str) -> tuple[str, dict[str, float]]:
    """A prompt without its calls, and the weight of each adapter that it calls, by its name; 1 where it says none.

    One that is called twice counts for the sum. Source: A1111's "extra networks".

    Raises: BespokeError when a weight is no number.
    """
    found: dict[str, float] = {}
    for _, name, weight in _CALL.findall(prompt):
        try:
            found[name] = found.get(name, 0.0) + float(weight or 1)
        except ValueError:
            hint = f"Write <lora:{name}:0.8>; parts of it with weights of their own are not known here."
            raise BespokeError(f"<lora:{name}:{weight}> has no weight that is a number.", hint) from None
    return _CALL.sub("", prompt).strip(), found
