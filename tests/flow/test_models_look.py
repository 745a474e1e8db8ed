"""What models say about a dataset, as a person meets it: inspect, clean, the report; asked once, never downloaded."""

import csv
import json
import shutil
import sys
from functools import cache
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

import bespoke
from bespoke.cli.commands import app
from bespoke.errors import BespokeError
from bespoke.pipeline import seeing
from bespoke.pipeline.describe import report_data
from tests.page.test_report import Page

EXAMPLE = Path(__file__).parents[2] / "examples" / "8bit" / "train"
COUNT = 45
WRONG, COPY, FOREIGN = "010-crab.png", "shot-again.png", "020-eggplant.png"
GERMAN = "eine lila Aubergine liegt auf einem schwarzen Tisch"


def run(folder: Path, *arguments: str) -> dict[str, object]:
    """What a command about the dataset printed as JSON."""
    done = CliRunner().invoke(app, ["data", arguments[0], str(folder), "--json", *arguments[1:]])
    assert done.exit_code == 0, done.output + done.stderr
    return json.loads(done.stdout)


def found(content: dict[str, object], rule: str) -> list[str]:
    """The files that a rule finds fault with."""
    return [item["file"] for item in content["pictures"] if rule in item["rules"]]  # pyright: ignore[reportGeneralTypeIssues]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of the example, one with another's caption, one twice but brighter, one in German."""
    source = tmp_path_factory.mktemp("models") / "source"
    source.mkdir()
    with (EXAMPLE / "metadata.csv").open(encoding="utf-8", newline="") as table:
        rows = [(row["file_name"], row["text"]) for row in csv.DictReader(table)][:COUNT]
    texts = dict(rows) | {WRONG: "8bit illustration of a castle on an orange background", FOREIGN: GERMAN}
    for name in texts:
        shutil.copy(EXAMPLE / name, source / name)
    with Image.open(EXAMPLE / "003-pig.png") as image:
        image.convert("RGB").point(lambda level: min(255, round(level * 1.06))).save(source / COPY)
    texts[COPY] = texts["003-pig.png"]
    lines = "".join(f'{name},"{text}"\n' for name, text in texts.items())
    (source / "metadata.csv").write_text(f"file_name,text\n{lines}", encoding="utf-8")
    bespoke.import_data(source, source.parent / "dataset")
    return source.parent


@pytest.fixture(scope="module")
def inspected(made: Path) -> dict[str, object]:
    assert not (made / "dataset" / "seen").exists(), "an import asks no model"
    return run(made / "dataset", "inspect")


@pytest.fixture
def dataset(made: Path, inspected: dict[str, object], tmp_path: Path) -> Path:
    """A copy that models have looked at."""
    shutil.copytree(made / "dataset", tmp_path / "dataset")
    return tmp_path / "dataset"


def test_inspect_finds_what_is_wrong_and_nothing_else(inspected: dict[str, object]) -> None:
    assert inspected["models"] == {"clip": "pico-CLIP", "safety_checker": "pico"}
    assert found(inspected, "does not fit its caption") == [WRONG, FOREIGN]
    assert found(inspected, "other language") == [FOREIGN]
    assert set(found(inspected, "similar")) < {"003-pig.png", COPY}
    assert len(found(inspected, "similar")) == 1
    rules = {"does not fit its caption", "other language", "similar"}
    assert set(inspected["findings"]) == rules  # pyright: ignore[reportArgumentType]
    assert inspected["set_aside"] == {}


