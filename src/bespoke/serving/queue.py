"""Pictures that wait to be drawn, and those of them that can be drawn at once."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from bespoke.serving.jobs import Job, Outcome, Progress


@dataclass(eq=False)
class Ticket:
    """One picture that was accepted, until it is answered: exactly once."""

    job: Job
    owner: str
    answer: asyncio.Future[Outcome]
    told: Callable[[Progress], None] | None = None
    alone: bool = False
    """Whether it is drawn by itself: something went wrong while it was drawn with others."""
    strikes: int = 0
    """So often a worker was lost, or memory was, over this picture."""

    @property
    def wanted(self) -> bool:
        """Whether somebody waits for it yet."""
        return not self.answer.done()


@dataclass
class Queue:
    """The queue: oldest first, no longer than it may be, those being drawn included."""

    most: int
    """Pictures that may be unanswered at once."""
    _line: list[Ticket] = field(default_factory=list[Ticket])
    _drawn: set[Ticket] = field(default_factory=set[Ticket])
    _some: asyncio.Event = field(default_factory=asyncio.Event)

    def __len__(self) -> int:
        return len(self._line)

    @property
    def unanswered(self) -> int:
        """Pictures that were accepted and are not answered."""
        return len(self._line) + len(self._drawn)

    def of(self, owner: str) -> int:
        """So many of them are an owner's."""
        return Counter(ticket.owner for ticket in (*self._line, *self._drawn))[owner]

    def uses(self, model: str) -> bool:
        """Whether one of them is to be drawn by a model."""
        return any(ticket.job.model == model for ticket in (*self._line, *self._drawn))

    def has_room(self, count: int) -> bool:
        """Whether so many more may wait."""
        return self.unanswered + count <= self.most

    def add(self, tickets: Iterable[Ticket]) -> None:
        """Lets pictures wait, for which there must be room."""
        self._line += tickets
        assert self.unanswered <= self.most
        self._some.set()

    async def some(self) -> None:
        """Waits until there is a picture to draw."""
        await self._some.wait()

    def take(self, most: Callable[[Any], int]) -> list[Ticket]:
        """The oldest picture and those like it, at most as many as `most` allows of their kind; they count as drawn."""
        self._line = [ticket for ticket in self._line if ticket.wanted]
        if not self._line:
            self._some.clear()
            return []
        first = self._line[0]
        alike = [first]
        if not first.alone:
            kind, room = first.job.kind, most(first.job.kind)
            alike = [t for t in self._line if not t.alone and t.job.kind == kind][:room]
        self._line = [ticket for ticket in self._line if ticket not in alike]
        self._drawn.update(alike)
        if not self._line:
            self._some.clear()
        return alike

    def put_back(self, tickets: Iterable[Ticket]) -> None:
        """Lets pictures that were taken wait again, before all others."""
        tickets = list(tickets)
        self._drawn.difference_update(tickets)
        self._line[:0] = [ticket for ticket in tickets if ticket.wanted]
        if self._line:
            self._some.set()

    def leave(self, tickets: Iterable[Ticket]) -> None:
        """Forgets pictures that are answered, or that nobody waits for any more."""
        gone = set(tickets)
        self._drawn -= gone
        self._line = [ticket for ticket in self._line if ticket not in gone]

    def everyone(self) -> list[Ticket]:
        """All that are unanswered."""
        return [*self._line, *self._drawn]
