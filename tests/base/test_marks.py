"""Digests of files that nobody touched are kept, and no trick makes a kept one stand for other bytes."""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bespoke.errors import BespokeError
from bespoke.models.marks import fingerprint
from bespoke.registry import Shelf
from bespoke.workspace import digests, hashing_told, marks, remembered, sha256
from bespoke.workspace.marks import MOST, Marks

LIE = "0" * 64
"""A digest put in the place of a kept one: whoever says it did not read the file."""


def later() -> int:
    """A minute from now: no file was changed a moment ago."""
    return time.time_ns() + 60_000_000_000


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "unet" / "weights.safetensors"
    path.parent.mkdir()
    path.write_bytes(b"weights" * 100)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "marks"


@pytest.fixture
def keeper(folder: Path) -> Marks:
    return Marks(folder, least=0, clock=later)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def lie(folder: Path) -> None:
    """Whatever is kept says something wrong from now on."""
    (entry,) = folder.iterdir()
    content = json.loads(entry.read_text())
    entry.write_text(json.dumps(content | {"sha256": LIE}))


def passing(path: Path) -> None:
    """Waits until the disk's clock, which goes in ticks, has gone on since a file was changed."""
    probe = path.with_name("probe")
    while probe.write_bytes(b"") or probe.stat().st_ctime_ns <= path.stat().st_ctime_ns:
        time.sleep(0.001)
    probe.unlink()


def test_what_was_read_once_is_known_to_the_next_who_asks(file, keeper, folder):
    assert keeper.of(file) == sha256(file) == digest(file)
    lie(folder)
    assert Marks(folder, least=0).of(file) == LIE
    assert sha256(file) == digest(file)
    assert Marks(None, least=0).of(file) == digest(file)


def rewritten(file: Path) -> None:
    file.write_bytes(b"another" * 100)


def restored(file: Path) -> None:
    """Other bytes, as many, and the time of writing put back."""
    before = file.stat()
    rewritten(file)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def replaced(file: Path) -> None:
    """Another file of the same size and time of writing in its place."""
    before, other = file.stat(), file.with_name("other")
    other.write_bytes(b"another" * 100)
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    os.replace(other, file)


def longer(file: Path) -> None:
    file.write_bytes(b"weights" * 101)


@pytest.mark.parametrize("change", [rewritten, restored, replaced, longer])
@pytest.mark.skipif(os.name == "nt", reason="Windows has no time of change that programs cannot set")
def test_whatever_was_done_to_a_file_it_is_read_anew(change: Callable[[Path], None], file, keeper, folder):
    keeper.of(file)
    lie(folder)
    passing(file)
    change(file)
    assert keeper.of(file) == digest(file)


def test_a_file_that_was_just_changed_is_not_kept_for_its_times_may_hide_the_next_change(file, folder):
    now = max(file.stat().st_mtime_ns, file.stat().st_ctime_ns)
    for seconds, kept in ((-5, False), (0, False), (1.9, False), (2.1, True)):  # before now: its time is yet to come
        Marks(folder, least=0, clock=lambda s=seconds: now + int(s * 1e9)).of(file)
        assert folder.is_dir() is kept, seconds


def test_of_changes_within_one_tick_of_the_clock_none_is_missed(file, folder):
    keeper = Marks(folder, least=0)
    before = file.stat()
    for turn in range(300):
        file.write_bytes(f"{turn:07}".encode() * 100)
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert keeper.of(file) == digest(file)
    assert not folder.exists()


def test_small_files_are_read(file, folder):
    keeper = Marks(folder, least=701, clock=later)
    assert keeper.of(file) == digest(file) and not folder.exists()
    file.write_bytes(b"weights" * 101)
    keeper.of(file)
    assert folder.exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe", b"[]", b"3", b"null", b"{}", b'{"facts": 1}', b"[" * 100_000],
    ids=lambda content: repr(content[:12]),
)
def test_a_broken_cache_costs_the_reading_and_nothing_else(file, keeper, folder, content):
    keeper.of(file)
    (entry,) = folder.iterdir()
    entry.write_bytes(content)
    assert keeper.of(file) == digest(file)
    assert json.loads(entry.read_text())["sha256"] == digest(file)  # mended


@pytest.mark.parametrize("digest_kept", [None, 3, "", "abc", "0" * 63, ["0" * 64]])
def test_what_is_no_digest_is_not_given_as_one(file, keeper, folder, digest_kept):
    keeper.of(file)
    (entry,) = folder.iterdir()
    entry.write_text(json.dumps(json.loads(entry.read_text()) | {"sha256": digest_kept}))
    assert keeper.of(file) == digest(file)


def test_a_cache_that_is_a_file_is_left_alone(file, folder):
    folder.parent.mkdir()
    folder.write_text("mine")
    assert Marks(folder, least=0, clock=later).of(file) == digest(file)
    assert folder.read_text() == "mine"


def test_a_missing_file_is_told_as_before(keeper, tmp_path):
    with pytest.raises(FileNotFoundError):
        keeper.of(tmp_path / "nowhere")


SOMEBODY = 54321
ASKING = """
import os, sys
from pathlib import Path
from bespoke.workspace import marks
os.setuid(int(sys.argv[1]))
print(marks.Marks(marks._folder(), least=0, clock=lambda: 1 << 62).of(Path(sys.argv[2])))
"""


def asked_by(user: int, path: Path, **env: str) -> str:
    """What a process of another user says of a file."""
    command = [sys.executable, "-c", ASKING, str(user), str(path)]
    given = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path), **env}
    done = subprocess.run(command, capture_output=True, text=True, env=given)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="only root can become somebody else")
