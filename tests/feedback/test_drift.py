"""The watch: it rings for what changed and says what, seldom for nothing, and goes on where it was left."""

import numpy as np
import pytest

from bespoke.errors import BespokeError
from bespoke.feedback.cusum import Sums
from bespoke.feedback.drift import FIGURES, Budget, Watch, Window, advice

WIDTH = 4


def window(seed: int, count: int, *, pictures: float = 0.0, agreement: float = 0.0, prompts: float = 0.0) -> Window:
    draw = np.random.default_rng(seed)
    return Window(
        f"2026-01-{seed % 28 + 1:02d}",
        {
            "pictures": draw.normal(pictures, 1, (count, WIDTH)),
            "prompts": draw.normal(prompts, 1, (count, WIDTH)),
        },
        {
            "agreement": draw.normal(30 + agreement, 3, count),
            "flagged": (draw.random(count) < 0.03).astype(float),
            "seconds": draw.lognormal(0, 1, count),
        },
    )


def watch(**more) -> Watch:
    return Watch(window(1000, 300), **more)


def alarms(made: Watch, days: int, **changed: float) -> list[list[tuple[str, str]]]:
    readings = [made.read(window(2000 + n, 30, **changed)) for n in range(days)]
    return [[(one.figure, one.rang) for one in day if one.rang] for day in readings]


def test_what_is_allowed_is_shared_and_nothing_is_left_over():
    budget = Budget(0.5, 200)
    for figures in (1, 5, 11):
        spent = figures * (budget.days * budget.level(figures) + budget.chance(figures))
        assert spent == pytest.approx(budget.false_alarms)


def test_a_large_change_rings_at_once_and_only_where_it_is():
    assert alarms(watch(), 1, pictures=1.5) == [[("pictures", "at once")]]
    assert alarms(watch(), 1, agreement=-4.0) == [[("agreement", "at once")]]
    assert alarms(watch(), 1, prompts=1.5) == [[("prompts", "at once")]]


def test_a_small_change_that_stays_rings_over_days():
    rang = alarms(watch(), 12, agreement=-1.2)
    first = next(n for n, day in enumerate(rang) if day)
    assert 0 < first < 12 and rang[first] == [("agreement", "over days")]


def test_quiet_days_ring_no_more_than_is_allowed():
    allowed, days = 4.0, 30
    counts: list[int] = []
    for history in range(8):
        reference = window(5000 + history, 200)
        values = Window(reference.day, {}, reference.values)
        made = Watch(values, Budget(allowed, days))
        rang = 0
        for n in range(days):
            now = window(10_000 + 100 * history + n, 20)
            rang += sum(bool(one.rang) for one in made.read(Window(now.day, {}, now.values)))
        counts.append(rang)
    assert 0 < np.mean(counts) <= allowed + 3 * (allowed / len(counts)) ** 0.5


def test_a_watch_that_was_left_and_taken_up_is_the_one_that_went_on():
    days = [window(3000 + n, 25, agreement=-0.8) for n in range(8)]
    whole = watch()
    went_on = [whole.read(day) for day in days]
    first = watch()
    before = [first.read(day) for day in days[:3]]
    taken_up = watch(sums=first.sums)
    assert [*before, *(taken_up.read(day) for day in days[3:])] == went_on


def test_a_chart_begins_anew_after_it_rang():
    made = watch(sums={"agreement": Sums(0.0, 1000.0)})
    (reading,) = (one for one in made.read(window(2000, 30)) if one.figure == "agreement")
    assert reading.rang == "over days" and reading.sums.low > reading.h
    assert made.sums["agreement"] == Sums()


def test_figures_that_a_day_lacks_are_left_as_they_were():
    made = watch(sums={"seconds": Sums(1.0, 0.0)})
    whole = window(2000, 30)
    readings = made.read(Window(whole.day, whole.features, {"agreement": whole.values["agreement"]}))
    assert [one.figure for one in readings] == ["pictures", "agreement", "prompts"]
    assert made.sums["seconds"] == Sums(1.0, 0.0)


def test_what_is_nearer_than_usual_does_not_count_against_features():
    made = watch()
    same = Window("2026-02-01", {"pictures": made.reference.features["pictures"][:30]}, {})
    for _ in range(5):
        (reading,) = made.read(same)
        assert reading.sums.low == 0 and not reading.rang


def test_readings_say_which_way_it_went():
    (reading,) = (one for one in watch().read(window(2000, 30, agreement=-4.0)) if one.rang)
    assert reading.words.startswith("agreement with prompts fell: 2") and ", usually 3" in reading.words
    (reading,) = (one for one in watch().read(window(2000, 30, pictures=1.5)) if one.rang)
    assert reading.words.startswith("pictures as a whole: other than")
    assert reading.psi is None and reading.usual == 0 < reading.value


def test_a_reference_of_nothing_is_refused():
    with pytest.raises(BespokeError, match="nothing to compare with"):
        Watch(Window("2026-01-01", {}, {"agreement": np.zeros(1)}))


def said(canaries: str = "", **changed: float) -> str:
    return " ".join(advice(watch().read(window(2000, 30, **changed)), canaries))


def test_the_advice_follows_from_what_moved():
    assert said() == "" and said("same") == ""
    assert "suspect the model" in said(pictures=1.5)
    assert "most likely people ask for other things" in said(pictures=1.5, prompts=1.5)
    assert "People ask for other things" in said(prompts=1.5)
    assert "the model is the same; what people ask for" in said("same", pictures=1.5, prompts=1.5)
    assert "the model is the same; so look at the settings" in said("same", pictures=1.5)
    assert said("changed", pictures=1.5) == said("changed")
    assert "roll back" in said("changed") and "bits only" in said("other bits")


def test_every_figure_has_its_words():
    assert len({figure.name for figure in FIGURES}) == len(FIGURES)
    assert all(figure.label and figure.explanation.endswith(".") for figure in FIGURES)
