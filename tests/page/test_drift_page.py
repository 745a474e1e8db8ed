"""The page of what was watched: every figure, every alarm where it rang, the canaries, hostile words, nothing yet."""

from dataclasses import replace
from pathlib import Path

from tests.page.test_report import HOSTILE, Page, draw

from bespoke.page import Fact, Finding
from bespoke.page.drift import CanaryCard, DriftReport, WatchedDay, WatchedFigure, WatchedGroup, write_drift

DAYS = tuple(
    WatchedDay(f"2026-03-{n + 1:02d}", 20.0 + n, n / 4, {2: "over days", 4: "at once"}.get(n, "")) for n in range(5)
)
FIGURE = WatchedFigure("agreement", "How well.", "24", "20", "0.31 (0.46)", "1.0e-06", 20.0, DAYS)
QUIET = replace(FIGURE, label="found unsafe", days=tuple(WatchedDay(day.day, 0.0, 0.0) for day in DAYS), usually=0.0)


def report(folder: Path, words: str = "words") -> DriftReport:
    cards = tuple(
        CanaryCard(f"{words} {n}", f"{words} said {n}", ok, draw(folder / "first.png"), draw(folder / f"now {n}.png"))
        for n, ok in enumerate((True, False))
    )
    figures = (replace(FIGURE, label=f"{words} label"), QUIET)
    return DriftReport(
        f"{words}@7", f"{words} head", (Finding(words, "no", ok=False, detail=words),),
        (WatchedGroup(f"{words} group", "", figures),), cards, (Fact(words, words),),
    )  # fmt: skip


def rendered(made: DriftReport, folder: Path) -> Page:
    return Page(write_drift(made, folder / "index.html").read_text("utf-8"))


def test_each_figure_has_its_row_and_two_plots_with_the_alarms_that_rang(tmp_path):
    page = rendered(report(tmp_path), tmp_path)
    plots = [a for tag, a in page.elements if tag == "svg"]
    assert len(plots) == 4
    begin = [n for n, (tag, _) in enumerate(page.elements) if tag == "svg"]
    ends = [*begin[1:], len(page.elements)]
    rings = [sum(a.get("class") == "rang" for tag, a in page.elements[b:e] if tag == "circle")
             for b, e in zip(begin, ends, strict=True)]  # fmt: skip
    assert rings == [2, 1, 0, 0]  # the chart marks only what it rang for itself
    rows = [a for tag, a in page.elements if tag == "tr"]
    assert [a.get("class") for a in rows] == [None, "group", "rang", None]
    assert "2 alarms" in page.text and "0.31 (0.46)" in page.text and "100 %" in page.text


def test_a_canary_that_changed_stands_out(tmp_path):
    page = rendered(report(tmp_path), tmp_path)
    pairs = [a["class"] for tag, a in page.elements if tag == "figure" and "pair" in (a.get("class") or "")]
    assert pairs == ["pair", "pair changed"]
    assert [a["src"] for tag, a in page.elements if tag == "img"] == [
        "first.png", "now%200.png", "first.png", "now%201.png",
    ]  # fmt: skip


def test_hostile_words_stay_words(tmp_path):
    page = rendered(report(tmp_path, HOSTILE), tmp_path)
    assert not page.all("script") and HOSTILE in page.text and not page.open


def test_nothing_to_show_yet(tmp_path):
    page = rendered(DriftReport("style@7", "Nothing is compared yet."), tmp_path)
    assert "Nothing is compared yet." in page.text and not [tag for tag, _ in page.elements if tag in ("svg", "table")]


def test_a_figure_that_never_moves_has_an_axis_one_can_read(tmp_path):
    made = report(tmp_path)
    page = rendered(replace(made, groups=(WatchedGroup("group", "", (QUIET,)),)), tmp_path)
    assert "e−1" not in page.text and "e-1" not in page.text and "0.4" in page.text


def test_one_day_is_a_dot(tmp_path):
    made = report(tmp_path)
    one = replace(FIGURE, days=DAYS[:1])
    page = rendered(replace(made, groups=(WatchedGroup("group", "", (one,)),)), tmp_path)
    assert len([a for tag, a in page.elements if tag == "circle" and a.get("class") == "dot"]) == 2
