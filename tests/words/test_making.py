"""The whole verb on pico: what is known is kept, what is not is learnt, what cannot be is refused with its reason."""

import json

import pytest
import torch

from bespoke.models import NewWords, find
from bespoke.words import make_rows
from bespoke.words.lessons import TEMPLATES, contexts, graded, lessons

PICO = find("pico")
BASE = PICO.base
GLOSSES = {"zorblat": "a violin", "quux": "a red apple", "wugly": "an elephant"}
KNOWN = ("hedgehog", "volcano", "saxophone")
WORDS = (*GLOSSES, *KNOWN)
CAPTIONS = ("a zorblat on a blue background", "two zorblats", "a red dog", "an Hedgehog beside a house", "hedgehogs")


def make(reader, words=WORDS, **options):
    return make_rows(words, reader.tokenizer, reader.text_encoder, BASE, captions=CAPTIONS, **options)


def by_word(report):
    return {found.word.surface: found for found in report.words}


@pytest.fixture(scope="module")
def distilled(reader):
    return make(reader, glosses=GLOSSES, method="distilled")


def end(reader, words, prompt):
    """The pooled state, by plain transformers, with words or without."""
    tokenizer = words.extended(reader.tokenizer) if words else reader.tokenizer
    encoder = words.extend(PICO.text_encoder()) if words else reader.text_encoder
    ids = tokenizer(prompt, padding="max_length", truncation=True, return_tensors="pt").input_ids
    with torch.no_grad():
        return encoder(ids).pooler_output[0]


def alike(a, b):
    return float(torch.nn.functional.cosine_similarity(a, b, dim=0))


def test_known_words_keep_what_prompts_say_and_unknown_ones_come_to_their_gloss(reader, distilled):
    words, report = distilled
    assert [word.surface for word in words.words] == sorted(WORDS)
    assert {found.verdict for found in report.words} <= {"accepted", "to train"}
    for prompt in ("a {} in a box", "my {} and your {}", "look: {}!"):
        for word in KNOWN:
            said = prompt.replace("{}", word)
            assert alike(end(reader, words, said), end(reader, None, said)) > 0.9, said
        for word, gloss in GLOSSES.items():
            bare = gloss.removeprefix("a ").removeprefix("an ")
            meant, said = end(reader, None, prompt.replace("{}", bare)), prompt.replace("{}", word)
            assert alike(end(reader, words, said), meant) > 0.9 > alike(end(reader, None, said), meant), said


def test_methods_stand_in_the_order_that_their_cost_suggests(reader, distilled):
    score = {"distilled": distilled[1]}
    score |= {method: make(reader, glosses=GLOSSES, method=method)[1] for method in ("subwords", "tournament")}
    for word in WORDS:
        best = {method: max(by_word(report)[word].scores.values()) for method, report in score.items()}
        assert best["subwords"] <= best["tournament"] <= best["distilled"], word
        assert next(iter(by_word(score["subwords"])[word].scores)) == "subwords"
    assert by_word(score["tournament"])["zorblat"].word.method == "gloss"
    assert by_word(distilled[1])["hedgehog"].word.method == "distilled"


def test_the_report_says_why(distilled):
    words, report = distilled
    found = by_word(report)["zorblat"]
    assert found.standing.known is False and found.meaning == "gloss" and "violin" in found.near
    assert found.word == next(word for word in words.words if word.surface == "zorblat")
    assert found.word.gloss == "a violin" and found.word.pieces == ("z", "or", "bl", "at</w>")
    assert found.word.figures["nearer"] > 0.9 and found.word.figures["norm"] == pytest.approx(1, abs=0.1)
    assert by_word(report)["hedgehog"].standing.known is None and report.without_vectors == "there are no word vectors"
    assert json.loads(json.dumps(report.to_json()))["words"][0]["word"]["surface"] == "hedgehog"


def test_figures_are_measured_on_prompts_that_taught_nothing(reader, distilled):
    """Over all prompts of the held out kind by hand; the gate's mean lies within what they give."""
    words, report = distilled
    own = lessons(reader, contexts([], ()), [reader.pieces("volcano")])
    ((_, ends),) = graded(reader, words.of_word("volcano"), [own])
    figures = by_word(report)["volcano"].word.figures
    assert len(own) == len(TEMPLATES)
    assert float(ends.min()) - 1e-4 <= figures["kept, least"] <= figures["kept"] <= float(ends.max())


