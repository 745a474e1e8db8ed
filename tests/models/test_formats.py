"""New words in other programs' files: diffusers loads each and means the same; files from elsewhere become words."""

import json

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from bespoke.errors import BespokeError
from bespoke.models import PICO, NewWords, Word, find
from bespoke.models.formats import placeholder, read_inversion, write_inversions, write_plain

MODEL = find("pico")
BASE = MODEL.base
PAIRS = [
    (Word("halberd", aliases=("pole axe",), method="distilled", gloss="an axe on a pole", pieces=("h",)), 1),
    (Word("sks"), 3),
]


def rows(count, seed):
    return torch.randn(count, 160, generator=torch.Generator().manual_seed(seed)) * 0.02


WORDS = NewWords.of(BASE, [(word, rows(count, count)) for word, count in PAIRS])


@pytest.fixture
def plain():
    return StableDiffusionPipeline.from_pretrained(PICO, dtype=torch.float32, local_files_only=True)


@pytest.fixture
def worded(tmp_path):
    WORDS.save(tmp_path / "words.safetensors")
    return MODEL.with_words(tmp_path / "words.safetensors")


def states(pipeline, prompt):
    return pipeline.encode_prompt(prompt, "cpu", 1, False)[0]


def test_diffusers_loads_each_file_and_gives_the_states_that_we_give(tmp_path, plain, worded):
    files = write_inversions(WORDS, tmp_path / "ti", "diffusers")
    assert sorted(files) == ["<halberd>", "<pole-axe>", "<sks>"]
    for path in files.values():
        plain.load_textual_inversion(str(path.parent), weight_name=path.name)
    ours = worded.pipeline()
    for prompt, theirs in (
        ("a halberd on a hill", "a <halberd> on a hill"),
        ("a pole axe and halberds", "a <pole-axe> and halberds"),
        ("a sks dog", "a <sks> dog"),
        ("a red cat", "a red cat"),
    ):
        assert torch.equal(states(ours, prompt), states(plain, theirs)), prompt


def test_the_other_form_loads_under_the_name_that_is_given(tmp_path, plain, worded):
    files = write_inversions(WORDS, tmp_path, "a1111")
    plain.load_textual_inversion(str(files["sks"].parent), weight_name="sks.safetensors", token="<s>")
    assert torch.equal(states(plain, "a <s> dog"), states(worded.pipeline(), "a sks dog"))


def test_names_keys_and_shapes_are_those_that_programs_look_for(tmp_path):
    files = write_inversions(WORDS, tmp_path, "a1111")
    assert {name: path.name for name, path in files.items()} == {
        name: f"{name}.safetensors" for name in ("halberd", "pole axe", "pole-axe", "sks")
    }
    found = {name: load_file(path) for name, path in files.items()}
    assert all(list(content) == ["emb_params"] for content in found.values())
    assert found["sks"]["emb_params"].shape == (3, 160)
    assert torch.equal(found["pole-axe"]["emb_params"], WORDS.of_word("halberd"))
    with safe_open(files["halberd"], "pt") as file:
        facts = json.loads(file.metadata()["bespoke"])
    assert facts["base"]["readers"]["clip_l"]["text_encoder"] == BASE.first.text_encoder
    assert (facts["word"]["method"], facts["word"]["gloss"]) == ("distilled", "an axe on a pole")
    two = NewWords(BASE, WORDS.words, dict(WORDS.rows) | {"clip_g": torch.ones(4, 8)})
    content = load_file(write_inversions(two, tmp_path / "xl", "a1111")["sks"])
    assert {name: tuple(rows.shape) for name, rows in content.items()} == {"clip_l": (3, 160), "clip_g": (3, 8)}


