"""Several processes give the datasets, the facts and the copies that one gives, byte for byte, and stop as one does."""

import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.data import zoo

from bespoke import scale
from bespoke.data import Copies, build, importing, inspect, load, read, shrink
from bespoke.data.known import Known
from bespoke.errors import BespokeError
from bespoke.recipe import Recipe
from bespoke.recipe.dataset import Data
from bespoke.scale import Workers

ALONE, SHARED = (Recipe(data=Data(processes=count)) for count in (1, 3))


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other processes are started for the second record, not after a second."""
    monkeypatch.setattr(scale, "map", partial(scale.map, patience=0.0, batch=2))


@pytest.fixture(scope="module")
def animals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("zoo") / "zoo"
    zoo.build(folder)
    return folder


def photos(folder: Path, count: int) -> Path:
    folder.mkdir()
    for number in range(count):
        small = np.random.default_rng(number).integers(0, 256, (6, 6, 3), dtype=np.uint8)
        Image.fromarray(small).resize((90, 60), Image.Resampling.BICUBIC).save(folder / f"{number:03}.png")
        (folder / f"{number:03}.txt").write_text(f"picture {number}")
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def children() -> set[str]:
    """The processes that this one has started and that still run, where the system says so."""
    tasks = Path(f"/proc/{os.getpid()}/task")
    return {pid for task in tasks.glob("*/children") for pid in task.read_text().split()}


@pytest.fixture(scope="module")
def alone(animals: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[tuple[int, int]]]:
    """What one process makes of the zoo, and what it told meanwhile."""
    folder, told = tmp_path_factory.mktemp("alone") / "d", list[tuple[int, int]]()
    build(animals, folder, ALONE, lambda *done: told.append(done))
    return folder, told


def test_the_zoo_comes_in_as_with_one_process(animals, alone, tmp_path):
    told: list[tuple[int, int]] = []
    build(animals, tmp_path / "d", SHARED, lambda *done: told.append(done))
    assert len(files(tmp_path / "d")) > 100
    assert files(tmp_path / "d") == files(alone[0])
    assert told == alone[1]


def test_facts_found_out_again_are_the_same_and_who_is_damaged_is_told(alone, tmp_path):
    shutil.copytree(alone[0], tmp_path / "d")
    wanted = (tmp_path / "d/facts.parquet").read_bytes()
    (tmp_path / "d/facts.parquet").unlink()
    _, inspected = inspect(tmp_path / "d", SHARED)
    assert (tmp_path / "d/facts.parquet").read_bytes() == wanted
    (tmp_path / "d/facts.parquet").unlink()
    victim = tmp_path / "d/train" / inspected[20].picture.file
    victim.write_bytes(victim.read_bytes() + b"!")
    with pytest.raises(BespokeError, match="has changed since it was imported") as caught:
        inspect(tmp_path / "d", SHARED)
    assert victim.name in caught.value.problem and "Import the same pictures again" in caught.value.hint


def test_what_is_known_is_not_decoded_again(alone, animals, tmp_path, monkeypatch):
    shutil.copytree(alone[0], tmp_path / "d")
    decoded: list[str] = []
    monkeypatch.setattr(importing, "read", lambda path, of: decoded.append(of) or read(path, of))
    build(animals, tmp_path / "d", ALONE)
    assert not set(decoded) & {picture.sha256 for picture in load(tmp_path / "d").pictures}


def test_copies_are_the_same(tmp_path):
    source = photos(tmp_path / "s", 24)
    (source / "005.png").write_bytes(b"\x89PNG\r\n\x1a\noops")
    shutil.copy(source / "007.png", source / "a copy.png")
    for count in (1, 3):
        made = shrink(source, tmp_path / str(count), Copies(40), workers=Workers(count))
        assert (made.pictures, made.left_out) == (24, {"unreadable": 1})
    assert files(tmp_path / "1") == files(tmp_path / "3")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "3").iterdir()}
    shrink(source, tmp_path / "3", Copies(40), workers=Workers(3))
    unchanged = [path.name for path, when in before.items() if path.stat().st_mtime_ns == when]
    assert len(unchanged) >= len(before) - 2  # all but the diary and the table


@pytest.mark.parametrize(
    "work", [lambda source, out, tell: build(source, out, SHARED, tell),
             lambda source, out, tell: shrink(source, out, Copies(40), workers=Workers(3), progress=tell)],
    ids=["import", "shrink"],
)  # fmt: skip
def test_an_interrupted_command_leaves_no_process_and_goes_on(tmp_path: Path, work: Callable[..., object]):
    source = photos(tmp_path / "s", 24)

    def interrupt(done: int, whole: int) -> None:
        if done == 15:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work(source, tmp_path / "d", interrupt)
    assert not children()
    assert (len(Known(tmp_path / "d").hashes()) or len(list((tmp_path / "d").glob("*.webp")))) == 15
    work(source, tmp_path / "d", None)
    work(source, tmp_path / "whole", None)
    after, whole = files(tmp_path / "d"), files(tmp_path / "whole")
    assert after == whole
