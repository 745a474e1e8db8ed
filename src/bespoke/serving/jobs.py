"""Pictures that people wait for, as the service's processes hand them to one another; nothing here loads torch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from bespoke.recipe.schedulers import scheduler_names

Settings = tuple[tuple[str, Any], ...]
"""Keys of `[sample]` with their values, sorted: what differs from how the model draws of itself."""


@dataclass(frozen=True)
class Job:
    """One picture to draw."""

    id: str
    """No other picture of the service has it."""
    model: str
    """The title of what draws: what a name meant when the picture was asked for, as `my-style@7`."""
    prompt: str
    seed: int
    settings: Settings = ()
    adapters: tuple[tuple[str, float], ...] = ()
    """Adapters by name, each with its weight, worn besides the model's own."""
    image: bytes | None = field(default=None, repr=False)
    """The file of a picture to begin with."""
    mask: bytes | None = field(default=None, repr=False)
    """The file of a mask: what is white is drawn anew."""
    previews: int = 0
    """So many unfinished pictures are shown on the way."""

    @property
    def kind(self) -> tuple[Any, ...]:
        """What pictures that are drawn at once have in common."""
        return self.model, self.settings, self.adapters, self.image is not None, self.mask is not None


@dataclass(frozen=True)
class Picture:
    """A picture that was drawn, as a file in the form that was asked for."""

    data: bytes = field(repr=False)
    form: str
    """`png`, `jpeg` or `webp`."""
    width: int
    height: int
    seed: int
    model: str
    """The title of the version that drew it."""
    flagged: bool = False
    """Whether the model's safety checker put a black picture in its place."""
    batch: int = 1
    """So many were drawn at once."""
    id: str = ""
    """That of its job, by which people speak of it afterwards."""


@dataclass(frozen=True)
class Failure:
    """Why a picture was not drawn, in words that may go to whoever asked."""

    code: str
    """A key of `FAILURES`."""
    message: str


FAILURES = {
    "wrong_request": 400,  # nobody can draw it: a setting that the model does not know, a file that is no picture
    "not_a_picture": 500,  # what came out is not a number
    "drawing_failed": 500,
    "out_of_memory": 503,
    "worker_lost": 503,
    "deadline_exceeded": 504,
    "shutting_down": 503,
}
"""What may keep an accepted picture from being drawn, and the status that says so."""

Outcome = Picture | Failure


@dataclass(frozen=True)
class Facts:
    """What is known of a model once it is read."""

    title: str
    width: int
    height: int
    """The size that it draws in if none is asked for."""
    settings: Settings = ()
    """How it draws what says nothing else."""
    facts: tuple[tuple[str, str], ...] = ()
    """What else people may know of it: its base, its hash, its family."""
    schedulers: tuple[str, ...] = scheduler_names(flows=False)
    """Those that can draw with it."""


@dataclass(frozen=True)
class Held:
    """What a worker has in memory."""

    models: int = 0
    adapters: int = 0
    size: int = 0
    """Bytes of the process, and of its GPU's memory if it has one."""


NOTHING = Held()


@dataclass(frozen=True)
class Step:
    """A step of a batch that was made."""

    number: int
    """From 1."""
    steps: int
    previews: Callable[[], Sequence[bytes]] | None = None
    """PNG files of the unfinished pictures of the batch, in order; asked for only where somebody wants them."""


class Cancelled(Exception):  # noqa: N818 - it is an event, not an error
    """Nobody waits for this batch any more."""


class OutOfMemory(Exception):  # noqa: N818
    """The batch did not fit into memory; what it had taken is given back."""


@runtime_checkable
class Engine(Protocol):
    """What draws, in a process of its own, one batch at a time."""

    def prepare(self, model: str) -> Facts:
        """Reads a model by its title and draws a first picture with it. Raises: BespokeError when that fails."""
        ...

    def release(self, model: str) -> None:
        """Lets go of a model that no name means any more, if memory is needed."""
        ...

    def held(self) -> Held:
        """What is in memory now."""
        ...

    def draw(self, jobs: Sequence[Job], watch: Callable[[Step], None]) -> Sequence[Outcome]:
        """The outcome of each of some jobs of one kind, in order; `watch` hears of each step and may raise Cancelled.

        Raises: OutOfMemory, and whatever else goes wrong for the batch as a whole.
        """
        ...


Factory = Callable[[], Engine]
"""What makes the engine, in the process in which it draws: a function that can be pickled."""


@dataclass(frozen=True)
class Progress:
    """How far a batch is, as those hear who wait for it."""

    number: int
    steps: int
    previews: tuple[bytes, ...] = field(default=(), repr=False)
    """PNG files of its unfinished pictures, in the jobs' order; none where nobody wants any now."""


class Lost(Exception):  # noqa: N818
    """A worker died, or hung and was killed, over a batch."""


@runtime_checkable
class Worker(Protocol):
    """A process that has an engine, here or on another machine, as the service sees it."""

    held: Held
    """What it had in memory when it last said so."""

    async def prepare(self, model: str) -> Facts:
        """Lets the worker read a model. Raises: BespokeError when it cannot, Lost when that cost its life."""
        ...

    async def release(self, model: str) -> None:
        """Lets the worker forget a model."""
        ...

    async def draw(self, jobs: Sequence[Job], told: Callable[[Progress], None]) -> Sequence[Outcome]:
        """The outcomes of some jobs of one kind.

        Raises: OutOfMemory when they did not fit at once, Cancelled after `cancel`, Lost when the worker died or hung,
            RuntimeError with words for the log when the batch failed as a whole.
        """
        ...

    def cancel(self) -> None:
        """Lets the worker leave off what it draws."""
        ...

    async def close(self) -> None:
        """Ends the worker, whatever it does."""
        ...
