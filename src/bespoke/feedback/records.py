"""What a store of feedback holds: pictures that a service drew and might keep, and what people say of them."""

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal, get_args

from bespoke.errors import BespokeError
from bespoke.feedback.trials import rater_name

Kind = Literal["thumb", "flag", "caption", "choice"]
KINDS: tuple[str, ...] = get_args(Kind)
VALUES: Mapping[str, tuple[str, ...]] = {
    "thumb": ("up", "down"),
    "flag": ("unsafe", "person", "copy", "broken", "wrong", "other"),
    "caption": ("",),
    "choice": ("first", "second", "tie"),
}
"""What an opinion of each kind may say; a flag's reason: unfit to show, a real person, a copy of somebody's work,
broken shapes, not what was asked for, or what its words say."""
MOST_WORDS = 2000
"""Characters of a caption or of the words to a flag: prompts are read up to some hundred words."""
_NAMED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def now() -> str:
    """This moment in UTC, as ISO 8601 with microseconds: such texts sort as the moments do."""
    return moment(datetime.now(UTC))


def moment(when: datetime) -> str:
    """A moment as a store writes it."""
    return when.astimezone(UTC).isoformat(timespec="microseconds")


def fresh() -> str:
    """A name that nothing else has."""
    return uuid.uuid4().hex


@dataclass(frozen=True)
class Sample:
    """A picture that a service drew and was allowed to keep."""

    id: str
    model: str
    """The title of the version that drew it, as `my-style@7`."""
    prompt: str
    name: str = ""
    """The name that was asked for, as `my-style@champion`."""
    negative_prompt: str = ""
    seed: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    owner: str = ""
    """The name of the key that asked for it."""
    flagged: bool = False
    """Whether the model's safety checker found fault with it."""
    seconds: float = 0.0
    """How long drawing it took."""
    canary: bool = False
    """Drawn by the service for itself, from a prompt that stays the same, to see whether anything changes."""
    source: str = "served"
    at: str = field(default_factory=now)
    sha256: str = ""
    """Of the picture's file, and its size; known once it is kept."""
    bytes: int = 0

    def checked(self) -> "Sample":
        """The same, as every database can hold it. Raises: BespokeError when it has no name or no version."""
        if not _NAMED.fullmatch(self.id):
            raise BespokeError(f"{self.id!r} is no name for a picture.", "Up to 64 letters, digits, dots, hyphens.")
        if not self.model:
            raise BespokeError(f"It is not said which version drew {self.id}.", "Name it, as my-style@7.")
        return replace(self, **{**_plain(self), "at": _standard(self.at)})


@dataclass(frozen=True)
class Opinion:
    """What somebody says of a picture, or of two."""

    kind: Kind
    sample: str
    """The id of the picture, kept or not."""
    rater: str
    """Who says it: a name that means nobody to whoever does not know whose it is."""
    value: str = ""
    """One of VALUES for its kind."""
    other: str = ""
    """The second picture of a choice."""
    words: str = ""
    """A better caption, or what there is to say of a flag."""
    consent: bool = False
    """Whether the rater lets the picture, with these words, be learnt from."""
    licence: str = ""
    """Under what licence, by its SPDX name or in words."""
    model: str = ""
    """The version that drew the picture; the store knows it of those that were kept."""
    other_model: str = ""
    asked: str = ""
    """A mark of the prompt that the picture answers: choices about equal prompts are not independent."""
    withdrawn: str = ""
    """When it was taken back; it counts for nothing then."""
    id: str = field(default_factory=fresh)
    at: str = field(default_factory=now)

    def checked(self) -> "Opinion":
        """The same, as every database can hold it. Raises: BespokeError when it says nothing that can be said."""
        self._check_said()
        for name in (self.id, self.sample, *([self.other] if self.kind == "choice" else [])):
            if not _NAMED.fullmatch(name):
                raise BespokeError(f"{name!r} names no picture.", "Send the id that came with it.")
        if self.kind == "choice" and self.other == self.sample:
            raise BespokeError("A choice is between two pictures.", "Name another one.")
        if self.kind != "choice" and self.other:
            raise BespokeError(f"A {self.kind} is about one picture.", "Leave the other one out.")
        told, words = _plain(self), " ".join(_plain(self)["words"].split())
        return replace(self, **{**told, "rater": rater_name(self.rater), "words": words, "at": _standard(self.at)})

    def _check_said(self) -> None:
        if self.kind not in KINDS:
            raise BespokeError(f"{self.kind!r} is no kind of opinion.", f"Say one of {', '.join(KINDS)}.")
        if self.value not in VALUES[self.kind]:
            told = ", ".join(VALUES[self.kind]) or "nothing; the caption stands in its words"
            raise BespokeError(f"A {self.kind} cannot be {self.value!r}.", f"Say {told}.")
        if len(self.words) > MOST_WORDS or len(self.licence) > MOST_WORDS:
            raise BespokeError(f"More than {MOST_WORDS} characters are too many.", "Write less.")
        if self.kind == "caption" and not self.words.strip():
            raise BespokeError("The caption is empty.", "Write what the picture shows.")


def _plain(record: Sample | Opinion) -> dict[str, str]:
    """The record's texts as UTF-8 and PostgreSQL can hold them: no halves of characters, no NUL."""
    texts = {name: value for name, value in vars(record).items() if isinstance(value, str)}
    return {n: text.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8") for n, text in texts.items()}


def _standard(at: str) -> str:
    try:
        return moment(datetime.fromisoformat(at))
    except ValueError:
        raise BespokeError(f"{at!r} is no moment.", "Write it as ISO 8601 does: 2026-11-29T12:00:00+00:00") from None
