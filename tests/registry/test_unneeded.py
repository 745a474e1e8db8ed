"""What no version names is found and removed, and nothing else, whatever other processes do meanwhile."""

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.registry.test_blobs import spoil
from typer.testing import CliRunner

from bespoke.cli.commands import app
from bespoke.errors import BespokeError
from bespoke.pipeline.unneeded import prune_versions
from bespoke.registry import Catalogue, Place, place
from bespoke.workspace import digests


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("BESPOKE_STORE", raising=False)
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


@pytest.fixture
def mine(project: Path) -> Catalogue:
    """The project's own registry."""
    return Catalogue(place(str(project), must_be=False))


def kept(catalogue: Catalogue) -> list[Path]:
    """All files of versions, but for the lock."""
    return sorted(file for file in catalogue.shelf.root.rglob("*") if file.is_file() and file.name != ".lock")


def leftover(catalogue: Catalogue, content: str = "left by a kill") -> str:
    return catalogue.shelf.put_text(content).sha256


def test_what_versions_name_stays_retired_ones_too_and_the_rest_goes(mine, register):
    first = register(mine, "style", "one", scorecard='{"first": 1}')
    register(mine, "style", "two")
    register(mine, "other", "three")
    newer = mine.shelf.put_text('{"second": 2}').sha256
    mine.add("scored", first, mine.standing("style"), scorecard=newer)
    mine.add("retired", first, mine.standing("style"))
    folders = [mine.folder(mine.version(name, number)) for name, number in (("style", 1), ("style", 2))]
    whole = kept(mine)
    gone = leftover(mine)
    found = prune_versions()
    assert found.blobs == (gone,) and found.folders == found.halves == () and found.bytes == len("left by a kill")
    assert mine.shelf.holds(gone)  # it was only shown
    assert prune_versions(apply=True) == found
    assert kept(mine) == whole
    assert not prune_versions()
    assert [mine.folder(mine.version(name, number)) for name, number in (("style", 1), ("style", 2))] == folders
    assert mine.text(first, newer) == '{"second": 2}' and mine.text(first, first.scorecard) == '{"first": 1}'


def test_of_a_version_that_was_deleted_in_mlflow_what_no_other_has_goes_and_so_does_its_folder(mine, register):
    one, two = register(mine, "style", "one", scorecard="{}"), register(mine, "style", "two", scorecard="{}")
    folder, blob = mine.folder(one), mine.manifest(one).files["adapter.safetensors"]
    text = len(mine.manifest(one).text)
    mine._client.delete_model_version("style", "1")
    found = prune_versions(apply=True)
    assert set(found.blobs) == {blob.sha256, one.manifest} and found.folders == (folder,)
    assert found.bytes == 3 + text  # the folder's file is the blob, by another name
    assert not folder.exists() and mine.folder(two).is_dir() and mine.text(two, two.scorecard) == "{}"


def test_half_files_of_killed_commands_go_when_they_are_old(mine):
    blob = mine.shelf.path(leftover(mine))
    old, new = blob.with_name(f".{blob.name}.0123abcd.tmp"), blob.with_name(f".{blob.name}.4567cdef.tmp")
    for half in (old, new):
        half.write_bytes(b"half")
    day = time.time() - 25 * 3600
    os.utime(old, (day, day))
    assert prune_versions(apply=True).halves == (old,)
    assert not old.exists() and new.exists()


def test_where_one_version_cannot_say_what_it_names_nothing_is_removed(mine, register):
    version, gone = register(mine, "style", "one"), leftover(mine)
    spoil(mine.shelf.path(version.manifest))
    with pytest.raises(BespokeError, match="was changed"):
        prune_versions(apply=True)
    mine.shelf.path(version.manifest).unlink()
    with pytest.raises(BespokeError, match="is missing"):
        prune_versions(apply=True)
    assert mine.shelf.holds(gone)


