"""A shell script read for the training that it would start; nothing in it is ever run.

Variables that it sets above are put in. What only a shell could know stays as it is written, with its `$`.
"""

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from bespoke.errors import BespokeError

SCRIPTS = re.compile(
    r"(?:(?:sdxl_)?train_(?:network|db|textual_inversion\w*)|sdxl_train_network|sdxl_train|fine_tune"
    r"|train_text_to_image\w*|train_dreambooth\w*|textual_inversion\w*|train)\.py"
)
"""The training scripts that are understood."""
SETTING = re.compile(r"(?:export\s+|set\s+|\$env:)?([A-Za-z_]\w*)\s?=\s?(.*)", re.DOTALL)
VARIABLE = re.compile(r"\$env:(\w+)|\$\{(\w+)(?::?-([^}]*))?\}|\$(\w+)|%(\w+)%")
NUMBER = re.compile(r"-[\d.]")
WORD = r"""(?:[^\s'";&|\\]|\\.|'[^']*'|"(?:[^"\\]|\\.)*")+"""
WINDOWS_WORD = r"""(?:[^\s'";&|]|'[^']*'|"[^"]*")+"""


@dataclass(frozen=True)
class Command:
    """A training that a script would start."""

    script: str
    """The file's name of the training script."""
    options: Mapping[str, Any]
    """By name: true for a switch, a text, or a list of texts."""
    launcher: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Options of what starts it, such as `accelerate launch`."""
    loose: tuple[str, ...] = ()
    """Words that belong to no option."""


def commands(script: str) -> list[Command]:
    """Every training that a shell script would start, in order.

    Raises: BespokeError when a quotation mark is never closed.
    """
    known: dict[str, str] = {}
    found: list[Command] = []
    windows = re.search(r"[\^`][ \t]*$|^(?:@echo|set )", script, re.MULTILINE) is not None
    for line in _lines(script):
        setting = SETTING.fullmatch(line)
        if setting and (line.startswith(("set ", "$env:")) or not SCRIPTS.search(line)):
            known[setting[1]] = _bare(_put_in(setting[2].strip(), known), windows=windows)
            continue
        if not SCRIPTS.search(line):
            continue
        for words in _split(_put_in(line, known), windows=windows):
            at = next((n for n, word in enumerate(words) if SCRIPTS.fullmatch(_name(word))), None)
            if at is not None:
                found.append(_command(words, at))
    return found


def _lines(script: str) -> Iterator[str]:
    """The lines of a script, each with those that go on with it, and without comments."""
    whole = re.sub(r"(?:\\|\^|`)[ \t]*\r?\n[ \t]*", " ", script)
    for line in whole.splitlines():
        plain = line.strip()
        if plain and not plain.startswith(("#", "::", "REM ", "rem ")):
            yield plain


def _name(word: str) -> str:
    return PurePosixPath(word.replace("\\", "/")).name


def _put_in(line: str, known: Mapping[str, str]) -> str:
    """A line with the variables that are known; in single quotes none is one."""

    def value(match: re.Match[str]) -> str:
        name = next(filter(None, (match[1], match[2], match[4], match[5])))
        return known.get(name, match[3] if match[3] is not None else match[0])

    parts = re.split(r"('[^']*')", line)
    return "".join(part if part.startswith("'") else VARIABLE.sub(value, part) for part in parts)


def _bare(value: str, *, windows: bool) -> str:
    """A setting's value without its quotation marks and what stands behind it."""
    if "$(" in value or value.startswith("`"):
        return value.replace("`", "$`")  # a command's answer: as unknown as a variable
    if windows:
        return value.strip("\"'")
    words = next(_split(value, windows=windows))
    return words[0] if words else ""


def _split(line: str, *, windows: bool) -> Iterator[list[str]]:
    """The words of each command of a line, up to a comment."""
    token = re.compile(rf"\s+|(?P<end>[;&|]+)|(?P<word>{WINDOWS_WORD if windows else WORD})", re.DOTALL)
    words: list[str] = []
    at = 0
    while at < len(line):
        match = token.match(line, at)
        if match is None:
            raise BespokeError(
                f"A quotation mark is never closed in: {line[:80]}…", "Close it, or take that line out of the file."
            )
        at = match.end()
        if match["end"]:
            yield words
            words = []
        elif match["word"]:
            if match["word"].startswith("#"):
                break
            words.append(re.sub(r"[\"']", "", match["word"]) if windows else "".join(shlex.split(match["word"])))
    yield words


def _command(words: list[str], at: int) -> Command:
    before, _ = _options(words[:at])
    options, loose = _options(words[at + 1 :])
    return Command(_name(words[at]), options, before, tuple(loose))


def _options(words: list[str]) -> tuple[dict[str, Any], list[str]]:
    """Options and their values, and the words before the first of them."""
    found: dict[str, list[str]] = {}
    loose: list[str] = []
    values = loose
    for word in words:
        if word.startswith("-") and not NUMBER.match(word) and len(word) > 1:
            name, equals, value = word.lstrip("-").partition("=")
            values = found[name] = [value] if equals else []
        else:
            values.append(word)
    single = {name: True if not said else said[0] if len(said) == 1 else said for name, said in found.items()}
    return single, loose
