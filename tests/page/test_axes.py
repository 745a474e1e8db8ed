"""The page of a grid: every picture in its place and also large, hostile words, and words for what is missing."""

from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from tests.page.test_report import HOSTILE, Page, draw

from bespoke.page import Fact
from bespoke.page.axes import AxesReport, Place, Table, write_axes


def report(folder: Path, *, tables: int = 2, rows: int = 2, columns: int = 3, **more: Any) -> AxesReport:
    def place(*at: int) -> Place:
        return Place(draw(folder / "pictures" / f"{'-'.join(map(str, at))}.png"), f"prompt {at}", f"words {at}")

    made = tuple(
        Table(f"table {t}", tuple(tuple(place(t, r, c) for c in range(columns)) for r in range(rows)))
        for t in range(tables)
    )
    above, beside = tuple(f"column {n}" for n in range(columns)), tuple(f"row {n}" for n in range(rows))
    return AxesReport("an apple", above, beside, made, **more)


def rendered(made: AxesReport, folder: Path) -> Page:
    return Page(write_axes(made, folder / "index.html").read_text(encoding="utf-8"))


def targets(page: Page) -> list[str]:
    links = (link["href"] or "" for link in page.all("a"))
    return [link[1:] for link in links if link.startswith("#")]


def test_every_picture_stands_where_its_settings_meet(tmp_path: Path) -> None:
    page = rendered(report(tmp_path), tmp_path)
    small = page.elements[: next(n for n, (_, a) in enumerate(page.elements) if a.get("class") == "zoom")]
    seen = [a["src"] for tag, a in small if tag == "img"]
    assert seen == [f"pictures/{t}-{r}-{c}.png" for t in range(2) for r in range(2) for c in range(3)]
    cells = [a["id"] for tag, a in small if tag == "td" and "id" in a]
    assert cells == [source.removeprefix("pictures/").removesuffix(".png").join(("c", "")) for source in seen]
    heads = [a for tag, a in small if tag == "th"]
    assert [a.get("scope") for a in heads] == [*["col"] * 3, *["row"] * 2] * 2
    words = page.text
    assert words.index("table 0") < words.index("column 0") < words.index("column 2") < words.index("row 0")


def test_a_click_shows_a_picture_large_beside_its_neighbours_and_every_link_leads_somewhere(tmp_path: Path) -> None:
    page = rendered(report(tmp_path), tmp_path)
    there = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    assert set(targets(page)) <= there and not page.all("script")
    views = {a["id"]: n for n, (_, a) in enumerate(page.elements) if a.get("class") == "zoom"}
    assert len(views) == 12
    begin = views["z1-0-1"]
    after = page.elements[begin + 1 :]
    inside = after[: next(n for n, (tag, _) in enumerate(after) if tag == "figure")]
    links = {(a.get("class") or "file").split()[-1]: a["href"] for tag, a in inside if tag == "a"}
    assert links == {
        "out": "#c1-0-1", "close": "#c1-0-1", "file": "pictures/1-0-1.png", "left": "#z1-0-0", "right": "#z1-0-2",
        "down": "#z1-1-1", "back": "#z0-0-1",
    }  # fmt: skip
    for link in page.all("a"):
        if not (link["href"] or "").startswith("#"):
            assert (tmp_path / unquote(link["href"])).is_file()


def test_what_is_missing_says_why_and_is_counted(tmp_path: Path) -> None:
    whole = report(tmp_path, tables=1)
    assert "could not be drawn" not in rendered(whole, tmp_path).text
    rows = list(map(list, whole.tables[0].rows))
    rows[0][1] = Place(None, "prompt", "words", "the scheduler failed")
    rows[1][1] = Place(tmp_path / "gone.png", "prompt", "words")
    page = rendered(AxesReport("t", whole.columns, whole.rows, (Table("", tuple(map(tuple, rows))),)), tmp_path)
    assert "1 could not be drawn; each place says why." in page.text
    assert page.text.count("the scheduler failed") == 2 and "no picture" in page.text
    assert len(page.all("img")) == 2 * 4


def test_tables_are_sections_that_the_top_of_the_page_leads_to(tmp_path: Path) -> None:
    several, one = rendered(report(tmp_path), tmp_path), rendered(report(tmp_path, tables=1), tmp_path)
    assert {"b0", "b1"} <= set(targets(several)) and several.all("nav")
    assert not one.all("nav")
    assert "no table" not in rendered(AxesReport("t", ("a",), ("",), ()), tmp_path).text


def test_facts_the_sheet_and_the_width_are_as_asked_for(tmp_path: Path) -> None:
    sheet = draw(tmp_path / "grid.png")
    facts = (Fact("Guidance", "7.5"), Fact("Seed", "3"))
    write_axes(report(tmp_path, facts=facts, sheet=sheet, side=128), tmp_path / "index.html")
    html = (tmp_path / "index.html").read_text(encoding="utf-8")
    page = Page(html)
    assert "Guidance 7.5 Seed 3 As one picture grid.png" in page.text and page.all("a", href="grid.png")
    assert ".cells .picture { width: 128px;" in html


@pytest.mark.parametrize("where", ["top", "left"])
def test_heads_stay_in_sight(tmp_path: Path, where: str) -> None:
    write_axes(report(tmp_path), tmp_path / "index.html")
    html = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert f"position: sticky; {where}: 0;" in html and "overflow: auto; max-height: calc(100vh" in html


def test_small_pictures_keep_their_pixels_and_large_ones_are_smooth(tmp_path: Path) -> None:
    def shown(size: int) -> set[str | None]:
        place = Place(draw(tmp_path / f"{size}.png", (size, size)), "prompt", "words")
        made = AxesReport("t", ("a",), ("",), (Table("", ((place,),)),))
        return {image.get("class") for image in rendered(made, tmp_path).all("img")}

    assert (shown(64), shown(512)) == ({"small"}, {None})


def test_hostile_words_stay_words(tmp_path: Path) -> None:
    drawn = Place(draw(tmp_path / "<script>&'\" #?.png"), HOSTILE, HOSTILE)
    table = Table(HOSTILE, ((drawn, Place(None, HOSTILE, HOSTILE, HOSTILE)),))
    made = AxesReport(HOSTILE, (HOSTILE, HOSTILE), (HOSTILE,), (table, table), (Fact(HOSTILE, HOSTILE),))
    page = rendered(made, tmp_path)
    assert {tag for tag, _ in page.elements}.isdisjoint({"script"})
    assert not any("onerror" in attributes for _, attributes in page.elements)
    assert page.text.count(" ".join(HOSTILE.split())) >= 15
    assert all((tmp_path / unquote(image["src"])).is_file() for image in page.all("img"))
