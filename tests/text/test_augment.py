"""Other wordings of captions: keyed, as asked for; what they say is judged by the world's own reader."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pico.reading import read
from pico.scenes import draw_caption, draw_scene

from bespoke.recipe.training import Augment
from bespoke.text import Augmenter, Speller, Synonyms, curated, words
from bespoke.text.augment import fronted

RANDOM = np.random.default_rng(7)
CAPTIONS = [text for text in (draw_caption(RANDOM, draw_scene(RANDOM)) for _ in range(160)) if not read(text).unknown]
SPELLER = Speller(Counter(word for caption in CAPTIONS for word in words(caption)))
NOTHING = dict.fromkeys(("shuffle", "drop", "prefix", "synonyms", "spelling"), 0.0)


def augmenter(trigger="", sources=(curated,), **settings):
    return Augmenter(Augment(**{"variants": 3, **settings}), Synonyms(*sources), SPELLER, trigger)


def only(**chances):
    return augmenter(**{**NOTHING, **chances})


def test_at_most_one_wording_in_a_hundred_says_something_else():
    """By the world's reader, which shares nothing with what makes wordings; `proofs.wordings` has the whole figure."""
    made = [(text, wording) for text in CAPTIONS for wording in augmenter(spelling=0.3)(text, text).kept]
    changed = [(text, wording.text) for text, wording in made if read(wording.text) != read(text)]
    assert len(made) > 250
    assert len(changed) <= len(made) / 100, changed[:5]
    assert len({way for _, wording in made for way in wording.ways}) == 5


def wrong_names(word):
    return {"fox": ["dog"], "on": ["under"], "red": ["blue"], "car": ["bus"], "cat": ["dog"]}.get(word, [])


def test_the_guard_refuses_what_no_rule_accounts_for():
    """Without the source of a synonym, its word is not accounted for: the guard does not trust what it did not make."""
    careless = augmenter(sources=(wrong_names,))
    careless.meaning = augmenter().meaning
    found = [careless(text, text) for text in ("a fox on a red rug", "a red car", "a cat and a car")]
    assert not any(set(words(w.text)) & {"dog", "bus", "blue"} for each in found for w in each.kept)
    assert any("the word" in refusal.reason for each in found for refusal in each.refused)


@settings(max_examples=20)
@given(st.sampled_from(CAPTIONS), st.integers(0, 5))
def test_wordings_are_functions_of_their_key(caption, seed):
    one = augmenter(seed=seed)
    assert one(caption, "key") == augmenter(seed=seed)(caption, "key")
    assert len({w.text for w in one(caption, "key").kept} | {caption}) == len(one(caption, "key").kept) + 1


def test_another_key_gives_other_wordings():
    assert any(augmenter()(text, 1) != augmenter()(text, 2) for text in CAPTIONS[:20])


def test_more_wordings_keep_the_first_ones():
    """So that asking for more does not encode all anew."""
    for text in CAPTIONS[:30]:
        few, many = augmenter(variants=2)(text, text).kept, augmenter(variants=6)(text, text).kept
        assert many[: len(few)] == few


@pytest.mark.parametrize("way", ["shuffle", "drop", "prefix", "synonyms", "spelling"])
def test_each_way_changes_captions_and_with_no_chance_none_does(way):
    names = {"shuffle": "order", "drop": "words left out", "prefix": "beginning"}
    found = [wording for text in CAPTIONS[:30] for wording in only(**{way: 1.0})(text, text).kept]
    assert found
    assert {each for wording in found for each in wording.ways} == {names.get(way, way)}
    assert not any(only()(text, text).kept for text in CAPTIONS[:20])


def test_the_first_tags_stay_and_the_others_move():
    tags = "a portrait, red hair, blue eyes, soft light, film grain, outdoors"
    for keep in (1, 3):
        found = [only(shuffle=1.0, keep_first=keep, variants=5)(tags, seed).kept for seed in range(5)]
        texts = [wording.text for each in found for wording in each]
        assert texts
        assert all(text.split(", ")[:keep] == tags.split(", ")[:keep] for text in texts)
        assert all(sorted(text.split(", ")) == sorted(tags.split(", ")) for text in texts)


def test_commas_in_brackets_part_nothing():
    tags = "a portrait, (red hair, blue eyes:1.2), soft light"
    for wording in only(shuffle=1.0, variants=5)(tags, 1).kept:
        assert "(red hair, blue eyes:1.2)" in wording.text


def test_the_trigger_moves_whole_and_is_never_misspelt():
    wild = augmenter("8bit illustration", shuffle=0.5, drop=0.5, prefix=0.5, synonyms=1.0, spelling=1.0)
    found = [w.text for n in range(12) for w in wild("8bit illustration of a big elephant on a red background", n).kept]
    assert found
    assert all("8bit illustration" in text for text in found)
    assert any(text.endswith(", 8bit illustration") for text in found)


def test_protected_terms_stay_letter_by_letter():
    wild = augmenter(protected=("elephant",), spelling=1.0, synonyms=1.0)
    assert all("elephant" in w.text for n in range(12) for w in wild("an elephant under a big umbrella", n).kept)


def test_articles_fit_what_follows_them():
    found = {w.text for n in range(12) for w in only(synonyms=1.0)("a car on a road", n).kept}
    assert "an automobile on a road" in found


def test_only_a_place_at_the_end_goes_in_front():
    assert fronted("two dogs on a beach") == "on a beach, two dogs"
    for text in ("a cat with a hat on a mat", "picture of a cat on a mat", "a cat on a mat in a room", "a cat"):
        assert fronted(text) == text
