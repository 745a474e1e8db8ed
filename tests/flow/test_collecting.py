"""Pictures of the web in a dataset, by the commands that the page about data names."""

import csv
import json
import re
import shlex
import shutil
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from proofs.collecting import prove
from typer.testing import CliRunner

import bespoke
from bespoke.cli.commands import app
from tests.data.pictures_server import Web, serving
from tests.data.test_search import BingStandIn, OpenverseStandIn

ROOT = Path(__file__).parents[2]
QUICK = ("download.backoff=0.01", "download.retries=1", "download.timeout=1.0")


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Web]:
    monkeypatch.chdir(tmp_path)
    with serving() as web:
        yield web


def commands() -> list[str]:
    """The lines of the section of docs/data.md."""
    page = (ROOT / "docs" / "data.md").read_text("utf-8")
    (text,) = re.findall(r"^### From the web\n```\n(.*?)```", page, re.MULTILINE | re.DOTALL)
    return text.splitlines()


def unsplash(path: Path, web: Web, paths: list[str]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file, delimiter="\t")
        names = ("photo_id", "photo_url", "photo_image_url", "photo_description", "photographer_username")
        writer.writerow(names)
        for number, each in enumerate(paths):
            page = f"https://photos.example/{number}"
            writer.writerow((f"id{number}", page, web.url(each), f"a photo of thing {number}", "ann"))


def rows(dataset: Path) -> list[dict[str, str]]:
    with (dataset / "train/metadata.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def aside(dataset: Path) -> dict[str, str]:
    record: dict[str, Any] = json.loads((dataset / "dataset.json").read_text("utf-8"))
    return {item["source"].rpartition("/")[2]: f"{item['reason']}: {item['detail']}" for item in record["set_aside"]}


def test_the_commands_of_the_page(web: Web, tmp_path: Path) -> None:
    pytest.importorskip("icrawler")
    openverse, bing = OpenverseStandIn(web, 110), BingStandIn(web, 0)
    original = openverse.result
    openverse.result = lambda number: original(number) | {"height": 600, "width": 600}
    web.engine = lambda *question: openverse(*question) or bing(*question)
    unsplash(tmp_path / "photos.tsv", web, [f"{n}" for n in range(500, 510)])
    local = f'[download]\naddress = "{web.address}"\nprivate_addresses = "allow"\nretries = 1\nbackoff = 0.01\n'
    (tmp_path / "recipe.toml").write_text(local)
    (tmp_path / "my-style").mkdir()
    (tmp_path / "my-style/recipe.toml").write_text(local)
    by_table, new, by_words, by_licence, by_bing = (shlex.split(line)[1:] for line in commands())
    for words, said in ((by_table, "10 kept"), (new, "10 kept"), (by_words, "100 kept"), (by_licence, "kept")):
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, f"{words}\n{done.output}"
        assert said in done.stdout
    assert web.asked["/500?w=1024"] == 1
    assert openverse.asked[-1]["license"] == "by,cc0,pdm"
    assert len(rows(tmp_path / "8bit-illustration")) == 100
    assert CliRunner().invoke(app, by_bing).exit_code == 2  # the stand-in finds nothing
    assert bing.asked


def test_where_a_picture_is_from_stands_in_the_dataset(web: Web, tmp_path: Path) -> None:
    unsplash(tmp_path / "photos.tsv", web, ["1", "2", "page/3", "png/4"])
    made = bespoke.import_data("photos.tsv", "d", overrides=QUICK)
    assert [len(made.pictures), made.reasons()] == [3, {"not fetched": 1}]
    first = next(row for row in rows(tmp_path / "d") if row["photo_id"] == "id0")
    assert first == {
        "file_name": "id0.jpg", "text": "a photo of thing 0", "url": web.url("1"), "licence": "Unsplash License",
        "page": "https://photos.example/0", "author": "ann", "photo_id": "id0", "photographer_username": "ann",
    }  # fmt: skip
    assert aside(tmp_path / "d") == {"id2": f"not fetched: not a picture: holds a web page: {web.url('page/3')}"}
    assert {p.notes for p in made.pictures} == {()}
    assert {p.file for p in made.pictures} == {"id0.jpg", "id1.jpg", "id3.png"}


def test_what_failed_for_a_while_comes_in_later_and_what_is_here_stays(web: Web, tmp_path: Path) -> None:
    unsplash(tmp_path / "photos.tsv", web, ["1", "2", "once/3"])
    settings = (*QUICK[:1], "download.retries=0")
    made = bespoke.import_data("photos.tsv", "d", overrides=settings)
    assert made.reasons() == {"not fetched yet": 1}
    made = bespoke.import_data("photos.tsv", "d", overrides=settings)
    assert (len(made.pictures), made.files, made.reasons()) == (3, 3, {})
    # Without the downloads, and with a server that has nothing any more, the dataset stays as it is.
    shutil.rmtree(tmp_path / "downloads")
    web.engine = lambda path, query, headers: (404, b"", {})
    assert bespoke.import_data("photos.tsv", "d", overrides=settings) == made
    assert len(rows(tmp_path / "d")) == 3


@pytest.mark.slow
def test_a_killed_import_loses_nothing_and_fetches_nothing_twice(tmp_path: Path) -> None:
    """A short form of `python -m proofs.collecting`, which asserts on its way."""
    assert prove(210, (0.5,), tmp_path)["set_aside"]["not fetched"] == 13
