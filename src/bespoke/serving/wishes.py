"""What a request asks for, and why it may be refused, whatever protocol it came by."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bespoke.serving.jobs import Progress

Told = Callable[[int, Progress], None]
"""Hears of the progress of the picture of that number in a request."""


@dataclass(frozen=True)
class Wish:
    """Pictures that differ in their seeds alone."""

    model: str
    """A name that is served, as `my-style@champion`."""
    prompt: str
    count: int = 1
    seed: int | None = None
    """That of the first picture; the next ones follow. None: any."""
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Keys of `[sample]`."""
    adapters: Mapping[str, float] = field(default_factory=dict[str, float])
    """Adapters by name, each with its weight."""
    image: bytes | None = field(default=None, repr=False)
    mask: bytes | None = field(default=None, repr=False)
    previews: int = 0
    """So many unfinished pictures are shown on the way."""
    deadline_s: float | None = None
    """Seconds in which it is of use; the service's own limit counts, too."""


class Refusal(Exception):  # noqa: N818
    """Why there are no pictures, in words that may go to whoever asked."""

    def __init__(
        self, status: int, code: str, message: str, *, param: str | None = None, retry_after: float | None = None
    ) -> None:
        """A status of HTTP, a word for programs, a sentence for people, and seconds after which to ask again."""
        super().__init__(message)
        self.status, self.code, self.message, self.param, self.retry_after = status, code, message, param, retry_after
