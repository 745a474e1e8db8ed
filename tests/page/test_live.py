"""The page of a training that is not over: what it says of now, its further plots and the pictures drawn so far."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.page.test_report import HOSTILE, draw, rendered

from bespoke.page import Chart, Now, Progress, Report, Training
from bespoke.records import Curve

NOW = Now("training", 1200, 5000, datetime(2025, 10, 9, 14, 3, 5, tzinfo=UTC), 372.0, 10)


def curve(*values: float, name: str = "c") -> Curve:
    return Curve(name, tuple(range(0, 10 * len(values), 10)), values)


def test_it_says_how_far_it_is_and_is_read_again(tmp_path: Path) -> None:
    page = rendered(Report("t", now=NOW), tmp_path)
    assert [meta["content"] for meta in page.all("meta", **{"http-equiv": "refresh"})] == ["10"]
    assert "State training, step 1,200 of at most 5,000 Time left at most about 6 min 12 s" in page.text
    assert "As of 14:03:05 UTC, 9 October 2025" in page.text and "Training now" in page.text


@pytest.mark.parametrize("now", [None, replace(NOW, words="stopped", seconds_left=None, refresh=None, command="go on")])
def test_what_changes_no_more_is_not_read_again(tmp_path: Path, now: Now | None) -> None:
    page = rendered(Report("t", now=now), tmp_path)
    assert not page.all("meta", **{"http-equiv": "refresh"}) and "Training report" in page.text
    assert ("Go on with go on" in page.text) == (now is not None)


def test_hostile_words_stay_words_here_too(tmp_path: Path) -> None:
    training = Training(
        notes=(HOSTILE,),
        others=(curve(1.0, 2.0, name=HOSTILE),),
        validation=curve(0.0, -0.1),
        charts=(Chart(HOSTILE, HOSTILE, curve(1.0, 2.0)),),
        progress=Progress((HOSTILE,), ((HOSTILE, (draw(tmp_path / "<b>.png"),)),)),
    )
    now = replace(NOW, words=HOSTILE, command=HOSTILE)
    page = rendered(Report("t", now=now, training=training), tmp_path)
    assert not {"script", "b"} & {tag for tag, _ in page.elements}
    assert page.text.count(" ".join(HOSTILE.split())) >= 8


def test_the_pictures_drawn_so_far_are_a_column_for_each_time_and_a_row_for_each_prompt(tmp_path: Path) -> None:
    files = {name: draw(tmp_path / f"{name}.png") for name in ("a0", "a5", "b0", "b5")}
    rows = (("first", (files["a0"], files["a5"])), ("second", (files["b0"], files["b5"])))
    report = Report("t", training=Training(progress=Progress(("base", "step 5"), rows, draw(tmp_path / "all.png"))))
    page = rendered(report, tmp_path)
    assert [image["src"] for image in page.all("img")] == ["../a0.png", "../a5.png", "../b0.png", "../b5.png"]
    assert [image["alt"] for image in page.all("img")][1:3] == ["step 5: first", "base: second"]
    assert "base step 5 first second" in page.text and page.all("a", href="../all.png")


def heights(line: dict[str, str | None]) -> list[float]:
    return [float(point.split(",")[1]) for point in (line["points"] or "").split()]


def test_the_gap_lies_within_its_interval(tmp_path: Path) -> None:
    gap = (curve(-0.1, 0.1, 0.2), curve(0.0, 0.2, 0.4), curve(0.1, 0.3, 0.6))
    page = rendered(Report("t", training=Training(gap=gap)), tmp_path)
    (area,), (line,) = page.all("polygon", class_="area"), page.all("polyline", class_="curve")
    around, middle = heights(area), heights(line)
    assert len(around) == 6
    for high, value, low in zip(around[:3], middle, around[:2:-1], strict=True):
        assert high < value < low, "what is more is drawn higher up"


def test_bands_other_sets_and_charts_are_drawn(tmp_path: Path) -> None:
    training = Training(
        validation=curve(0.0, -0.1),
        others=(curve(0.0, -0.3, name="training pictures"),),
        bands=(curve(0.0, -0.1), curve(0.0, -0.2), curve(0.0, float("nan"))),
        charts=(Chart("Memory", "most", curve(1.0, 2.0)), Chart("One", "a dot", curve(1.0))),
    )
    page = rendered(Report("t", training=training), tmp_path)
    assert len(page.all("polyline", class_="band")) == 3
    (other,) = page.all("polyline", class_="other")
    assert heights(other)[1] > heights(page.all("polyline", class_="curve")[0])[1], "it is lower, for it is less"
    for words in ("training pictures", "least noise", "most noise", "Memory most", "One a dot"):
        assert words in page.text
    assert all("nan" not in (line["points"] or "") for line in page.all("polyline"))
