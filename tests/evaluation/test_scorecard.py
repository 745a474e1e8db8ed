"""The scorecard: it keeps what was measured, corrects what is judged, and gives strict JSON."""

import json
import subprocess
import sys

import pytest

from bespoke.evaluation import Change, Instrument, Row, combined
from bespoke.evaluation.significance import holm
from bespoke.records import Score

INF, NAN = float("inf"), float("nan")


def score(name, value, count=60, **more):
    return Score(name, value, value - 0.1, value + 0.1, count, **more)


def row(name, p=0.01, *, main=True, models=("tuned",)):
    scores = {model: score(name, 0.5) for model in ("base", *models)}
    return Row(
        "agreement", name, name, "", scores, {m: Change(0.1, 0.0, 0.2, (1.2, 1.0, 1.4), p) for m in models}, main
    )


def test_p_is_corrected_for_what_is_judged_and_for_nothing_else():
    card = combined(
        "base", ("base", "tuned"), [row("a", 0.01), row("b", 0.02), row("c", 0.001, main=False), row("d", None)]
    )
    assert [card[name].changes["tuned"].corrected for name in "abcd"] == [*holm([0.01, 0.02]), None, None]


def test_each_model_has_questions_of_its_own():
    card = combined(
        "base", ("base", "one", "two"), [row("a", 0.01, models=("one", "two")), row("b", 0.02, models=("two",))]
    )
    assert card["a"].changes["one"].corrected == 0.01 and card["a"].changes["two"].corrected == 0.02
    assert card.tuned == ("one", "two")
    assert list(card.of("one")) == ["a"] and list(card.of("base")) == ["a", "b"]
    assert "a" in card and "z" not in card
    with pytest.raises(KeyError):
        card["z"]


def test_the_record_is_strict_json_even_where_a_ratio_is_unbounded():
    scores = {"base": score("kid", 0.1), "tuned": score("kid", 0.2, better="lower")}
    unbounded = Row("distance", "kid", "KID", "", scores, {"tuned": Change(0.1, -INF, INF, (NAN, -INF, INF), 0.5)})
    instrument = Instrument("CLIP ViT-L/14@336", "ab" * 32, "Pillow bicubic to 336")
    card = combined("base", ("base", "tuned"), [unbounded], instruments=(instrument,), counts={"reference": 60},
                    seeds=(0, 1, 2), distance="kid", unmeasured={"Preference": "no model"})  # fmt: skip
    content = json.loads(json.dumps(card.to_json(), allow_nan=False))
    assert content["changes"]["tuned"]["kid"]["ratio"] == [None, None, None]
    assert Score(**content["scores"]["tuned"]["kid"]) == card["kid"].scores["tuned"]
    told = {"name": instrument.name, "mark": instrument.mark, "resizer": instrument.resizer, "is_fid": False}
    assert content["instruments"] == [told]
    assert content["seeds"] == [0, 1, 2] and content["unmeasured"] == {"Preference": "no model"}
    assert instrument.slug == "clip_vit_l_14_336"


def test_the_room_loads_no_network():
    code = "import sys, bespoke.evaluation.rows, bespoke.evaluation.verdict, bespoke.evaluation; "
    code += "print(*sorted({'torch', 'transformers', 'diffusers'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr
