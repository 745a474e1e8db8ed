"""New words in T5 of Stable Diffusion 3, tiny and random: their files and tokens, built, given to other programs."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pico import families
from safetensors.torch import load_file, save_file

import bespoke
from bespoke.cli import vocabulary
from bespoke.encoding import spelt_tokens
from bespoke.errors import BespokeError
from bespoke.models import NewWords, Word, find, threefile
from bespoke.models.bases import T5
from bespoke.models.formats import read_inversion, write_inversions, write_plain
from bespoke.models.passport import passport
from bespoke.models.vocabulary import FILE
from bespoke.pipeline.inversions import import_words
from bespoke.sampling import Request, draw
from bespoke.words import with_t5
from tests.flow.spoken import PARTS, PROMPT, WISH, by_hand, extended_by_hand, spoken_project, with_words, words_of
from tests.flow.tiny import by_diffusers, model_of, plain_of

QUICK = ("train.max_train_steps=2", "train.learning_rate=0.02", "train.lr_warmup_steps=0", "train.num_class_images=0",
         "sample.num_inference_steps=2", "sample.sample_every_n_steps=0", "validation.strata=1", "model.rank=4",
         "validation.validation_steps=2", "train.train_batch_size=2", "track.mlflow=false", "track.tensorboard=false",
         "words.learning_rate=0.05", "validation.probe=false", "words.file=words.safetensors",
         "words.t5=true")  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return model_of("sd3", tmp_path_factory)


@pytest.fixture(scope="module")
def project(base, tmp_path_factory) -> Path:
    return spoken_project(base, tmp_path_factory)


# --- files, tokens, refusals ---


def test_files_keep_all_rows_and_a_table_with_room_to_spare_keeps_its_size(base, tmp_path):
    """T5's table has rows that no token stands for, which words take first; the others stay, every bit."""
    checkpoint = find(str(base))
    own = checkpoint.table("text_encoder_3")
    size = checkpoint.base_with(T5).readers[T5].size
    for count in (1, families.SPARE, families.SPARE + 2):
        words = words_of(base, (Word("vulpenor"), count))
        words.save(tmp_path / f"{count}.safetensors")
        again_ = NewWords.read(tmp_path / f"{count}.safetensors")
        assert again_.base == words.base and all(torch.equal(again_.rows[name], words.rows[name]) for name in PARTS)
        encoder = checkpoint.with_words(tmp_path / f"{count}.safetensors").network("text_encoder_3")
        table = encoder.get_input_embeddings().weight
        assert len(table) == encoder.config.vocab_size == max(len(own), size + count)
        assert torch.equal(table[:size], own[:size]) and torch.equal(table[size : size + count], words.rows[T5])
        assert torch.equal(table[size + count :], own[size + count :])
        assert words.extend(encoder, T5).get_input_embeddings().weight.equal(table)


def test_words_without_rows_for_t5_leave_it_as_it_is(base, tmp_path):
    checkpoint = find(str(base))
    words_of(base, (Word("vulpenor"), 2), t5=False).save(tmp_path / "two.safetensors")
    words_of(base, (Word("vulpenor"), 2)).save(tmp_path / "three.safetensors")
    two, three = (checkpoint.with_words(tmp_path / f"{name}.safetensors") for name in ("two", "three"))
    parts = ("tokenizer", "text_encoder", "tokenizer_3", "text_encoder_3")
    same = [[one.fingerprint(part) == checkpoint.fingerprint(part) for part in parts] for one in (two, three)]
    assert same == [[False, False, True, True], [False] * 4]
    pieces, tokens_ = two.tokenizer("tokenizer_3"), three.tokenizer("tokenizer_3")
    assert pieces(PROMPT).input_ids == checkpoint.tokenizer("tokenizer_3")(PROMPT).input_ids
    assert len(tokens_(PROMPT).input_ids) < len(pieces(PROMPT).input_ids)
    prompt = "a red cat"
    assert tokens_(prompt).input_ids == pieces(prompt).input_ids
    drawn_ = [draw(one.pipeline(), [Request(PROMPT, 3)], WISH) for one in (two, three)]
    ours, other = (np.asarray(next(iter(each)).picture, int) for each in drawn_)
    assert (ours != other).any()
    plain = plain_of(base)
    extended_by_hand(plain, "vulpenor", {name: own for name, own in three.new_words.rows.items() if name != T5})
    settings: Any = {"prompt_3": PROMPT}
    assert np.abs(ours - by_diffusers(plain, by_hand(PROMPT), **settings, negative_prompt_3="")).max() <= 1