def test_what_models_said_is_not_asked_again(dataset: Path, inspected, monkeypatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("a model was read although all is known")

    monkeypatch.setattr(seeing, "_make", cache(never))
    before = {path: path.read_bytes() for path in dataset.rglob("*") if path.is_file()}
    again = run(dataset, "inspect")
    assert {key: again[key] for key in ("findings", "pictures")} == {k: inspected[k] for k in ("findings", "pictures")}
    assert {path: path.read_bytes() for path in dataset.rglob("*") if path.is_file()} == before
    with pytest.raises(AssertionError):
        bespoke.inspect_data(dataset, overrides=["clean.writing_labels=['dice']"])


def test_clean_and_import_and_split_heed_what_was_said(dataset: Path, made: Path) -> None:
    settings = ["clean.set_aside=['similar', 'does not fit its caption']"]
    assert bespoke.clean_data(dataset, overrides=settings).reasons() == {"does not fit its caption": 2, "similar": 1}
    again = bespoke.import_data(made / "source", dataset, overrides=settings)
    assert again.reasons() == {"does not fit its caption": 2, "similar": 1}, "no picture comes back by importing again"
    kept = bespoke.clean_data(dataset)
    assert not kept.set_aside
    sides = {picture.file: picture.split for picture in kept.pictures}
    assert sides[COPY] == sides["003-pig.png"], "what looks the same stays on one side"


def test_an_edited_caption_is_looked_at_anew(dataset: Path) -> None:
    table = dataset / "train/metadata.csv"
    text = table.read_text(encoding="utf-8").replace(GERMAN, "8bit illustration of an eggplant on a black background")
    table.write_text(text, encoding="utf-8")
    assert found(run(dataset, "inspect"), "does not fit its caption") == [WRONG]


def test_models_can_be_left_out_or_named_and_a_wrong_name_is_told(dataset: Path) -> None:
    left_out = bespoke.inspect_data(dataset, overrides=["clean.clip=", "clean.safety_checker="])
    assert left_out.asked.models == {}
    assert set(left_out.findings) == {"other language"}
    labels = "clean.writing_labels=['frog', 'pineapple']"
    named = bespoke.inspect_data(dataset, overrides=[labels, "clean.clip="])
    assert named.asked.models == {"safety_checker": "pico", "detector": "pico-YOLOS"}
    marked = [item.picture.file for item in named.pictures if "writing" in item.rules]
    assert marked == ["007-frog.png", "018-pineapple.png"]
    with pytest.raises(BespokeError, match="nobody/has-this"):
        bespoke.inspect_data(dataset, overrides=["clean.clip=nobody/has-this"])


def test_for_another_base_nothing_is_downloaded_and_that_is_said(dataset: Path, monkeypatch) -> None:
    monkeypatch.setattr(seeing, "_make", cache(lambda *_: pytest.fail("a model was read")))
    content = run(dataset, "inspect", "--set", "model.base=nobody/has-this")
    assert content["models"] == {}
    assert [sentence.split(":")[0] for sentence in content["absent"]] == [  # pyright: ignore[reportGeneralTypeIssues]
        "Not known is how pictures fit their captions, which are unlike the others, which are similar",
        "Not known is what is unsafe",
    ]
    assert set(content["findings"]) == {"other language"}  # pyright: ignore[reportArgumentType]


def test_a_picture_that_changed_is_told(dataset: Path) -> None:
    shutil.rmtree(dataset / "seen")
    shutil.copy(dataset / "train/001-fox.png", dataset / "train/002-zebra.png")
    with pytest.raises(BespokeError, match="has changed since it was imported"):
        bespoke.inspect_data(dataset)
    (dataset / "train/002-zebra.png").unlink()
    with pytest.raises(BespokeError, match="cannot be read any more"):
        bespoke.inspect_data(dataset)


def test_the_report_shows_who_stands_out(dataset: Path) -> None:
    told = report_data(dataset)
    page = Page(told.report.read_text(encoding="utf-8"))
    for words in ("What models see", "Agreement with the caption", "Distance from the others", "pico-CLIP (CLIP)"):
        assert words in page.text
    worst = page.text.split("Agree least with their captions")[1].split("Farthest from the others")[0]
    assert WRONG in worst
    assert FOREIGN in worst
    findings = {each.finding for each in told.advice}
    assert f"2 of {COUNT + 1} pictures have a caption that another picture fits better." in findings


def test_looking_again_loads_no_networks(dataset: Path) -> None:
    """The models' libraries are slow to load: where all is known they are not needed."""
    code = f"""
import sys, bespoke
bespoke.inspect_data({str(dataset)!r})
print(sorted({{"transformers", "diffusers"}} & set(sys.modules)))
"""
    import subprocess

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
