"""The table that says of each option of another trainer what becomes of it, and the reading of settings by one."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from bespoke.errors import BespokeError
from bespoke.recipe.files import parse

Options = Mapping[str, Any]
"""The options of a file by their names, as the file writes them."""
TERMS = "terms"
"""The section of keys that belong not into the recipe but into the file of terms beside it."""
Fate = Literal["carried", "needless", "left", "unknown"]


@dataclass(frozen=True)
class Epochs:
    """A number of epochs where our key wants steps: it is known when the pictures are."""

    number: float

    def __str__(self) -> str:
        return f"{self.number:g} epoch{'s' if self.number != 1 else ''}"


@dataclass(frozen=True)
class Part:
    """A part of all steps."""

    share: float

    def __str__(self) -> str:
        return f"{100 * self.share:g} % of the steps"


@dataclass(frozen=True)
class Source:
    """Pictures that a file names."""

    path: str
    """A folder or the id of a dataset on the hub, as written."""
    repeats: float = 1.0
    """How often each counts in an epoch, unless its own folder says so."""
    caption: str = ""
    """The caption of those that have none of their own."""
    regularisation: bool = False
    """Whether they are not the subject."""
    said: tuple[str, ...] = ()
    """The options that say so."""


@dataclass(frozen=True)
class Put:
    """An option is carried over: our keys and their values."""

    keys: Mapping[str, Any]
    why: str = ""
    """What was changed about the value; empty where it means the same."""


@dataclass(frozen=True)
class Pictures:
    """An option names pictures, or says something about them all."""

    source: Source
    why: str = ""


@dataclass(frozen=True)
class Needless:
    """An option is not needed here."""

    why: str


@dataclass(frozen=True)
class Left:
    """An option is not carried over."""

    why: str


Result = Put | Pictures | Needless | Left
Convert = Callable[[Any, Options], Result]
Table = Mapping[str, Convert]
"""What becomes of each option, in the order in which they are heard: of two that set one key the first counts."""


@dataclass(frozen=True)
class Line:
    """What became of one option."""

    option: str
    value: Any
    fate: Fate
    keys: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Our keys and their values."""
    why: str = ""
    default: bool = False
    """The file does not say it: it is what the other trainer does then."""


@dataclass(frozen=True)
class Peer:
    """Another trainer, as one kind of its files is read."""

    name: str
    table: Table
    defaults: Options = field(default_factory=dict[str, Any])
    """What it does where a file is silent, of options that shape the training."""
    also: Sequence[tuple[str, Any, str]] = ()
    """What else it does or does not: our key, its value, why."""
    groups: Sequence[tuple[str, Convert]] = ()
    """Beginnings of options' names, and what becomes of all that begin so."""

    def row(self, option: str) -> Convert | None:
        """What becomes of an option; nothing where it is unknown."""
        if option in self.table:
            return self.table[option]
        return next((convert for start, convert in self.groups if option.startswith(start)), None)


@dataclass(frozen=True)
class Carried:
    """Another trainer's settings as a recipe, with an account of every option."""

    peer: str
    file: str
    lines: tuple[Line, ...]
    sources: tuple[Source, ...] = ()

    @property
    def keys(self) -> dict[str, Any]:
        """Our `section.key`s and their values; of two lines about one the first counts."""
        return {key: value for line in reversed(self.lines) for key, value in line.keys.items()}

    @property
    def content(self) -> dict[str, dict[str, Any]]:
        """The recipe's tables, without what is still to be counted in epochs or parts."""
        tables: dict[str, dict[str, Any]] = {}
        for name, value in self.keys.items():
            section, _, key = name.partition(".")
            if not isinstance(value, (Epochs, Part)) and section != TERMS:
                tables.setdefault(section, {})[key] = value
        return tables

    @property
    def terms(self) -> dict[str, Any]:
        """What is known of new words, as the file of terms has it."""
        return {key.partition(".")[2]: value for key, value in self.keys.items() if key.startswith(f"{TERMS}.")}

    def of(self, fate: Fate) -> tuple[Line, ...]:
        """The lines about options of the file that met this fate."""
        return tuple(line for line in self.lines if line.fate == fate and line.option and not line.default)

    def without(self, dropped: Mapping[str, str]) -> "Carried":
        """The same without these of our keys, for the reasons given; an option that set nothing else is left."""

        def line(old: Line) -> Line:
            gone = [key for key in old.keys if key in dropped]
            if not gone:
                return old
            keys = {key: value for key, value in old.keys.items() if key not in dropped}
            why = "; ".join(filter(None, (old.why, *dict.fromkeys(dropped[key] for key in gone))))
            return replace(old, keys=keys, fate=old.fate if keys else "left", why=why)

        return replace(self, lines=tuple(map(line, self.lines)))

    def missing(self, source: Source, why: str) -> "Carried":
        """The same without pictures that are not to be had, and the options that name them left."""
        lines = (replace(line, fate="left", why=why) if line.option in source.said else line for line in self.lines)
        return replace(self, lines=tuple(lines), sources=tuple(s for s in self.sources if s is not source))

    def naming(self, source: Source, keys: Mapping[str, Any]) -> "Carried":
        """The same with keys that name where pictures of a source lie now."""
        lines = (replace(line, keys=keys) if line.option in source.said else line for line in self.lines)
        return replace(self, lines=tuple(lines))

    def overruled(self, final: Mapping[str, Any]) -> "Carried":
        """The same, where it says of each key that has another value in the end."""

        def line(old: Line) -> Line:
            others = {key: final[key] for key, value in old.keys.items() if key in final and final[key] != value}
            told = (f"{key} is {value} by what was asked for here" for key, value in others.items())
            return replace(old, why="; ".join(filter(None, (old.why, *told))))

        return replace(self, lines=tuple(map(line, self.lines)))

    def settled(self, steps_an_epoch: int, steps: int) -> "Carried":
        """The same with epochs and parts counted in steps, at least one of each."""

        def count(value: Any) -> Any:
            if isinstance(value, Epochs):
                return max(1, round(value.number * steps_an_epoch))
            return max(1, round(value.share * steps)) if isinstance(value, Part) else value

        def line(old: Line) -> Line:
            keys = {key: count(value) for key, value in old.keys.items()}
            told = "; ".join(str(value) for value in old.keys.values() if isinstance(value, (Epochs, Part)))
            return replace(old, keys=keys, why="; ".join(filter(None, (old.why, told))))

        return replace(self, lines=tuple(map(line, self.lines)))