def test_t5_knows_whole_words_alone_however_they_are_written(base):
    words = words_of(
        base,
        (Word("vulpenor", aliases=("pole axe", "axe", "pole")), 2),
        (Word("hat-trick"), 1),
        (Word("hat"), 1),
        (Word("größe"), 1),
    )
    plain = find(str(base)).tokenizer("tokenizer_3")
    tokenizer, ids = words.extended(plain, T5), words.ids(T5)
    size = len(plain)

    def new(text):
        return [i for i in tokenizer(text).input_ids if i >= size]

    for text in ("a vulpenor on", "a VULPENOR, on", "(Vulpenor)", "vulpenor"):
        assert new(text) == ids["vulpenor"], text
    assert new("a Pole\nAxe, an axe, a pole") == [*ids["pole axe"], *ids["axe"], *ids["pole"]]
    assert new("a Hat-Trick; a hat") == [*ids["hat-trick"], *ids["hat"]]
    assert new("GRÖSSE größe GRÖßE") == [*ids["größe"]] * 2
    for text in ("vulpenors", "xvulpenor", "vulpenor_1", "poleaxe", "trick", ""):
        assert not new(text) and tokenizer(text).input_ids == plain(text).input_ids, text
    weighed = spelt_tokens(tokenizer, ["a (Vulpenor:1.4) on, a hat"])[0][0]
    assert [int(i) for i, weight, _ in weighed.tolist() if weight != 1] == ids["vulpenor"]


def test_what_cannot_be_is_refused_before_anything_is_encoded(base, project, tmp_path, tmp_path_factory):
    words_of(base, (Word("vulpenor"), 2), t5=False).save(project / "two.safetensors")
    cases = (
        (("words.file=two.safetensors", "words.train=true"), "no rows for T5"),
        (("words.train=true", "train.mixed_precision=fp16"), "too large for fp16"),
    )
    for settings, problem in cases:
        with pytest.raises(BespokeError, match=problem) as caught:
            bespoke.plan(project / "recipe.toml", (*QUICK, *settings))
        assert caught.value.hint
    small = tmp_path / "small"
    families.write("sd3-clips", small)
    root = spoken_project(small, tmp_path_factory)
    with pytest.raises(BespokeError, match="has no T5"):
        bespoke.plan(root / "recipe.toml", (*QUICK, "words.train=true"))
    with pytest.raises(BespokeError, match="has no T5"):
        bespoke.build_words(root / "dataset", overrides=["words.t5=true"])
    with pytest.raises(BespokeError, match="'x' is a piece of T5's vocabulary"):
        words_of(base, (Word("x"), 1)).extended(find(str(base)).tokenizer("tokenizer_3"), T5)
    families.write("sd3", tmp_path / "other", seed=1)
    for part in ("text_encoder", "text_encoder_2"):
        shutil.copytree(base / part, tmp_path / "other" / part, dirs_exist_ok=True)
    with pytest.raises(BespokeError, match="another text_encoder"):  # T5 differs
        find(str(tmp_path / "other")).with_words(project / FILE)
    find(str(tmp_path / "other")).with_words(project / "two.safetensors")
    bare = shutil.copytree(base, tmp_path / "bare")
    for part in ("tokenizer_3", "text_encoder_3"):
        shutil.rmtree(bare / part)
    assert T5 not in [find(str(bare)).with_words(project / FILE).name_of(part) for part in find(str(bare)).worded]


