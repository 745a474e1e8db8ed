"""`bespoke data caption` as a person uses it: pictures without words become a dataset that trains."""

import csv
import json
import shutil
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from bespoke.cli.commands import app

SOURCE = Path(__file__).parent.parent / "annotation" / "pictures"


def run(*arguments: str) -> dict[str, object]:
    """What a command printed as JSON."""
    done = CliRunner().invoke(app, [*arguments, "--json"])
    assert done.exit_code == 0, done.output + done.stderr
    return json.loads(done.stdout)


def captions(dataset: Path) -> dict[str, str]:
    """The captions that training would read."""
    with (dataset / "train" / "metadata.csv").open(encoding="utf-8", newline="") as file:
        return {row["file_name"]: row["text"] for row in csv.DictReader(file)}


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A dataset of three pictures, of which only the one of a fox has words."""
    source = tmp_path / "source"
    source.mkdir()
    for number, path in enumerate(sorted(SOURCE.glob("*.png"))):
        shutil.copy(path, source / f"{number}.png")
    (source / "0.txt").write_text("my own words")
    made = run("data", "import", str(source), str(tmp_path / "dataset"))
    assert made["set_aside"] == {"no caption": 2}
    return tmp_path / "dataset"


SEEN = {
    "0.png": "a fox on a red background",
    "1.png": "a penguin left of a guitar in the snow",
    "2.png": "a rocket above a pizza on a white background",
}


def test_pictures_without_words_are_taken_in_and_the_others_left_alone(dataset: Path) -> None:
    done = run("data", "caption", str(dataset))
    assert (done["captioned"], done["kept"], done["set_aside"]) == (2, 3, {})
    assert captions(dataset) == {**SEEN, "0.png": "my own words"}
    assert run("data", "caption", str(dataset))["captioned"] == 0
    assert captions(dataset) == {**SEEN, "0.png": "my own words"}


def test_captions_are_replaced_or_extended_once(dataset: Path) -> None:
    run("data", "caption", str(dataset), "--set", "caption.existing=extend")
    extended = {**SEEN, "0.png": "my own words, a fox on a red background"}
    assert captions(dataset) == extended
    run("data", "caption", str(dataset), "--set", "caption.existing=extend")
    assert captions(dataset) == extended
    run("data", "caption", str(dataset), "--set", "caption.existing=replace", "--set", "caption.prefix=8bit picture of",
        "--set", "caption.suffix=at home")  # fmt: skip
    assert captions(dataset) == {name: f"8bit picture of {text} at home" for name, text in SEEN.items()}
    with (dataset / "captions.csv").open(encoding="utf-8", newline="") as file:
        assert {row["file_name"]: row["text"] for row in csv.DictReader(file)} == SEEN


def test_a_preview_shows_pictures_and_writes_no_caption(dataset: Path) -> None:
    before = captions(dataset)
    page = Path(str(run("data", "caption", str(dataset), "--preview", "2")["preview"]))
    html = page.read_text(encoding="utf-8")
    assert html.count("data:image/") == 2
    assert "--set caption.top_p=0.9" in html
    assert sum(text in html for text in SEEN.values()) == 2
    assert captions(dataset) == before
    assert not (dataset / "captions.csv").exists()


def test_categories_of_ones_own_list_become_tags(dataset: Path) -> None:
    (dataset.parent / "categories.txt").write_text("animal > fox\nvehicle > rocket\nanimal > penguin\n# plant > rose\n")
    run("data", "caption", str(dataset), "--set", "caption.tags=['categories']",
        "--set", "caption.categories=categories.txt", "--set", "caption.existing=replace")  # fmt: skip
    assert captions(dataset)["0.png"] == f"{SEEN['0.png']}, animal, fox"


def test_things_that_the_detector_finds_become_tags(dataset: Path) -> None:
    run("data", "caption", str(dataset), "--set", "caption.tags=['things']", "--set", "caption.existing=replace",
        "--set", "caption.least_score=0.3")  # fmt: skip
    assert captions(dataset)["0.png"] == f"{SEEN['0.png']}, fox"


def test_the_column_of_tags_comes_after_the_caption_in_the_order_asked_for(dataset: Path) -> None:
    table = dataset / "train" / "metadata.csv"
    run("data", "caption", str(dataset))
    text = table.read_text(encoding="utf-8").splitlines()
    rows = [line + (',"animal > fox, (red ground:1.2)"' if line.startswith("0.png") else ",") for line in text[1:]]
    table.write_text("\n".join([f"{text[0]},tags", *rows]), encoding="utf-8")
    run("data", "caption", str(dataset), "--set", "caption.tags=['things', 'column']",
        "--set", "caption.existing=replace", "--set", "caption.least_score=0.3")  # fmt: skip
    found = captions(dataset)
    assert found["0.png"] == f"{SEEN['0.png']}, fox, animal, fox, (red ground:1.2)"
    assert found["1.png"].startswith(SEEN["1.png"])
    assert not found["1.png"].endswith(",")


def test_a_folder_without_any_words_becomes_a_dataset(tmp_path: Path) -> None:
    shutil.copytree(SOURCE, tmp_path / "bare")
    for number, path in enumerate((tmp_path / "bare").iterdir()):
        path.rename(path.with_name(f"{number}.png"))
    made = run("data", "import", str(tmp_path / "bare"), str(tmp_path / "dataset"))
    assert (made["kept"], made["set_aside"]) == (0, {"no caption": 3})
    assert run("data", "caption", str(tmp_path / "dataset"))["kept"] == 3
    made = run("new", str(tmp_path / "project"), "--images", str(tmp_path / "bare"), "--caption")
    assert (made["kept"], made["set_aside"]) == (3, {})
    assert (tmp_path / "project" / "recipe.toml").exists()


def test_what_cannot_be_used_is_told(dataset: Path) -> None:
    for settings, said in (
        (["caption.model=nobody/knows-this"], "gives no captioner"),
        (["caption.tags=['categories']"], "need the categories"),
        (["caption.tags=['categories']", "caption.categories=nowhere.txt"], "nowhere.txt cannot be read"),
        (["caption.tags=['things']", "caption.detector=nobody/knows-this"], "gives no detector"),
    ):
        arguments = [part for setting in settings for part in ("--set", setting)]
        done = CliRunner().invoke(app, ["data", "caption", str(dataset), *arguments])
        assert done.exit_code == 2, done.output + done.stderr
        assert said in " ".join((done.output + done.stderr).split())
    assert captions(dataset) == {"0.png": "my own words"}


def test_a_picture_that_is_gone_is_told_and_what_was_said_is_kept(dataset: Path) -> None:
    (dataset / "set-aside" / "2.png").unlink()
    done = CliRunner().invoke(app, ["data", "caption", str(dataset), "--set", "caption.batch_size=1"])
    assert done.exit_code == 2, done.output + done.stderr
    assert "2.png cannot be read" in " ".join((done.output + done.stderr).split())
    assert SEEN["1.png"] in (dataset / "captions.csv").read_text(encoding="utf-8")
    assert captions(dataset) == {"0.png": "my own words"}


def test_pictures_are_not_changed(dataset: Path) -> None:
    run("data", "caption", str(dataset))
    for number, path in enumerate(sorted(SOURCE.glob("*.png"))):
        assert Image.open(dataset / "train" / f"{number}.png").tobytes() == Image.open(path).tobytes()
