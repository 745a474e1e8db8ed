"""What opinions say together: shares with intervals, and which of two versions is preferred."""

import math

import pytest
from scipy.stats import binomtest

from bespoke.evaluation.preference import Vote, win_rate
from bespoke.feedback import Opinion, Sample, Store
from bespoke.feedback.keeping import keep
from bespoke.feedback.rated import Rated, rated


def drawn(store: Store, count: int, model: str, **told) -> list[str]:
    """The ids of so many new pictures."""
    names = [f"{model.replace('@', '-')}-{number}" for number in range(count)]
    for number, name in enumerate(names):
        store.add(Sample(name, model, f"prompt {number % 3}", seconds=2.0, **told), name.encode())
    return names


def of(found: Rated, model: str):
    return next(one for one in found.versions if one.model == model)


def test_thumbs_become_a_share_with_wilsons_interval(store) -> None:
    names = drawn(store, 12, "m@1")
    for number, name in enumerate(names):
        store.say(Opinion("thumb", name, f"rater {number % 4}", "up" if number < 9 else "down"))
    one = of(rated(store), "m@1")
    outside = binomtest(9, 12).proportion_ci(method="wilson")
    assert (one.liked.hits, one.liked.count, one.liked.value) == (9, 12, 0.75)
    assert (one.liked.low, one.liked.high) == pytest.approx((outside.low, outside.high), abs=1e-9)
    assert (one.raters, one.loudest, one.seconds) == (4, 0.25, 2.0)


def test_of_a_raters_thumbs_for_one_picture_the_last_counts_unless_it_was_taken_back(store) -> None:
    (name,) = drawn(store, 1, "m@1")
    for value in ("down", "up", "down"):
        last = store.say(Opinion("thumb", name, "Ann", value))
    store.say(Opinion("thumb", name, "Ben", "up"))
    assert (of(rated(store), "m@1").liked.hits, of(rated(store), "m@1").liked.count) == (1, 2)
    store.withdraw(last.id, "Ann")
    assert (of(rated(store), "m@1").liked.hits, of(rated(store), "m@1").liked.count) == (2, 2)


def test_flags_are_counted_by_reason_and_pictures_once(store) -> None:
    names = drawn(store, 10, "m@1")
    drawn(store, 3, "m@2", canary=True)
    store.add(Sample("unsafe", "m@1", "x", flagged=True, seconds=2.0), b"black")
    for rater in ("Ann", "Ben"):
        store.say(Opinion("flag", names[0], rater, "copy"))
    store.say(Opinion("flag", names[1], "Ann", "person"))
    store.say(Opinion("caption", names[2], "Ann", words="a better one"))
    store.say(Opinion("flag", "never-kept", "Ann", "broken", model="m@1"))
    found = rated(store)
    one = of(found, "m@1")
    assert (one.complained.hits, one.complained.count, one.unsafe.hits, one.unsafe.count) == (2, 11, 1, 11)
    assert one.flags == {"broken": 1, "copy": 2, "person": 1} and one.captions == 1
    assert [each.model for each in found.versions] == ["m@1"], "canaries are no service to anybody"


def test_choices_become_win_rates_of_versions(store) -> None:
    first, second = drawn(store, 9, "m@1"), drawn(store, 9, "m@2")
    answers = ["first"] * 6 + ["second", "tie", "first"]
    votes = []
    for number, (one, two, value) in enumerate(zip(first, second, answers, strict=True)):
        store.say(Opinion("choice", one, "Ann", "second", other=two))
        turned = {"first": "second", "second": "first", "tie": "tie"}[value]  # the same pair, laid out otherwise
        store.say(Opinion("choice", two, "Ann", turned, other=one))
        score = {"first": 1.0, "second": 0.0, "tie": 0.5}[value]
        votes.append(Vote("Ann", f"prompt {number % 3}", f"{number}", "m@1", "m@2", score))
    store.say(Opinion("choice", first[0], "Ann", "first", other=first[1]))  # of one version: says nothing of versions
    (found,) = rated(store).win_rates
    assert found == win_rate(votes, "m@1", "m@2")
    assert (found.wins, found.ties, found.losses) == (7, 1, 1) and found.effective <= 9
    keep(store, days=0.0)
    assert rated(store).win_rates == (found,), "it stays when the pictures are gone"


def test_three_versions_have_strengths_and_one_loud_rater_is_named(store) -> None:
    names = {model: drawn(store, 4, model) for model in ("m@1", "m@2", "m@3")}
    for one, two in (("m@1", "m@2"), ("m@2", "m@3")):
        for left, right in zip(names[one], names[two], strict=True):
            store.say(Opinion("choice", left, "Ann", "first", other=right))
    for name in names["m@1"]:
        store.say(Opinion("thumb", name, "Ann", "up"))
    found = rated(store)
    assert [one.model for one in found.strengths] == ["m@1", "m@2", "m@3"]
    assert {(one.first, one.second) for one in found.win_rates} == {("m@1", "m@2"), ("m@2", "m@3")}
    assert any("100% of its 4 thumbs came from one rater" in note for note in found.notes)
    assert any("lost no comparison" in note for note in found.notes)


def test_an_empty_store_says_nothing_and_json_knows_no_infinity(store) -> None:
    assert not any(rated(store).to_json().values())
    store.say(Opinion("flag", "elsewhere", "Ann", "other", model="m@1"))
    found = rated(store)
    assert math.isnan(of(found, "m@1").liked.value) and (of(found, "m@1").liked.low, of(found, "m@1").liked.high) == (
        0,
        1,
    )
    (one,) = found.to_json()["versions"]
    assert one["liked"]["value"] is None and one["seconds"] is None
