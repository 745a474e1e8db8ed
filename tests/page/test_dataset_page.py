"""The dataset page as such: words stay words, thumbnails and bars are right, and it stays small."""

import base64
import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.page.test_report import HOSTILE, Page, draw

from bespoke.page import (
    Advice,
    Alike,
    AsideGroup,
    Caption,
    CaptionGroup,
    CaptionKind,
    DatasetReport,
    Distribution,
    Fact,
    Intake,
    Limit,
    Part,
    Rule,
    ShareGroup,
    Thumb,
    TrainingShape,
    write_dataset,
)
from bespoke.page.histogram import histogram
from bespoke.page.thumbnails import SIDE, thumbnail

SECTIONS = ["advice", "aside", "alike", "doubts", "figures", "captions", "balance", "split", "shapes", "rules"]
BAR = re.compile(r"<title>([^<]+): (\d+) kept, (\d+) set aside</title>")


def plain(path: Path) -> Image.Image | None:
    """The picture in a file that is whole and plain."""
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except OSError:
        return None


def rendered(report: DatasetReport, folder: Path) -> Page:
    path = folder / "report" / "index.html"
    write_dataset(report, path, plain)
    return Page(path.read_text(encoding="utf-8"))


def hostile(folder: Path) -> DatasetReport:
    """A report with everything in it, in which every word from outside is hostile."""
    thumb = Thumb(draw(folder / "train" / "<script>&'.png"), HOSTILE, HOSTILE)
    return DatasetReport(
        title=HOSTILE,
        facts=(Fact("Folder", HOSTILE),),
        sheet=(thumb,),
        advice=(Advice("serious", 1, HOSTILE, HOSTILE, HOSTILE),),
        intake=Intake(3, 1, (AsideGroup(HOSTILE, (thumb, Thumb(None, HOSTILE))),)),
        alike=(Alike(thumb, (thumb,), HOSTILE),),
        doubts=(AsideGroup(HOSTILE, (thumb,)),),
        distributions=(Distribution(HOSTILE, HOSTILE, (1.0, 2.0), (3.0,), (Limit(2.0, HOSTILE),)),),
        captions=(CaptionGroup("Longest", (Caption(thumb, HOSTILE, HOSTILE, "9 tokens"),)),),
        kinds=(CaptionKind(HOSTILE, 3, (HOSTILE, HOSTILE), thumb, HOSTILE),),
        words=(Part(HOSTILE, 1, 4),),
        words_lead=HOSTILE,
        shares=(ShareGroup(HOSTILE, HOSTILE, (Part(HOSTILE, 3, 4, HOSTILE, "#008000"),)),),
        repeats=(Part(HOSTILE, 1, 4, HOSTILE),),
        split_reasons=(Part(HOSTILE, 1, 1),),
        together=(Part(HOSTILE, 2, 4, HOSTILE),),
        held_out=(thumb,),
        shapes_lead=HOSTILE,
        shapes=(TrainingShape(HOSTILE, 2, 4, HOSTILE),),
        shape_notes=(HOSTILE,),
        rules=(Rule(HOSTILE, HOSTILE, sets_aside=True, found=1),),
    )


def test_hostile_words_stay_words_and_nothing_is_loaded_from_elsewhere(tmp_path: Path) -> None:
    page = rendered(hostile(tmp_path), tmp_path)
    assert "script" not in {tag for tag, _ in page.elements}
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert page.text.count("alert('1')") >= 20
    html = (tmp_path / "report/index.html").read_text(encoding="utf-8")
    assert not re.search(r"https?:|@import|url\(", html)
    assert all((image["src"] or "").startswith("data:image/") for image in page.all("img"))
    assert {a["href"] for a in page.all("a", class_="picture")} == {"../train/%3Cscript%3E%26%27.png"}


