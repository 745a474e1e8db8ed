"""What is found out about a dataset on a Ray cluster, or between kills, is what one process finds out at a stretch."""

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bespoke import caption_data, import_data, inspect_data, scale, workspace
from bespoke.cli.commands import app
from bespoke.data import build
from bespoke.data.seen import PICTURES, Seen
from bespoke.errors import BespokeError
from bespoke.recipe import Recipe
from bespoke.recipe.dataset import Data

EXAMPLE = Path(__file__).parents[2] / "examples" / "8bit" / "train"
RAY = ("data.backend=ray", "data.processes=2")
COUNTED = """
import os, sys, time
from bespoke import data, import_data, inspect_data, scale
from bespoke.annotation import seeing
from bespoke.data import importing
original = scale.map
scale.map = lambda *records, **how: original(*records, **{**how, "patience": 0.0, "batch": 1})
read, log = importing.read, open(sys.argv[1], "a")

def slowly(path, digest):
    log.write(f"read {path.name}\\n"); log.flush(); time.sleep(0.03)
    return read(path, digest)

class Book(seeing.Book):
    def add(self, keys, values):
        super().add(keys, values)
        for key in keys:
            log.write(f"{self.kind} {key}\\n")
        log.flush(); time.sleep(0.1)

importing.read, seeing.Book, seeing.BATCH = slowly, Book, 2
import_data(sys.argv[2], sys.argv[3], overrides=["data.processes=1"])
inspect_data(sys.argv[3], overrides=["data.processes=1"])
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty pictures of the example, one of them there twice, and a file that is none."""
    folder = tmp_path_factory.mktemp("cluster") / "source"
    folder.mkdir()
    for path in sorted(EXAMPLE.glob("*.png"))[:40]:
        shutil.copy(path, folder)
        (folder / path.name).with_suffix(".txt").write_text(f"an 8bit illustration of {path.stem[4:]}")
    shutil.copy(path, folder / "twice.png")
    (folder / "none.png").write_text("no picture")
    return folder


@pytest.fixture(scope="module")
def alone(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process makes of it: imported, shown to models."""
    folder = tmp_path_factory.mktemp("alone") / "dataset"
    import_data(source, folder, overrides=["data.processes=1"])
    inspect_data(folder, overrides=["data.processes=1"])
    return folder


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others begin with the second record."""
    original = scale.map
    monkeypatch.setattr(scale, "map", lambda *a, **k: original(*a, **{**k, "patience": 0.0}))


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.usefixtures("at_once")
def test_ray_gives_the_dataset_the_facts_the_features_and_the_captions_of_one_process(
    source: Path, alone: Path, tmp_path: Path
) -> None:
    import ray

    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        import_data(source, tmp_path / "dataset", overrides=RAY)
        inspect_data(tmp_path / "dataset", overrides=RAY)
        assert files(tmp_path / "dataset") == files(alone)
        assert any(name.startswith("seen/pictures-") for name in files(alone))
        copy = shutil.copytree(alone, tmp_path / "copy")
        words = ("caption.existing=replace", "caption.batch_size=4", "caption.num_beams=1")
        caption_data(copy, overrides=[*words, "data.processes=1"])
        caption_data(tmp_path / "dataset", overrides=[*words, *RAY])
        assert files(tmp_path / "dataset") == files(copy)
    finally:
        ray.shutdown()


def test_killed_again_and_again_nothing_is_lost_and_nothing_that_was_kept_is_done_twice(
    source: Path, alone: Path, tmp_path: Path
) -> None:
    log, folder, kills = tmp_path / "log", tmp_path / "dataset", 0
    command = [sys.executable, "-c", COUNTED, str(log), str(source), str(folder)]
    for enough in (12, 30, 70, 110, None):
        process = subprocess.Popen(command, stderr=subprocess.PIPE)
        while enough and process.poll() is None and (not log.exists() or log.read_bytes().count(b"\n") < enough):
            time.sleep(0.01)
        if enough and process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        _, err = process.communicate(timeout=120)
        assert process.returncode in (0, -signal.SIGKILL), err.decode()
    assert kills >= 3 and process.returncode == 0
    made, wanted = files(folder), files(alone)
    features = [name for name in wanted if name.startswith("seen/pictures-")]
    assert {name: made.pop(name) for name in features} and {name: wanted.pop(name) for name in features}
    assert made == wanted
    rows, others = (Seen(place).rows(PICTURES) for place in (folder, alone))
    assert rows is not None and others is not None and rows.keys == others.keys
    assert abs(rows.values.astype(float) - others.values.astype(float)).max() < 2e-3  # shown in other company
    done = log.read_text().splitlines()
    # A picture in hand at a kill is read once more; a model's batch of two is logged after it was kept.
    assert len(done) - len(set(done)) <= kills
    assert not [line for line in done if not line.startswith("read") and done.count(line) > 1]


def test_memory_does_not_grow_with_the_number_of_records() -> None:
    code = """
import resource, sys
from bespoke import scale
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for _ in scale.map(range(2_000), hex, workers=scale.Workers(2), patience=0.0): pass
before = peak()
for _ in scale.map(range(400_000), hex, workers=scale.Workers(2), patience=0.0, batch=256): pass
print(peak() - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert int(done.stdout) < 4096  # KiB, or a hundredth of a byte a record


def test_a_recipe_sends_the_work_to_the_cluster(tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[scale.Workers] = []

    def noted(records, function, *, workers, **how) -> Iterator[object]:
        asked.append(workers)
        yield from map(function, records)

    monkeypatch.setattr(scale, "map", lambda *a, **k: (x for x in noted(*a, **k)))
    build(source, tmp_path / "dataset", Recipe(data=Data(backend="ray")))
    assert asked == [scale.Workers(None, "ray")] * 2, "for the pictures, and for their masks"


def test_the_commands_of_the_manual(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.5:6379")  # so little work stays here, and asks nobody
    runner = CliRunner()
    for words in (
        ("import", str(source), "my-style/dataset", "--set", "data.processes=8"),
        ("import", str(source), "another/dataset", "--set", "data.backend=ray"),
        (
            "inspect",
            "my-style/dataset",
            "--set",
            "data.backend=ray",
            "--set",
            "clean.clip=",
            "--set",
            "clean.detector=",
        ),
    ):
        done = runner.invoke(app, ["data", *words])
        assert done.exit_code == 0, done.output
    assert files(tmp_path / "my-style/dataset/train") == files(tmp_path / "another/dataset/train")


def test_two_commands_on_one_dataset_do_not_meet(source: Path, tmp_path: Path) -> None:
    dataset = tmp_path / "dataset"
    with workspace.alone(dataset), pytest.raises(BespokeError, match="Another command is working on") as caught:
        import_data(source, dataset, overrides=["data.processes=1"])
    assert "Wait until it is done" in caught.value.hint and not dataset.exists()
    import_data(source, dataset, overrides=["data.processes=1"])
    with workspace.alone(dataset), pytest.raises(BespokeError, match="Another command is working on"):
        inspect_data(dataset)
