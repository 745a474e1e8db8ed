"""A real PostgreSQL server, and stores of feedback on it and in files."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bespoke.feedback import Place, Store

WHO = "postgres"
"""The server refuses to be run by root, who becomes this person."""


def program(name: str) -> str | None:
    """Where a program of PostgreSQL is; Debian keeps them off the path."""
    places = [os.environ.get("PATH", ""), *sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")), reverse=True)]
    return shutil.which(name, path=os.pathsep.join(places))


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a server that listens on this machine alone, without a database's name."""
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    serve, begin = program("postgres"), program("initdb")
    if serve is None or begin is None:
        pytest.skip("no PostgreSQL")
    become: dict[str, Any] = {"user": WHO} if os.getuid() == 0 else {}
    folder = Path(tempfile.mkdtemp(prefix="bespoke-postgres-"))
    if become:
        shutil.chown(folder, WHO)
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    data = folder / "data"
    first = [begin, "--pgdata", data, "--auth", "trust", "--username", "bespoke", "--encoding", "UTF8"]
    subprocess.run(first, check=True, capture_output=True, cwd=folder, **become)
    options = ("fsync=off", "listen_addresses=127.0.0.1", f"port={port}", "unix_socket_directories=")
    command = [serve, "-D", data, *(part for option in options for part in ("-c", option))]
    log = folder / "log"
    with log.open("w") as out:
        server = subprocess.Popen(command, cwd=folder, stdout=out, stderr=out, **become)
    try:
        url = f"postgresql://bespoke@127.0.0.1:{port}"
        _wait(f"{url}/postgres", server, log)
        yield url
    finally:
        server.send_signal(signal.SIGINT)  # which ends it whoever is connected
        server.wait()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def somewhere(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A place for a new store: a file, and a database of the server."""
    if request.param == "sqlite":
        return Place(f"sqlite:///{tmp_path}/feedback.db", tmp_path / "samples")
    return Place(database(request.getfixturevalue("postgres")), tmp_path / "samples")


@pytest.fixture
def opened(somewhere: Place) -> Iterator[Callable[[], Store]]:
    """What opens the store once more."""
    stores: list[Store] = []

    def again() -> Store:
        stores.append(Store(somewhere))
        return stores[-1]

    yield again
    for store in stores:
        store.close()


@pytest.fixture
def store(opened: Callable[[], Store]) -> Store:
    """An empty store."""
    return opened()


def database(server: str) -> str:
    """The URL of a new database, as SQLAlchemy writes it."""
    import psycopg

    name = f"feedback_{secrets.token_hex(4)}"
    with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    return f"{server.replace('postgresql:', 'postgresql+psycopg:')}/{name}"


def _wait(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    import psycopg

    for _ in range(600):
        try:
            psycopg.connect(url).close()
            return
        except psycopg.OperationalError:
            assert server.poll() is None, log.read_text()
            time.sleep(0.1)
    raise AssertionError(log.read_text())