# --- building, other programs ---


def test_rows_for_t5_are_of_glosses_or_else_pieces_and_as_long_as_others(base):
    checkpoint = find(str(base))
    asked = words_of(base, (Word("turrovan"), 1), (Word("vulpenor", gloss="a red fox"), 1), t5=False)
    tokenizer, table = checkpoint.tokenizer("tokenizer_3"), checkpoint.table("text_encoder_3")
    norm = float(table[: len(tokenizer)].norm(dim=1).median())
    for method, glossed in (("tournament", "red fox"), ("distilled", "red fox"), ("subwords", "vulpenor")):
        words = with_t5(asked, checkpoint, method)
        assert all(torch.equal(words.rows[name], asked.rows[name]) for name in asked.rows)
        for word, said in (("turrovan", "turrovan"), ("vulpenor", glossed)):
            mean = table[tokenizer(said, add_special_tokens=False).input_ids].mean(dim=0)
            torch.testing.assert_close(words.of_word(word, T5)[0], mean * norm / mean.norm())


def test_words_are_built_for_t5_where_that_is_asked_for(base, project, tmp_path):
    (project / "terms.toml").write_text(
        'triggers = ["vulpenor"]\n[rows]\nvulpenor = 2\n[glosses]\nvulpenor = "a red fox"\n'
    )
    settings = [f'model.base="{base}"', "words.method=tournament", "words.budget=1", "words.terms=terms.toml"]
    made, plain = (
        bespoke.build_words(project / "dataset", out=tmp_path / more, overrides=[*settings, f"words.t5={more}"])
        for more in ("true", "false")
    )
    words, without = NewWords.read(made.file), NewWords.read(plain.file)
    assert made.rows_for == ("clip_l", "clip_g", T5) and {*words.rows} == {*PARTS}
    assert plain.rows_for == ("clip_l", "clip_g") == tuple(sorted(without.rows, reverse=True))
    assert all(torch.equal(words.rows[name], without.rows[name]) for name in without.rows)
    first, second = words.of_word("vulpenor", T5)
    assert 0 < float((first - second).norm() / first.norm()) < 0.5
    assert "T5 has rows" in vocabulary.built(made) and "T5 has rows" not in vocabulary.built(plain)
    assert "t5xxl" in made.page.read_text(encoding="utf-8")
    with_t5_, clips = (
        vocabulary.explained(
            bespoke.show_word(project / "dataset", "vulpenor", out=tmp_path / more, overrides=settings)
        )
        for more in ("true", "false")
    )
    assert "rows for    clip_l, clip_g, t5xxl\n" in with_t5_ and "rows for    clip_l, clip_g\n" in clips
    assert "T5's        ▁ v u l p e n o r\n" in clips


