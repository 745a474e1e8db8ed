"""Laws of new words: the base's own prompts keep every bit, words are whole words, and plain diffusers reads them."""

import copy
import dataclasses
import json
import random
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from bespoke.encoding import TextEncoder
from bespoke.errors import BespokeError
from bespoke.models import PICO, find, weightless
from bespoke.models.vocabulary import Base, NewWords, Word, stands_in, written
from bespoke.recipe import Recipe
from bespoke.text import escaped

PICO_MODEL = find("pico")
BASE = PICO_MODEL.base
PLAIN = PICO_MODEL.tokenizer()
SURFACES = ("halberd", "carbon fiber", "re-entry", "35mm", "café", "cat", "o'neill", "größe")
PROMPTS = (
    "a red dog on a blue background", "category", "scatter, concat", "cats", "cat_1", "halberds", "carbon  fibers",
    "re-entrys", "135mm", "", "ﬁsh and CAFÉS", "a (red hat:1.2)", "x" * 300,
)  # fmt: skip


def rows(count, seed=0, width=160):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed)) * 0.02


def made(*surfaces, base=BASE, **facts):
    return NewWords.of(base, [(Word(s, **facts), rows(1, n)) for n, s in enumerate(surfaces)])


WORDS = made(*SURFACES)
KNOWS = WORDS.extended(PLAIN)


@pytest.fixture(scope="module")
def encoder():
    return PICO_MODEL.text_encoder()


def padded(tokenizer, text):
    return tokenizer(text, padding="max_length", truncation=True, return_tensors="pt").input_ids


def states(encoder, ids):
    with torch.no_grad():
        found = encoder(ids)
    return found.last_hidden_state, found.pooler_output


def pieces(text, tokenizer=KNOWS):
    return tokenizer.tokenize(text)


@pytest.fixture(scope="module")
def on_disk(tmp_path_factory):
    path = tmp_path_factory.mktemp("words") / "words.safetensors"
    WORDS.save(path)
    return path


letters = st.text(st.characters(codec="utf-8", exclude_characters="\ue000"), max_size=40)
close = st.lists(
    st.sampled_from([*SURFACES, "s", "_", "1", " ", "-", "(", ":1.2)", "e", "scat", "gory", "Ca"]), max_size=7
)


@given(st.one_of(letters, close.map("".join)))
@settings(max_examples=300)
def test_prompts_without_the_words_keep_their_ids(text):
    if not any(stands_in(surface, text) for surface in SURFACES):
        assert KNOWS(text).input_ids == PLAIN(text).input_ids


@given(close.map("".join))
@settings(max_examples=300)
def test_a_word_becomes_its_token_just_where_it_stands_as_a_whole_word(text):
    found = {token for token in pieces(text) if token in SURFACES}
    assert found <= {surface for surface in SURFACES if stands_in(surface, text)}
    # "re-entry" and "cat" do not lie in one another, so no word hides one that begins later.
    assert bool(found) == any(stands_in(surface, text) for surface in SURFACES)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_prompts_without_the_words_keep_their_states_to_the_last_bit(encoder, prompt):
    larger = WORDS.extend(copy.deepcopy(encoder))
    before, after = states(encoder, padded(PLAIN, prompt)), states(larger, padded(KNOWS, prompt))
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("category", ["ca", "te", "g", "or", "y</w>"]),
        ("CAT", ["cat"]),
        ("(cat:1.2)", ["(</w>", "cat", ":</w>", "1</w>", ".</w>", "2</w>", ")</w>"]),
        ("cat's", ["cat", "'", "s</w>"]),
        ("#cat", ["#</w>", "cat"]),
        ("cats", ["ca", "ts</w>"]),
        ("Carbon \n Fiber, 35MM re-Entry", ["carbon fiber", ",</w>", "35mm", "re-entry"]),
        ("cafe\u0301", ["café"]),
        ("O'Neill", ["o'neill"]),
        ("GRÖßE", ["größe"]),
        ("halberds", ["h", "al", "b", "er", "ds</w>"]),
    ],
)
def test_how_words_are_told_from_parts_of_words(text, expected):
    assert pieces(text) == expected