@pytest.mark.parametrize("section", SECTIONS)
def test_a_section_with_nothing_in_it_is_left_out(tmp_path: Path, section: str) -> None:
    full = hostile(tmp_path)
    empty: dict[str, dict[str, Any]] = {
        "advice": {"intake": Intake()},
        "aside": {"intake": Intake(3, 1)},
        "alike": {"alike": ()},
        "doubts": {"doubts": ()},
        "figures": {"distributions": ()},
        "captions": {"captions": ()},
        "balance": {"words": (), "repeats": (), "shares": ()},
        "split": {"intake": Intake()},
        "shapes": {"shapes": ()},
        "rules": {"rules": ()},
    }
    assert [s["id"] for s in rendered(full, tmp_path).all("section")] == SECTIONS
    page = rendered(replace(full, **empty[section]), tmp_path)
    left = [s["id"] for s in page.all("section")]
    assert section not in left
    assert [a["href"] for a in page.all("a") if (a["href"] or "").startswith("#")] == [f"#{s}" for s in left]


def test_without_advice_the_page_says_so(tmp_path: Path) -> None:
    assert "Nothing to advise." in rendered(DatasetReport("t", intake=Intake(3, 1)), tmp_path).text
    assert "Nothing to advise." not in rendered(hostile(tmp_path), tmp_path).text


def test_five_thousand_pictures_of_noise_make_a_page_below_five_megabytes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{n}.png" for n in range(8)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (160, 160, 3), dtype=np.uint8)).save(path)
    many = tuple(Thumb(paths[n % 8], f"{n}.png", "a long detail " * 30) for n in range(5000))
    rules = [f"rule {n}" for n in range(16)]
    groups = tuple(AsideGroup(rule, many) for rule in rules)
    captions = tuple(Caption(thumb, "word " * 10_000, "more " * 10_000) for thumb in many[:12])
    alike = tuple(Alike(thumb, many[:9], "first") for thumb in many[:200])
    report = DatasetReport("t", (), many[:24], (), Intake(4000, 64, groups), alike, groups)
    report = replace(report, captions=(CaptionGroup("Longest", captions),), held_out=many[:12])
    page = rendered(report, tmp_path)
    assert (tmp_path / "report/index.html").stat().st_size < 5_000_000
    assert page.text.count("4,988 more not shown here.") == 32
    assert "188 more groups not shown here." in page.text
    assert page.text.count("6 more not shown here.") == 12
    assert "52 more not shown here." in page.text
    assert "80,000 set aside" in page.text


def test_kinds_of_captions_stand_with_who_said_them_and_how_often(tmp_path: Path) -> None:
    thumb = Thumb(draw(tmp_path / "train" / "fox.png"), "fox.png")
    kinds = (CaptionKind("short", 1, (), thumb, "a fox"), CaptionKind("long", 1234, ("one", "two"), thumb, "red fox"))
    captions = (CaptionGroup("Longest", (Caption(thumb, "a fox"),)),)
    text = rendered(DatasetReport("t", captions=captions, kinds=kinds), tmp_path).text
    assert "a fox short · 1 picture red fox long · 1,234 pictures · by one, two" in text


def test_bars_of_colours_are_painted_with_them_and_others_are_not(tmp_path: Path) -> None:
    parts = (Part("green", 30, 40, "", "#008000"), Part("mixed", 10, 40))
    page = rendered(DatasetReport("t", shares=(ShareGroup("Colours", "What is there.", parts),)), tmp_path)
    bars = [(bar["class"], bar["style"]) for bar in page.all("span") if "bar" in (bar["class"] or "").split()]
    assert bars == [("bar painted", "width: 75.0%; --paint: #008000"), ("bar", "width: 25.0%")]
    assert "Colours What is there. green 30 75 % mixed 10 25 %" in page.text


def decoded(path: Path) -> Image.Image:
    embedded = thumbnail(path, plain)
    assert embedded is not None
    image = Image.open(io.BytesIO(base64.b64decode(embedded.src.partition(",")[2])))
    assert (embedded.width, embedded.height) == image.size
    return image.convert("RGB")


