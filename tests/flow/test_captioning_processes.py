"""Several processes put pictures into the words that one puts them into, and stop and go on as one does."""

import json
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image, ImageEnhance

from bespoke import caption_data, hardware, import_data, scale
from bespoke.annotation import said_before
from bespoke.annotation.captions import TABLE
from bespoke.errors import BespokeError
from bespoke.pipeline.caption import workers_of
from bespoke.recipe import Recipe
from bespoke.recipe.dataset import Data
from bespoke.scale import Workers, processes
from tests import warm
from tests.flow import dying

PICTURES = Path(__file__).parent.parent / "annotation" / "pictures"
SETTINGS = ("caption.existing=replace", "caption.batch_size=2", "caption.top_p=0.9", "clean.set_aside=[]")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of 24 pictures, dark and light ones, all of which have words."""
    source = tmp_path_factory.mktemp("captioning") / "source"
    source.mkdir()
    for number in range(24):
        file = sorted(PICTURES.glob("*.png"))[number % 3]
        light = ImageEnhance.Brightness(Image.open(file).convert("RGB")).enhance(0.5 + number / 24)
        light.save(source / f"{number:02}.png")
        (source / f"{number:02}.txt").write_text("my own words")
    import_data(source, source.parent / "dataset", overrides=["clean.set_aside=[]"])
    return source.parent / "dataset"


@pytest.fixture(scope="module")
def alone(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same after one process has put it into words."""
    copy = shutil.copytree(dataset, tmp_path_factory.mktemp("alone") / "dataset")
    caption_data(copy, overrides=[*SETTINGS, "data.processes=1"])
    return copy


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list["subprocess.Popen[bytes]"]:
    """The processes that were started; here they are for the second batch."""
    found: list[subprocess.Popen[bytes]] = []
    original = scale.map

    class Noted(processes.Process):
        def __init__(self, function: bytes) -> None:
            super().__init__(function)
            found.append(self._process)

    monkeypatch.setattr(processes, "Process", Noted)
    monkeypatch.setattr(scale, "map", lambda *a, **k: original(*a, **{**k, "patience": 0.0}))
    return found


def said(dataset: Path) -> tuple[bytes, bytes]:
    return (dataset / TABLE).read_bytes(), (dataset / "train" / "metadata.csv").read_bytes()


def children(pid: int) -> set[int]:
    tasks = Path(f"/proc/{pid}/task")
    return {int(child) for task in tasks.glob("*/children") for child in task.read_text().split()}


def runs(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and ") Z " not in stat.read_text()


def until(condition: Callable[[], bool], seconds: float = 120.0) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


def test_two_processes_say_what_one_says(
    dataset: Path, alone: Path, tmp_path: Path, started: list["subprocess.Popen[bytes]"]
) -> None:
    copy = shutil.copytree(dataset, tmp_path / "dataset")
    told: list[tuple[int, int]] = []

    def report(stage: str, done: int, total: int, note: str = "") -> None:
        told.extend([(done, total)] if stage == "say caption" else [])

    made = caption_data(copy, overrides=[*SETTINGS, "data.processes=2"], report=report)
    assert len(started) == 2
    assert told == [(done, 24) for done in range(2, 25, 2)]
    assert said(copy) == said(alone)
    assert made.pictures == 24
    assert len({picture.text for picture in made.dataset.pictures}) > 3, "of three motifs, drawn anew for each picture"
    assert not any(runs(process.pid) for process in started)


def test_tags_are_the_same_too_and_only_what_is_not_said_yet_starts_processes(
    alone: Path, tmp_path: Path, started: list["subprocess.Popen[bytes]"]
) -> None:
    tags = ("caption.tags=['things']", "caption.least_score=0.3")
    for count in (1, 2):
        copy = shutil.copytree(alone, tmp_path / str(count) / "dataset")
        caption_data(copy, overrides=[*SETTINGS, *tags, f"data.processes={count}"])
    assert len(started) == 2
    assert said(tmp_path / "1" / "dataset") == said(tmp_path / "2" / "dataset") != said(alone)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="the system does not say who started whom")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_kill_loses_nothing_that_was_said(how: signal.Signals, dataset: Path, alone: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(dataset, tmp_path / "dataset")
    process = warm.Process(dying.caption, str(copy), (*SETTINGS, "data.processes=2"), log=tmp_path / "log.txt")
    assert until(lambda: len(said_before(copy)) >= 4 or process.poll() is not None)
    workers = children(process.pid)
    process.send_signal(how)
    assert process.wait() != 0
    assert len(workers) == 2 and until(lambda: not any(runs(pid) for pid in workers))
    held = (copy / TABLE).read_bytes()
    before = said_before(copy)
    assert 4 <= len(before) < 24
    caption_data(copy, overrides=[*SETTINGS, "data.processes=1"])
    assert said(copy)[0].startswith(held[: held.rfind(b"\n") + 1])
    assert set(Counter(one.sha256 for one in said_before(copy)).values()) == {1}
    assert said(copy) == said(alone)


def test_a_picture_that_is_gone_is_told_and_what_was_said_before_is_kept(
    dataset: Path, tmp_path: Path, started: list["subprocess.Popen[bytes]"], monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = shutil.copytree(dataset, tmp_path / "dataset")
    checked = json.loads((copy / "dataset.json").read_text("utf-8"))
    victim = sorted(picture["file"] for picture in checked["pictures"])[20]
    # The dataset is checked before captions are asked for: this picture goes in between.
    original = scale.map
    monkeypatch.setattr(scale, "map", lambda *a, **k: (copy / "train" / victim).unlink() or original(*a, **k))
    with pytest.raises(BespokeError, match=f"{victim} cannot be read") as caught:
        caption_data(copy, overrides=[*SETTINGS, "data.processes=2"])
    assert "Import the same pictures again" in caught.value.hint
    assert len(started) == 2
    assert len(said_before(copy)) == 20


def test_who_tells_in_how_many_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, left_out = (Recipe(data=Data(processes=count)) for count in (3, None))
    assert workers_of(asked, "pico-BLIP", "cpu") == Workers(3)
    assert workers_of(asked, "pico-BLIP", "cuda") == workers_of(asked, "pico-BLIP", "mps") == Workers(1)
    assert workers_of(asked, "http://localhost:8000/v1#some", "cpu") == Workers(1)
    monkeypatch.setattr(hardware, "cores", lambda: 4)
    monkeypatch.setattr(hardware, "_memory_gb", lambda: 64.0)
    assert workers_of(left_out, "pico-BLIP", "cpu") == Workers(4)
    monkeypatch.setattr(hardware, "_memory_gb", lambda: 6.5)
    assert workers_of(left_out, "pico-BLIP", "cpu") == Workers(3)
    on_ray = Recipe(data=Data(backend="ray"))
    assert workers_of(on_ray, "pico-BLIP", "cpu") == Workers(None, "ray")
    assert hardware.processes(2.0) == 1