def test_own_rows_keep_every_bit_and_new_rows_come_below(encoder):
    larger = WORDS.extend(copy.deepcopy(encoder))
    table, own = larger.get_input_embeddings().weight, encoder.get_input_embeddings().weight
    assert torch.equal(table[: len(own)], own)
    for surface in SURFACES:
        assert torch.equal(table[WORDS.ids()[surface]], WORDS.of_word(surface)), surface
    assert larger.config.vocab_size == len(table) == len(KNOWS) and not table.requires_grad
    same = WORDS.sliced(larger)
    assert torch.equal(same.get_input_embeddings().weight, own) and same.config.vocab_size == len(own)


def test_extending_twice_changes_nothing(encoder):
    larger = WORDS.extend(copy.deepcopy(encoder))
    again = WORDS.extend(copy.deepcopy(larger)).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in larger.state_dict().items())


@given(st.randoms())
@settings(max_examples=20)
def test_the_order_in_which_words_come_does_not_matter(chance: random.Random):
    pairs = [(Word(s, aliases=(f"{s}-like", f"{s} kind")), rows(1, n)) for n, s in enumerate(SURFACES)]
    mixed = chance.sample(pairs, len(pairs))
    one, other = NewWords.of(BASE, pairs), NewWords.of(BASE, mixed)
    assert one.words == other.words and one.ids() == other.ids()
    assert torch.equal(one.rows["clip_l"], other.rows["clip_l"])


def test_an_alias_has_the_row_of_its_word_and_gives_the_same_states(encoder):
    words = NewWords.of(BASE, [(Word("Halberd", aliases=("hellebarde", "Pole  Axe")), rows(1))])
    tokenizer, larger = words.extended(PLAIN), words.extend(copy.deepcopy(encoder))
    assert words.words[0].surfaces == ("halberd", "hellebarde", "pole axe")
    found = [states(larger, padded(tokenizer, f"a {w} on a hill")) for w in ("halberd", "Hellebarde", "pole axe")]
    assert torch.equal(found[0][0], found[1][0]) and torch.equal(found[0][1], found[2][1])


def test_a_word_of_several_rows_is_so_many_tokens_in_one_place(encoder):
    words = NewWords.of(BASE, [(Word("halberd"), rows(3, 1)), (Word("sks", aliases=("halberdier",)), rows(2, 2))])
    tokenizer = words.extended(PLAIN)
    ids = words.ids()
    assert ids == {"halberd": [1600, 1601, 1602], "sks": [1603, 1604], "halberdier": [1605, 1606]}
    read = tokenizer("Halberds, a (HALBERD:1.2) halberd_1 halberdier", return_offsets_mapping=True)
    inside = [i for i in read.input_ids if i >= BASE.first.size]
    assert inside == [*ids["halberd"], *ids["halberdier"]]
    start = read.input_ids.index(1600)
    text = "Halberds, a (HALBERD:1.2)"
    for begin, end in read["offset_mapping"][start : start + 3]:
        assert text.index("HALBERD") <= begin < end <= text.index("HALBERD") + len("HALBERD")
    larger = words.extend(copy.deepcopy(encoder))
    expected = larger.get_input_embeddings().weight[ids["halberd"]]
    assert torch.equal(expected, words.of_word("halberd"))
    assert tokenizer("halberds").input_ids == PLAIN("halberds").input_ids
    # A weight on the word reaches all its tokens.
    plain, heavy = (TextEncoder(tokenizer, larger, torch.device("cpu"))([t]) for t in ("a halberd", "a (halberd:1.5)"))
    moved = (plain - heavy).abs().amax(dim=-1)[0] > 1e-3
    assert moved.nonzero().flatten().tolist() == [2, 3, 4]


