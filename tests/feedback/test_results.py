"""What ratings say, and their tables and JSON."""

import csv
import io
import json
from dataclasses import replace

import pytest

from bespoke.evaluation.preference import Vote, strengths, win_rate
from bespoke.feedback import Comparison, Item, Rating
from bespoke.feedback.results import COLUMNS, results, to_csv

MODELS = ("z-base", "tuned", "a-other")


def of(models=MODELS, items=8, repeated=0.25):
    return Comparison(models, tuple(Item(f"{n}", f"thing {n % 4}", ()) for n in range(items)), 0, repeated)


def rated(comparison, rater, choose, count=None):
    """A rater's ratings; `choose` says left, right or tie to a trial."""
    return [
        Rating(rater, t.position, t.item, t.left, t.right, t.repeated, choose(t), "2025-10-09T12:00:00+00:00")
        for t in comparison.trials(rater)[:count]
    ]


def prefers(model):
    return lambda trial: {trial.left: "left", trial.right: "right"}.get(model, "tie")


def test_a_rater_who_always_prefers_one_model():
    comparison = of(MODELS[:2])
    found = results(comparison, rated(comparison, "Ann", prefers("tuned")))
    (rate,) = found.win_rates
    assert (rate.first, rate.second, rate.wins, rate.ties, rate.losses) == ("z-base", "tuned", 0, 0, 8)
    assert rate.preferred == "tuned" or rate.effective == 4
    (rater,) = found.raters
    assert (rater.done, rater.total, rater.finished, rater.repeated, rater.same) == (10, 10, True, 2, 2)
    assert found.within is not None and found.within.share == 1 and found.between is None and not found.strengths


def test_figures_are_those_of_the_votes_of_first_showings():
    comparison = of()
    choose = {"Ann": prefers("tuned"), "Ben": prefers("a-other"), "Cy": lambda trial: ("left", "tie")[trial.item % 2]}
    ratings = [rating for rater, how in choose.items() for rating in rated(comparison, rater, how)]
    votes = [
        Vote(
            r.rater,
            f"thing {r.item % 4}",
            f"{r.item}",
            r.left,
            r.right,
            {"left": 1.0, "right": 0.0, "tie": 0.5}[r.choice],
        )
        for r in ratings
        if not r.repeated
    ]
    found = results(comparison, ratings)
    assert found.win_rates[1] == win_rate(votes, "z-base", "a-other")
    expected = {s.model: s.value for s in strengths(votes, MODELS)}
    assert {s.model: s.value for s in found.strengths} == pytest.approx(expected)
    assert [s.value for s in found.strengths] == sorted(expected.values(), reverse=True)
    assert found.between is not None and found.between.units == 24


def test_repetitions_count_for_nothing_else():
    comparison = of(MODELS[:2])
    ratings = rated(comparison, "Ann", prefers("tuned"))
    contrary = [replace(r, choice={"left": "right", "right": "left"}[r.choice]) if r.repeated else r for r in ratings]
    found, other = results(comparison, ratings), results(comparison, contrary)
    assert found.win_rates == other.win_rates and other.within is not None and other.within.share == 0
    assert (found.raters[0].same, other.raters[0].same) == (2, 0)


def test_raters_who_agree_and_who_never_do():
    comparison = of(MODELS[:2])
    for second, share in (("tuned", 1.0), ("z-base", 0.0)):
        found = results(
            comparison, rated(comparison, "Ann", prefers("tuned")) + rated(comparison, "Ben", prefers(second))
        )
        assert found.between is not None and found.between.share == share and found.between.units == 8


def test_a_rater_who_looks_at_one_side_only_is_told_and_others_are_not():
    comparison = of(MODELS[:2], items=40)
    sided, fair = rated(comparison, "Ann", lambda _: "left"), rated(comparison, "Ben", prefers("tuned"))
    notes = results(comparison, sided + fair).notes
    assert len(notes) == 1 and notes[0].startswith("Ann chose the left picture 50 times and the right one 0 times")


def test_masked_results_are_the_same_under_other_names():
    comparison = of()
    ratings = rated(comparison, "Ann", prefers("tuned")) + rated(comparison, "Ben", lambda trial: "left")
    masks = comparison.masks()
    plain, masked = results(comparison, ratings), results(comparison, ratings, masks)
    said = json.dumps(masked.to_json())
    assert not [model for model in MODELS if model in said] and masked.models == ("model 1", "model 2", "model 3")
    called = {frozenset((masks[r.first], masks[r.second])): sorted((r.wins, r.losses)) for r in plain.win_rates}
    assert {frozenset((r.first, r.second)): sorted((r.wins, r.losses)) for r in masked.win_rates} == called
    expected = {masks[s.model]: s.value for s in plain.strengths}
    assert {s.model: s.value for s in masked.strengths} == pytest.approx(expected)


def test_results_are_there_at_any_time():
    comparison = of()
    for count in (0, 1, 2, 11):
        ratings = rated(comparison, "Ann", lambda trial: "left", count)
        content = json.loads(json.dumps(results(comparison, ratings).to_json(), allow_nan=False))
        assert sum(rate["wins"] + rate["losses"] for rate in content["win_rates"]) <= count
        assert [rater["finished"] for rater in content["raters"]] == [False] * bool(count)
    assert json.loads(json.dumps(results(comparison, []).to_json()))["win_rates"][0]["value"] is None


def test_the_table_holds_every_rating_and_is_no_formula():
    comparison = replace(of(MODELS[:2]), items=(Item("0", '=HYPERLINK("x"), a "b"\nc', ()), Item("1", "ä", ())))
    ratings = rated(comparison, "-Ann", prefers("tuned"))
    rows = list(csv.DictReader(io.StringIO(to_csv(comparison, ratings), newline="")))
    assert tuple(rows[0]) == COLUMNS and len(rows) == len(ratings)
    assert {row["preferred"] for row in rows} == {"tuned"} and {row["rater"] for row in rows} == {"'-Ann"}
    prompts = {comparison.items[n].name: prompt for n, prompt in enumerate(("'" + comparison.items[0].prompt, "ä"))}
    assert all(row["prompt"] == prompts[row["item"]] for row in rows)
    assert [int(row["position"]) for row in rows] == [rating.position for rating in ratings]
