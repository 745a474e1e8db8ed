"""The report page: safe with hostile words, complete, and right in what it shows."""

import math
import os
import re
import sys
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

import pytest
from PIL import Image

from bespoke.page import (
    AsideGroup,
    Cell,
    Course,
    Fact,
    Finding,
    Hero,
    Intake,
    NeighbourGroup,
    Neighbours,
    Pair,
    PairGroup,
    Report,
    ScoreRow,
    ScoreTable,
    Setting,
    Sheet,
    Snippet,
    Stage,
    Thumb,
    Training,
    Verdict,
    intake_of,
    write,
)
from bespoke.records import Curve, Dataset, Picture, Score, SetAside

HOSTILE = "</bdi><script>alert('1')</script> \" onerror=\"x & <b>"
VOID = {"meta", "link", "img", "br", "hr", "input"}
SECTIONS = [
    "verdict", "pictures", "scores", "checkpoints", "neighbours", "sheets", "measured", "training", "intake",
    "settings", "time", "use",
]  # fmt: skip


class Page(HTMLParser):
    """A page taken apart: its elements, its text, and whatever is not balanced."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert [tag] == self.open[-1:], f"</{tag}> closes nothing, at {self.getpos()}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("style", "pre"):
            self.words.append(data)

    @property
    def text(self) -> str:
        """What a person reads, with single spaces."""
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str, **attributes: str) -> list[dict[str, str | None]]:
        """The attributes of every such element."""
        found = [a for t, a in self.elements if t == tag]
        return [a for a in found if all(a.get(k.rstrip("_")) == v for k, v in attributes.items())]


def draw(path: Path, size: tuple[int, int] = (64, 64)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (200, 90, 40)).save(path, format="PNG")
    return path


def rendered(report: Report, folder: Path) -> Page:
    """The page of the report, written to the place that a run has for it."""
    path = folder / "report" / "index.html"
    write(report, path)
    return Page(path.read_text(encoding="utf-8"))


def score(value: float, low: float, high: float, count: int = 48, **more: str) -> Score:
    return Score("distance", value, low, high, count, **more)  # pyright: ignore[reportArgumentType]


def row(label: str, base: Score, tuned: Score, explanation: str = "", **of_tuned: Any) -> ScoreRow:
    return ScoreRow(label, (Cell(base), Cell(tuned, **of_tuned)), explanation)


def hostile(folder: Path) -> Report:
    """A report with everything in it, in which every word and many file names are hostile."""
    base, tuned = draw(folder / "samples/base/a b#c%20?.png"), draw(folder / "samples/tuned/<script>&'.png")
    adapter = folder / "adapter.safetensors"
    adapter.write_bytes(b"0" * 1_230_000)
    curve = Curve(HOSTILE, (0, 10, 20), (1.0, 2.0, 3.0))
    return Report(
        title=HOSTILE,
        base_model=HOSTILE,
        finished=datetime(2025, 10, 9, 14, 3, tzinfo=UTC),
        seconds=372.0,
        adapter=adapter,
        hero=Hero(draw(folder / "samples/grid.png", (192, 128)), HOSTILE, HOSTILE),
        verdicts=(
            Verdict(
                (
                    Finding(HOSTILE, HOSTILE, True, HOSTILE),
                    Finding("Copies?", "no", False),
                    Finding("B?", "unclear", None),
                ),
                HOSTILE,
            ),
        ),
        groups=(PairGroup(HOSTILE, HOSTILE, (Pair(HOSTILE, (base, tuned)),)),),
        models=(HOSTILE, HOSTILE),
        tables=(
            ScoreTable(
                HOSTILE,
                HOSTILE,
                (row(HOSTILE, score(0.21, 0.19, 0.23, note=HOSTILE), score(0.06, 0.05, 0.07), HOSTILE),),
            ),
        ),
        neighbours=(NeighbourGroup(HOSTILE, HOSTILE, (Neighbours(base, tuned, HOSTILE, copied=True),)),),
        courses=(Course(HOSTILE, HOSTILE, (curve, curve, curve), 1.5),),
        sheets=(Sheet(HOSTILE, HOSTILE, base, tuned),),
        instruments=(Fact(HOSTILE, HOSTILE),),
        unmeasured=(Fact(HOSTILE, HOSTILE),),
        training=Training(curve, curve, curve, best_step=20, reason=HOSTILE),
        intake=Intake(8, 2, (AsideGroup(HOSTILE, (Thumb(tuned, HOSTILE, HOSTILE), Thumb(None, "gone.jpg"))),)),
        settings=(
            Setting(HOSTILE, HOSTILE, HOSTILE),
            Setting(HOSTILE, HOSTILE, HOSTILE, "asked"),
            Setting("a", "b", HOSTILE, "default"),
        ),
        stages=(Stage(HOSTILE, 2.0, HOSTILE), Stage("train", 20.0)),
        machine=(Fact(HOSTILE, HOSTILE),),
        versions=(Fact(HOSTILE, HOSTILE),),
        snippets=(Snippet(HOSTILE, HOSTILE),),
    )


def target(href: str | None, page: Path) -> Path:
    """The file that a browser asks for when it follows the link from the page's folder."""
    assert href
    url = urlsplit(href)
    assert [url.scheme, url.netloc, url.query, url.fragment] == [""] * 4, href
    assert not url.path.startswith("/"), href
    return Path(os.path.normpath(page.parent / os.fsdecode(unquote_to_bytes(url.path))))


