"""What holds for every test: no internet, and one thread, so that figures do not depend on the machine's cores.

Nothing here may import bespoke: the hook that checks shapes must be in place first.
"""

import gc
import os
import socket
import sys
from typing import Any

import hypothesis
import pytest

from tests import checking

checking.be_sparing()

# How long a draw takes depends on what else the machine does; no test is timed.
hypothesis.settings.register_profile("untimed", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("untimed")

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

# Reading the libraries makes a million objects that stay. The collector, and trainings that give memory back, would
# look through all of them again and again: that took a quarter of the tests' time.
gc.disable()
MANY = 50
"""Modules that were read since the objects that stay were told apart: so many bring enough more to be worth a look."""


class Lasting:
    """The objects that stay, kept out of the collector's sight: those of all modules that were read so far."""

    modules = 0

    def look(self) -> None:
        """Takes in the libraries that a test was the first to read."""
        if len(sys.modules) > self.modules + MANY:
            self.modules = len(sys.modules)
            gc.collect()
            gc.freeze()


LASTING = Lasting()


def pytest_collection_finish() -> None:
    LASTING.look()
    gc.enable()


def pytest_runtest_teardown() -> None:
    LASTING.look()


def pytest_unconfigure() -> None:
    gc.unfreeze()


LOOPBACK = ("127.", "::1", "localhost")


@pytest.fixture(autouse=True)
def _no_internet(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.node.get_closest_marker("network"):
        return

    def guarded(name: str) -> None:
        original = getattr(socket.socket, name)

        def connect(self: socket.socket, address: Any) -> Any:
            if self.family in (socket.AF_INET, socket.AF_INET6) and not str(address[0]).startswith(LOOPBACK):
                raise OSError(f"tests may not reach {address}: mark the test `network`")
            return original(self, address)

        monkeypatch.setattr(socket.socket, name, connect)

    guarded("connect")
    guarded("connect_ex")


@pytest.fixture(autouse=True)
def _gpu_only_where_there_is_one(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("gpu") and not pytest.importorskip("torch").cuda.is_available():
        pytest.skip("no CUDA device")