def test_reading_after_writing_gives_the_same_words_and_equal_words_equal_files(tmp_path):
    facts = {"pieces": ("h", "al</w>"), "method": "distilled", "gloss": "an axe – on a pole", "aliases": ("pole axe",)}
    word = Word("halberd", figures={"kept": 0.97, "nothing": float("nan")}, **facts)
    words = NewWords.of(BASE, [(word, rows(2)), (Word("zwölf"), rows(1, 3))])
    for name in "ab":
        words.save(tmp_path / name)
    again = NewWords.read(tmp_path / "a")
    assert (again.base, again.words) == (words.base, words.words) and again.words[0].figures == {"kept": 0.97}
    assert again.rows.keys() == words.rows.keys()
    assert torch.equal(again.rows["clip_l"], words.rows["clip_l"])
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    with safe_open(tmp_path / "a", "pt") as file:
        assert json.loads(file.metadata()["bespoke"])["ids"] == {"clip_l": words.ids()}


def as_version_1(words, path):
    """Words as the first version wrote them: marks of all text encoders in one, one size, ids of all alike."""
    each = words.base.readers.values()
    tokenizers, encoders = ("-".join(getattr(one, part) for one in each) for part in ("tokenizer", "text_encoder"))
    first = words.base.first
    base = {"name": words.base.name, "tokenizer": tokenizers, "text_encoder": encoders}
    told = [dataclasses.asdict(word) for word in words.words]
    facts = {"base": base | {"size": first.size, "eos": first.eos}, "ids": words.ids(), "version": 1, "words": told}
    text = json.dumps(facts, ensure_ascii=False, sort_keys=True)
    save_file(dict(words.rows), path, {"bespoke": text})
    return text


def test_files_of_the_first_version_are_read_as_they_were(tmp_path):
    two = Base("xl", {name: dataclasses.replace(BASE.first, text_encoder=name) for name in ("clip_l", "clip_g")})
    for number, base in enumerate((dataclasses.replace(BASE, pipeline=""), two)):
        each = {name: rows(2, number) for name in base.readers}
        words = NewWords.of(base, [(Word("halberd", aliases=("pole axe",)), each)])
        text = as_version_1(words, tmp_path / "old")
        again = NewWords.read(tmp_path / "old")
        assert (again.base, again.words, again.ids()) == (base, words.words, words.ids())
        assert again.rows.keys() == each.keys() and all(torch.equal(again.rows[name], each[name]) for name in each)
        save_file(each, tmp_path / "drifted", {"bespoke": text.replace(str(BASE.first.size), "7")})
        with pytest.raises(BespokeError, match="do not agree"):
            NewWords.read(tmp_path / "drifted")
    as_version_1(WORDS, tmp_path / "words")
    known = PICO_MODEL.with_words(tmp_path / "words")
    assert known.tokenizer()("a halberd").input_ids == KNOWS("a halberd").input_ids
    with pytest.raises(BespokeError, match="another tokenizer and text_encoder"):
        PICO_MODEL.with_words(tmp_path / "old")


def test_what_is_no_file_of_words_is_refused(tmp_path, on_disk):
    with pytest.raises(BespokeError, match="There are no words"):
        NewWords.read(tmp_path / "none")
    save_file({"clip_l": rows(1)}, tmp_path / "plain")
    (tmp_path / "noise").write_bytes(b"noise")
    whole, metadata = load_file(on_disk), safe_open(on_disk, "pt").metadata()
    save_file({"clip_l": whole["clip_l"][1:].clone()}, tmp_path / "short", metadata)
    facts = json.loads(metadata["bespoke"])
    facts["ids"]["clip_l"]["cat"] = [7]
    save_file(whole, tmp_path / "drifted", {"bespoke": json.dumps(facts)})
    save_file(whole, tmp_path / "later", {"bespoke": json.dumps(facts | {"version": 9})})
    for name in ("plain", "noise", "short", "drifted", "later"):
        with pytest.raises(BespokeError) as caught:
            NewWords.read(tmp_path / name)
        assert "\n" not in caught.value.problem


def test_words_that_are_pieces_already_or_stand_twice_are_refused():
    with pytest.raises(BespokeError, match="'te' is a piece"):
        made("te").extended(PLAIN)
    with pytest.raises(BespokeError, match=r"'<\|endoftext\|>'"):
        made("<|endoftext|>").extended(PLAIN)
    with pytest.raises(BespokeError, match="'cat' stands twice"):
        NewWords.of(BASE, [(Word("cat"), rows(1)), (Word("dog", aliases=("CAT",)), rows(1))])
    with pytest.raises(BespokeError, match="not as a tokenizer reads it"):
        NewWords(BASE, (Word("Cat"),), {"clip_l": rows(1)})
    with pytest.raises(BespokeError, match="no numbers"):
        made("cat").with_rows(torch.full((1, 160), float("inf")))