def test_hostile_words_stay_words(tmp_path: Path) -> None:
    page = rendered(hostile(tmp_path), tmp_path)
    tags = {tag for tag, _ in page.elements}
    assert "script" not in tags
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert page.text.count(" ".join(HOSTILE.split())) >= 18


def test_every_picture_is_found_relative_to_the_page_and_has_words(tmp_path: Path) -> None:
    page = rendered(hostile(tmp_path), tmp_path)
    files = [target(image["src"], tmp_path / "report/index.html") for image in page.all("img")]
    assert {f.name for f in files} == {"grid.png", "a b#c%20?.png", "<script>&'.png"}
    assert [f.is_file() for f in files] == [True] * 7
    both = f"{HOSTILE}: {HOSTILE}"
    words = [HOSTILE, both, both, "drawn", "training picture", HOSTILE, HOSTILE]
    assert [image["alt"] for image in page.all("img")] == words


def test_nothing_is_loaded_from_elsewhere(tmp_path: Path) -> None:
    write(hostile(tmp_path), tmp_path / "report/index.html")
    html = (tmp_path / "report/index.html").read_text(encoding="utf-8")
    assert not re.search(r"https?:|@import|url\(", html)
    links = [a["href"] for tag, a in Page(html).elements if tag == "link"]
    assert links == ["data:,"]


def test_relative_paths_are_taken_from_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw(tmp_path / "runs/1/samples/grid.png")
    monkeypatch.chdir(tmp_path / "runs")
    write(Report("t", hero=Hero(Path("1/samples/grid.png"), "p")), Path("1/report/index.html"))
    page = Page((tmp_path / "runs/1/report/index.html").read_text(encoding="utf-8"))
    assert [image["src"] for image in page.all("img")] == ["../samples/grid.png"]


