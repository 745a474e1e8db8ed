"""Candidates and the tournament, what a model knows, and the gates: each on cases whose answer is known."""

import math

import numpy as np
import pytest
import torch

from bespoke.models import NewWords, Word, find
from bespoke.models.vocabulary import ENCODER
from bespoke.words.anchors import Anchors, Neighbour, vector_of, whole_words
from bespoke.words.gates import Measured, changed, gates, verdict
from bespoke.words.lessons import contexts, lessons
from bespoke.words.meaning import Judge, Meaning, meaning
from bespoke.words.rows import FROM_VECTORS, NEAREST, Space, candidates, several, tournament

BASE = find("pico").base


@pytest.fixture(scope="module")
def space(reader, planted):
    return Space.of(reader, planted, 0)


def token(reader, word):
    return whole_words(reader.tokenizer)[word]


def made(reader, space, word, gloss=""):
    vector = space.vector(word, shuffled=False, seed=0)
    return candidates(space, reader.pieces(word), meaning(reader, gloss, space.neighbours(vector)), vector)


def test_whole_words_are_tokens_that_end_a_word(reader):
    found = whole_words(reader.tokenizer)
    assert {"violin", "butterfly", "red"} <= found.keys() and not {"<|endoftext|>", "1", "a"} & found.keys()
    assert all(reader.tokenizer(word, add_special_tokens=False).input_ids == [number] for word, number in found.items())


def test_anchors_are_known_to_both_sides_and_paired(reader, planted):
    found = Anchors.of(whole_words(reader.tokenizer), planted, reader.table.numpy())
    assert len(found.words) == len(whole_words(reader.tokenizer)) and "zorblat" not in found.words
    assert list(found.tokens) == sorted(found.tokens)
    n = found.words.index("violin")
    np.testing.assert_array_equal(found.rows[n], reader.table[token(reader, "violin")].numpy())
    np.testing.assert_array_equal(found.vectors[n], planted.of(["violin"])[0])


def test_neighbours_of_a_word_are_what_it_was_planted_between(space):
    near = space.neighbours(space.vector("zorblat", shuffled=False, seed=0))
    assert {neighbour.word for neighbour in near[:2]} == {"violin", "guitar"} and len(near) == NEAREST
    assert [n.cosine for n in near] == sorted((n.cosine for n in near), reverse=True)


def test_a_vector_that_is_like_nothing_has_no_neighbours(space):
    vectors = np.eye(60)[:40]
    lonely = Anchors(tuple("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMN"), tuple(range(40)), vectors, np.ones((40, 3)))
    assert lonely.nearest(np.eye(60)[50] + vectors.mean(axis=0), 16) == ()
    assert space.neighbours(None) == ()


def test_a_term_has_the_vector_of_its_parts(planted):
    found = vector_of("violin-guitar", planted)
    parts = planted.of(["violin", "guitar"])
    parts = parts / np.linalg.norm(parts, axis=1, keepdims=True)
    np.testing.assert_allclose(np.asarray(found), parts.mean(axis=0), rtol=1e-5)
    np.testing.assert_array_equal(vector_of("zorblat", planted), planted.of(["zorblat"])[0])
    assert vector_of("violin nobodyknows", planted) is None and vector_of("nobodyknows", planted) is None


def test_candidates_are_the_formulas_at_the_median_norm(reader, space):
    found = made(reader, space, "zorblat", gloss="a violin and a guitar")
    assert set(found) == {"subwords", "gloss", *FROM_VECTORS}
    for row in found.values():
        assert float(row.norm()) == pytest.approx(space.norm, rel=1e-5)
    alike = torch.nn.functional.cosine_similarity
    pieces = reader.table[reader.pieces("zorblat")].mean(dim=0)
    assert float(alike(found["subwords"], pieces, dim=0)) == pytest.approx(1, abs=1e-6)
    near = space.neighbours(space.vector("zorblat", shuffled=False, seed=0))
    weights = np.exp([n.cosine / 0.1 for n in near])
    mix = (weights / weights.sum()) @ reader.table[[n.token for n in near]].numpy()
    assert float(alike(found["neighbours"], torch.from_numpy(mix).float(), dim=0)) == pytest.approx(1, abs=1e-5)
    trust = sum(n.cosine for n in near) / len(near)
    blend = (1 - trust) * found["subwords"] + trust * found["neighbours"]
    assert float(alike(found["blend"], blend, dim=0)) == pytest.approx(1, abs=1e-5)
    assert {"violin", "guitar"} <= set(space.near(found["neighbours"], 4))
    assert {"violin", "guitar"} & set(space.near(found["mapped"], 4))


def test_a_map_that_cannot_be_trusted_gives_no_candidates(reader, shuffled, few):
    for vectors, why in ((shuffled, "shuffled"), (few, "only 30 words"), (None, "no word vectors")):
        space = Space.of(reader, vectors, 0)
        assert why in space.fitted.reason
        assert set(made(reader, space, "zorblat", "a violin")) == {"subwords", "gloss"}


def test_shuffled_vectors_are_those_of_other_words_drawn_by_the_seed(space):
    own = space.vector("zorblat", shuffled=False, seed=0)
    drawn = [space.vector("zorblat", shuffled=True, seed=seed) for seed in (0, 0, 1)]
    assert np.array_equal(drawn[0], drawn[1]) and not np.array_equal(drawn[0], drawn[2])
    assert not np.array_equal(drawn[0], own)
    assert space.vector("nobodyknows", shuffled=True, seed=0) is not None