def test_every_store_that_keeps_files_there_is_asked(mine, register, project, server):
    """A second file beside the first, and a server that the recipe names, have their versions in the same folder."""
    second = Catalogue(place(str(project / "second.sqlite"), must_be=False))
    theirs = Catalogue(Place(server, mine.shelf.root))
    assert mine.shelf == second.shelf == theirs.shelf
    versions = [register(one, f"kept-{n}", f"of {n}") for n, one in enumerate((mine, second, theirs))]
    leftover(mine)
    (project / "recipe.toml").write_text(f'[track]\nstore = "{server}"\n')
    before = len(kept(mine))
    for store in ("", str(project), str(project / "second.sqlite"), server):
        assert len(prune_versions(store=store).blobs) == 1, store
    prune_versions(apply=True, store=str(project))
    assert len(kept(mine)) == before - 1
    for one, version in zip((mine, second, theirs), versions, strict=True):
        one.shelf.lay_out(one.manifest(version))


def test_a_server_that_does_not_answer_lets_nothing_be_removed(mine, project):
    gone = leftover(mine)
    (project / "recipe.toml").write_text('[track]\nstore = "http://127.0.0.1:9"\n')
    with pytest.raises(BespokeError, match="cannot be used"):
        prune_versions(apply=True, store=str(project))
    assert mine.shelf.holds(gone)


def test_the_command_shows_what_would_go_and_then_removes_it(mine, register):
    register(mine, "style", "one")
    assert typed() == "Every file belongs to a version.\n"
    gone = [leftover(mine, f"{number}") for number in range(12)]
    shown = typed()
    assert "Not needed: 12 files" in shown and "bespoke models prune --apply" in shown and "2 more" in shown
    assert sum(digest in shown for digest in gone) == 10
    assert "Removed: 12 files" in typed("--apply")
    assert typed() == "Every file belongs to a version.\n"


def test_a_command_tells_that_it_reads_large_files(mine, register, monkeypatch):
    register(mine, "style", "one")
    monkeypatch.setattr(digests, "LONG", 1)
    done = CliRunner().invoke(app, ["models", "prune", "--json"])
    assert "hash files …" in done.stderr and json.loads(done.stdout)["blobs"] == []


def typed(*words: str) -> str:
    done = CliRunner().invoke(app, ["models", "prune", *words])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_where_nothing_was_registered_there_is_nothing_to_remove(mine, project):
    assert not prune_versions(apply=True) and not (project / "versions").exists()


Start = Callable[[str], subprocess.Popen[str]]


@pytest.fixture
def putting(mine: Catalogue, tmp_path: Path) -> Iterator[Start]:
    """What starts a process of `putting.py`, which has put a file of that content and waits for a word."""
    started: list[subprocess.Popen[str]] = []

    def start(content: str) -> subprocess.Popen[str]:
        run = tmp_path / f"run-{len(started)}"
        run.mkdir()
        (run / "adapter.safetensors").write_text(content)
        words = [mine.place.address, str(mine.place.shelf), str(run)]
        command = [sys.executable, "-m", "tests.registry.putting", *words]
        env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        pipe = subprocess.PIPE
        started.append(subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=env))
        return started[-1]

    yield start
    for one in started:
        one.kill()
        one.communicate()


def digest(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()


def test_what_another_process_registers_just_now_is_not_taken_from_it(mine, putting):
    one = putting("weights")
    assert one.stdout.readline() == "put\n"
    assert mine.shelf.holds(digest("weights"))  # which no version names yet
    for apply in (False, True):
        with pytest.raises(BespokeError, match="Another command registers a version"):
            prune_versions(apply=apply)
    other = putting("more weights")
    assert other.stdout.readline() == "waits\n"  # two that register come one after the other
    one.stdin.write("\n")
    one.stdin.flush()
    assert one.stdout.readline() == "style@1\n"
    assert other.stdout.readline() == "put\n"
    assert other.communicate("\n")[0] == "style@2\n"
    assert not prune_versions(apply=True)
    for number in (1, 2):
        assert mine.folder(mine.version("style", number)).is_dir()


def test_what_a_killed_process_put_is_pruned_and_it_locks_nobody_out(mine, putting):
    one = putting("weights")
    assert one.stdout.readline() == "put\n"
    one.kill()
    one.wait()
    assert prune_versions(apply=True).blobs == (digest("weights"),)
    again = putting("weights")
    assert again.stdout.readline() == "put\n"
    assert again.communicate("\n")[0] == "style@1\n"
    assert mine.folder(mine.version("style", 1)).is_dir()
