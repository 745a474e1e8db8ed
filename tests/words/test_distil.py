"""Distillation: rows come nearer to what lessons ask, nothing else moves, and the seed and the word decide."""

import copy

import pytest
import torch

from bespoke.words import distil as module
from bespoke.words.distil import Order, distil
from bespoke.words.lessons import Reader, contexts, graded, lessons
from bespoke.words.rows import Space

WORDS = ("hedgehog", "kangaroo", "volcano")


@pytest.fixture(scope="module")
def space(reader):
    return Space.of(reader, None, 0)


@pytest.fixture(scope="module")
def taught(reader):
    places = contexts([], ())
    return [lessons(reader, places[::2], [reader.pieces(word)]) for word in WORDS]


@pytest.fixture(scope="module")
def held(reader):
    places = contexts([], ())
    return [lessons(reader, places[1::2], [reader.pieces(word)]) for word in WORDS]


@pytest.fixture(scope="module")
def start(reader, space):
    rows = torch.stack([space.table[reader.pieces(word)].mean(dim=0) for word in WORDS])
    return rows * space.norm / rows.norm(dim=1, keepdim=True)


def run(reader, taught, start, space, words=WORDS, **options):
    return distil(reader, words, start, taught, space.norm, **{"seed": 0, "steps": 12, **options})


def test_prompts_held_out_come_much_nearer(reader, taught, held, start, space):
    found = run(reader, taught, start, space, steps=80)
    before, after = graded(reader, start, held), graded(reader, found, held)
    for one, other in zip(before, after, strict=True):
        assert float(one[1].mean()) < 0.9 < 0.96 < float(other[1].mean())
    norms = found.norm(dim=1) / space.norm
    assert bool((norms > 0.9).all() and (norms < 1.1).all())


def test_only_rows_get_gradients(reader, taught, start, space):
    run(reader, taught, start, space, steps=2)
    assert all(p.grad is None and not p.requires_grad for p in reader.text_encoder.parameters())
    loose = Reader(reader.tokenizer, copy.deepcopy(reader.text_encoder).requires_grad_())
    with pytest.raises(AssertionError, match="frozen"):
        run(loose, taught, start, space, steps=1)


def test_the_norm_is_drawn_to_the_median(reader, taught, start, space):
    found = run(reader, taught, 1.5 * start, space, steps=60)
    assert bool(((found.norm(dim=1) / space.norm - 1).abs() < 0.3).all())


def test_the_seed_and_the_word_decide_and_neighbours_do_not(reader, taught, start, space, monkeypatch):
    whole = run(reader, taught, start, space)
    assert torch.equal(run(reader, taught, start, space), whole)
    assert not torch.equal(run(reader, taught, start, space, seed=1), whole)
    alone = run(reader, taught[1:2], start[1:2], space, words=WORDS[1:2])
    torch.testing.assert_close(alone[0], whole[1], atol=1e-4, rtol=1e-3)
    monkeypatch.setattr(module, "WORDS", 2)
    torch.testing.assert_close(run(reader, taught, start, space), whole, atol=1e-4, rtol=1e-3)


def test_a_word_without_lessons_stays_and_progress_is_told(reader, taught, start, space):
    told = []
    found = run(reader, [taught[0], [], taught[2]], start, space, steps=3, report=lambda *said: told.append(said))
    assert torch.equal(found[1], start[1]) and not torch.equal(found[0], start[0])
    assert told == [("refine new words", n, 3) for n in (1, 2, 3)]


def test_each_turn_takes_every_lesson_once(taught):
    own = taught[0]
    order = Order("hedgehog", own, 5)
    seen = [id(lesson) for step in range(len(own)) for lesson in order.of(step)]
    assert sorted(seen[: len(own)]) == sorted(seen[len(own) :]) == sorted(map(id, own))
    assert seen[: len(own)] != seen[len(own) :]
