"""From served pictures to a dataset and out of it again, by the commands of docs/feedback.md, in their order."""

import io
import json
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.feedback.conftest import database
from typer.testing import CliRunner

from bespoke.cli.commands import app
from bespoke.feedback import Opinion, Sample, Store

ROOT = Path(__file__).parents[2]


def picture(number: int) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "png")
    return content.getvalue()


def told(*command: str, code: int = 0) -> Any:
    """What a command says as JSON."""
    done = CliRunner().invoke(app, [*command, "--json"])
    assert done.exit_code == code, done.output
    return json.loads(done.stdout) if code == 0 else " ".join(done.stderr.split())


def words(*command: str) -> str:
    done = CliRunner().invoke(app, list(command))
    assert done.exit_code == 0, done.output
    return done.stdout


def commands() -> list[list[str]]:
    """The lines of the first block of the page."""
    page = (ROOT / "docs" / "feedback.md").read_text("utf-8")
    block = re.search(r"```\n(.*?)```", page, re.DOTALL)
    assert block
    return [shlex.split(line) for line in block[1].splitlines()]


def fill(store: Store) -> None:
    """Ten served pictures: most are liked with consent, one has a better caption, one was flagged."""
    for number in range(10):
        store.add(
            Sample(f"p{number}", f"my-style@{1 + number % 2}", f"8bit illustration of thing {number}", owner="app"),
            picture(number),
        )
        if number < 8:
            store.say(Opinion("thumb", f"p{number}", f"rater-{number % 2}", "up", consent=True, licence="CC-BY-4.0"))
    store.say(Opinion("caption", "p0", "rater-0", words="8bit illustration of a fox", consent=True, licence="CC0-1.0"))
    store.say(Opinion("flag", "p1", "rater-1", "copy", words="of my work"))
    store.say(Opinion("choice", "p2", "rater-0", "first", other="p3"))


@pytest.fixture(params=["sqlite", "postgresql"])
def project(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with feedback, in which commands are given."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipe.toml").write_text('[model]\nbase = "pico"\n')
    address = ""
    if request.param == "postgresql":
        address = database(request.getfixturevalue("postgres"))
        monkeypatch.setenv("BESPOKE_FEEDBACK", address)
    with Store(address or tmp_path) as store:
        fill(store)
    return tmp_path