@pytest.mark.parametrize("form", ["diffusers", "a1111"])
def test_what_was_written_is_read_back(tmp_path, form):
    for path in write_inversions(WORDS, tmp_path, form).values():
        again = read_inversion(path, MODEL)
        (word,) = again.words
        original = next(w for w in WORDS.words if w.surface == word.surface)
        assert torch.equal(again.rows["clip_l"], WORDS.of_word(word.surface)) and again.base == BASE
        assert (word.method, word.gloss, word.pieces, word.rows) == (
            original.method, original.gloss, original.pieces, original.rows,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("key", "shape", "surface"),
    [
        ("emb_params", (2, 160), "my style"),
        ("<cat-toy>", (160,), "<cat-toy>"),
        ("*", (1, 160), "my style"),
        ("Zork", (160,), "zork"),
    ],
)
def test_files_from_elsewhere_become_words(tmp_path, key, shape, surface):
    save_file({key: torch.full(shape, 0.25, dtype=torch.float16)}, tmp_path / "My Style.safetensors")
    found = read_inversion(tmp_path / "My Style.safetensors", MODEL)
    assert [word.surface for word in found.words] == [surface]
    ids = found.extended(MODEL.tokenizer())(f"a {surface}, on a hill").input_ids
    assert [i for i in ids if i >= BASE.first.size] == found.ids()[surface]
    assert found.words[0].rows == (shape[0] if len(shape) > 1 else 1)
    named = read_inversion(tmp_path / "My Style.safetensors", MODEL, "Qux")
    assert named.words[0].surface == "qux" and torch.equal(named.rows["clip_l"], found.rows["clip_l"])
    both = NewWords.of(BASE, [*found.pairs(), *named.pairs(), *WORDS.pairs()])
    assert torch.equal(both.of_word("sks"), WORDS.of_word("sks"))
    assert both.words[[w.surface for w in both.words].index("halberd")].aliases == ("pole axe",)


def test_what_is_no_inversion_for_this_base_is_refused(tmp_path):
    save_file({"emb_params": torch.ones(1, 768)}, tmp_path / "wide.safetensors")
    save_file({"clip_l": torch.ones(1, 160), "clip_g": torch.ones(1, 8)}, tmp_path / "xl.safetensors")
    save_file({"a": torch.ones(2), "b": torch.ones(2)}, tmp_path / "two.safetensors")
    save_file({"a": torch.ones(2, 2, 2)}, tmp_path / "deep.safetensors")
    (tmp_path / "old.pt").write_bytes(b"PK\x03\x04 a pickle")
    for name, problem in (
        ("wide.safetensors", "768 numbers; pico needs 160"),
        ("xl.safetensors", "several text encoders: clip_g and clip_l"),
        ("two.safetensors", "2 tensors"),
        ("deep.safetensors", "1 tensors"),
        ("old.pt", "no textual inversion"),
        ("none.safetensors", "no textual inversion"),
    ):
        with pytest.raises(BespokeError, match=problem) as caught:
            read_inversion(tmp_path / name, MODEL)
        assert caught.value.hint


def test_names_that_files_cannot_have_are_mended_and_never_shared(tmp_path):
    words = NewWords.of(BASE, [(Word("a/c"), rows(1, 1)), (Word("../zork"), rows(1, 2))])
    files = write_inversions(words, tmp_path, "a1111")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["_._zork.safetensors", "a_c.safetensors"]
    assert all(path.parent == tmp_path for path in files.values())
    with pytest.raises(BespokeError, match="one file"):
        write_inversions(NewWords.of(BASE, [(Word("a/c"), rows(1, 1)), (Word("a:c"), rows(1, 2))]), tmp_path, "a1111")
    twice = NewWords.of(BASE, [(Word("pole axe", aliases=("pole-axe",)), rows(1, 1))])
    assert sorted(write_inversions(twice, tmp_path / "same", "diffusers")) == ["<pole-axe>"]
    assert placeholder("pole axe") == "<pole-axe>" and placeholder("<cat-toy>") == "<cat-toy>"


def test_a_plain_folder_has_the_bases_vocabulary_and_the_words_beside_it(tmp_path, worded):
    write_plain(worded, tmp_path / "plain")
    plain = find(str(tmp_path / "plain"))
    for part in ("unet", "vae", "tokenizer", "text_encoder"):
        assert plain.fingerprint(part) == MODEL.fingerprint(part)
    files = sorted((tmp_path / "plain" / "embeddings").iterdir())
    assert [file.stem for file in files] == ["halberd", "pole axe", "pole-axe", "sks"]


def test_a_plain_folder_of_a_trained_text_encoder_has_its_weights_and_its_rows(tmp_path, worded):
    trained = WORDS.with_rows(WORDS.rows["clip_l"] * 3).extend(MODEL.text_encoder())
    with torch.no_grad():
        trained.final_layer_norm.bias.add_(1)
    trained.save_pretrained(tmp_path / "trained" / "text_encoder")
    write_plain(worded.with_trained(tmp_path / "trained"), tmp_path / "plain")
    encoder = find(str(tmp_path / "plain")).text_encoder()
    assert len(encoder.get_input_embeddings().weight) == BASE.first.size == encoder.config.vocab_size
    assert torch.equal(encoder.final_layer_norm.bias, trained.final_layer_norm.bias)
    found = read_inversion(tmp_path / "plain" / "embeddings" / "sks.safetensors", MODEL)
    assert torch.equal(found.rows["clip_l"], 3 * WORDS.of_word("sks"))
