"""Laws of what is counted: tokens by time, pictures that are kept, labels of figures."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bespoke.serving.jobs import Held, Picture
from bespoke.serving.kept import Kept, named
from bespoke.serving.limits import Buckets
from bespoke.serving.metrics import MOST_VALUES, OTHER, Metrics
from bespoke.serving.wishes import Refusal

RATES = st.floats(0.5, 600.0)
ROOMS = st.integers(1, 12)


class Clock:
    """A time that goes on as it is told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def taken(buckets: Buckets, *share: object) -> float | None:
    """None, or the seconds after which to ask again."""
    try:
        buckets.take(*share)
    except Refusal as refusal:
        return refusal.retry_after if refusal.status == 429 else None
    return None


@given(RATES, ROOMS, st.lists(st.tuples(st.floats(0, 90), st.integers(1, 12)), max_size=40))
def test_no_stretch_of_time_has_more_than_its_rate_and_one_bucket(rate, room, asked):
    clock = Clock()
    buckets, granted = Buckets(clock), []
    for pause, count in asked:
        clock.now += pause
        if taken(buckets, "a", count, rate, room) is None:
            granted.append((clock.now, count))
    for first in range(len(granted)):
        for last in range(first, len(granted)):
            seconds = granted[last][0] - granted[first][0]
            most = max(rate, room) + seconds * rate / 60
            assert sum(count for _, count in granted[first : last + 1]) <= most + 1e-3


@given(RATES, ROOMS, st.data())
def test_who_comes_back_as_told_gets_them_and_not_before(rate, room, data):
    clock = Clock()
    buckets = Buckets(clock)
    count = data.draw(st.integers(1, room))
    while (wait := taken(buckets, "a", count, rate, room)) is None:
        pass
    clock.now += wait * 0.99
    assert taken(buckets, "a", count, rate, room) is not None
    clock.now += wait * 0.01 + 1e-6
    assert taken(buckets, "a", count, rate, room) is None


@given(RATES, ROOMS)
def test_callers_do_not_share_and_what_is_given_back_is_there(rate, room):
    buckets = Buckets(Clock())
    while taken(buckets, "a", room, rate, room) is None:
        pass
    assert taken(buckets, "b", room, rate, room) is None
    buckets.give_back("a", room, rate, room)
    assert taken(buckets, "a", room, rate, room) is None
    assert taken(buckets, "a", room, rate, room) is not None


def test_a_rate_of_zero_is_none():
    buckets = Buckets(Clock())
    assert [taken(buckets, "a", 10**6, 0.0, 1) for _ in range(3)] == [None] * 3


def picture(size: int) -> Picture:
    return Picture(bytes(size), "png", 1, 1, 0, "m")


@given(st.lists(st.tuples(st.floats(0, 20), st.integers(1, 60)), max_size=40))
def test_pictures_are_kept_for_their_time_as_far_as_they_fit(given_ones):
    clock = Clock()
    kept, made = Kept(30.0, 100, clock), []
    for pause, size in given_ones:
        clock.now += pause
        made.append((named(kept, picture(size)), clock.now, size))
        there = [kept.find(name) is not None for name, _, _ in made]
        room = 100
        for (_, since, each), is_there in reversed(list(zip(made, there, strict=True))):
            room -= each
            assert is_there == (room >= 0 and clock.now < since + 30.0)
        assert kept.bytes <= 100
    assert len({name for name, _, _ in made}) == len(made)


def test_a_picture_that_is_too_large_is_kept_until_the_next():
    kept = Kept(30.0, 100, Clock())
    large = named(kept, picture(500))
    assert kept.find(large) is not None
    small = named(kept, picture(1))
    assert kept.find(large) is None and kept.find(small) is not None


def test_figures_say_what_happened():
    metrics = Metrics()
    metrics.queued(3, 2)
    metrics.batch(4, 0.5)
    metrics.stepped()
    metrics.drawn("my-style@7")
    metrics.failed("worker_lost")
    metrics.restarted()
    metrics.workers(2)
    metrics.held(0, Held(models=2, adapters=5, size=1000))
    metrics.answered("/v1/models", "GET", 404, 0.02, "model_not_found")
    text = metrics.text().decode()
    for line in (
        "bespoke_queued_pictures 3.0", "bespoke_drawing_pictures 2.0", 'bespoke_batch_pictures_bucket{le="4.0"} 1.0',
        "bespoke_batch_seconds_sum 0.5", "bespoke_steps_total 1.0", 'bespoke_pictures_total{model="my-style@7"} 1.0',
        'bespoke_failed_pictures_total{code="worker_lost"} 1.0', "bespoke_worker_restarts_total 1.0",
        "bespoke_workers 2.0", 'bespoke_models_loaded{worker="0"} 2.0', 'bespoke_adapters_loaded{worker="0"} 5.0',
        'bespoke_worker_memory_bytes{worker="0"} 1000.0', 'bespoke_errors_total{code="model_not_found"} 1.0',
        'bespoke_http_requests_total{method="GET",route="/v1/models",status="404"} 1.0',
        'bespoke_http_request_seconds_count{route="/v1/models"} 1.0',
    ):  # fmt: skip
        assert f"\n{line}\n" in text, line


def test_figures_do_not_grow_with_what_callers_think_of():
    metrics = Metrics()
    for number in range(3 * MOST_VALUES):
        metrics.drawn(f"m{number}")
        metrics.answered("unknown", f"M{number}", 404, 0.1, f"c{number}")
    text = metrics.text().decode()
    assert text.count("bespoke_pictures_total{") == MOST_VALUES + 1
    assert f'bespoke_pictures_total{{model="{OTHER}"}} {2 * MOST_VALUES}.0' in text
    assert text.count("bespoke_http_requests_total{") == MOST_VALUES + 1


@pytest.mark.parametrize("label", ["le", "status"])
def test_two_services_in_a_process_do_not_mix(label):
    first, second = Metrics(), Metrics()
    first.drawn("m")
    assert 'model="m"' in first.text().decode() and 'model="m"' not in second.text().decode()
    assert label in first.text().decode() or label == "status"
