"""Verdicts: they say no more than the figures show, and margins set before the training decide."""

from dataclasses import replace

import pytest

from bespoke.evaluation import Change, Margins, Row, combined, verdict
from bespoke.records import Score

INF, NAN = float("inf"), float("nan")
MARGINS = Margins(max_distance_ratio=0.5, max_agreement_loss=0.05, max_copy_rate=0.05, max_membership=0.75)
PERHAPS, LESS = "closer, but perhaps less than asked", "closer, but less than asked"
KID = "kid_pico_clip_reference"


def figure(name, interval, better="higher", note=""):
    value, low, high = interval
    return Score(name, value, low, high, 60, better, note)


def distance(base=(1.0, 0.8, 1.2), tuned=(0.4, 0.3, 0.5), ratio=(0.4, 0.3, 0.6), note=""):
    scores = {"base": figure(KID, base, "lower"), "tuned": figure(KID, tuned, "lower", note)}
    change = Change(tuned[0] - base[0], -1.0, -0.1, ratio, 0.001)
    return Row("distance", KID, "KID on pico-CLIP features", "", scores, {"tuned": change}, main=True)


def follows(name, ratio=(1.0, 0.99, 1.01)):
    scores = {model: figure(name, (60.0, 59.0, 61.0)) for model in ("base", "tuned")}
    return Row("agreement", name, name, "", scores, {"tuned": Change(0.0, -1.0, 1.0, ratio, 0.5)}, main=True)


def copies(base=(0.01, 0.0, 0.03), tuned=(0.01, 0.0, 0.03), change=(0.0, -0.02, 0.02)):
    scores = {"base": figure("copy_rate", base, "lower"), "tuned": figure("copy_rate", tuned, "lower")}
    return Row(
        "copying",
        "copy_rate",
        "Copies",
        "",
        scores,
        {"tuned": Change(change[0], change[1], change[2], (NAN, -INF, INF))},
    )


def redrawn(auc, change):
    copied = copies((0.5, 0.4, 0.6), auc, change)
    scores = {model: figure("membership_auc", (s.value, s.low, s.high), "lower") for model, s in copied.scores.items()}
    return replace(copied, name="membership_auc", label="Redrawn", scores=scores)


def look(name, note=""):
    scores = {"base": figure(name, (0.2, 0.1, 0.3)), "tuned": figure(name, (0.5, 0.4, 0.6), note=note)}
    return Row("look", name, name.removeprefix("look_"), "", scores)


def judged(*rows, margins=MARGINS):
    return verdict(combined("base", ("base", "tuned"), rows, distance=KID), "tuned", margins)


def test_a_good_tuning_passes_every_question_in_their_order():
    rows = (distance(), follows("agreement_reference"), follows("agreement_general"), follows("agreement_complex"),
            copies(), look("look_saturation"))  # fmt: skip
    found = judged(*rows)
    assert [one.ok for one in found] == [True] * 6
    assert [one.answer for one in found] == ["yes: 40 % to 70 % of the way", "yes", "yes", "yes", "no", "no"]
    assert [one.name for one in found][:5] == [row.name for row in rows][:5]
    assert "Copies training pictures?" in found[4].question


def test_what_was_not_measured_is_not_judged():
    assert [one.name for one in judged(distance(), follows("agreement_general"))] == [KID, "agreement_general"]


@pytest.mark.parametrize(
    ("base", "tuned", "ratio", "answer", "ok"),
    [
        ((1.0, 0.8, 1.2), (0.4, 0.3, 0.5), (0.4, 0.3, 0.6), "yes: 40 % to 70 % of the way", True),
        ((1.0, 0.8, 1.2), (0.0, -0.1, 0.1), (0.0, -0.1, 0.1), "yes", True),
        ((1.0, 0.8, 1.2), (0.4, 0.1, 0.9), (0.4, 0.1, 0.9), f"{PERHAPS}: 10 % to 90 % of the way", None),
        ((1.0, 0.8, 1.2), (0.6, 0.5, 0.7), (0.6, 0.45, 0.7), f"{PERHAPS}: 30 % to 55 % of the way", None),
        ((1.0, 0.8, 1.2), (0.7, 0.6, 0.75), (0.7, 0.6, 0.8), f"{LESS}: 20 % to 40 % of the way", False),
        ((1.0, 0.8, 1.2), (1.0, 0.8, 1.2), (1.0, 0.9, 1.1), "no", False),
        ((1.0, 0.8, 1.2), (2.0, 1.8, 2.2), (2.0, 1.7, 2.4), "no", False),
        ((1.0, 0.1, 2.0), (0.7, 0.1, 1.4), (0.7, 0.3, 1.2), "cannot tell", None),
        ((0.1, -0.2, 0.5), (0.0, -0.2, 0.3), (0.0, -INF, INF), "cannot tell", None),
        ((-0.1, -0.2, 0.1), (-0.1, -0.2, 0.1), (NAN, -INF, INF), "cannot tell", None),
    ],
)  # fmt: skip
def test_closer_is_said_only_as_far_as_the_intervals_show(base, tuned, ratio, answer, ok):
    (found,) = judged(distance(base, tuned, ratio))
    assert (found.answer, found.ok) == (answer, ok)
    assert "nan" not in found.detail and "inf" not in found.detail
    assert ("do not overlap" in found.detail) == (tuned[2] < base[1] or base[2] < tuned[1])