@given(letters)
def test_text_is_written_as_the_tokenizer_reads_it(text):
    read = PLAIN.backend_tokenizer.normalizer.normalize_str(text).strip(" ")
    assert written(text) == read


# A checkpoint with words.


def test_a_checkpoint_with_words_knows_them_and_has_other_marks(on_disk):
    worded = PICO_MODEL.with_words(on_disk)
    assert worded.tokenizer()("a halberd").input_ids == KNOWS("a halberd").input_ids
    assert worded.base == BASE and worded.with_words(on_disk) == worded
    changed = [
        p for p in ("unet", "vae", "tokenizer", "text_encoder") if worded.fingerprint(p) != PICO_MODEL.fingerprint(p)
    ]
    assert changed == ["tokenizer", "text_encoder"]
    encoder = TextEncoder(worded.tokenizer(), worded.text_encoder(), torch.device("cpu"))
    before = TextEncoder(PICO_MODEL.tokenizer(), PICO_MODEL.text_encoder(), torch.device("cpu"))
    assert not torch.equal(encoder(["a halberd"]), before(["a halberd"]))
    assert torch.equal(encoder(["a (red:1.2) dog"]), before(["a (red:1.2) dog"]))


def test_a_checkpoint_without_words_is_the_same_checkpoint(tmp_path):
    NewWords(BASE).save(tmp_path / "none.safetensors")
    empty = PICO_MODEL.with_words(tmp_path / "none.safetensors")
    assert len(empty.tokenizer()) == len(PLAIN)
    bits = PICO_MODEL.text_encoder().state_dict()
    assert all(torch.equal(v, bits[n]) for n, v in empty.text_encoder().state_dict().items())
    assert dataclasses.replace(empty, words=None) == PICO_MODEL


def test_words_of_another_base_are_refused(tmp_path, on_disk):
    other = shutil.copytree(PICO, tmp_path / "other")
    config = json.loads((other / "text_encoder" / "config.json").read_text())
    (other / "text_encoder" / "config.json").write_text(json.dumps(config | {"projection_dim": 64}))
    with pytest.raises(BespokeError, match=r"made for pico; .* has another text_encoder") as caught:
        find(str(other)).with_words(on_disk)
    assert caught.value.hint
    shutil.copytree(PICO, tmp_path / "copy")
    assert find(str(tmp_path / "copy")).with_words(on_disk).words == on_disk


def test_a_whole_folder_loads_in_plain_diffusers_with_the_words(tmp_path, on_disk):
    worded = PICO_MODEL.with_words(on_disk)
    (tmp_path / "m").mkdir()
    worded.complete(tmp_path / "m")
    theirs = StableDiffusionPipeline.from_pretrained(tmp_path / "m", dtype=torch.float32, local_files_only=True)
    ours = worded.pipeline()
    assert theirs.text_encoder.config.eos_token_id == theirs.text_encoder.eos_token_id == BASE.first.eos
    for prompt in ("a Halberd and a (cat:1.2), category", "carbon\nfiber", *PROMPTS[:4]):
        one, other = (p.encode_prompt(prompt, "cpu", 1, False)[0] for p in (ours, theirs))
        assert torch.equal(one, other), prompt
        assert torch.equal(one, TextEncoder(ours.tokenizer, ours.text_encoder, torch.device("cpu"))([escaped(prompt)]))
    again = find(str(tmp_path / "m"))
    assert again.tokenizer()("halberd category").input_ids == KNOWS("halberd category").input_ids
    for part in ("unet", "vae"):
        assert again.fingerprint(part) == PICO_MODEL.fingerprint(part)