def test_the_tournament_puts_the_right_row_first(reader, space):
    words = ("violin", "pizza")
    own = [lessons(reader, contexts([], ())[:8], [[token(reader, word)]]) for word in words]
    rows = {word: space.table[token(reader, word)] for word in words}
    scores = tournament(reader, [rows, rows], own)
    assert [next(iter(found)) for found in scores] == list(words)
    for found, word in zip(scores, words, strict=True):
        assert found[word] == pytest.approx(1, abs=1e-5) and list(found.values()) == sorted(
            found.values(), reverse=True
        )


def test_a_gloss_says_what_a_word_means_before_its_neighbours_do(reader):
    near = tuple(Neighbour(word, token(reader, word), 0.9) for word in ("violin", "guitar", "drum", "bell", "key"))
    assert meaning(reader, "The  Violin", near) == Meaning("gloss", ((token(reader, "violin"),),))
    assert meaning(reader, " ", near) == Meaning("neighbours", tuple((n.token,) for n in near[:4]))
    assert meaning(reader, "", ()) == Meaning()


@pytest.mark.parametrize("seed", [0, 1])
def test_what_pico_was_taught_is_known_and_invented_words_are_not(reader, seed):
    judge = Judge(reader, seed)

    def known(word, gloss):
        return judge.standing(reader.pieces(word), meaning(reader, gloss, ())).known

    assert all(known(*pair) for pair in (("saxophone", "a trumpet"), ("squid", "an octopus"), ("lobster", "a crab")))
    invented = ("zorblat", "quux", "frindle", "blicket", "glorp", "snurfle", "mimsy", "vorpal", "jabberwock")
    glosses = ("a dog", "a red apple", "a violin", "an elephant", "a castle", "a bus", "a cactus")
    wrong = [(word, gloss) for word in invented for gloss in glosses if known(word, gloss)]
    assert ("zorblat", "a dog") not in wrong  # nearer to it than 64 whole words are, but so are many broken ones
    assert len(wrong) <= 0.05 * len(invented) * len(glosses)
    assert judge.standing(reader.pieces("zorblat"), Meaning()).known is None


def measured(**other):
    facts = {
        "row": torch.ones(4), "norm": 1.0, "kept": torch.tensor([0.97, 0.95]), "near": torch.tensor([0.9, 0.9]),
        "before": torch.tensor([0.5, 0.6]), "changed": 0, "shared": 2,
    }  # fmt: skip
    return Measured(**{**facts, **other})


@pytest.mark.parametrize(
    ("known", "other", "failed"),
    [
        (True, {}, set()),
        (None, {}, set()),
        (False, {}, set()),
        (True, {"row": torch.tensor([1.0, math.nan])}, {"finite"}),
        (True, {"norm": 0.49}, {"norm"}),
        (False, {"norm": 2.01}, {"norm"}),
        (False, {"norm": math.nan}, {"norm"}),
        (True, {"changed": 1}, {"other prompts"}),
        (True, {"kept": torch.tensor([0.95, 0.94])}, {"kept"}),
        (True, {"kept": torch.tensor([1.0] * 9 + [0.89])}, {"kept, least"}),
        (None, {"kept": torch.zeros(0)}, {"kept", "kept, least"}),
        (True, {"near": torch.zeros(0), "shared": 0}, set()),
        (False, {"near": torch.tensor([0.5, 0.5])}, {"nearer"}),
        (False, {"kept": torch.tensor([0.1])}, set()),
        (False, {"shared": 0}, {"neighbours"}),
        (False, {"shared": None}, set()),
    ],
)
def test_gates(known, other, failed):
    found = gates(measured(**other), known)
    assert {gate.name for gate in found if not gate.passed} == failed
    to_train = known is None and failed and failed <= {"kept", "kept, least"}
    assert verdict(found, known) == ("accepted" if not failed else "to train" if to_train else "refused")


def test_prompts_that_change_without_the_word_are_counted_against_it(reader):
    words = NewWords.of(
        BASE, [(Word("halberd", aliases=("kat",)), torch.ones(1, 160)), (Word("sks"), torch.ones(1, 160))]
    )
    prompts = ["a halberd", "halberds, skss", "a kat", "a red dog", "a sks dog"]
    assert changed(words, reader.tokenizer, prompts) == {"halberd": 0, "sks": 0}

    class Plain(NewWords):
        """Words added as diffusers adds them: found inside of others, too."""

        def extended(self, tokenizer, encoder=ENCODER, *, plain=False):
            found = NewWords.extended(NewWords(self.base), tokenizer, encoder)
            found.add_tokens([token.surface for token in self.tokens()])
            return found

    assert changed(Plain(BASE, words.words, words.rows), reader.tokenizer, prompts) == {"halberd": 1, "sks": 1}


def test_a_word_of_several_rows_begins_near_its_one_row_and_others_stay(reader):
    base, table = find("pico").base, reader.table
    words = NewWords.of(base, [(Word("vulpenor"), table[200:201]), (Word("turrovan"), table[300:301])])
    made = several(words, {"vulpenor": 3}, seed=1)
    assert {word.surface: word.rows for word in made.words} == {"vulpenor": 3, "turrovan": 1}
    assert torch.equal(made.of_word("turrovan"), words.of_word("turrovan"))
    rows = made.of_word("vulpenor")
    assert len({tuple(row.tolist()) for row in rows}) == 3
    likeness = torch.nn.functional.cosine_similarity(rows, table[200:201])
    assert bool((likeness > 0.97).all()) and bool((likeness < 1).all())
    assert torch.equal(several(words, {"vulpenor": 3}, seed=1).of_word("vulpenor"), rows)
    assert several(words, {}, seed=1).words == words.words
