"""Files are written whole or not at all."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError

from bespoke.errors import BespokeError
from bespoke.workspace import (
    MANIFEST,
    Project,
    Run,
    atomic_file,
    atomic_folder,
    places,
    verified,
    write_json,
    write_text,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_written(tmp_path):
    write_text(tmp_path / "new" / "a.txt", "zwölf\n")
    assert (tmp_path / "new" / "a.txt").read_bytes() == "zwölf\n".encode()
    write_json(tmp_path / "new" / "a.txt", {"a": [1, "ß"]})
    assert json.loads((tmp_path / "new" / "a.txt").read_text(encoding="utf-8")) == {"a": [1, "ß"]}
    assert names(tmp_path / "new") == ["a.txt"]


def test_an_exception_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(ZeroDivisionError), atomic_file(path) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("call", ["replace", "fsync"])
def test_a_full_disk_is_explained_and_leaves_the_old_file(tmp_path, monkeypatch, call, code):
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def full(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, call, full)
    with pytest.raises(BespokeError) as caught:
        write_text(path, "new")
    assert "full" in caught.value.problem
    assert str(path) in caught.value.problem
    assert "Free some space" in caught.value.hint
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_full_disk_is_explained_when_safetensors_meets_it(tmp_path):
    with pytest.raises(BespokeError, match="full"), atomic_file(tmp_path / "a.safetensors"):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
    with pytest.raises(SafetensorError), atomic_file(tmp_path / "a.safetensors"):
        raise SafetensorError("Error while serializing: I/O error: File too large (os error 27)")


def test_a_full_disk_while_folders_are_made_is_explained(tmp_path, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(BespokeError, match="full"):
        write_text(tmp_path / "new" / "a.txt", "new")
    with pytest.raises(BespokeError, match="full"), atomic_folder(tmp_path / "state" / "step-1"):
        pass


def test_other_errors_of_the_system_pass_through(tmp_path):
    with pytest.raises(PermissionError), atomic_file(tmp_path / "a.txt"):
        raise PermissionError(errno.EACCES, "no")


def write_step(path: Path) -> None:
    with atomic_folder(path) as folder:
        (folder / "deep").mkdir()
        (folder / "weights.bin").write_bytes(bytes(range(256)))
        (folder / "deep" / "clock.json").write_text('{"step": 3}')


def test_a_folder_has_a_manifest_of_everything_in_it(tmp_path):
    path = tmp_path / "run" / "state" / "step-000003"
    write_step(path)
    manifest = json.loads((path / MANIFEST).read_text())["files"]
    assert {name: facts["bytes"] for name, facts in manifest.items()} == {"deep/clock.json": 11, "weights.bin": 256}
    assert verified(path)
    assert names(tmp_path / "run") == ["state"]


def test_a_folder_appears_only_when_it_is_complete(tmp_path):
    path = tmp_path / "run" / "state" / "step-000003"
    with pytest.raises(ZeroDivisionError), atomic_folder(path) as folder:
        (folder / "weights.bin").write_bytes(b"half")
        assert names(path.parent) == []
        raise ZeroDivisionError
    assert names(tmp_path / "run") == ["state"]
    assert names(path.parent) == []


def test_a_folder_that_is_there_is_never_replaced(tmp_path):
    path = tmp_path / "state" / "step-1"
    write_step(path)
    with pytest.raises(FileExistsError), atomic_folder(path):
        pass
    assert verified(path)


def test_a_folder_without_a_manifest_is_not_complete(tmp_path):
    assert not verified(tmp_path)
    assert not verified(tmp_path / "missing")


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"files": 3}', '{"files": {"a": 1}}', '{"files": {"a": {}}}', "\ufeff"]
)
def test_a_broken_manifest_is_not_complete(tmp_path, content):
    (tmp_path / MANIFEST).write_text(content, encoding="utf-8")
    (tmp_path / "a").write_text("a")
    assert not verified(tmp_path)


FILES = ("weights.bin", "deep/clock.json", MANIFEST)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_a_cut_and_a_longer_file_are_noticed(tmp_path, name):
    path = tmp_path / "state" / "step-1"
    write_step(path)
    content = (path / name).read_bytes()
    for wrong in (content[:-1], content + b"\x00", b""):
        (path / name).write_bytes(wrong)
        assert not verified(path)
    (path / name).unlink()
    assert not verified(path)
    (path / name).write_bytes(content)
    assert verified(path)


@pytest.fixture(scope="module")
def step(tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "state" / "step-1"
    write_step(path)
    return path


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(name=st.sampled_from(FILES), where=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_any_flipped_bit_is_noticed(step, name, where, bit):
    content = (step / name).read_bytes()
    wrong = bytearray(content)
    wrong[where % len(content)] ^= 1 << bit
    (step / name).write_bytes(wrong)
    try:
        assert not verified(step)
    finally:
        (step / name).write_bytes(content)


ENDLESS = """
import sys
from pathlib import Path
from bespoke.workspace import atomic_file, atomic_folder
path, count = Path(sys.argv[1]), 0
while True:
    count += 1
    with atomic_file(path / "a.bin") as temporary, temporary.open("wb") as file:
        for _ in range(64):
            file.write(bytes([count % 256]) * 4096)
    with atomic_folder(path / "state" / f"step-{count:06d}") as folder:
        for n in range(4):
            (folder / f"{n}.bin").write_bytes(bytes([count % 256]) * 65536)
"""


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
def test_a_kill_leaves_the_old_file_or_the_new_one(tmp_path):
    rng = np.random.default_rng(0)
    for attempt in range(5):
        folder = tmp_path / str(attempt)
        process = subprocess.Popen([sys.executable, "-c", ENDLESS, str(folder)])
        deadline = time.monotonic() + 60
        while not list(folder.glob("state/step-*")) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.1))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        content = (folder / "a.bin").read_bytes()
        assert len(content) == 64 * 4096
        assert len(set(content)) == 1
        steps = sorted((folder / "state").iterdir())
        assert steps
        assert all(step.name.startswith("step-") and verified(step) for step in steps)


def test_two_runs_of_one_second_have_two_folders(tmp_path, monkeypatch):
    class Stopped(places.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2031, 5, 6, 7, 8, 9, tzinfo=tz)

    monkeypatch.setattr(places, "datetime", Stopped)
    project = Project(tmp_path)
    assert [project.new_run().root.name for _ in range(3)] == [
        "20310506-070809",
        "20310506-070809-2",
        "20310506-070809-3",
    ]
    for _ in range(97 - 1):
        project.new_run()
    with pytest.raises(BespokeError, match="hundred runs"):
        project.new_run()


def test_states_come_oldest_first(tmp_path):
    run = Run(tmp_path)
    for step in (1200, 3, 40):
        write_step(run.state(step))
    assert [path.name for path in run.states()] == ["step-000003", "step-000040", "step-001200"]


TORN = """
import resource, sys
from pathlib import Path
from bespoke.workspace import Journal
journal = Journal(Path(sys.argv[1]))
journal.append("a" * 100)
limits = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (150, limits[1]))
try:
    journal.append("b" * 100)
except OSError:
    print("torn", Path(sys.argv[1]).stat().st_size)
resource.setrlimit(resource.RLIMIT_FSIZE, limits)
journal.append("c", "d")
print([line[:1] for line in journal])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows knows no largest size of a file")
def test_a_line_that_could_not_be_written_costs_itself_only(tmp_path):
    done = subprocess.run([sys.executable, "-c", TORN, str(tmp_path / "j")], capture_output=True, text=True, check=True)
    assert done.stdout == "torn 150\n['a', 'c', 'd']\n"