def test_a_whole_folder_with_a_word_of_several_rows_means_the_same_in_plain_diffusers(tmp_path):
    NewWords.of(BASE, [(Word("halberd", aliases=("pole axe",)), rows(3))]).save(tmp_path / "w")
    worded = PICO_MODEL.with_words(tmp_path / "w")
    (tmp_path / "m").mkdir()
    worded.complete(tmp_path / "m")
    theirs = StableDiffusionPipeline.from_pretrained(tmp_path / "m", dtype=torch.float32, local_files_only=True)
    ours = worded.pipeline()
    for prompt in ("a halberd on a hill", "a pole axe", "a red cat"):
        one, other = (p.encode_prompt(prompt, "cpu", 1, False)[0] for p in (ours, theirs))
        assert torch.equal(one, other), prompt
    # diffusers replaces letters wherever they stand; our tokenizer reads words.
    assert ours.maybe_convert_prompt("halberds and a halberd", ours.tokenizer) == "halberds and a halberd"


def test_a_trained_text_encoder_that_knows_the_words_keeps_its_rows(tmp_path, on_disk):
    trained = WORDS.with_rows(WORDS.rows["clip_l"] + 1).extend(PICO_MODEL.text_encoder())
    trained.save_pretrained(tmp_path / "text_encoder")
    worded = PICO_MODEL.with_words(on_disk).with_trained(tmp_path)
    bits = trained.state_dict()
    assert all(torch.equal(v, bits[n]) for n, v in worded.text_encoder().state_dict().items())
    assert worded.base == BASE


# Where prompts end.


def wrong_eos(kind):
    """A text encoder as SD 1.5's: its configuration names another token as the last."""
    torch.manual_seed(0)
    config = CLIPTextConfig(
        vocab_size=1600, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        projection_dim=16, eos_token_id=2, bos_token_id=0, pad_token_id=1,
    )  # fmt: skip
    return kind(config).eval()


@pytest.mark.parametrize("kind", [CLIPTextModel, CLIPTextModelWithProjection])
def test_pooling_stays_at_the_end_of_the_prompt(kind):
    base = dataclasses.replace(BASE)
    words = NewWords.of(base, [(Word("halberd"), rows(1, width=32))])
    encoder, ids = wrong_eos(kind), padded(words.extended(PLAIN), "a halberd on a hill")
    pooled = "pooler_output" if kind is CLIPTextModel else "text_embeds"
    before = encoder(padded(PLAIN, "a dog"))[pooled]
    larger = words.extend(encoder)
    assert torch.equal(larger(padded(PLAIN, "a dog"))[pooled], before)
    at = ids[0].tolist().index(BASE.first.eos)
    found = larger(ids)
    expected = found.last_hidden_state[:, at]
    if kind is CLIPTextModelWithProjection:
        expected = larger.text_projection(expected)
    torch.testing.assert_close(found[pooled], expected)
    assert larger.config.eos_token_id == BASE.first.eos


def test_rows_that_the_format_cannot_hold_are_refused():
    words = made("halberd").with_rows(torch.full((1, 160), 1e6))
    with pytest.raises(BespokeError, match="too large"):
        words.extend(PICO_MODEL.text_encoder().half())
    with pytest.raises(BespokeError, match="made for"):
        made("halberd").with_rows(torch.ones(1, 32)).extend(PICO_MODEL.text_encoder())
    with pytest.raises(BespokeError, match="knows 1608 tokens"):
        made("hill").extended(KNOWS)


@pytest.mark.parametrize("case", ["words", "no words"])
def test_shapes_alone_know_the_words_too(on_disk, case):
    recipe = Recipe.model_validate({"model": {"base": "pico", "method": "full"}, "train": {"train_text_encoder": True}})
    model = PICO_MODEL.with_words(on_disk) if case == "words" else PICO_MODEL
    (encoder,) = weightless(model, recipe).text_encoders.values()
    assert len(encoder.get_input_embeddings().weight) == len(model.tokenizer())


def test_a_base_is_a_record_of_the_untrained_model():
    assert Base.of(dataclasses.asdict(BASE)) == BASE and (BASE.first.size, BASE.first.eos) == (1600, 1599)
    assert Path(BASE.name).name == "pico"