class Reading:
    """Options on their way into a recipe."""

    def __init__(self, peer: Peer, options: Options) -> None:
        self.peer, self.options = peer, options
        self.lines: list[Line] = []
        self.sources: list[Source] = []
        self._taken: dict[str, tuple[str, Any]] = {}

    def all(self, file: str) -> Carried:
        """What becomes of every option, in the file's own order, then of what it leaves to the other trainer."""
        known = [option for option in self.peer.table if option in self.options]
        others = [option for option in self.options if option not in self.peer.table]
        found = {option: self._line(option, self.options[option]) for option in (*known, *others)}
        self.lines += [found[option] for option in self.options]
        for option, value in self.peer.defaults.items():
            if option not in self.options:
                line = self._line(option, value)
                if line.keys or line.fate == "left":
                    self.lines.append(replace(line, default=True))
        for key, value, why in self.peer.also:
            if key not in self._taken:
                self.lines.append(Line("", value, "carried", {key: value}, why, default=True))
        return Carried(self.peer.name, file, tuple(self.lines), tuple(self.sources))

    def _line(self, option: str, value: Any) -> Line:
        convert = self.peer.row(option)
        if convert is None:
            return Line(option, value, "unknown", why=f"{self.peer.name} as we know it has no such option")
        if isinstance(value, str) and "$" in value:
            return Line(option, value, "left", why="the file does not say what the variable in it is")
        try:
            result = convert(value, self.options)
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            return Line(option, value, "left", why=f"its value cannot be understood: {error}")
        if isinstance(result, Put):
            return self._put(option, value, result)
        if isinstance(result, Pictures):
            self.sources.append(replace(result.source, said=(option,)))
            return Line(option, value, "carried", why=result.why)
        return Line(option, value, "needless" if isinstance(result, Needless) else "left", why=result.why)

    def _put(self, option: str, value: Any, result: Put) -> Line:
        others = {self._taken[key][0] for key in result.keys if self._differs(key, result.keys[key])}
        keys = {key: new for key, new in result.keys.items() if not self._differs(key, new)}
        if not keys:
            return Line(option, value, "needless", why=f"{', '.join(sorted(others))} is heard before it")
        refusal = next(filter(None, (_refused(key, new) for key, new in keys.items())), "")
        if refusal:
            return Line(option, value, "left", why=f"bespoke takes no such value: {refusal}")
        self._taken |= {key: (option, new) for key, new in keys.items() if key not in self._taken}
        return Line(option, value, "carried", keys, result.why)

    def _differs(self, key: str, value: Any) -> bool:
        return key in self._taken and self._taken[key][1] != value


def _refused(name: str, value: Any) -> str:
    """Why a recipe does not take a value; nothing where it does."""
    section, _, key = name.partition(".")
    if isinstance(value, (Epochs, Part)) or section == TERMS:
        return ""
    try:
        parse({section: {key: value}}, name)
    except BespokeError as error:
        return error.problem.partition(": ")[2]
    return ""
