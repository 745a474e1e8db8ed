"""A function carried out by two processes of a Ray cluster at once: what it gives, and what becomes of its troubles."""

import importlib
import os
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest

from bespoke.errors import BespokeError
from bespoke.scale.group import Group, Team, group

# Ray's own modules warn each other.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
TOGETHER = """
import os, signal, time
from pathlib import Path
import torch
import torch.distributed as dist
from bespoke.errors import BespokeError

def summed(mark, line):
    rank, shared = dist.get_rank(), torch.ones(1) * (dist.get_rank() + 1)
    line.tell("began", rank)
    dist.all_reduce(shared)
    if rank == 1 and not Path(mark).exists():
        Path(mark).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    dist.all_reduce(shared)
    line.tell("sum", rank, float(shared))
    return rank, float(shared), os.getcwd()

def refused(line):
    if dist.get_rank() == 0:
        raise BespokeError("It cannot be done.", "Do something else.")
    dist.barrier()

def waits(line):
    while not line.to_stop():
        line.tell("still here")
        time.sleep(0.05)
    return "stopped"
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[object]:
    """A cluster of two places that is there before and stays; its processes are not put behind those of others."""
    import ray

    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - Ray's own name
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield ray
    ray.shutdown()
    del os.environ["RAY_worker_niceness"]  # noqa: SIM112


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A module that the processes can import, since they get this one's path."""
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "work_of_a_group.py").write_text(TOGETHER)
    monkeypatch.syspath_prepend(str(tmp_path / "path"))
    yield importlib.import_module("work_of_a_group")
    del sys.modules["work_of_a_group"]


def never() -> None:
    """No wish to stop."""


@pytest.mark.slow
def test_two_work_as_one_group_which_begins_anew_when_one_is_killed(
    cluster: object, tmp_path: Path, work: ModuleType
) -> None:
    heard: list[tuple[object, ...]] = []
    with group(Team(2), lambda *words: heard.append(words)) as ours:
        result = ours.together(partial(work.summed, str(tmp_path / "mark")), tmp_path / "ray", never)
    assert result == (0, 6.0, str(Path.cwd()))
    assert sorted(heard) == [("began", 0), ("began", 0), ("began", 1), ("began", 1), ("sum", 0, 6.0), ("sum", 1, 6.0)]
    for rank in (0, 1):
        assert [words[0] for words in heard if words[1] == rank] == ["began", "began", "sum"]


@pytest.mark.slow
def test_what_the_function_refuses_is_told_as_it_is(cluster: object, tmp_path: Path, work: ModuleType) -> None:
    with group(Team(2), never) as ours, pytest.raises(BespokeError) as caught:
        ours.together(work.refused, tmp_path / "ray", never)
    assert (caught.value.problem, caught.value.hint) == ("It cannot be done.", "Do something else.")


@pytest.mark.slow
def test_it_is_asked_to_stop(cluster: object, tmp_path: Path, work: ModuleType) -> None:
    heard: list[str] = []
    with group(Team(), heard.append) as ours:
        assert ours.count == 1
        assert ours.together(work.waits, tmp_path / "ray", lambda: bool(heard)) == "stopped"


def test_a_cluster_that_is_too_small_is_told_at_once(cluster: object) -> None:
    with pytest.raises(BespokeError, match="room for 2 of 3 processes of 1 CPU each") as caught, group(Team(3), never):
        pass
    assert "--workers" in caught.value.hint
    with pytest.raises(BespokeError, match="room for 0 of 1 processes of 3 CPU each"), group(Team(1, 3), never):
        pass


def test_without_ray_the_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray.train.torch", None)
    with pytest.raises(BespokeError, match="--ray needs Ray") as caught, group(Team(2), never):
        pass
    assert "bespoke[ray]" in caught.value.hint


def test_a_group_knows_its_size(cluster: object) -> None:
    with group(Team(2), never) as ours:
        assert isinstance(ours, Group) and ours.count == 2