def test_files_of_other_programs_go_in_and_out_with_t5_s_rows_or_without(base, tmp_path):
    """ComfyUI's key is `t5xxl`, OneTrainer's `t5`; both have all text encoders in one file."""
    checkpoint = find(str(base))
    words = words_of(base, (Word("vulpenor"), 2))
    (file,) = write_inversions(words, tmp_path / "out", "a1111").values()
    content = load_file(file)
    assert {name: tuple(own.shape) for name, own in content.items()} == {
        "clip_l": (2, 32), "clip_g": (2, 48), T5: (2, 80)
    }  # fmt: skip
    told = passport(file)
    assert (told.what, told.family) == ("textual inversion", "Stable Diffusion 3.x")
    save_file({"t5" if name == T5 else name: own for name, own in content.items()}, tmp_path / "theirs.safetensors")
    save_file({name: own for name, own in content.items() if name != T5}, tmp_path / "clips.safetensors")
    for path in (file, tmp_path / "theirs.safetensors"):
        found = read_inversion(path, checkpoint, "vulpenor")
        assert found.base == words.base and all(torch.equal(found.rows[name], words.rows[name]) for name in PARTS)
    clips = read_inversion(tmp_path / "clips.safetensors", checkpoint)
    assert {*clips.rows} == {"clip_l", "clip_g"}
    bare = shutil.copytree(base, tmp_path / "bare")
    for part in ("tokenizer_3", "text_encoder_3"):
        shutil.rmtree(bare / part)
    assert {*read_inversion(file, find(str(bare))).rows} == {"clip_l", "clip_g"}
    plain = plain_of(base)
    extended_by_hand(plain, "vulpenor", words.rows)
    assert np.abs(with_words(base, PROMPT, tmp_path, file) - by_diffusers(plain, by_hand(PROMPT))).max() <= 1
    with pytest.raises(BespokeError, match="have rows for T5, and others have none"):
        import_words([file, tmp_path / "clips.safetensors"], tmp_path / "both.safetensors", base=str(base))
    for name, tensors, problem in (
        ("wide", content | {T5: torch.ones(2, 64)}, "64 numbers; .* needs 80"),
        ("few", content | {T5: torch.ones(1, 80)}, "as many rows"),
        ("outer", content | {"t5_out": torch.ones(2, 80)}, "has rows for .*t5_out"),
        ("alone", {T5: content[T5]}, "has rows for t5xxl"),
    ):
        save_file(tensors, tmp_path / f"{name}.safetensors")
        with pytest.raises(BespokeError, match=problem):
            read_inversion(tmp_path / f"{name}.safetensors", checkpoint)


def test_words_are_exported_as_a_model_and_for_comfyui_and_refused_where_diffusers_has_no_form(base, project, tmp_path):
    done = bespoke.export_words(project / FILE, tmp_path / "model", "model", base=str(base))
    assert "StableDiffusion3Pipeline" in done.how[0] and "“vulpenor vulpenor_1”" in done.how[0]
    theirs = by_diffusers(plain_of(tmp_path / "model"), by_hand(PROMPT))
    ours = with_words(base, PROMPT, tmp_path, project / FILE)
    assert np.abs(ours - theirs).max() <= 1
    comfy = bespoke.export_words(project / FILE, tmp_path / "comfy")
    assert len(comfy.how) == 1 and comfy.how[0].startswith("ComfyUI")
    with pytest.raises(BespokeError, match="no load_textual_inversion") as caught:
        bespoke.export_words(project / FILE, tmp_path / "diffusers", "diffusers")
    assert "--as model" in caught.value.hint


def test_a_run_goes_out_with_its_words_and_the_base_s_own_t5(base, project, tmp_path):
    way = ("words.train=true", "train.train_text_encoder=true")
    run = bespoke.train(project / "recipe.toml", (*QUICK, *way)).run
    done = bespoke.export_model(str(run), tmp_path / "one.safetensors", "single-file")
    (file,) = done.words
    assert {*load_file(file)} == {*PARTS} and done.likeness.mean <= 0.5
    prefix = threefile.TEXTS["text_encoder_3"]
    own = find(str(base)).network("text_encoder_3").state_dict()
    content = {key.removeprefix(prefix): own for key, own in load_file(done.path).items() if key.startswith(prefix)}
    assert content and all(torch.equal(value, own[key]) for key, value in content.items())
    write_plain(find(str(base)).with_words(project / FILE), tmp_path / "plain")
    plain, bare = find(str(tmp_path / "plain")), find(str(base))
    for part in ("tokenizer", "tokenizer_3", "text_encoder_3"):
        assert plain.fingerprint(part) == bare.fingerprint(part), part
    assert {*load_file(tmp_path / "plain" / "embeddings" / "vulpenor.safetensors")} == {*PARTS}
