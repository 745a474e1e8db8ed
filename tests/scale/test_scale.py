"""Many records, several processes: the results of one, in order, whatever fails, dies or is interrupted."""

import contextlib
import math
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from pickle import PicklingError

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bespoke import hardware, scale
from bespoke.errors import BespokeError
from bespoke.records import Picture


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").exists() and ") Z " in Path(f"/proc/{pid}/stat").read_text()


def until(condition, seconds: float = 30.0) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


@pytest.mark.parametrize("batch", [1, 3, 8])
@pytest.mark.parametrize("processes", [1, 2, 3])
def test_the_results_are_those_of_one_process_in_order(work, processes, batch):
    wanted = [work.slowly(record) for record in range(50)]
    assert (
        list(scale.map(range(50), work.slowly, workers=scale.Workers(processes), batch=batch, patience=0.0)) == wanted
    )


@settings(max_examples=8)
@given(
    records=st.lists(st.floats(0, 50), min_size=12, max_size=30), wrong=st.lists(st.integers(0, 30), max_size=2),
    processes=st.integers(1, 3), batch=st.integers(1, 5),
)  # fmt: skip
@example(records=[4.0] * 20, wrong=[15, 17], processes=2, batch=3)
def test_whatever_fails_the_results_before_it_come_and_the_record_is_told(records, wrong, processes, batch):
    for place in wrong:
        records.insert(place, -1.0 - place)
    came: list[float] = []
    bad = [record for record in records if record < 0]
    with pytest.raises(scale.Failed) if bad else contextlib.nullcontext() as raised:
        came.extend(scale.map(records, math.sqrt, workers=scale.Workers(processes), batch=batch, patience=0.0))
    if bad:
        assert raised.value.record == bad[0] and repr(bad[0]) in str(raised.value)
        assert isinstance(raised.value.__cause__, ValueError)
        assert "math domain error" in str(raised.value.__cause__)
    assert came == [math.sqrt(record) for record in records[: records.index(bad[0]) if bad else None]]


def test_the_work_is_shared_and_this_process_takes_part_only_at_first(work):
    pids = list(scale.map(range(100), work.whose, workers=scale.Workers(3), batch=2, patience=0.0))
    assert pids[0] == os.getpid() and os.getpid() not in pids[1:]
    assert len(set(pids)) == 4
    assert until(lambda: all(gone(pid) for pid in set(pids[1:])))


@pytest.mark.parametrize(("records", "processes", "patience"), [(100, 1, 0.0), (9, 4, 0.0), (100, 4, 60.0)])
def test_one_process_few_records_or_little_work_start_no_other(work, records, processes, patience):
    pids = scale.map(range(records), work.whose, workers=scale.Workers(processes), patience=patience)
    assert set(pids) == {os.getpid()}


def test_a_problem_passes_unchanged_and_what_cannot_be_packed_is_put_in_words(work):
    for processes in (1, 2):
        with pytest.raises(BespokeError) as caught:
            list(scale.map(range(30), work.picky, workers=scale.Workers(processes), patience=0.0))
        assert (caught.value.problem, caught.value.hint) == ("20 is bad", "Leave it out.")
        with pytest.raises(scale.Failed) as failed:
            list(scale.map([*range(20), *range(21, 30)], work.picky, workers=scale.Workers(processes), patience=0.0))
        assert failed.value.record == 21
        assert "it cannot be packed" in str(failed.value.__cause__)
    assert "Strange" in str(failed.value.__cause__) and "line" in str(failed.value.__cause__)


def test_a_process_that_dies_is_told_with_its_record(work):
    with pytest.raises(BespokeError, match=r"ended with code 9 over 17 or one of the next 7") as caught:
        list(scale.map(range(100), work.dies, workers=scale.Workers(2), patience=0.0))
    assert "fewer processes" in caught.value.hint


def test_a_result_or_function_that_cannot_go_from_process_to_process_is_told(work):
    with pytest.raises(scale.Failed, match="work on 1 failed"):
        list(scale.map(range(20), work.unpackable, workers=scale.Workers(2), patience=0.0))
    with pytest.raises((AttributeError, TypeError, PicklingError), match="pickle"):
        list(scale.map(range(20), lambda record: record, workers=scale.Workers(2)))


def test_what_a_function_prints_or_reads_does_not_come_between(work):
    assert list(scale.map(range(20), work.reads, workers=scale.Workers(2), patience=0.0)) == [""] * 20


