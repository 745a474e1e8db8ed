"""Samples of served pictures turned into the reference and the windows, mostly days, that are compared with it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Protocol, runtime_checkable

from bespoke import seeds
from bespoke.errors import BespokeError


@runtime_checkable
class Sampled(Protocol):
    """What a kept sample says of a served picture, as far as it is watched."""

    @property
    def id(self) -> str:
        """No other sample has it."""
        ...

    @property
    def at(self) -> str:
        """When it was drawn: ISO 8601 in UTC."""
        ...

    @property
    def model(self) -> str:
        """The title of the version that drew it, as `my-style@7`."""
        ...

    @property
    def prompt(self) -> str:
        """What was asked for."""
        ...

    @property
    def flagged(self) -> bool:
        """Whether the safety checker found fault with it."""
        ...

    @property
    def canary(self) -> bool:
        """Whether the service drew it for itself."""
        ...

    @property
    def seconds(self) -> float:
        """How long it took; 0 where that is not known."""
        ...


@dataclass(frozen=True)
class Span:
    """Samples that are measured together."""

    day: str
    """The last of its days, as 2026-11-29."""
    samples: tuple[Sampled, ...]


def spans(samples: Iterable[Sampled], model: str, before: date, *, least: int, most: int) -> list[Span]:
    """The days of a version before a day, oldest first; a day of fewer than `least` samples is joined with the next.

    Of each prompt only the first picture of a day counts: pictures of one request are not independent, and the tests
    need what is. Of more than `most` samples a random choice is taken, always the same: thousands would ring for
    differences that nobody sees. What is left at the end with fewer than `least` waits for more.
    """
    found, gathered = list[Span](), list[Sampled]()
    for day, those in sorted(_by_day(samples, model).items()):
        if day >= before.isoformat():
            break
        gathered += those
        if len(gathered) >= least:
            found.append(Span(day, tuple(thinned(gathered, most))))
            gathered = []
    return found


def first_part(found: Sequence[Span], wanted: int) -> tuple[Span, list[Span]]:
    """The first windows that have so many samples together, as the reference, and the windows after them.

    Raises: BespokeError when there are fewer.
    """
    gathered = list[Sampled]()
    for number, span in enumerate(found):
        gathered += span.samples
        if len(gathered) >= wanted:
            return Span(span.day, tuple(thinned(gathered, wanted))), list(found[number + 1 :])
    raise BespokeError(
        f"The reference takes {wanted} pictures of different prompts, and whole days have {len(gathered)} so far.",
        "Wait, take a smaller one with --set drift.reference_pictures=N, or compare with another version: --against.",
    )


def last_part(found: Sequence[Span], wanted: int, model: str) -> Span:
    """The newest samples of another version, as the reference.

    Raises: BespokeError when there are fewer than wanted.
    """
    every = [sample for span in found for sample in span.samples]
    if len(every) < wanted:
        hint = "Wait, or take a smaller one with --set drift.reference_pictures=N."
        raise BespokeError(f"The reference takes {wanted} pictures, and {model} has {len(every)}.", hint)
    return Span(found[-1].day, tuple(every[-wanted:]))


def thinned(samples: Sequence[Sampled], most: int) -> list[Sampled]:
    """At most so many of the samples, in their order: those whose ids come first in a fixed random order."""
    chosen = {s.id for s in sorted(samples, key=lambda s: (seeds.uniform("window", s.id), s.id))[:most]}
    return [sample for sample in samples if sample.id in chosen]


def day_of(sample: Sampled) -> str:
    """The day of a sample in UTC, as 2026-11-29."""
    return datetime.fromisoformat(sample.at).astimezone(UTC).date().isoformat()


def _by_day(samples: Iterable[Sampled], model: str) -> dict[str, list[Sampled]]:
    """The version's samples of each day in UTC, in order, one of each prompt; canaries are left out."""
    days: dict[str, dict[str, Sampled]] = {}
    ours = (sample for sample in samples if sample.model == model and not sample.canary)
    for sample in sorted(ours, key=lambda sample: (datetime.fromisoformat(sample.at), sample.id)):
        days.setdefault(day_of(sample), {}).setdefault(sample.prompt, sample)
    return {day: list(those.values()) for day, those in days.items()}