def test_a_note_of_the_score_is_in_the_verdict():
    assert "It rests on only 12 pictures." in judged(distance(note="rests on only 12 pictures"))[0].detail


@pytest.mark.parametrize(
    ("ratio", "ok"),
    [((0.98, 0.96, 1.0), True), ((0.97, 0.94, 1.0), None), ((0.94, 0.9, 0.96), None), ((0.9, 0.85, 0.94), False)],
)
@pytest.mark.parametrize("name", ["agreement_reference", "agreement_general", "agreement_complex"])
def test_agreement_is_judged_by_its_whole_interval(name, ratio, ok):
    (found,) = judged(follows(name, ratio))
    assert found.ok is ok and found.answer == {True: "yes", False: "no", None: "cannot tell"}[ok]
    assert f"{100 * ratio[0]:.0f} % ({100 * ratio[1]:.0f} % to {100 * ratio[2]:.0f} %)" in found.detail
    assert "asked for was at least 95 %" in found.detail


@pytest.mark.parametrize(
    ("tuned", "change", "answer", "ok"),
    [
        ((0.01, 0.0, 0.04), (0.0, -0.02, 0.02), "no", True),
        ((0.3, 0.2, 0.4), (0.29, 0.2, 0.4), "yes: 30 % of its pictures", False),
        ((0.3, 0.2, 0.4), (0.0, -0.1, 0.1), "cannot tell", None),  # the base, which saw nothing, does as much
        ((0.1, 0.03, 0.2), (0.09, 0.02, 0.2), "cannot tell", None),
        ((0.03, 0.01, 0.08), (0.0, -0.02, 0.05), "hardly", True),
        ((0.03, 0.01, 0.08), (0.03, 0.01, 0.07), "hardly", None),
    ],
)
def test_copying_is_judged_beside_a_model_that_saw_nothing(tuned, change, answer, ok):
    (found,) = judged(copies(tuned=tuned, change=change))
    assert (found.answer, found.ok) == (answer, ok)


@pytest.mark.parametrize(
    ("auc", "change", "answer", "ok"),
    [
        ((0.55, 0.45, 0.65), (0.05, -0.1, 0.2), "no", True),
        ((0.97, 0.8, 0.99), (0.47, 0.25, 0.6), "yes: nearer to them than to unseen ones 97 % of the time", False),
        ((0.97, 0.8, 0.99), (0.0, -0.1, 0.1), "cannot tell", None),  # so does the base: these captions are easier
        ((0.8, 0.6, 0.9), (0.3, 0.1, 0.4), "cannot tell", None),
    ],
)
def test_redrawing_is_judged_beside_captions_of_unseen_pictures(auc, change, answer, ok):
    (found,) = judged(redrawn(auc, change))
    assert (found.answer, found.ok, found.name) == (answer, ok, "membership_auc")
    assert found.question == "Redraws training pictures when asked with their captions?"


def test_a_look_beyond_both_is_named():
    (found,) = judged(look("look_saturation", "Saturation is beyond both."), look("look_contrast"))
    assert (found.answer, found.ok, found.detail) == ("yes", False, "Saturation is beyond both.")


def test_margins_decide():
    for most, ok in ((0.5, True), (0.35, None), (0.2, False)):
        assert judged(distance(), margins=replace(MARGINS, max_distance_ratio=most))[0].ok is ok
    for loss, ok in ((0.15, True), (0.1, None), (0.05, False)):
        rows = follows("agreement_general", (0.9, 0.88, 0.92))
        assert judged(rows, margins=replace(MARGINS, max_agreement_loss=loss))[0].ok is ok
    for most, ok in ((0.5, True), (0.1, False)):
        rows = copies(tuned=(0.3, 0.2, 0.4), change=(0.29, 0.2, 0.4))
        assert judged(rows, margins=replace(MARGINS, max_copy_rate=most))[0].ok is ok


def test_several_models_are_judged_one_by_one():
    one = distance()
    scores = {**one.scores, "other": replace(one.scores["base"])}
    both = replace(one, scores=scores, changes={**one.changes, "other": Change(0.0, -0.1, 0.1, (1.0, 0.9, 1.1), 1.0)})
    card = combined("base", ("base", "tuned", "other"), [both], distance=KID)
    assert [verdict(card, model, MARGINS)[0].ok for model in card.tuned] == [True, False]
