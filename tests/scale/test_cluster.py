"""The same work by actors of a Ray cluster on this machine: equal results, equal problems, nothing left behind."""

import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bespoke import scale
from bespoke.errors import BespokeError

RAY = scale.Workers(2, "ray")
DIES_ONCE = """
import os
from pathlib import Path

def dies_once(record):
    number, mark = record
    if number == 30 and not Path(mark).exists():
        Path(mark).touch()
        os._exit(9)
    return number
"""


@pytest.fixture(scope="module")
def ray() -> Iterator[object]:
    """A cluster that is there before and stays, so that each test need not start one."""
    import ray

    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield ray
    ray.shutdown()


def test_the_results_are_those_of_one_process_by_two_others(ray, work):
    wanted = [work.slowly(record) for record in range(50)]
    assert list(scale.map(range(50), work.slowly, workers=RAY, batch=3, patience=0.0)) == wanted
    pids = list(scale.map(range(60), work.whose, workers=RAY, batch=2, patience=0.0))
    assert pids[0] == os.getpid() and os.getpid() not in pids[1:]
    assert len(set(pids[1:])) == 2
    assert ray.is_initialized()


def test_problems_pass_as_they_do_from_processes(ray, work):
    with pytest.raises(BespokeError) as caught:
        list(scale.map(range(30), work.picky, workers=RAY, patience=0.0))
    assert (caught.value.problem, caught.value.hint) == ("20 is bad", "Leave it out.")
    came: list[float] = []
    with pytest.raises(scale.Failed, match=r"work on -1.0 failed") as failed:
        came.extend(scale.map([4.0] * 20 + [-1.0] + [4.0] * 9, math.sqrt, workers=RAY, patience=0.0))
    assert came == [2.0] * 20 and isinstance(failed.value.__cause__, ValueError)
    with pytest.raises(scale.Failed, match=r"work on 1 failed"):
        list(scale.map(range(20), work.unpackable, workers=RAY, patience=0.0))


def test_a_worker_that_is_lost_is_begun_again_and_nothing_is_missing(ray, tmp_path, monkeypatch):
    (tmp_path / "work_that_dies.py").write_text(DIES_ONCE)
    monkeypatch.syspath_prepend(str(tmp_path))
    from work_that_dies import dies_once  # pyright: ignore[reportMissingImports]

    records = [(number, str(tmp_path / "mark")) for number in range(80)]
    assert list(scale.map(records, dies_once, workers=RAY, patience=0.0)) == list(range(80))
    assert (tmp_path / "mark").exists()


def test_without_ray_the_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(BespokeError, match="Ray is not installed") as caught:
        list(scale.map(range(20), math.sqrt, workers=RAY, patience=0.0))
    assert "bespoke[ray]" in caught.value.hint


def test_a_cluster_that_cannot_be_reached_is_told(ray, monkeypatch: pytest.MonkeyPatch):
    ray.shutdown()
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(BespokeError, match=r"cluster 127\.0\.0\.1:1 cannot be had") as caught:
        list(scale.map(range(20), math.sqrt, workers=RAY, patience=0.0))
    assert "RAY_ADDRESS" in caught.value.hint


def test_a_cluster_of_its_own_ends_with_the_work(tmp_path: Path, work):
    import ray

    assert not ray.is_initialized()
    assert list(scale.map([1.0, 4.0, 9.0] * 9, math.sqrt, workers=RAY, patience=0.0)) == [1.0, 2.0, 3.0] * 9
    assert not ray.is_initialized()
