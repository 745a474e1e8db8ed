"""Prompts with choices in them, `a {red|blue} hat, __place__`, turned into prompts without: the same for each seed."""

import re
from collections.abc import Mapping, Sequence

from bespoke.errors import BespokeError
from bespoke.seeds import uniform

_INNERMOST = re.compile(r"(?<!\\)\{([^{}]*)(?<!\\)\}")
_LISTED = re.compile(r"__([A-Za-z0-9][A-Za-z0-9/_-]*?)__")
_WEIGHED = re.compile(r"\s*(\d+\.?\d*|\.\d+)::(.*)", re.DOTALL)
DEEPEST = 20
"""How often what a list gives is looked through again."""


def expanded(prompt: str, lists: Mapping[str, Sequence[str]], *key: int | str) -> str:
    r"""The prompt with one of each choice, by the key: `{a|b}` is a or b, `{3::a|b}` thrice as often a.

    `__place__` is one of the lines that `lists` has for "place", in which there may be choices, too. `\{` is a bracket.
    Source: the syntax of sd-dynamic-prompts, without its loops.

    Raises: BespokeError when there is no such list, or lists name each other without end.
    """
    made = 0

    def choose() -> float:
        nonlocal made
        made += 1
        return uniform("wildcard", prompt, *key, made)

    text, depth = prompt, 0
    while (named := _LISTED.search(text)) or _INNERMOST.search(text):
        depth += 1
        if depth > DEEPEST:
            raise BespokeError(f"The lists of {prompt!r} name each other without end.", "Take one of them out.")
        text = _INNERMOST.sub(lambda found: _one(found[1].split("|"), choose()), text)
        if named:
            text = _LISTED.sub(lambda found: _line(found[1], lists, choose()), text)
    return text.replace("\\{", "{").replace("\\}", "}")


def _one(options: Sequence[str], chance: float) -> str:
    """One of the options, each as often as the weight before it says."""
    weighed = [(float(found[1]), found[2]) if (found := _WEIGHED.fullmatch(each)) else (1.0, each) for each in options]
    place = chance * sum(weight for weight, _ in weighed)
    for weight, option in weighed:
        place -= weight
        if place < 0:
            return option
    return weighed[-1][1]


def _line(name: str, lists: Mapping[str, Sequence[str]], chance: float) -> str:
    lines = lists.get(name)
    if not lines:
        known = f"There are: {', '.join(sorted(lists))}." if lists else "Give their folder with --wildcards."
        raise BespokeError(f"There is no list {name!r} for __{name}__.", known)
    return lines[int(chance * len(lines))]
