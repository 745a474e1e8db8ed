"""The page of new words as such: words stay words, what is not there is left out, and it fits a narrow screen."""

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import sync_playwright
from tests.page.test_report import HOSTILE, Page

from bespoke.page import (
    Fact,
    Gate,
    MapQuality,
    NewWord,
    RefusedWord,
    Source,
    Suggestion,
    TokenCount,
    VocabularyReport,
    write_vocabulary,
)
from bespoke.page.vocabulary import MOST_REFUSED

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
SECTIONS = ["tokens", "words", "use", "refused", "sources", "map", "phrases"]


def hostile() -> VocabularyReport:
    """A report with everything in it, in which every word from outside is hostile."""
    gates = (Gate("norm", 1.0, "0.5 to 2.0 medians", passed=True), Gate("kept", float("nan"), HOSTILE, passed=False))
    word = NewWord(
        HOSTILE, "accepted", HOSTILE, (HOSTILE,), (HOSTILE, "x" * 200), HOSTILE, ((HOSTILE, 0.987), ("subwords", -0.5)),
        (HOSTILE,), (HOSTILE,), gates,
    )  # fmt: skip
    return VocabularyReport(
        title=HOSTILE,
        headline=HOSTILE,
        facts=(Fact("Base", HOSTILE),),
        counts=(TokenCount("training captions", 1200, 5000, 9000, 7000, (1.8, 1.4), (30, 4)),),
        words=(word, replace(word, verdict="refused"), replace(word, verdict="to train")),
        refused=(RefusedWord(HOSTILE, 3, 12, HOSTILE),),
        single=1234,
        sources=(Source("the encyclopaedia", 267_735, 0.99996, None), Source("the captions", 40, 1.0, 0.00001)),
        maps=(MapQuality("Ridge", True, (0.5, 0.01), ((1, 0.2, 0.01), (10, 0.6, 0.02))),),
        map_words=HOSTILE,
        phrases=(Suggestion(HOSTILE, 7, 123.4),),
        use=(Fact("In training", HOSTILE),),
    )  # fmt: skip


def rendered(report: VocabularyReport, folder: Path) -> Page:
    return Page(write_vocabulary(report, folder / "index.html").read_text("utf-8"))


def test_hostile_words_stay_words_and_nothing_is_loaded_from_elsewhere(tmp_path: Path) -> None:
    page = rendered(hostile(), tmp_path)
    assert {tag for tag, _ in page.elements}.isdisjoint({"script", "img"})
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert page.text.count("alert('1')") >= 30
    assert not re.search(r"https?:|@import|url\(", (tmp_path / "index.html").read_text("utf-8"))


def test_figures_are_not_rounded_to_all_or_nothing(tmp_path: Path) -> None:
    text = rendered(hostile(), tmp_path).text
    assert "267,735 99.9 % none held back" in text and "40 100 % < 0.1 %" in text
    assert "9,000 → 7,000" in text and "1.800 → 1.400" in text and "30 → 4" in text
    assert "kept not measured" in text and "✕ failed" in text and "1,234 more are one token" in text


@pytest.mark.parametrize("section", SECTIONS)
def test_a_section_with_nothing_in_it_is_left_out(tmp_path: Path, section: str) -> None:
    field = {"tokens": "counts", "map": "maps"}.get(section, section)
    changed: dict[str, Any] = {field: ()}
    page = rendered(replace(hostile(), **changed), tmp_path)
    assert [s["id"] for s in page.all("section")] == [name for name in SECTIONS if name != section]
    assert {a["href"] for a in page.all("a")} == {f"#{name}" for name in SECTIONS if name != section}


def test_many_refused_words_are_counted_and_not_all_shown(tmp_path: Path) -> None:
    many = tuple(RefusedWord(f"word{n}", 2, 1, "rare") for n in range(MOST_REFUSED + 5))
    text = rendered(replace(hostile(), refused=many), tmp_path).text
    assert "5 more stand in report.json" in text and f"word{MOST_REFUSED - 1} " in text
    assert f"word{MOST_REFUSED} " not in text


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
@pytest.mark.parametrize("width", [320, 390, 800, 1280])
def test_it_is_never_wider_than_the_screen(tmp_path: Path, width: int) -> None:
    rendered(hostile(), tmp_path)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_context(viewport={"width": width, "height": 800}).new_page()
        page.goto((tmp_path / "index.html").as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        browser.close()
