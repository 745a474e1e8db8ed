"""Versions of models in an MLflow store: registered, found, given aliases, and their files handed out checked."""

import getpass
import re
import socket
import tempfile
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bespoke.errors import BespokeError
from bespoke.registry import store, tracking
from bespoke.registry.blobs import Manifest, Shelf
from bespoke.registry.gate import Decision
from bespoke.registry.ledger import (
    SUFFIX,
    Kind,
    Ledger,
    Record,
    Standing,
    every_version,
    scorecard_of,
    versions_of,
)
from bespoke.registry.places import Place
from bespoke.registry.tracking import About
from bespoke.workspace import sha256

CHAMPION, CHALLENGER = "champion", "challenger"
ALIASES = (CHAMPION, CHALLENGER)
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
FOLDER = "bespoke"
"""Where a run's artifacts on a server have the files of versions."""
MANIFEST, SCORECARD, KIND = "bespoke.manifest", "bespoke.scorecard", "bespoke.kind"

Figures = tuple[Mapping[str, float], int, float]
"""What was measured, at which step and when, in seconds since 1970."""


@dataclass(frozen=True)
class Version:
    """One registered version."""

    name: str
    number: int
    manifest: str
    """The hash of what it is."""
    at: str
    """When it was registered, as ISO 8601 in UTC."""
    scorecard: str = ""
    """The hash of the scorecard that it was registered with."""
    tracked: str = ""
    """Its run in MLflow."""

    @property
    def title(self) -> str:
        """What it is called on the command line."""
        return f"{self.name}@{self.number}"


@dataclass(frozen=True)
class Needed:
    """What a store's versions need of a shelf."""

    manifests: frozenset[str]
    """The hashes of what the versions are."""
    blobs: frozenset[str]
    """The hashes of all files that they name: their own, the lists of these, and scorecards."""