def test_who_may_not_write_at_home_or_has_none_reads_the_file():
    with tempfile.TemporaryDirectory() as place:
        home, file = Path(place, "home"), Path(place, "weights.safetensors")
        home.mkdir()
        Path(place).chmod(0o755)
        file.write_bytes(b"weights" * 100)
        assert asked_by(SOMEBODY, file, HOME=str(home)) == digest(file)
        assert not list(home.iterdir())  # it is root's
        home.chmod(0o777)
        assert asked_by(SOMEBODY, file, HOME=str(home)) == digest(file)
        (entry,) = (home / ".cache" / "bespoke" / "marks").iterdir()
        entry.chmod(0)
        assert asked_by(SOMEBODY, file, HOME=str(home)) == digest(file)
        assert asked_by(SOMEBODY, file) == digest(file)  # a user without a home, as in a container


RACING = """
import hashlib, os, sys, time
from pathlib import Path
from bespoke.workspace.marks import Marks
folder, files, number = Path(sys.argv[1]), [Path(path) for path in sys.argv[3:]], int(sys.argv[2])
late = lambda: time.time_ns() + 60_000_000_000
own = files[number]
for turn in range(60):
    for file in files:
        if file != own:
            assert len(Marks(folder, least=0, clock=late).of(file)) == 64
    own.write_bytes(f"{number}-{turn:04}".encode() * 50)
    wanted = hashlib.sha256(own.read_bytes()).hexdigest()
    changed, probe = own.stat().st_ctime_ns, own.with_suffix(".probe")
    while probe.write_bytes(b"") or probe.stat().st_ctime_ns <= changed:
        pass
    assert Marks(folder, least=0, clock=late).of(own) == wanted, turn
print("right")
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no time of change that programs cannot set")
def test_processes_that_ask_while_others_change_files_hear_the_truth(tmp_path, folder):
    """Three processes write a file each, and ask for all three; what each knows for sure is its own."""
    files = [tmp_path / f"{number}.bin" for number in range(3)]
    for file in files:
        file.write_bytes(b"to begin with")
    command = [sys.executable, "-c", RACING, str(folder)]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    racing = [
        subprocess.Popen([*command, str(n), *map(str, files)], stdout=subprocess.PIPE, text=True, env=env)
        for n in range(3)
    ]
    assert [one.communicate()[0].strip() for one in racing] == ["right"] * 3
    entries = list(folder.iterdir())
    assert len(entries) == 3 and all(json.loads(entry.read_text())["sha256"] for entry in entries)


def test_the_cache_does_not_grow_for_ever(file, keeper, folder):
    folder.mkdir(parents=True)
    for number in range(MOST):
        (folder / f"{number}.json").write_text("{}")
        os.utime(folder / f"{number}.json", (number, number))
    keeper.of(file)
    there = {entry.name for entry in folder.iterdir()}
    assert len(there) == MOST // 2 + 1 and f"{MOST - 1}.json" in there and "0.json" not in there


@pytest.fixture
def large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Weights in a model's folder that are large enough to be kept; none counts as changed a moment ago."""
    monkeypatch.setenv("BESPOKE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(marks, "FRESH", -60_000_000_000)
    path = tmp_path / "vae" / "weights.safetensors"
    path.parent.mkdir()
    with path.open("wb") as out:
        out.truncate(marks.LEAST + 1)  # a file of holes, which takes no room
    return path


def test_a_models_mark_is_kept_and_turned_off_by_a_variable(large, folder, monkeypatch):
    first = fingerprint(large.parent)
    assert fingerprint(large.parent, sha256) == first
    lie(folder)
    assert remembered(large) == LIE and fingerprint(large.parent) != first == fingerprint(large.parent, sha256)
    monkeypatch.setenv("BESPOKE_MARKS", "off")
    assert remembered(large) == digest(large) and fingerprint(large.parent) == first


def test_a_changed_byte_of_large_weights_is_another_mark(large):
    first = fingerprint(large.parent)
    passing(large)
    with large.open("r+b") as file:
        file.seek(marks.LEAST // 2)
        file.write(b"\x01")
    assert fingerprint(large.parent) != first


def test_a_versions_own_files_are_read_whatever_is_kept_of_them(large, folder, tmp_path):
    """A bit that turned on the disk leaves no traces; here the cache itself is made to say that all is well."""
    shelf = Shelf(tmp_path / "versions")
    blob = shelf.put(large)
    path = shelf.path(blob.sha256)
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.write(b"\x01")
    remembered(path)
    (entry,) = folder.iterdir()
    entry.write_text(json.dumps(json.loads(entry.read_text()) | {"sha256": blob.sha256}))
    assert remembered(path) == blob.sha256
    with pytest.raises(BespokeError, match="was changed"):
        shelf.checked(blob.sha256)
    assert not shelf.holds(blob.sha256)


def test_of_large_files_is_told_how_far_they_are_read(file, monkeypatch):
    monkeypatch.setattr(digests, "LONG", 700)
    monkeypatch.setattr(digests, "BLOCK", 300)
    monkeypatch.setattr(digests, "MEGABYTE", 100)
    told = []
    with hashing_told(lambda *words: told.append(words)):
        assert sha256(file) == digest(file)
    note = "MB of unet/weights.safetensors"
    assert told == [("hash files", done, 7, note) for done in (3, 6, 7)]
    assert sha256(file) == digest(file) and len(told) == 3
