"""Lessons: the tokens are the real ones, positions are aligned, and states are those of whole padded prompts."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bespoke.models import NewWords, Word, find
from bespoke.words.anchors import whole_words
from bespoke.words.asked import MOST as PIECES
from bespoke.words.lessons import (
    NEW,
    PADS,
    TEMPLATES,
    Context,
    Reader,
    answers,
    contexts,
    fitting,
    graded,
    lessons,
    trying,
)

BASE = find("pico").base
CAPTIONS = (
    "A Kangaroo, on a red background", "two kangaroos", "(kangaroo:1.2) and a dog", "a kangaroo's hat", "no word here",
    'the "kangaroo"', "kangaroo",
)  # fmt: skip


def whole(reader, text):
    """A prompt's states as Stable Diffusion has them, and its ids."""
    ids = reader.tokenizer(text, padding="max_length", truncation=True, return_tensors="pt").input_ids
    with torch.no_grad():
        return ids[0].tolist(), reader.text_encoder(ids)[0][0]


def test_gaps_are_where_the_word_stands():
    found = contexts(["kangaroo"], CAPTIONS)
    assert len(found) == len(TEMPLATES) + 5
    assert found[0] == Context("a photo of a", "")
    assert found[len(TEMPLATES) :] == [
        Context("a ", ", on a red background"),
        Context("(", ":1.2) and a dog"),
        Context("a ", "'s hat"),
        Context('the "', '"'),
        Context("", ""),
    ]


@pytest.mark.parametrize("word", ["kangaroo", "zorblat"])
def test_ids_are_those_that_the_tokenizers_give(reader, word):
    words = NewWords.of(BASE, [(Word(word), torch.ones(1, 160))])
    larger, pieces = words.extended(reader.tokenizer), reader.pieces(word)
    for place in contexts([word], [caption.replace("kangaroo", word) for caption in CAPTIONS]):
        spaced = (
            "".join((place.left, " ", word, " ", place.right))
            if place in contexts([], ())
            else place.left + word + place.right
        )
        tail = [reader.tokenizer.pad_token_id] * PADS
        assert reader.filled(place, pieces) == reader.tokenizer(spaced).input_ids + tail, spaced
        assert reader.filled(place, [BASE.first.size]) == larger(spaced).input_ids + tail, spaced


def test_targets_are_the_states_of_whole_prompts_from_the_last_piece_on(reader):
    pieces = reader.pieces("kangaroo")
    place = Context("a photo of a", "on a red background")
    (lesson,) = lessons(reader, [place], [pieces])
    ids, states = whole(reader, "a photo of a kangaroo on a red background")
    last = ids.index(pieces[0]) + len(pieces) - 1
    torch.testing.assert_close(lesson.target, states[last : last + len(lesson.target)], atol=1e-5, rtol=1e-5)
    assert lesson.ids[lesson.spot] == NEW and lesson.spot == last - len(pieces) + 1
    assert ids[last + lesson.end] == BASE.first.eos and ids[last + lesson.end - 1] != BASE.first.eos
    assert len(lesson.target) == lesson.end + 1 + PADS


def test_several_slots_teach_their_mean(reader):
    places = contexts([], ())[:5]
    slots = [reader.pieces("dog"), reader.pieces("cat")]
    both, one, other = (lessons(reader, places, s) for s in (slots, slots[:1], slots[1:]))
    for mean, a, b in zip(both, one, other, strict=True):
        torch.testing.assert_close(mean.target, (a.target + b.target) / 2)


def test_a_word_s_own_row_is_a_perfect_answer_and_another_is_not(reader):
    token = whole_words(reader.tokenizer)["violin"]
    own = lessons(reader, contexts([], ()), [[token]])
    rows = reader.table[[token, whole_words(reader.tokenizer)["pizza"]]]
    right, wrong = graded(reader, rows, [own, own])
    torch.testing.assert_close(right[0], torch.ones(len(own)), atol=1e-5, rtol=0)
    torch.testing.assert_close(right[1], torch.ones(len(own)), atol=1e-5, rtol=0)
    assert float(wrong[0].max()) < 0.98


def test_answers_do_not_depend_on_who_sits_beside(reader):
    own = lessons(reader, contexts([], ()), [reader.pieces("kangaroo")])
    row = reader.table[[700]]
    with torch.no_grad(), trying(reader.text_encoder, row):
        together = answers(reader, [(lesson, 0) for lesson in own])
        for number, lesson in enumerate(own):
            alone = answers(reader, [(lesson, 0)])
            for kind in ("likeness", "cosine_at_end", "error"):
                one, all_of_them = getattr(alone, kind)()[0], getattr(together, kind)()[number]
                torch.testing.assert_close(one, all_of_them, atol=1e-5, rtol=1e-5)


def test_figures_are_those_of_a_loop_over_whole_prompts(reader):
    """The cosines by hand, one prompt at a time, from a text encoder that really has the new row."""
    row = reader.table[[700]] * 0.9
    words = NewWords.of(BASE, [(Word("kangaroo"), row)])
    larger, tokenizer = words.extend(find("pico").text_encoder()), words.extended(reader.tokenizer)
    places = contexts([], ())[:9]
    own = lessons(reader, places, [reader.pieces("kangaroo")])
    ((likeness, ends),) = graded(reader, row, [own])
    for number, place in enumerate(places):
        prompt = f"{place.left} kangaroo {place.right}"
        before, after = whole(reader, prompt), whole(Reader(tokenizer, larger), prompt)
        starts = before[0].index(reader.pieces("kangaroo")[-1]), after[0].index(BASE.first.size)
        count = after[0].index(BASE.first.eos) - starts[1] + 1
        pairs = [(before[1][starts[0] + n], after[1][starts[1] + n]) for n in range(count + PADS)]
        cosines = [float(torch.nn.functional.cosine_similarity(a, b, dim=0)) for a, b in pairs]
        end = cosines.pop(count - 1)
        assert float(ends[number]) == pytest.approx(end, abs=1e-5)
        assert float(likeness[number]) == pytest.approx((end + sum(cosines) / len(cosines)) / 2, abs=1e-5)


@given(st.integers(1, 80))
@settings(max_examples=20)
def test_contexts_that_fit_stay_within_the_model(count):
    model = find("pico")
    reader = Reader(model.tokenizer(), None)
    found = fitting(reader, contexts([], ()), [[5] * count, [6]])
    assert all(len(reader.filled(place, [5] * count)) <= 77 for place in found)
    assert count > PIECES or len(found) == len(TEMPLATES)


def test_trying_rows_leaves_no_trace_even_when_it_fails(reader):
    own = reader.text_encoder.get_input_embeddings()
    with pytest.raises(RuntimeError), trying(reader.text_encoder, reader.table[:2]):
        assert reader.text_encoder.get_input_embeddings() is not own
        raise RuntimeError
    assert reader.text_encoder.get_input_embeddings() is own
