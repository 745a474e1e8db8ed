"""A real MLflow server on this machine, and small versions to register."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from bespoke.registry import About, Catalogue, Manifest, Place, Version, of_file, place, store

ABOUT = About("run-1", "my style", "", {"train.seed": 3}, {"bespoke.base": "pico"})
ORIGIN = {"run": "run-1", "base": "pico", "base_hash": "0" * 16}


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of an `mlflow server` process, which keeps its files apart from everybody's."""
    folder = tmp_path_factory.mktemp("server")
    store._make(folder / "mlflow.db")  # which would take it seven seconds
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
        "--backend-store-uri", of_file(folder / "mlflow.db"), "--artifacts-destination", str(folder / "artifacts"),
    ]  # fmt: skip
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, env=os.environ | quiet, stdout=log, stderr=log)
        try:
            _wait(url, process, folder / "log")
            yield url
        finally:
            process.terminate()
            process.wait()


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    while True:
        assert process.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(f"{url}/health"):
                return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.1)


@pytest.fixture(params=["file", "server"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A registry: in a file, and on a server."""
    if request.param == "file":
        return place(str(tmp_path / "project" / "bespoke.db"), must_be=False)
    return Place(request.getfixturevalue("server"), tmp_path / "shelf")


Register = Callable[..., Version]


@pytest.fixture
def catalogue(where: Place) -> Catalogue:
    return Catalogue(where)


@pytest.fixture
def register(tmp_path: Path) -> Register:
    """What registers a version of one small file."""

    def registered(catalogue: Catalogue, name: str, content: str, scorecard: str = "") -> Version:
        run = tmp_path / "runs" / "run-1"
        run.mkdir(parents=True, exist_ok=True)
        (run / "adapter.safetensors").write_text(content)
        blob = catalogue.shelf.put(run / "adapter.safetensors")
        card = catalogue.shelf.put_text(scorecard).sha256 if scorecard else ""
        manifest = Manifest({"adapter.safetensors": blob}, ORIGIN, {"adapter": blob.sha256})
        tracked = catalogue.track(run, lambda: ABOUT, [({"loss": 0.5}, 1, 1e9)])
        return catalogue.register(name, manifest, card, tracked)[0]

    return registered
