"""An address turned into an MLflow client: quiet, without telemetry, and with a store that is made in no time.

MLflow makes a new SQLite store by going through all its migrations, which takes seven seconds. `store.sql` holds what
comes out. Another version of MLflow may make other tables, so it is then left to do it by itself.
"""

import contextlib
import importlib.metadata
import importlib.resources
import logging
import os
import re
import sqlite3
import warnings
from collections.abc import Generator
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import filelock

from bespoke.errors import BespokeError
from bespoke.workspace import atomic_file

SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}
"""What MLflow is told before it is loaded; but for the first, a person's own environment counts for more."""

SQLITE = b"SQLite format 3\x00"
"""What a file of SQLite's begins with."""


def load() -> None:
    """MLflow, loaded: over a second, so not before it is needed. It must be the main thread that calls this first."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    # Advice to those who write MLflow and alembic. Not for a block only: other threads would see filters come and go.
    warnings.filterwarnings("ignore", module=r"(mlflow|alembic)(\.|$)")
    import mlflow.tracking  # noqa: F401 # pyright: ignore[reportUnusedImport]

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what goes wrong is told by us


def client(address: str) -> Any:
    """A client of the store at a server's or a database's URL; the store is made if there is none.

    Raises: whatever MLflow and its libraries raise when it cannot be reached.
    """
    from mlflow.tracking import MlflowClient

    with _first(address):
        found = MlflowClient(tracking_uri=address, registry_uri=address)
        found.search_experiments(max_results=1)  # a server is asked only now
        return found


def of_file(file: Path) -> str:
    """The URL of a store that is one file."""
    return f"sqlite:///{quote(file.absolute().as_posix(), safe='/:')}"


def is_store(file: Path) -> bool:
    """Whether a file is an SQLite store of MLflow's. Raises: BespokeError when it is SQLite's and cannot be read."""
    if not file.is_file():
        return False
    try:
        with file.open("rb") as content:
            if content.read(len(SQLITE)) != SQLITE:
                return False
        with contextlib.closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            return (
                connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'model_versions'").fetchone() is not None
            )
    except (OSError, sqlite3.Error) as error:
        raise BespokeError(f"{file} cannot be read, and may be a registry: {error}.", "May you read it?") from None


def shown(address: str) -> str:
    """The address without a name and password in it."""
    parts = urlsplit(address)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])) if "@" in parts.netloc else address


def words(error: Exception) -> str:
    """What an error says in one line, without names and passwords in addresses; empty where it says nothing."""
    lines = str(error).strip().splitlines()
    return re.sub(r"//[^/@\s]+@", "//", lines[0]) if lines else ""


@contextlib.contextmanager
def _first(address: str) -> Generator[None, None, None]:
    """A block that one process enters at a time: two that make one SQLite store at once would break it."""
    if not address.startswith("sqlite:///"):
        yield
        return
    file = Path(unquote(address.removeprefix("sqlite:///")))
    file.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(file.with_name(f".{file.name}.lock"), timeout=60):
        if not file.exists():
            _make(file)
        yield


def _make(file: Path) -> None:
    """An empty store, if the tables are those of the MLflow that is installed."""
    text = importlib.resources.files("bespoke.registry").joinpath("store.sql").read_text(encoding="utf-8")
    version = re.match(r"-- .*MLflow (\S+) makes", text)
    if version and version[1] == importlib.metadata.version("mlflow-skinny"):
        with atomic_file(file) as temporary, contextlib.closing(sqlite3.connect(temporary)) as connection:
            connection.executescript(text)


def tables(file: Path) -> str:
    """The SQL that makes an empty store like the one in `file`."""
    with contextlib.closing(sqlite3.connect(file)) as connection:
        lines = [line for line in connection.iterdump() if not line.startswith('INSERT INTO "experiments"')]
    version = importlib.metadata.version("mlflow-skinny")
    made_by = "Written by `tables` in bespoke/registry/store.py."
    return "\n".join([f"-- The tables of an empty store as MLflow {version} makes them. {made_by}", *lines, ""])