def test_the_order_of_words_does_not_matter_and_the_seed_does(reader):
    one, other = (make(reader, words, glosses=GLOSSES) for words in (WORDS, WORDS[::-1]))
    assert torch.equal(one[0].rows["clip_l"], other[0].rows["clip_l"]) and one[1] == other[1]
    assert make(reader, WORDS, glosses=GLOSSES, seed=1)[1].words != one[1].words


def test_word_vectors_say_what_unknown_words_are_like(reader, planted):
    _, report = make(reader, ["zorblat", "wugly"], vectors=planted, method="vectors")
    found = by_word(report)["zorblat"]
    assert report.maps[0].usable and not report.without_vectors
    assert found.meaning == "neighbours" and found.verdict == "accepted"
    assert set(found.neighbours[:2]) == {"violin", "guitar"} and set(found.scores) == {"neighbours", "mapped", "blend"}
    assert found.word.figures["neighbours"] >= 1
    lost, told = make(reader, ["zorblat", "wugly"], vectors=planted, method="shuffled", strict=False)
    assert len(lost.words) == 2 and all(word.method.endswith(", shuffled") for word in lost.words)
    for word in ("zorblat", "wugly"):
        assert by_word(told)[word].word.figures["nearer"] < by_word(report)[word].word.figures["nearer"]
        assert by_word(told)[word].neighbours == by_word(report)[word].neighbours
    strict, _ = make(reader, ["zorblat", "wugly"], vectors=planted, method="shuffled")
    refused = {found.word.surface for found in told.words if found.verdict == "refused"}
    assert {word.surface for word in strict.words} == {"zorblat", "wugly"} - refused


def test_vectors_that_are_worth_nothing_are_said_to_be(reader, shuffled, few, planted):
    for vectors, why in ((shuffled, "3 times are needed"), (few, "a map needs 50"), (None, "no word vectors")):
        words, report = make(reader, ["zorblat"], vectors=vectors, method="vectors")
        assert words.words == () and why in report.without_vectors
        assert report.words[0].verdict == "refused" and why in report.words[0].reason
    words, report = make(reader, ["blicket"], vectors=planted, method="vectors")
    assert words.words == () and report.words[0].reason == "the word vectors do not know it"
    assert [word.surface for word in make(reader, ["zorblat"], vectors=few)[0].words] == ["zorblat"]


def test_what_cannot_be_a_token_is_refused_and_the_rest_is_made(reader):
    aliases = {"Zorblat": ["zorblats", "cat", "quux", "ZORBLAT"], "quux": ["zorblats", "kuux"]}
    odd = ["cat", "te", "!!", "<|endoftext|>", "", "x" * 60, "a\ue000b", "Zorblat", "zorblat", "quux"]
    words, report = make(reader, odd, aliases=aliases, method="subwords", strict=False)
    assert [word.surfaces for word in words.words] == [("quux", "kuux", "zorblats"), ("zorblat",)]
    reasons = {found.word.surface: found.reason for found in report.words if found.verdict == "refused"}
    assert {"cat", "te", "!!", "<|endoftext|>", "", "x" * 60, "a\ue000b"} <= reasons.keys()
    assert all(reasons.values())
    assert "'cat' left out: the base has one token" in by_word(report)["zorblat"].reason
    assert "'quux' left out: another word" in by_word(report)["zorblat"].reason
    assert words.extended(reader.tokenizer)("kuux cats").input_ids[1] == words.ids()["kuux"][0]


def test_a_gloss_that_is_too_long_is_left_out_and_said(reader):
    words, report = make(reader, ["zorblat"], glosses={"zorblat": "violin " * 80}, method="tournament", strict=False)
    assert len(words.words) == 1 and "its gloss is too long" in report.words[0].reason
    assert report.words[0].standing.known is None and set(report.words[0].scores) == {"subwords"}


def test_no_words_make_no_words(reader, tmp_path):
    words, report = make(reader, [])
    assert words.words == () and report.words == ()
    words.save(tmp_path / "w")
    assert NewWords.read(tmp_path / "w").words == ()


def test_what_was_made_goes_into_a_checkpoint(tmp_path, distilled):
    words, _ = distilled
    words.save(tmp_path / "words.safetensors")
    worded = PICO.with_words(tmp_path / "words.safetensors")
    assert worded.new_words.words == words.words
    assert worded.tokenizer()("a Zorblat").input_ids[2] == words.ids()["zorblat"][0]