def test_a_small_drawing_is_embedded_pixel_by_pixel(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).choice([0, 255], (20, 30, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert (np.asarray(decoded(tmp_path / "a.png")) == pixels).all()
    small, large = thumbnail(tmp_path / "a.png", plain), thumbnail(draw(tmp_path / "b.png", (300, 200)), plain)
    assert small is not None
    assert large is not None
    assert (small.whole, large.whole, large.width) == (True, False, SIDE)


def test_what_cannot_be_decoded_has_no_thumbnail(tmp_path: Path) -> None:
    (tmp_path / "words.png").write_text("no picture")
    assert [thumbnail(p, plain) for p in (None, tmp_path / "gone", tmp_path / "words.png")] == [None] * 3


@pytest.mark.parametrize("log", [True, False])
def test_bars_hold_every_picture_once_and_where_it_belongs(log: bool) -> None:
    rng = np.random.default_rng(1)
    kept, aside = tuple(rng.uniform(5, 900, 500).tolist()), tuple(rng.uniform(0, 9, 40).tolist())
    bars = BAR.findall(
        histogram(Distribution("Sides", "", kept, aside, (Limit(32.0, "too small"),), least=1.0, log=log))
    )
    assert sum(int(k) for _, k, _ in bars) == 500
    assert sum(int(a) for _, _, a in bars) == 40
    for span, count, _ in bars[2:-1]:
        low, high = (float(edge.replace(",", "")) for edge in span.split(" to "))
        slack = 0.51 if high >= 100 else 0.006 * high  # the words are rounded
        assert sum(low + slack < v < high - slack for v in kept) <= int(count)
        assert int(count) <= sum(low - slack <= v <= high + slack for v in kept)


def test_whole_numbers_have_bars_of_their_own_and_the_ends_hold_what_lies_beyond() -> None:
    svg = histogram(
        Distribution("Length", "", (7.0, 7.0, 9.0, 500.0), (), (Limit(12.0, "most"),), most=20.0, whole=True)
    )
    counts = {span: int(kept) for span, kept, _ in BAR.findall(svg)}
    assert {span: n for span, n in counts.items() if n} == {"7": 2, "9": 1, "20": 1}
    assert list(counts) == [str(n) for n in range(7, 21)]
    assert "≥20" in svg


def test_a_limit_stands_between_the_values_below_and_above_it() -> None:
    svg = histogram(Distribution("Sides", "", (10.0, 20.0, 90.0), (), (Limit(50.0, "too small"),)))
    (limit,) = re.findall(r'<line class="limit" x1="([\d.]+)"', svg)
    places = [float(x) for x in re.findall(r'<rect class="kept" y="[\d.]+" x="([\d.]+)"', svg)]
    assert places[1] < float(limit) < places[2]
    assert ">too small<" in svg


@pytest.mark.parametrize("values", [(), (5.0,), (5.0, 5.0)])
def test_few_values_are_drawn_or_left_out(values: tuple[float, ...]) -> None:
    for log in (True, False):
        svg = histogram(Distribution("One", "", values, log=log))
        assert "nan" not in svg
        assert sum(int(kept) for _, kept, _ in BAR.findall(svg)) == len(values)


def test_bars_are_as_tall_as_what_they_hold_and_those_set_aside_stand_on_top() -> None:
    svg = histogram(Distribution("One", "", (5.0,) * 60, (5.0,) * 20, whole=True))
    found = re.findall(r'<rect class="([a-z-]+)" y="([\d.]+)" x="[\d.]+" width="[\d.]+" height="([\d.]+)"', svg)
    (kept, kept_y, kept_height), (aside, aside_y, aside_height) = found
    assert (kept, aside) == ("kept", "left-out")
    assert float(kept_height) == pytest.approx(3 * float(aside_height), abs=0.2)
    assert float(aside_y) + float(aside_height) == pytest.approx(float(kept_y), abs=0.2)