def test_the_processes_load_what_the_function_needs_and_nothing_else(work):
    import torch

    assert torch.tensor(1).item() == 1  # this process has it
    found = list(scale.map(range(20), work.loaded, workers=scale.Workers(2), patience=0.0))
    assert "torch" in found[0] and found[-1] == []


def test_leaving_ends_the_processes_at_once(work, tmp_path):
    file = tmp_path / "pids"
    with closing(
        scale.map([(n, file) for n in range(100)], work.waits, workers=scale.Workers(2), batch=1, patience=0.0)
    ) as results:
        assert [next(results) for _ in range(4)] == [0, 1, 2, 3]
        assert until(lambda: file.exists() and len(file.read_text().split()) == 2)
        pids = [int(pid) for pid in file.read_text().split()]
        began = time.monotonic()
    assert time.monotonic() - began < 10
    assert until(lambda: all(map(gone, pids)))


SCRIPT = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs begin by ignoring it
sys.path[:0] = [{path!r}]
import work_of_a_test
from bespoke import scale

print("begun", flush=True)
records = [(number, {file!r}) for number in range(100)]
for result in scale.map(records, work_of_a_test.{function}, workers=scale.Workers(2), batch=1, patience=0.0):
    print("came", result, flush=True)
"""


def script(tmp_path: Path, function: str) -> tuple[Path, Path]:
    """A script without the usual guard around what it does, as people write them."""
    file = tmp_path / "pids"
    path = tmp_path / "script.py"
    path.write_text(SCRIPT.format(path=str(tmp_path / "path"), file=str(file), function=function))
    return path, file


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends Ctrl-C to groups of processes otherwise")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_ctrl_c_and_a_kill_leave_no_process_behind(work, tmp_path, number):
    path, file = script(tmp_path, "waits" if number == signal.SIGINT else "slowly_then")
    running = subprocess.Popen([sys.executable, str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert until(lambda: file.exists() and len(file.read_text().split()) >= 2)
    pids = [int(pid) for pid in file.read_text().split()]
    begun = ""
    if number == signal.SIGINT:
        assert running.stdout is not None
        begun = "".join(running.stdout.readline() for _ in range(5))
        time.sleep(0.2)  # until the script asks for the next result; between two results Ctrl-C is its own matter
        for pid in pids:  # a terminal sends it to all of them
            os.kill(pid, number)
    running.send_signal(number)
    out, err = running.communicate(timeout=30)
    assert until(lambda: all(map(gone, pids)))
    if number == signal.SIGINT:
        assert begun + out == "begun\ncame 0\ncame 1\ncame 2\ncame 3\n"
        assert err.count("Traceback") == 1 and "KeyboardInterrupt" in err
    else:
        assert err == ""


def test_a_script_without_a_guard_is_not_started_again(work, tmp_path):
    path, _ = script(tmp_path, "whose")
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("begun") == 1 and done.stdout.count("came") == 100
    assert done.stderr == ""


def test_a_function_of_the_script_itself_stays_in_its_process(tmp_path):
    code = """
        import os
        from bespoke import scale
        def whose(record): return os.getpid()
        print(set(scale.map(range(50), whose, workers=scale.Workers(2), patience=0.0)) == {os.getpid()})
    """
    path = tmp_path / "script.py"
    path.write_text(textwrap.dedent(code))
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_records_are_taken_as_they_are_needed_and_without_end(work):
    taken: list[int] = []

    def endless() -> Iterator[int]:
        while True:
            taken.append(len(taken))
            yield taken[-1]

    with closing(scale.map(endless(), work.slowly, workers=scale.Workers(2), batch=2, patience=0.0)) as results:
        assert [next(results)[0] for _ in range(30)] == list(range(30))
    assert len(taken) < 30 + 2 * 2 * 4 + 4


def test_records_go_there_and_results_come_back_whole(work):
    pictures = [Picture(f"{n}.png", "a cat", "0" * 64, "1" * 64, 3, 4, "s", labels={"a": "b"}) for n in range(30)]
    assert [
        p for p, _ in scale.map([(p, 1) for p in pictures], tuple, workers=scale.Workers(2), patience=0.0)
    ] == pictures


def test_how_many_processes_suit_is_told_by_the_machine():
    assert 1 <= hardware.processes() <= hardware.cores() == len(os.sched_getaffinity(0))
