"""Search engines, as far as their interfaces are known: neither Openverse nor Bing itself was ever asked."""

import json
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from tests.data.pictures_server import Web, serving
from typer.testing import CliRunner

import bespoke
from bespoke.cli.commands import app
from bespoke.data.intake.links import Links
from bespoke.data.intake.search import Bing, Openverse, engine_of, write
from bespoke.errors import BespokeError
from bespoke.recipe.dataset import Download

QUICK = {"backoff": 0.01, "retries": 2, "timeout": 2.0, "longest_wait": 2.0}


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Generator[Web]:
    monkeypatch.delenv("OPENVERSE_TOKEN", raising=False)
    with serving() as web:
        yield web


class OpenverseStandIn:
    """Answers as api.openverse.org does: by its serializers, page_size above 20 without a token is 401."""

    def __init__(self, web: Web, count: int, broken: tuple[int, ...] = ()) -> None:
        self.web, self.count, self.broken = web, count, broken
        self.asked = list[dict[str, str]]()
        self.tokens = list[str]()
        self.refusals = list[tuple[int, dict[str, str]]]()

    def __call__(
        self, path: str, query: dict[str, str], headers: dict[str, str]
    ) -> tuple[int, bytes, dict[str, str]] | None:
        if path != "/v1/images/":
            return None
        self.asked.append(query)
        self.tokens.append(headers.get("Authorization", ""))
        if self.refusals:
            status, more = self.refusals.pop(0)
            return status, b'{"detail": "Request was throttled."}', more
        size, page = int(query["page_size"]), int(query["page"])
        if size > 20 or page > 20:
            return 401 if size > 20 else 400, b'{"detail": "no"}', {}
        numbers = range((page - 1) * size, min(page * size, self.count))
        pages = min(20, -(-self.count // size))
        content = {"result_count": self.count, "page_count": pages, "page_size": size, "page": page,
                   "results": [self.result(number) for number in numbers]}  # fmt: skip
        return 200, json.dumps(content).encode(), {}

    def result(self, number: int) -> dict[str, Any]:
        broken = number in self.broken
        return {
            "id": f"id-{number}", "title": [f"Knight {number}.png", "IMG_1234.JPG", None][number % 3],
            "indexed_on": "2024-01-01T00:00:00Z", "foreign_landing_url": f"https://pages.example/{number}",
            "url": self.web.url(f"gone/{number}" if broken else f"{number}"), "creator": f"Ann {number}",
            "creator_url": None, "license": ["by-sa", "cc0", "pdm"][number % 3], "license_version": "2.0",
            "license_url": "https://creativecommons.org/licenses/by-sa/2.0/", "provider": "flickr", "source": "flickr",
            "category": None, "filesize": None, "filetype": "jpg", "attribution": f"Knight {number} by Ann",
            "tags": [{"name": "pixel art", "accuracy": None}, {"name": "knight", "accuracy": None}] if number % 3 < 2
            else [], "fields_matched": ["title"], "mature": False, "height": 30 + number, "width": 400,
        }  # fmt: skip


def openverse(web: Web, **settings: Any) -> Openverse:
    engine = engine_of(Download(**QUICK | {"address": web.address} | settings))
    assert isinstance(engine, Openverse)
    return engine


def test_openverse_gives_pictures_with_licence_author_and_page(web: Web) -> None:
    web.engine = stand_in = OpenverseStandIn(web, 100)
    found = list(openverse(web).find("8bit illustration", 45))
    assert [link.url for link in found] == [web.url(f"{n}") for n in range(45)]
    assert [query["page"] for query in stand_in.asked] == ["1", "2", "3"]
    assert all((q["q"], q["page_size"]) == ("8bit illustration", "20") for q in stand_in.asked)
    assert all("license" not in query and "license_type" not in query for query in stand_in.asked)
    assert [link.text for link in found[:3]] == ["Knight 0.png", "pixel art, knight", "8bit illustration"]
    assert found[0].marks.labels == {
        "url": web.url("0"), "page": "https://pages.example/0", "author": "Ann 0", "licence": "CC BY-SA 2.0",
        "licence_url": "https://creativecommons.org/licenses/by-sa/2.0/", "attribution": "Knight 0 by Ann",
        "title": "Knight 0.png", "tags": "pixel art, knight", "engine": "openverse",
    }  # fmt: skip
    assert [link.marks.labels["licence"] for link in found[1:3]] == ["CC0 2.0", "Public Domain Mark 2.0"]


def test_openverse_is_not_asked_beyond_its_last_page(web: Web) -> None:
    web.engine = stand_in = OpenverseStandIn(web, 33)
    assert len(list(openverse(web).find("x", 500))) == 33
    web.engine = stand_in = OpenverseStandIn(web, 5000)
    assert len(list(openverse(web).find("x", 5000))) == 400
    assert len(stand_in.asked) == 20


def test_licences_and_sizes_that_are_wanted(web: Web) -> None:
    web.engine = stand_in = OpenverseStandIn(web, 40)
    wanted = ("CC0", "by", "commercial", "modification")
    found = list(openverse(web, licences=wanted, minimum_side=50).find("x", 100))
    assert (stand_in.asked[0]["license"], stand_in.asked[0]["license_type"]) == ("by,cc0", "commercial,modification")
    assert [link.url for link in found] == [web.url(f"{n}") for n in range(20, 40)]
    with pytest.raises(BespokeError, match="knows no licence mit"):
        openverse(web, licences=("mit",))


def test_a_throttled_question_is_asked_again_and_a_refused_one_is_explained(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENVERSE_TOKEN", "abc")
    web.engine = stand_in = OpenverseStandIn(web, 5)
    stand_in.refusals = [(429, {"Retry-After": "1"}), (503, {})]
    assert len(list(openverse(web).find("x", 5))) == 5
    assert stand_in.tokens == ["Bearer abc"] * 3
    for status, headers, asked in ((401, {}, 1), (429, {"Retry-After": "86400"}, 1), (500, {}, 3)):
        stand_in.asked.clear()
        stand_in.refusals = [(status, headers)] * 3
        with pytest.raises(BespokeError, match=f"answers {status}") as caught:
            list(openverse(web).find("x", 5))
        assert "OPENVERSE_TOKEN" in caught.value.hint
        assert len(stand_in.asked) == asked


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"results": [{}], "page_count": 1}', b'{"results": 3}'])
def test_what_is_no_openverse_is_told(web: Web, body: bytes) -> None:
    web.engine = lambda path, query, headers: (200, body, {})
    with pytest.raises(BespokeError, match="Openverse answers"):
        list(openverse(web).find("x", 5))


class BingStandIn:
    """Pages such as icrawler's parser reads: divisions of class imgpt, whose link holds JSON."""

    def __init__(self, web: Web, count: int) -> None:
        self.web, self.count, self.asked = web, count, list[dict[str, str]]()

    def __call__(
        self, path: str, query: dict[str, str], headers: dict[str, str]
    ) -> tuple[int, bytes, dict[str, str]] | None:
        if path != "/images/async":
            return None
        self.asked.append(query)
        first = int(query["first"])
        urls = [self.web.url(f"{n}.jpg") for n in range(first, min(first + 20, self.count))]
        told = ("{&quot;murl&quot;:&quot;" + url + "&quot;}" for url in urls)
        divisions = "".join(f'<div class="imgpt"><a m="{each}">x</a></div>' for each in told)
        return 200, f"<html><body>{divisions}</body></html>".encode(), {}


def test_bing_is_asked_and_read_as_icrawler_does(web: Web) -> None:
    pytest.importorskip("icrawler")
    web.engine = stand_in = BingStandIn(web, 50)
    settings = {"engine": "bing", "address": web.address, "licences": ("commercial",), "minimum_side": 64}
    engine = engine_of(Download(**QUICK | settings))
    assert isinstance(engine, Bing)
    found = list(engine.find("cats & dogs", 100))
    assert [link.url for link in found] == [web.url(f"{n}.jpg") for n in range(50)]
    assert {link.text for link in found} == {"cats & dogs"}
    assert {link.marks.labels["licence"] for link in found} == {"unknown"}
    assert [query["first"] for query in stand_in.asked] == ["0", "20", "40", "60"]
    assert all(query["q"] == "cats & dogs" for query in stand_in.asked)
    assert "licenseType" in stand_in.asked[0]["qft"] or "license-L2" in stand_in.asked[0]["qft"]
    assert "imagesize-custom_64_64" in stand_in.asked[0]["qft"]
    with pytest.raises(BespokeError, match="does not tell licences apart"):
        engine_of(Download(engine="bing", licences=("cc0",)))


def test_a_table_of_what_was_found_says_the_same_again(web: Web, tmp_path: Path) -> None:
    web.engine = OpenverseStandIn(web, 10)
    found = list(openverse(web).find("x", 10))
    write(tmp_path / "found.jsonl", found)
    again = list(Links(tmp_path / "found.jsonl"))
    assert [(link.url, link.text, link.marks) for link in again] == [
        (link.url, link.text, link.marks) for link in found
    ]


def collected(web: Web, *words: str) -> dict[str, Any]:
    """What the command says, typed with the settings that a stand-in on this machine needs."""
    local = ("address=" + web.address, "private_addresses=allow", "backoff=0.01", "retries=1")
    more = [part for setting in local for part in ("--set", f"download.{setting}")]
    done = CliRunner().invoke(app, ["data", "collect", *words, *more, "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_words_become_a_checked_dataset(web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    web.engine = stand_in = OpenverseStandIn(web, 60, broken=(3, 5))
    web.robots = b"User-agent: *\nDisallow: /7\n"
    done = collected(web, "8bit illustration", "--count", "20")
    # In place of three that are not to be had the engine is asked for three more.
    assert done == {
        "dataset": "8bit-illustration", "table": "downloads/8bit-illustration-openverse.jsonl",
        "files": 23, "kept": 20, "set_aside": {"not fetched": 3}, "generated": 0.0,
    }  # fmt: skip
    lines = (tmp_path / "8bit-illustration/train/metadata.csv").read_text().splitlines()
    columns = {"file_name", "text", "url", "page", "author", "licence", "licence_url", "attribution", "title", "tags"}
    assert set(lines[0].split(",")) == columns | {"engine"}
    assert any(",Ann 0,CC BY-SA 2.0," in line for line in lines)
    assert len(lines) == 21
    record = json.loads((tmp_path / "8bit-illustration/dataset.json").read_text())
    why = {item["detail"].split(":")[0] for item in record["set_aside"]}
    assert why == {"410 Gone", "robots.txt forbids it"}
    # The same again asks neither the engine nor for any picture.
    before, asked = web.asked.copy(), len(stand_in.asked)
    again = collected(web, "8bit illustration", "--count", "20")
    assert again == done
    assert len(stand_in.asked) == asked
    assert set((web.asked - before).keys()) <= {"/robots.txt"}


def test_other_words_are_another_search(web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    web.engine = stand_in = OpenverseStandIn(web, 20)
    tables = [collected(web, words, "--count", "4")["table"] for words in ("c", "c++", "c  ", "像" * 100, "像" * 99)]
    assert tables[0] == tables[2] == "downloads/c-openverse.jsonl"
    assert len(set(tables)) == 4
    assert [query["q"] for query in stand_in.asked] == ["c", "c++", "像" * 100, "像" * 99]


def test_nothing_found_and_nothing_asked_are_explained(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    web.engine = OpenverseStandIn(web, 0)
    address = f"download.address={web.address}"
    with pytest.raises(BespokeError, match="finds nothing for 'xyzzy'"):
        bespoke.collect("xyzzy", "d", overrides=[address])
    for words, count in (("?!", 3), ("x", 0)):
        with pytest.raises(BespokeError):
            bespoke.collect(words, "d", count=count)
    assert not list(tmp_path.iterdir())
