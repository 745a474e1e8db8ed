"""A project's ledger of updates: each decision with what it rests on, each stage that was done, and how it ended."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from bespoke.feedback.proposals import Facts, Proposal
from bespoke.feedback.records import now
from bespoke.registry.catalogue import who
from bespoke.workspace import Journal, Project

Stage = Literal["import", "train", "evaluate", "register", "challenge", "promote"]
STAGES: tuple[Stage, ...] = ("import", "train", "evaluate", "register", "challenge", "promote")
Outcome = Literal["promoted", "refused", "waiting", "nothing new", "failed"]
DAY = 24 * 3600


@dataclass(frozen=True)
class Ending:
    """What came of an update."""

    outcome: Outcome
    why: str
    checks: tuple[Mapping[str, Any], ...] = ()
    """What the gate found, where it was asked."""


@dataclass
class Update:
    """One update that was carried out, or is being: what the ledger's lines say of it."""

    id: str
    """Also the name of its run."""
    name: str
    """The model's."""
    champion: str
    """The version that was in use when it began."""
    overrides: tuple[str, ...]
    """What the champion's recipe is changed by."""
    began: str
    stages: dict[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])
    """What each stage that is done left behind."""
    failures: list[str] = field(default_factory=list[str])
    outcome: str = ""
    """Empty while it is under way."""
    why: str = ""
    last: str = ""
    """When something was last written about it."""

    @property
    def next(self) -> Stage:
        """The stage that it is at."""
        return next(stage for stage in STAGES if stage not in self.stages)

    @property
    def version(self) -> int | None:
        """The number of the version that it made; nothing before it has."""
        return self.stages["register"]["version"] if "register" in self.stages else None

    @property
    def challenger(self) -> str:
        """That version's title; empty before."""
        return f"{self.name}@{self.version}" if self.version else ""


class Updates:
    """The ledger, as lines of JSON that are only added to. A kill leaves a line or none."""

    def __init__(self, project: Project, name: str) -> None:
        self.path, self.name = project.updates, name
        self._journal = Journal(self.path)

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        """The lines about the model, oldest first."""
        return (line for line in self._journal if line.get("name") == self.name)

    def all(self) -> list[Update]:
        """The model's updates, oldest first."""
        found = dict[str, Update]()
        for line in self:
            if line["kind"] == "decided" and line["update"] and line["update"] not in found:
                change = tuple(f"{one['key']}={one['now']}" for one in line["proposal"]["changes"])
                champion = line["facts"]["heard"]["model"]
                found[line["update"]] = Update(line["update"], self.name, champion, change, line["at"])
            if update := found.get(line["update"]):
                _tell(update, line)
        return list(found.values())

    def last(self) -> Update | None:
        """The newest update."""
        return next(reversed(self.all()), None)

    def spent(self, days: int) -> float:
        """Hours that stages took in so many last days, of all that were ended or failed."""
        after = (datetime.now(UTC) - timedelta(days=days)).isoformat()
        return sum(line.get("seconds", 0.0) for line in self if line["at"] >= after) / 3600

    def seconds(self, stage: Stage) -> float | None:
        """How long a stage took when it was last done; nothing where it never was."""
        took = [line["seconds"] for line in self if line["kind"] == "done" and line["stage"] == stage]
        return took[-1] if took else None

    def idle(self) -> float | None:
        """Days since something was last done for an update; nothing where there was none."""
        last = self.last()
        return None if last is None else days_since(last.last)

    def decided(self, facts: Facts, proposal: Proposal, update: str = "", *, run: bool, approve: bool) -> None:
        """Keeps a decision; with `update` it is carried out under that name."""
        told = {"facts": asdict(facts), "proposal": asdict(proposal), "run": run, "approve": approve}
        self._add("decided", update, told)

    def done(self, update: Update, stage: Stage, result: Mapping[str, Any], seconds: float) -> None:
        """Keeps what a stage left behind."""
        self._add("done", update.id, {"stage": stage, "result": dict(result), "seconds": round(seconds, 2)}, update)

    def failed(self, update: Update, why: str, seconds: float) -> None:
        """Keeps why a stage failed."""
        self._add("failed", update.id, {"stage": update.next, "why": why, "seconds": round(seconds, 2)}, update)

    def ended(self, update: Update, ending: "Ending") -> None:
        """Keeps what came of an update."""
        told = {"outcome": ending.outcome, "why": ending.why, "version": update.version, "checks": ending.checks}
        self._add("ended", update.id, told, update)

    def _add(self, kind: str, update: str, told: Mapping[str, Any], of: Update | None = None) -> None:
        line = {"kind": kind, "name": self.name, "update": update, "at": now(), "by": who(), **told}
        self._journal.append(line)
        if of is not None:
            _tell(of, line)


def new_id(runs: Path) -> str:
    """A name for an update and its run: when it begins."""
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    names = (f"{stamp}-update{suffix}" for suffix in ("", *(f"-{n}" for n in range(2, 100))))
    return next(name for name in names if not (runs / name).exists())


def days_since(at: str) -> float:
    """Days since a moment in ISO 8601, never below 0."""
    return max(0.0, (datetime.now(UTC) - datetime.fromisoformat(at)).total_seconds() / DAY)


def _tell(update: Update, line: Mapping[str, Any]) -> None:
    """Brings an update up to date with a line of the ledger."""
    update.last = line["at"]
    match line["kind"]:
        case "done":
            update.stages[line["stage"]] = line["result"]
        case "failed":
            update.failures.append(line["why"])
        case "ended":
            update.outcome, update.why = line["outcome"], line["why"]
        case _:
            pass
