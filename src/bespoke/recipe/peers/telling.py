"""What became of another trainer's options, in lines for a person, as a page of the project, and as JSON."""

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from bespoke.recipe.peers.table import Carried, Line

SECRET = re.compile(r"api_key|hub_token|huggingface_token|password|secrets?\.")
"""Options whose values are written down nowhere."""
LONGEST = 60
"""Letters of a value that are shown."""
MOST = 4
"""Keys that one printed line names."""
FATES = ("carried", "left", "unknown", "needless")


def shown(line: Line) -> str:
    """An option's value as the file has it, shortened; a secret is not shown."""
    if SECRET.search(line.option):
        return "(not shown)"
    said = " ".join(str(line.value).split())
    return said if len(said) <= LONGEST else f"{said[: LONGEST - 1]}…"


def summary(carried: Carried) -> str:
    """How many options met which fate, in a sentence."""
    counts = {fate: len(carried.of(fate)) for fate in FATES}
    parts = [f"{counts['carried']} carried over", f"{counts['needless']} not needed here"]
    parts += [f"{counts['left']} not carried over"] + [f"{counts['unknown']} unknown"] * bool(counts["unknown"])
    whole = sum(counts.values())
    return f"{carried.file} ({carried.peer}): of {whole} option{'s' if whole != 1 else ''} {', '.join(parts)}."


def told(carried: Carried) -> list[str]:
    """The account in lines: what is carried to where, what is not and why; what is needless is counted only."""
    lines = [summary(carried)]
    lines += [f"  {line.option} = {shown(line)}  →  {_here(line)}" for line in carried.of("carried")]
    others = _lost(carried)
    lines += ["Not carried over:"] * bool(others)
    return lines + [f"  {line.option} = {shown(line)}: {line.why}" for line in others]


def account(carried: Carried) -> str:
    """The account of every option as a page in Markdown."""
    parts = [f"# Settings from {carried.peer}", summary(carried)]
    left = _lost(carried)
    if left:
        rows = [(_code(line.option), _code(shown(line)), line.why) for line in left]
        parts += ["## Not carried over", _table(("option", "value", "why, or what to do"), rows)]
    rows = [(_code(line.option), _code(shown(line)), _keys(line), line.why) for line in carried.of("carried")]
    parts += ["## Carried over", _table(("option", "value", "here", "what changed"), rows)]
    defaults = [line for line in carried.lines if line.default and line.keys]
    if defaults:
        rows = [(_keys(line), _code(line.option) if line.option else "", line.why) for line in defaults]
        words = f"What the file does not say, as {carried.peer} does it then."
        parts += ["## By its defaults", words, _table(("here", "option", "why"), rows)]
    reasons_ = dict.fromkeys(line.why for line in carried.of("needless"))
    if reasons_:
        lines = [f"- {why}: {_names(line for line in carried.of('needless') if line.why == why)}" for why in reasons_]
        parts += ["## Not needed here", "\n".join(lines)]
    return "\n\n".join(parts) + "\n"


def reasons(carried: Carried) -> dict[str, str]:
    """For each `section.key` that was carried, where it comes from: comments of the recipe."""
    found: dict[str, str] = {}
    for line in carried.lines:
        for key in line.keys:
            where = f"default of {carried.peer}" if line.default else f"from {line.option}"
            found.setdefault(key, f"{where}: {line.why}" if line.default and line.why else where)
    return found


def as_json(carried: Carried) -> dict[str, Any]:
    """The account as JSON holds it."""
    lines: dict[str, list[dict[str, Any]]] = {fate: [_object(line) for line in carried.of(fate)] for fate in FATES}
    defaults = [_object(line) for line in carried.lines if line.default and line.keys]
    return {"from": carried.peer, "file": carried.file, **lines, "defaults": defaults}


def _lost(carried: Carried) -> list[Line]:
    """What is not carried over, and what the other trainer does by itself that cannot be."""
    defaults = [replace(line, why=f"its default: {line.why}") for line in carried.lines if line.default]
    return [*carried.of("left"), *carried.of("unknown"), *(line for line in defaults if line.fate == "left")]


def _object(line: Line) -> dict[str, Any]:
    keys = {key: _plain(value) for key, value in line.keys.items()}
    return {"option": line.option, "value": shown(line), "keys": keys, "why": line.why}


def _plain(value: Any) -> Any:
    return value if isinstance(value, (str, int, float, bool, list, dict)) else str(value)


def _here(line: Line) -> str:
    """Our keys and what was changed, in one line."""
    if not line.keys:
        return "; ".join(filter(None, ("the dataset", line.why)))
    same = len(line.keys) == 1 and str(next(iter(line.keys.values()))) == str(line.value)
    said = [f"{key} = {_value(value)}" for key, value in line.keys.items()]
    more = [f"{len(said) - MOST + 1} more"] if len(said) > MOST else []
    keys = next(iter(line.keys)) if same else ", ".join((said[: MOST - 1] + more) if more else said)
    return f"{keys} ({line.why})" if line.why else keys


def _keys(line: Line) -> str:
    return "<br>".join(_code(f"{key} = {_value(value)}") for key, value in line.keys.items()) or "the dataset"


def _value(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _names(lines: Iterable[Line]) -> str:
    return ", ".join(_code(line.option) for line in lines)


def _code(said: str) -> str:
    """A text that a page in Markdown shows letter by letter."""
    return f"`{said.replace('`', ' ').replace('|', chr(92) + '|')}`" if said else ""


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
