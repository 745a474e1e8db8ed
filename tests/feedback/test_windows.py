"""Samples to windows: days in UTC, one picture of each prompt a day, small days joined, large ones thinned."""

from dataclasses import dataclass
from datetime import date

import pytest

from bespoke.errors import BespokeError
from bespoke.feedback.windows import first_part, last_part, spans, thinned

AFTER = date(2026, 12, 31)


@dataclass(frozen=True)
class Kept:
    """A sample as the store of feedback has it, as far as it is asked."""

    id: str
    at: str
    prompt: str
    model: str = "style@7"
    flagged: bool = False
    canary: bool = False
    seconds: float = 1.0


def day(number: int, count: int, **more) -> list[Kept]:
    return [
        Kept(f"{number}-{n}", f"2026-03-{number:02d}T{n // 60:02d}:{n % 60:02d}:00+00:00", f"p {number} {n}", **more)
        for n in range(count)
    ]


def test_a_window_is_a_day_in_utc_of_one_version_without_canaries():
    samples = [*day(1, 3), *day(2, 3), *day(2, 5, model="style@6"), *day(1, 2, canary=True)]
    samples.append(Kept("late", "2026-03-01T23:30:00-02:00", "abroad"))  # which is the second, in UTC
    found = spans(samples[::-1], "style@7", AFTER, least=2, most=10)
    assert [(one.day, len(one.samples)) for one in found] == [("2026-03-01", 3), ("2026-03-02", 4)]
    assert [sample.id for sample in found[1].samples] == ["2-0", "2-1", "2-2", "late"]


def test_of_each_prompt_the_first_picture_of_a_day_counts():
    again = [
        Kept("again", "2026-03-01T12:00:00+00:00", "p 1 0"),
        Kept("tomorrow", "2026-03-02T00:00:00+00:00", "p 1 0"),
    ]
    found = spans([*again, *day(1, 2), *day(2, 1)], "style@7", AFTER, least=2, most=10)
    assert [sample.id for one in found for sample in one.samples] == ["1-0", "1-1", "2-0", "tomorrow"]


def test_small_days_are_joined_and_the_rest_waits():
    samples = [*day(1, 2), *day(2, 2), *day(3, 5), *day(4, 1)]
    found = spans(samples, "style@7", AFTER, least=4, most=10)
    assert [(one.day, len(one.samples)) for one in found] == [("2026-03-02", 4), ("2026-03-03", 5)]


def test_only_days_that_are_over_count():
    found = spans([*day(1, 3), *day(2, 3)], "style@7", date(2026, 3, 2), least=2, most=10)
    assert [one.day for one in found] == ["2026-03-01"]


def test_large_days_are_thinned_the_same_way_each_time_and_all_over_the_day():
    samples = day(1, 600)
    chosen = thinned(samples, 50)
    assert chosen == thinned(samples, 50) and len(chosen) == 50
    assert chosen == sorted(chosen, key=lambda s: s.at)
    assert 15 < sum(int(sample.id.split("-")[1]) < 300 for sample in chosen) < 35
    assert thinned(samples, 1000) == samples


def test_the_reference_is_the_first_days_that_have_enough_or_another_versions_last_pictures():
    found = spans([*day(1, 4), *day(2, 4), *day(3, 4)], "style@7", AFTER, least=2, most=10)
    reference, rest = first_part(found, 6)
    assert (reference.day, len(reference.samples)) == ("2026-03-02", 6)
    assert [one.day for one in rest] == ["2026-03-03"]
    assert [sample.id for sample in last_part(found, 6, "style@6").samples] == [
        "2-2",
        "2-3",
        *(f"3-{n}" for n in range(4)),
    ]


def test_too_few_for_a_reference():
    found = spans(day(1, 4), "style@7", AFTER, least=2, most=10)
    with pytest.raises(BespokeError, match="takes 20 pictures of different prompts, and whole days have 4") as error:
        first_part(found, 20)
    assert "drift.reference_pictures" in error.value.hint
    with pytest.raises(BespokeError, match=r"style@6 has 0"):
        last_part([], 20, "style@6")