@pytest.mark.skipif(sys.platform != "linux", reason="only here may a file name be any bytes")
def test_a_file_name_that_is_not_utf8_is_shown_and_linked(tmp_path: Path) -> None:
    path = draw(Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png")))
    page = rendered(Report("t", intake=Intake(aside=(AsideGroup("odd", (Thumb(path, path.name),)),))), tmp_path)
    assert [image["src"] for image in page.all("img")] == ["../%FF.png"]
    assert r"\udcff.png" in page.text


def test_sections_come_in_order_and_the_nav_leads_to_each(tmp_path: Path) -> None:
    page = rendered(hostile(tmp_path), tmp_path)
    assert [s["id"] for s in page.all("section")] == SECTIONS
    assert [a["href"] for a in page.all("a") if (a["href"] or "").startswith("#")] == [f"#{s}" for s in SECTIONS]


def test_headings_never_skip_a_level(tmp_path: Path) -> None:
    levels = [int(tag[1]) for tag, _ in rendered(hostile(tmp_path), tmp_path).elements if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_an_empty_report_shows_only_its_title(tmp_path: Path) -> None:
    page = rendered(Report("8bit illustration"), tmp_path)
    assert not [tag for tag, _ in page.elements if tag in ("section", "nav", "img", "dt", "table")]
    assert [tag for tag, _ in page.elements if re.fullmatch(r"h\d", tag)] == ["h1"]
    assert "8bit illustration" in page.text


@pytest.mark.parametrize("section", SECTIONS)
def test_a_section_is_left_out_without_leaving_a_trace(tmp_path: Path, section: str) -> None:
    full = hostile(tmp_path)
    empty: dict[str, dict[str, Any]] = {
        "verdict": {"verdicts": ()},
        "pictures": {"groups": (PairGroup("no pairs", "", ()),)},
        "scores": {"tables": (ScoreTable("none", "", ()),)},
        "checkpoints": {"courses": ()},
        "neighbours": {"neighbours": (NeighbourGroup("none", "", ()),)},
        "sheets": {"sheets": ()},
        "measured": {"instruments": (), "unmeasured": ()},
        "training": {"training": Training()},
        "intake": {"intake": Intake(aside=(AsideGroup("nothing", ()),))},
        "settings": {"settings": ()},
        "time": {"stages": (), "machine": (), "versions": ()},
        "use": {"snippets": ()},
    }
    page = rendered(replace(full, **empty[section]), tmp_path)
    assert [s["id"] for s in page.all("section")] == [s for s in SECTIONS if s != section]
    assert not page.all("a", href=f"#{section}")


def test_empty_groups_beside_full_ones_are_left_out(tmp_path: Path) -> None:
    picture = draw(tmp_path / "p.png")
    report = Report(
        "t",
        groups=(PairGroup("Full", "", (Pair("p", (picture, picture)),)), PairGroup("Hollow", "hollow")),
        intake=Intake(1, 0, (AsideGroup("duplicate", (Thumb(None, "a"),)), AsideGroup("hollow"))),
        machine=(Fact("Device", "cpu"),),
        hero=Hero(tmp_path / "gone.png", "hollow"),
    )
    page = rendered(report, tmp_path)
    assert "hollow" not in page.text.lower()
    assert "Versions" not in page.text
    assert "Full 1" in page.text


def test_an_unreadable_picture_is_said_to_be_none(tmp_path: Path) -> None:
    broken, odd = tmp_path / "broken.png", tmp_path / "odd.tiff"
    broken.write_bytes(b"\x89PNG\r\n\x1a\noops")
    Image.new("RGB", (8, 8)).save(odd)
    pairs = (Pair("p", (broken, tmp_path / "gone.png")), Pair("q", (odd, odd)))
    page = rendered(Report("t", groups=(PairGroup("g", "", pairs),)), tmp_path)
    assert not page.all("img")
    assert page.text.count("no picture") == 4


def test_only_small_pictures_are_magnified_by_pixels(tmp_path: Path) -> None:
    pair = Pair("p", (draw(tmp_path / "small.png", (64, 64)), draw(tmp_path / "large.png", (512, 512))))
    page = rendered(Report("t", groups=(PairGroup("g", "", (pair,)),)), tmp_path)
    small, large = page.all("img")
    assert (small["src"], small["width"], small.get("class")) == ("../small.png", "64", "small")
    assert (large["src"], large["width"], large.get("class")) == ("../large.png", "512", None)


def test_pairs_beyond_24_are_folded(tmp_path: Path) -> None:
    picture = draw(tmp_path / "p.png")
    pairs = tuple(Pair(f"prompt {n}", (picture, picture)) for n in range(30))
    page = rendered(Report("t", groups=(PairGroup("g", "", pairs),)), tmp_path)
    tags = [tag for tag, _ in page.elements]
    assert tags[: tags.index("details")].count("img") == 48
    assert tags[tags.index("details") :].count("img") == 12
    assert "The other 6" in page.text
    assert all(f"prompt {n} " in page.text for n in range(30))


def test_scores_show_value_interval_count_and_direction(tmp_path: Path) -> None:
    lower = row("Distance", score(0.21, 0.19, 0.23, better="lower"), score(0.06, 0.05, 0.07, 40, better="lower"))
    higher = row("Agreement", score(-0.1, -0.2, 0.1), score(float("nan"), float("nan"), float("nan"), 0))
    text = rendered(Report("t", tables=(ScoreTable("", "", (lower, higher)),)), tmp_path).text
    assert "Distance ↓ lower is better 0.21 0.19–0.23 n = 48 0.06 0.05–0.07 n = 40" in text
    assert "Agreement ↑ higher is better −0.10 −0.20 to 0.10 n = 48 not measured n = 0" in text


def test_whiskers_stand_where_the_scores_are(tmp_path: Path) -> None:
    one = row("d", score(0.3, 0.2, 0.4), score(0.1, 0.0, 0.2))
    page = rendered(Report("t", tables=(ScoreTable("", "", (one,)),)), tmp_path)
    (plot,) = page.all("svg")
    assert plot["aria-label"] == "base 0.3, 95 % interval 0.2 to 0.4; tuned 0.1, 95 % interval 0 to 0.2"
    assert [c["cx"] for c in page.all("circle")] == ["72.50%", "27.50%"]
    whiskers = [(w["x1"], w["x2"]) for w in page.all("line", class_="whisker")]
    assert whiskers == [("50.00%", "95.00%"), ("5.00%", "50.00%")]


def test_the_best_step_is_marked_on_the_validation_curve(tmp_path: Path) -> None:
    curve = Curve("validation", (0, 100, 200, 300, 400), (0.0, -0.1, -0.3, -0.2, -0.1))
    page = rendered(Report("t", training=Training(validation=curve, steps=400, best_step=200)), tmp_path)
    (mark,) = page.all("circle", class_="best")
    dots = [(dot["cx"], dot["cy"]) for dot in page.all("circle", class_="dot")]
    assert (mark["cx"], mark["cy"]) == dots[2]
    assert float(mark["cy"] or 0) == max(float(y or 0) for _, y in dots), "the lowest value is drawn lowest"
    assert "best: step 200" in page.text
    assert not rendered(Report("t", training=Training(validation=curve)), tmp_path).all("circle", class_="best")


def test_the_loss_is_drawn_raw_and_averaged(tmp_path: Path) -> None:
    values = tuple(1.0 + (-1) ** step * 0.5 for step in range(3000))
    curve = Curve("loss", tuple(range(3000)), (*values[:1500], math.nan, *values[1501:]))
    page = rendered(Report("t", training=Training(loss=curve)), tmp_path)
    (raw,), (mean,) = page.all("polyline", class_="raw"), page.all("polyline", class_="curve")

    def heights(line: dict[str, str | None]) -> list[float]:
        return [float(point.split(",")[1]) for point in (line["points"] or "").split()]

    assert 400 <= len(heights(raw)) <= 500
    assert max(heights(mean)) - min(heights(mean)) < 0.05 * (max(heights(raw)) - min(heights(raw)))
    assert min(heights(raw)) < heights(mean)[250] < max(heights(raw))


@pytest.mark.parametrize("steps", [(), (5,), (5, 5)])
def test_short_curves_are_drawn_or_left_out(tmp_path: Path, steps: tuple[int, ...]) -> None:
    curve = Curve("c", steps, (0.5,) * len(steps))
    page = rendered(Report("t", training=Training(curve, curve, curve, steps=5, best_step=5)), tmp_path)
    assert len(page.all("svg")) == (3 if steps else 0)
    assert all("nan" not in (line["points"] or "") for line in page.all("polyline"))


def test_the_head_and_the_training_say_what_happened(tmp_path: Path) -> None:
    (tmp_path / "adapter.safetensors").write_bytes(b"0" * 1_230_000)
    training = Training(steps=1200, best_step=800, images_per_second=11.42, reason="It ran all steps.")
    finished = datetime(2025, 10, 9, 14, 3, tzinfo=UTC)
    report = Report("t", "pico", finished, 372.4, tmp_path / "adapter.safetensors", training=training)
    text = rendered(report, tmp_path).text
    assert "Base model pico Finished 9 October 2025, 14:03 UTC Took 6 min 12 s" in text
    assert "adapter.safetensors 1.2 MB" in text
    assert "It ran all steps. steps 1,200 best step 800 images a second 11.4" in text


def test_findings_are_marked(tmp_path: Path) -> None:
    findings = (Finding("A?", "yes", True, "fell"), Finding("B?", "no", False), Finding("C?", "cannot tell", None))
    text = rendered(Report("t", verdicts=(Verdict(findings),)), tmp_path).text
    assert "✓ A? yes fell ✕ B? no ? C? cannot tell" in text


def test_settings_say_who_chose_them_and_defaults_are_folded(tmp_path: Path) -> None:
    settings = (Setting("a", "1", "", "asked"), Setting("b", "2", "", "default"), Setting("c", "3", "derived from c"))
    text = rendered(Report("t", settings=settings), tmp_path).text
    assert "a 1 as asked c 3 derived from c 1 left at its default" in text
    assert text.index("1 left at its default") < text.index("b 2 default")


def test_stages_have_bars_as_long_as_they_took(tmp_path: Path) -> None:
    stages = (Stage("encode", 5.0), Stage("train", 3725.0), Stage("none", 0.0))
    page = rendered(Report("t", stages=stages), tmp_path)
    widths = [bar["style"] for bar in page.all("span", class_="bar")]
    assert widths == ["width: 0.13%", "width: 100.00%", "width: 0.00%"]
    assert "encode 5.0 s train 1 h 02 min none 0.0 s" in page.text


def test_what_came_in_is_counted_by_reason(tmp_path: Path) -> None:
    def kept(name: str) -> Picture:
        return Picture(name, "t", "0", "0", 8, 8, name, "validation" if name == "d" else "train")

    draw(tmp_path / "set-aside/x.png")
    aside = (
        SetAside("in/y.txt", "", "unreadable", "not a picture"),
        SetAside("in/x.png", "x.png", "duplicate", "same as a"),
        SetAside("in/z.png", "", "duplicate", "same as b"),
    )
    intake = intake_of(Dataset((kept("a"), kept("b"), kept("d")), aside), tmp_path / "set-aside")
    assert (intake.files, intake.train, intake.validation, intake.set_aside) == (6, 2, 1, 3)
    page = rendered(Report("t", intake=intake), tmp_path)
    assert "6 files came in. 2 to learn from 1 held back for validation 3 set aside" in page.text
    assert "Set aside: duplicate 2 in/x.png same as a" in page.text
    assert page.text.index("duplicate 2") < page.text.index("unreadable 1")
    assert [(i["src"], i["alt"]) for i in page.all("img")] == [("../set-aside/x.png", "in/x.png")]