class Catalogue:
    """The versions of all models in a store. Raises: BespokeError, everywhere, when it cannot be reached."""

    def __init__(self, place: Place) -> None:
        self.place, self.shelf = place, Shelf(place.shelf)
        store.load()
        with self._reached():
            self._client = store.client(place.address)

    def names(self) -> list[str]:
        """The models that have versions here."""
        with self._reached():
            found = self._client.search_registered_models(max_results=1000)
        return sorted(one.name for one in found if one.tags.get(KIND) == "model")

    def versions(self, name: str) -> list[Version]:
        """All versions of a model, oldest first. Raises: BespokeError when there are none."""
        found = self._versions(checked_name(name))
        if not found:
            known = ", ".join(self.names()) or "none"
            raise BespokeError(f"No version of {name!r} is in {self.place.shown}.", f"Models there: {known}.")
        return found

    def version(self, name: str, number: int) -> Version:
        """One version. Raises: BespokeError when there is none of that number."""
        found = {one.number: one for one in self.versions(name)}
        if number not in found:
            raise BespokeError(f"{name} has no version {number}.", f"There are: {', '.join(map(str, found))}.")
        return found[number]

    def meant(self, model: str) -> Version:
        """The version that `NAME@7` or `NAME@champion` means. Raises: BespokeError when there is none."""
        name, _, which = model.rpartition("@")
        if which.isdecimal():
            return self.version(name, int(which))
        versions, standing = self.versions(name), self.standing(name)
        number = standing.aliases.get(which)
        if number is None:
            known = ", ".join(f"{alias} ({n})" for alias, n in sorted(standing.aliases.items())) or "no alias is given"
            hint = f"Give it: bespoke models promote {name} {versions[-1].number} --to {CHAMPION}"
            raise BespokeError(f"No version of {name} is its {which}: {known}.", hint)
        found = next((one for one in versions if one.number == number), None)
        if found is None or found.manifest != standing.manifest(which):
            hint = f"Promote another: bespoke models show {name}"
            raise BespokeError(f"Version {number} of {name}, its {which}, was deleted or replaced in MLflow.", hint)
        return found

    def standing(self, name: str) -> Standing:
        """Who has which alias, and all that led there."""
        with self._reached():
            return Ledger(self._client, name).standing()

    def elsewhere(self, name: str, standing: Standing) -> dict[str, int | None]:
        """Aliases that MLflow itself holds otherwise: somebody moved them by hand, or a promotion was killed."""
        with self._reached():
            theirs = {a: int(n) for a, n in self._client.get_registered_model(name).aliases.items() if a in ALIASES}
        both = {*theirs, *standing.aliases}
        return {alias: theirs.get(alias) for alias in both if theirs.get(alias) != standing.aliases.get(alias)}

    def register(self, name: str, manifest: Manifest, scorecard: str, tracked: str) -> tuple[Version, bool]:
        """The version of what is on the shelf, and whether it is new: what was registered before stays what it is.

        It is there only once all of its files are. Of one that is there, files that were spoilt are put back.
        Who calls this is in the block of `shelf.changing` in which the files were put there.
        """
        versions, standing = self._versions(name), self.standing(name)
        same = [one for one in versions if one.manifest == manifest.sha256]
        if not versions and standing.records and not self._is_there(name):
            problem = f"{name} was deleted in MLflow, and {name}{SUFFIX}, which says what its versions were, was not."
            raise BespokeError(problem, "Delete that, too, or register under another name.")
        self.shelf.put_text(manifest.text)
        digests = [*(blob.sha256 for blob in manifest.files.values()), manifest.sha256, *filter(None, [scorecard])]
        if here := next((one for one in same if one.number not in standing.retired), None):
            self._send(here.tracked, digests, check=True)
            return here, False
        source = self._send(tracked, digests) or (self.shelf.root / manifest.sha256).absolute().as_uri()
        tags = {MANIFEST: manifest.sha256, **({SCORECARD: scorecard} if scorecard else {})}
        tags |= {f"bespoke.{key}": str(value) for key, value in manifest.origin.items() if value not in ("", {}, None)}
        with self._reached():
            self._begin(name)
            made = self._client.create_model_version(name, source, tracked, tags=tags, await_creation_for=0)
        return _version(made), True

    def add(
        self, kind: Kind, version: Version, standing: Standing, *, alias: str = "", forced: str = "",
        decision: Decision | None = None, scorecard: str = "",
    ) -> Standing:  # fmt: skip
        """What follows once it is on record that this happened to a version; `standing` is what it was decided by.

        Raises: BespokeError when something else happened to the model meanwhile: then this did not.
        """
        checks = tuple(asdict(check) for check in decision.checks) if decision else ()
        record = Record(
            kind, version.number, standing.seen, alias, version.manifest, scorecard, _now(), who(), forced, checks
        )
        if kind == "scored":
            self._send(version.tracked, [scorecard])
        with self._reached():
            after = Ledger(self._client, version.name).add(record)
            return self._settle(version.name, after)

    def track(self, folder: Path, about: Callable[[], About], figures: Iterable[Figures]) -> str:
        """The MLflow run of a run's folder in this store; one that is not there yet is told all of its figures.

        Raises: BespokeError when the store does not take it.
        """
        with self._reached():
            if before := tracking.known(self._client, folder, self.place.address):
                return before
        made = tracking.Tracking(folder, self.place.address, about)
        for numbers, step, seconds in figures:
            made.log(numbers, step, seconds)
        made.close("FINISHED")
        if made.trouble:
            raise BespokeError(made.trouble, "Run the same command again when it can be reached.")
        with self._reached():
            return tracking.known(self._client, folder, self.place.address)

    def log_scores(self, version: Version, scorecard: str, scores: Mapping[str, float]) -> None:
        """Tells a version's MLflow run its scores."""
        with self._reached():
            tracking.log_scores(self._client, version.tracked, scores)
            self._client.set_tag(version.tracked, SCORECARD, scorecard)

    def scorecard(self, version: Version, standing: Standing) -> str:
        """The hash of a version's newest scorecard; empty where it has none."""
        return standing.scorecards.get(version.number, version.scorecard)

    def manifest(self, version: Version) -> Manifest:
        """What a version is. Raises: BespokeError when that is missing or was changed."""
        return Manifest.of(self.text(version, version.manifest))

    def text(self, version: Version, digest: str) -> str:
        """A text that was registered with a version. Raises: BespokeError when it is missing or was changed."""
        self._fetch(version, [digest])
        return self.shelf.read(digest)

    def needed(self) -> Needed:
        """What versions of this store name, retired ones too, and what was written down of them.

        Of a server's versions these are the ones that were used or registered here: the others have nothing here.

        Raises: BespokeError when it cannot be told of one, because the list of its files is missing or was changed.
        """
        with self._reached():
            found = every_version(self._client)
        versions = [_version(one) for one in found if MANIFEST in one.tags]
        if not self.place.file:
            versions = [one for one in versions if self.shelf.path(one.manifest).is_file()]
        manifests = {one.manifest: self.manifest(one) for one in versions}
        files = {blob.sha256 for manifest in manifests.values() for blob in manifest.files.values()}
        cards = {*(one.scorecard for one in versions), *(scorecard_of(one) for one in found)} - {""}
        return Needed(frozenset(manifests), frozenset({*files, *manifests, *cards}))

    def folder(self, version: Version) -> Path:
        """A version's files as a run's folder, each found to be what was registered.

        Raises: BespokeError when one is missing or was changed.
        """
        manifest = self.manifest(version)
        self._fetch(version, [blob.sha256 for blob in manifest.files.values()])
        return self.shelf.lay_out(manifest)

    def _versions(self, name: str) -> list[Version]:
        with self._reached():
            found = [_version(one) for one in versions_of(self._client, name) if MANIFEST in one.tags]
        return sorted(found, key=lambda version: version.number)

    def _is_there(self, name: str) -> bool:
        """Whether MLflow knows the model, so that the numbers of its versions go on."""
        with self._reached():
            return bool(self._client.search_registered_models(f"name='{name}'"))

    def _begin(self, name: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_registered_model(name, tags={KIND: "model"})
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def _settle(self, name: str, standing: Standing) -> Standing:
        """Tells MLflow's own aliases what the records say, until no other record came meanwhile."""
        while True:
            for alias in self.elsewhere(name, standing):
                if number := standing.aliases.get(alias):
                    self._client.set_registered_model_alias(name, alias, str(number))
                else:
                    self._client.delete_registered_model_alias(name, alias)
            after = self.standing(name)
            if after.aliases == standing.aliases:
                return after
            standing = after

    def _send(self, tracked: str, digests: Sequence[str], *, check: bool = False) -> str:
        """Where a server now has these files; nothing where the shelf is the store's own.

        With `check` what it has is fetched, to see whether it is what it should be.
        """
        if self.place.file:
            return ""
        with self._reached():
            there = {Path(one.path).name: one.file_size for one in self._client.list_artifacts(tracked, FOLDER)}
            for digest in digests:
                path = self.shelf.checked(digest)
                if there.get(digest) != path.stat().st_size or (check and not self._whole(tracked, digest)):
                    self._client.log_artifact(tracked, str(path), FOLDER)
            return f"{self._client.get_run(tracked).info.artifact_uri}/{FOLDER}"

    def _fetch(self, version: Version, digests: Sequence[str]) -> None:
        """Brings what the shelf lacks from the server, checked."""
        missing = [] if self.place.file else [digest for digest in digests if not self.shelf.holds(digest)]
        for digest in missing:
            with self._reached(), self._downloaded(version.tracked, digest) as path:
                self.shelf.put(path, digest)

    def _whole(self, tracked: str, digest: str) -> bool:
        """Whether a server's file is what it should be."""
        with self._downloaded(tracked, digest) as path:
            return sha256(path) == digest

    @contextmanager
    def _downloaded(self, tracked: str, digest: str) -> Generator[Path, None, None]:
        """A server's file, for as long as the block lasts."""
        with tempfile.TemporaryDirectory() as scratch:
            yield Path(self._client.download_artifacts(tracked, f"{FOLDER}/{digest}", scratch))

    @contextmanager
    def _reached(self) -> Generator[None, None, None]:
        """A block in which a store's errors are told in words."""
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except (MlflowException, SQLAlchemyError, ConnectionError) as error:
            why = store.words(error)[:300] or type(error).__name__
            login = "Is the server up, and are MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD right?"
            hint = "Is the file whole, and may you write it?" if self.place.file else login
            raise BespokeError(f"The registry at {self.place.shown} cannot be used: {why}.", hint) from error


def is_version(model: str) -> bool:
    """Whether a name has the form of a version's: `NAME@7` or `NAME@champion`."""
    name, at, which = model.rpartition("@")
    return bool(at) and NAME.fullmatch(name) is not None and (which.isdecimal() or which in ALIASES)


def checked_name(name: str) -> str:
    """The name, if a model may have it. Raises: BespokeError when not."""
    if not NAME.fullmatch(name) or name.endswith(SUFFIX) or name == "pico":
        hint = f"Use letters, digits, - _ and dots; pico and names that end in {SUFFIX} are taken."
        raise BespokeError(f"{name!r} is no name for a model in the registry.", hint)
    return name


def checked_alias(alias: str) -> str:
    """The alias, if there is such a one. Raises: BespokeError when not."""
    if alias not in ALIASES:
        raise BespokeError(f"There is no alias {alias!r}.", f"Known are {' and '.join(ALIASES)}.")
    return alias


def _version(one: Any) -> Version:
    at = datetime.fromtimestamp(one.creation_timestamp / 1000, UTC).isoformat(timespec="seconds")
    number, tags = int(one.version), one.tags
    return Version(one.name, number, tags[MANIFEST], at, tags.get(SCORECARD, ""), one.run_id or "")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def who() -> str:
    """The person and the machine that this command is given by."""
    try:
        person = getpass.getuser()
    except (KeyError, OSError):  # a container without users
        person = "unknown"
    return f"{person}@{socket.gethostname()}"