def test_the_commands_of_the_page(project: Path) -> None:
    listing, rating, waiting, deciding, taking, inspecting, keeping, one, person, key = commands()
    counts = told(*listing[1:], "--most", "3")
    assert counts["samples"] == 10 and counts["opinions"] == {"caption": 1, "choice": 1, "flag": 1, "thumb": 8}
    assert [each["id"] for each in counts["pictures"]] == ["p9", "p8", "p7"]
    assert "rater-1: thumb up" in words(*listing[1:])

    first, second = told(*rating[1:])["versions"]
    assert (first["model"], first["liked"]["hits"], second["complained"]["hits"]) == ("my-style@1", 4, 1)
    assert "liked    100.0% (51.0% to 100.0%) of 4 thumbs, by 1 people" in words(*rating[1:])
    assert "my-style@1 against my-style@2: 100% (21% to 100%) of 1; preferred: open" in words(*rating[1:])

    open_ones = told(*waiting[1:])["open"]
    assert [each["sample"]["id"] for each in open_ones] == ["p0", "p2", "p3", "p4", "p5", "p6", "p7"]
    assert Path(open_ones[0]["file"]).read_bytes() == picture(0)
    assert "caption  8bit illustration of a fox" in words(*waiting[1:])
    assert deciding[-4::2] == ["--accept", "--decline"]
    chosen = [word for name in ("p0", "p2", "p3", "p4", "p5", "p6") for word in ("--accept", name)]
    assert told(*deciding[1:3], *chosen, "--decline", "p7") | {"store": ""} == {
        "store": "", "accepted": 6, "declined": 1, "open": [],
    }  # fmt: skip

    made = told(*taking[1:])
    assert (made["kept"], made["set_aside"], made["generated"]) == (6, {}, 1.0)
    record = json.loads((project / "dataset" / "dataset.json").read_text("utf-8"))
    by_sample = {each["labels"]["sample"]: each for each in record["pictures"]}
    assert by_sample["p0"]["text"] == "8bit illustration of a fox" and by_sample["p0"]["labels"]["licence"] == "CC0-1.0"
    assert by_sample["p3"]["labels"]["generated_by"] == "my-style@2"
    assert by_sample["p3"]["source"].startswith("feedback:feedback.db/p3-")
    assert "models that learn from themselves get worse" in words(*taking[1:]), "importing again changes nothing"
    assert told(*inspecting[1:])["kept"] == 6

    assert told(*keeping[1:])["deleted"] == 0
    run = project / "runs" / "20261129-120000" / "begun"
    run.mkdir(parents=True)
    (run / "dataset.json").write_bytes((project / "dataset" / "dataset.json").read_bytes())
    gone = told(*one[1:-1], "p3")
    assert gone["samples"] == ["p3"] and len(gone["opinions"]) == 2
    name = by_sample["p3"]["file"]
    assert [each["file"] for each in gone["left_over"]] == [name, name]
    assert {each["record"] for each in gone["left_over"]} == {
        "dataset/dataset.json", "runs/20261129-120000/begun/dataset.json",
    }  # fmt: skip
    assert person[3:] == ["--rater", "NAME", "--dataset", "dataset"]
    left = told(*person[1:4], "rater-0", *person[5:])["left_over"]
    allowed = {by_sample[each]["file"] for each in ("p0", "p2", "p4", "p6")}
    assert {each["file"] for each in left} == allowed
    assert told(*waiting[1:])["accepted"] == 1
    assert told(*key[1:-1], "app")["samples"] == ["p0", "p1", "p2", "p4", "p5", "p6", "p7", "p8", "p9"]
    assert not [file for file in (project / "samples").rglob("*") if file.is_file()]
    assert "rests" not in told(*key[1:-1], "app", code=2) and told(*listing[1:])["samples"] == 0


def test_accepted_pictures_join_others_and_are_told_apart(project: Path) -> None:
    source = project / "photos"
    source.mkdir()
    for number in range(20, 40):
        (source / f"{number}.png").write_bytes(picture(number))
        (source / f"{number}.txt").write_text(f"a photo of thing {number}")
    told("data", "import", "photos", "mixed")
    assert "No picture is accepted" in told("data", "import", "feedback:", "mixed", code=2)
    told("feedback", "review", "--accept", "p2", "--accept", "p4")
    made = told("data", "import", "feedback:", "mixed")
    assert made["kept"] == 22 and 0 < made["generated"] <= 2 / 15
    with Store() as store:
        said = next(one for one in store.opinions(sample="p2") if one.kind == "thumb")
        store.withdraw(said.id, said.rater)
    (left,) = told("feedback", "list")["left_over"]
    assert left["file"].startswith("p2-") and left["record"] == "mixed/dataset.json"
    assert "1 pictures of datasets and runs rest on what was deleted or taken back" in words("feedback", "list")
    shown = told("data", "report", "mixed")["advice"]
    assert any("drawn by a model of ours" in each["finding"] for each in shown)


def test_what_cannot_be_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "no feedback here" in told("feedback", "ratings", code=2)
    assert "no feedback here" in told("data", "import", "feedback:", "dataset", code=2)
    Store(tmp_path).close()
    assert "No limit is named" in told("feedback", "keep", code=2)
    assert "one at a time" in told("feedback", "forget", code=2)
    assert "nothing of Ann" in told("feedback", "forget", "--rater", "Ann", code=2)
    assert "no feedback at" in told("feedback", "list", "--feedback", "elsewhere.db", code=2)
    assert not (tmp_path / "elsewhere.db").exists()
    assert words("feedback", "ratings") == "Nobody has said anything yet.\n"
