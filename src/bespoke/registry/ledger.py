"""What happened to a model's versions, as records that are only added to; who has which alias follows from them.

MLflow moves an alias for whoever asks last, and cannot be told what it is expected to be. But it numbers the versions
of a registered model one by one, in one order for all. So each record is a version of a registered model of its own,
`NAME.history`, and names the newest record that its writer knew: of two that name the same one only the first counts,
and everyone who reads them agrees on that. A process that is killed leaves a record or none, never half of one, and
nobody waits for it.
"""

import json
import random
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from bespoke.errors import BespokeError

Kind = Literal["promoted", "rolled back", "retired", "scored"]
SUFFIX = ".history"
TAG = "bespoke.record"
SOURCE = "bespoke:///record"
"""MLflow wants to know where a version's files are; a record has none."""
TRIES = 8
TOGETHER, ALL = 1000, 200_000
"""So many versions are asked for at once. Of all there are, MLflow's most: a page that begins where the one before it
ended would miss one if another was deleted in between."""


@dataclass(frozen=True)
class Record:
    """One thing that happened to a version."""

    kind: Kind
    version: int
    seen: int
    """The number of the newest record that counted when this one was decided on."""
    alias: str = ""
    manifest: str = ""
    """The hash of the version's content, which a number alone does not tell for ever."""
    scorecard: str = ""
    """The hash of its scorecard: of a score the new one, of a promotion the one that was judged."""
    at: str = ""
    """When, as ISO 8601 in UTC."""
    by: str = ""
    forced: str = ""
    """Why the gate's refusal was overruled; empty where it was not."""
    checks: tuple[Mapping[str, Any], ...] = ()
    """What the gate found."""
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    number: int = 0
    """Its place in the order of all; known once it is written."""


@dataclass(frozen=True)
class Standing:
    """What follows from a model's records."""

    records: tuple[Record, ...] = ()
    """Those that count, oldest first."""
    before: Mapping[str, tuple[int, ...]] = field(default_factory=dict[str, tuple[int, ...]])
    """The versions that each alias went through, the present one last, without those rolled back or retired."""
    retired: frozenset[int] = frozenset()
    scorecards: Mapping[int, str] = field(default_factory=dict[int, str])
    """The hash of the newest scorecard of each version that was given one."""

    @property
    def seen(self) -> int:
        """The number of the newest record that counts."""
        return self.records[-1].number if self.records else 0

    @property
    def aliases(self) -> dict[str, int]:
        """The version that each alias means."""
        return {alias: versions[-1] for alias, versions in self.before.items() if versions}

    def previous(self, alias: str) -> int | None:
        """The version that had the alias before; nothing where there is none that is not retired."""
        earlier = self.before.get(alias, ())[:-1]
        return earlier[-1] if earlier else None

    def holders(self, version: int) -> list[str]:
        """The aliases of a version."""
        return [alias for alias, holder in self.aliases.items() if holder == version]

    def manifest(self, alias: str) -> str:
        """The hash of what the alias was given to."""
        moves = ("promoted", "rolled back")
        return next(r.manifest for r in reversed(self.records) if r.alias == alias and r.kind in moves)


def standing(records: Iterable[Record]) -> Standing:
    """What follows from records in their order: one counts only if none that counts came after the one it had seen."""
    found = Standing()
    for record in records:
        if record.seen >= found.seen:
            found = _after(found, record)
    return found


def _after(found: Standing, record: Record) -> Standing:
    after = replace(found, records=(*found.records, record))
    version, stack = record.version, found.before.get(record.alias, ())
    match record.kind:
        case "promoted":
            return replace(after, before={**found.before, record.alias: (*stack, version)})
        case "rolled back":
            earlier = stack[:-1]
            kept = earlier[: len(earlier) - earlier[::-1].index(version)] if version in earlier else (*stack, version)
            return replace(after, before={**found.before, record.alias: kept})
        case "retired":
            before = {alias: _without(those, version) for alias, those in found.before.items()}
            return replace(after, before=before, retired=found.retired | {version})
        case "scored":
            return replace(after, scorecards={**found.scorecards, version: record.scorecard})


def _without(stack: tuple[int, ...], version: int) -> tuple[int, ...]:
    """An alias's versions without one; whose holder is retired, it means none, not one that was replaced long ago."""
    return () if stack[-1:] == (version,) else tuple(one for one in stack if one != version)


class Ledger:
    """The records of one model in an MLflow store."""

    def __init__(self, client: Any, name: str) -> None:
        self._client, self._model = client, name
        self.name = f"{name}{SUFFIX}"

    def standing(self) -> Standing:
        """What follows from the records that are there now."""
        return standing(self._read())

    def add(self, record: Record) -> Standing:
        """Writes a record, and gives what follows with it.

        Raises: BespokeError when another record came first, or it is not known whether it was written.
        """
        found = self._written(record)
        if record.id in {one.id for one in found.records}:
            return found
        first = next(one for one in found.records if one.number > record.seen)
        what = f"version {first.version} was {first.kind}{f' ({first.alias})' if first.alias else ''}"
        problem = f"{self._model} was changed meanwhile: {what} by {first.by} at {first.at}."
        raise BespokeError(problem, f"Nothing was changed by this command. Look: bespoke models show {self._model}")

    def _written(self, record: Record) -> Standing:
        trouble: Exception | None = None
        for attempt in range(TRIES):
            try:
                self._create(record)
            except Exception as error:  # noqa: BLE001 - it may be there even so: an answer can be lost on its way
                trouble = error
            records = self._read()
            if any(one.id == record.id for one in records):
                return standing(records)
            time.sleep(random.uniform(0.02, 0.1) * 2**attempt)
        hint = f"Look whether it was: bespoke models show {self._model}"
        raise BespokeError(f"The record could not be written to the registry: {trouble}.", hint) from trouble

    def _create(self, record: Record) -> None:
        self._begin()
        told = asdict(record)
        del told["number"]
        words = f"Version {record.version} {record.kind} {record.alias}".strip()
        self._client.create_model_version(
            self.name, SOURCE, tags={TAG: json.dumps(told)}, description=words, await_creation_for=0
        )

    def _begin(self) -> None:
        from mlflow.exceptions import MlflowException

        words = f"What happened to {self._model}, kept by bespoke: aliases follow from it. Leave it as it is."
        try:
            self._client.create_registered_model(self.name, tags={"bespoke.kind": "history"}, description=words)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def _read(self) -> list[Record]:
        """All records in their order; those that somebody deleted in MLflow are left out."""
        found = versions_of(self._client, self.name)
        told = ((json.loads(one.tags[TAG]), int(one.version)) for one in found if TAG in one.tags)
        records = [Record(**content | {"checks": tuple(content["checks"]), "number": n}) for content, n in told]
        return sorted(records, key=lambda record: record.number)


def versions_of(client: Any, name: str) -> list[Any]:
    """MLflow's versions of a registered model; none where there is no such model."""
    return _searched(client, f"name='{name}'", TOGETHER)


def every_version(client: Any) -> list[Any]:
    """MLflow's versions of all registered models, records of what happened to them among them."""
    return _searched(client, None, ALL)


def scorecard_of(record: Any) -> str:
    """The hash of the scorecard that one of MLflow's versions names, if it is a record; empty where it names none."""
    return json.loads(record.tags[TAG])["scorecard"] if TAG in record.tags else ""


def _searched(client: Any, which: str | None, together: int) -> list[Any]:
    found: list[Any] = []
    token: str | None = None
    while True:
        page = client.search_model_versions(which, max_results=together, page_token=token)
        found += page
        token = page.token
        if not token:
            return found
