"""New words in both of SDXL's text encoders: built, trained, drawn, and given to and taken from other programs."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from pico import families
from PIL import Image
from safetensors.torch import load_file, save_file

import bespoke
from bespoke.errors import BespokeError
from bespoke.models import NewWords, Word, find, tuned
from bespoke.models.formats import read_inversion, write_inversions, write_plain
from bespoke.models.vocabulary import FILE
from bespoke.pipeline.inversions import import_words
from bespoke.pipeline.naming import named
from bespoke.recipe import load
from bespoke.recipe.tree import Sample
from bespoke.sampling import Request, draw
from bespoke.training.optim import optimizer_of
from bespoke.workspace import Run
from tests.flow.tiny import again, by_diffusers, model_of, plain_of, project_of

QUICK = ("train.max_train_steps=4", "train.learning_rate=0.02", "train.lr_warmup_steps=0", "train.num_class_images=0",
         "sample.num_inference_steps=2", "sample.sample_every_n_steps=0", "validation.strata=1", "model.rank=4",
         "validation.validation_steps=2", "train.train_batch_size=2", "train.checkpointing_steps=2",
         "track.mlflow=false", "track.tensorboard=false", "words.learning_rate=0.05", "validation.probe=false",
         "words.file=words.safetensors")  # fmt: skip
WAYS = {
    "rows alone": ("model.method=words", "sample.sample_every_n_steps=4"),
    "lora": ("words.train=true",),
    "lora of all": ("words.train=true", "train.train_text_encoder=true"),
    "full": ("words.train=true", "model.method=full"),
}
ENCODERS = {"clip_l": "text_encoder", "clip_g": "text_encoder_2"}
PROMPT = "a vulpenor on a hill"
VULPENORS = [f"a vulpenor {'on a hill' if number % 2 else 'by a house'}" for number in range(8)]
WISH = Sample(num_inference_steps=3, guidance_scale=4.0)
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers' Euler


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return model_of("sdxl", tmp_path_factory)


def words_of(base, *words):
    checkpoint = find(str(base))
    return NewWords.of(checkpoint.base, [
        (word, {
            name: torch.randn(
                count, checkpoint.config(part)["hidden_size"],
                generator=torch.Generator().manual_seed(count + len(name + word.surface)),
            )
            for name, part in checkpoint.rows_for.items()
        })
        for word, count in words
    ])  # fmt: skip


@pytest.fixture(scope="module")
def project(base, tmp_path_factory) -> Path:
    root = project_of(base, tmp_path_factory, VULPENORS)
    words_of(base, (Word("vulpenor"), 2)).save(root / FILE)
    return root


@pytest.fixture(scope="module")
def runs(project) -> dict[str, Path]:
    return {way: Path(bespoke.train(project / "recipe.toml", [*QUICK, *more]).run) for way, more in WAYS.items()}


def drawn(model, prompt=PROMPT):
    (one,) = draw(named(str(model)).pipeline(), [Request(prompt, 3)], WISH)
    return np.asarray(one.picture, int)


def with_words(base, prompt, folder, file, **more):
    """What `bespoke sample --words` draws."""
    wish = WISH.model_copy(update=more)
    done = bespoke.sample(str(base), [prompt], out=folder / "drawn", seed=3, settings=wish, words=[str(file)])
    return np.asarray(Image.open(done.pictures[0]).convert("RGB"), int)


def load_into(pipeline, file, token):
    """As diffusers' documentation has it for SDXL."""
    rows = load_file(file)
    for name, end in (("clip_l", ""), ("clip_g", "_2")):
        parts = {part: getattr(pipeline, f"{part}{end}") for part in ("text_encoder", "tokenizer")}
        pipeline.load_textual_inversion(rows[name], token=token, **parts)


# --- training ---


@pytest.mark.parametrize("way", WAYS)
def test_rows_of_both_learn_all_others_stay_and_diffusers_draws_the_same(base, runs, way, tmp_path):
    run = runs[way]
    home = run / "model" if way == "full" else run
    begun, learnt = NewWords.read(run / "begun" / FILE), NewWords.read(home / FILE)
    assert begun.words == learnt.words and begun.rows.keys() == learnt.rows.keys() == {*ENCODERS}
    assert not any(torch.equal(begun.rows[name], learnt.rows[name]) for name in ENCODERS)
    before, pipeline = find(str(base)), named(f"{run}@step-4").pipeline()
    for part in ENCODERS.values():
        own = before.network(part).get_input_embeddings().weight
        assert torch.equal(getattr(pipeline, part).get_input_embeddings().weight[: len(own)], own)
    ours = drawn(run)
    plain = plain_of(home if way == "full" else base)
    if way != "full":
        if way != "rows alone":
            plain.load_lora_weights(run, weight_name="adapter.safetensors")
        (file,) = write_inversions(learnt, tmp_path, "diffusers").values()
        load_into(plain, file, "<vulpenor>")
    theirs = by_diffusers(plain, PROMPT if way == "full" else PROMPT.replace("vulpenor", "<vulpenor>"))
    assert np.abs(ours - theirs).max() <= 1 < np.abs(ours - drawn(base)).max()
    assert np.abs(drawn(f"{run}@step-4") - drawn(f"{run}@last")).max() <= 1


def test_pictures_drawn_while_rows_are_trained_have_the_rows_as_they_are(base, runs):
    """The base's column and the last one of the same prompt and seed: only rows differ, and they show."""
    run = runs["rows alone"]
    first, last = (sorted((run / "samples" / "progress" / f"step-00000{n}").glob("*.png")) for n in (0, 4))
    apart = [
        np.abs(np.asarray(Image.open(a), int) - np.asarray(Image.open(b), int)).max()
        for a, b in zip(first, last, strict=True)
    ]
    assert apart and max(apart) > 1


def test_what_is_stopped_goes_on_to_the_same_bits(runs):
    whole = Run(runs["lora of all"])
    copied = again(whole.root)
    for file in (FILE, "adapter.safetensors"):
        assert (copied.last / file).read_bytes() == (whole.last / file).read_bytes()


def test_untouched_and_rates_are_those_of_both(base, project):
    recipe = load(project / "recipe.toml", ["words.train=true", "train.learning_rate=0.002"])
    network = tuned(find(str(base)).with_words(project / FILE), recipe)
    rows = network.rows
    assert list(rows) == [*ENCODERS]
    first = {name: own.detach().clone() for name, own in rows.items()}
    with torch.no_grad():
        for own in rows.values():
            own.add_(1.0)
    with network.untouched():
        assert all(torch.equal(rows[name], first[name]) for name in rows)
    assert all(torch.equal(rows[name], first[name] + 1) for name in rows)
    groups = optimizer_of(network.trainable(), recipe.train, 0.01).param_groups
    (own,) = [group for group in groups if group["weight_decay"] == 0]
    assert len(own["params"]) == 2 and own["share"] == pytest.approx(5.0)


# --- building ---


def test_words_are_built_for_both_and_mean_the_same_in_diffusers(base, project, tmp_path):
    settings = [f'model.base="{base}"', "words.method=tournament", "words.budget=1", "words.terms=terms.toml"]
    (project / "terms.toml").write_text(
        'triggers = ["vulpenor"]\n[rows]\nvulpenor = 2\n[glosses]\nvulpenor = "a fox"\n'
    )
    made = bespoke.build_words(project / "dataset", out=tmp_path / "words", overrides=settings)
    (told,) = made.rows.words
    assert made.file is not None, told.reason
    assert {gate.name for gate in told.gates} >= {"norm", "norm (clip_g)"}
    words = NewWords.read(made.file)
    assert {name: tuple(rows.shape) for name, rows in words.rows.items()} == {"clip_l": (2, 32), "clip_g": (2, 48)}
    for name, part in ENCODERS.items():
        table = find(str(base)).network(part).get_input_embeddings().weight
        usual = float(table.norm(dim=1).median())
        assert words.rows[name].norm(dim=1).tolist() == pytest.approx([usual] * 2, rel=0.3)
    model = bespoke.export_words(made.file, tmp_path / "model", "model", base=str(base))
    assert "StableDiffusionXLPipeline" in model.how[0]
    shown = bespoke.export_words(made.file, tmp_path / "ti", "diffusers")
    assert 'rows["clip_g"]' in shown.how[0] and "tokenizer_2" in shown.how[0]
    plain = plain_of(base)
    load_into(plain, shown.files["<vulpenor>"], "<vulpenor>")
    (picture,) = bespoke.sample(
        str(base), [PROMPT], out=tmp_path / "d", seed=3, settings=WISH, words=[str(made.file)]
    ).pictures
    ours = np.asarray(Image.open(picture).convert("RGB"), int)
    assert np.abs(ours - by_diffusers(plain, PROMPT.replace("vulpenor", "<vulpenor>"))).max() <= 1
    assert (
        np.abs(ours - by_diffusers(plain_of(tmp_path / "model"), PROMPT)).max() <= 1 < np.abs(ours - drawn(base)).max()
    )


# --- other programs ---


def test_files_of_other_programs_become_words_of_both(base, tmp_path):
    rows = {"clip_l": 0.1 * torch.randn(2, 32), "clip_g": 0.1 * torch.randn(2, 48)}
    save_file(rows, tmp_path / "zork.safetensors")
    save_file({f"text_encoders_{n}": own for n, own in enumerate(rows.values())}, tmp_path / "old.safetensors")
    checkpoint = find(str(base))
    found, old = (read_inversion(tmp_path / f"{name}.safetensors", checkpoint) for name in ("zork", "old"))
    assert all(torch.equal(each.rows[name], rows[name]) for name in rows for each in (found, old))
    assert [word.surface for word in (*found.words, *old.words)] == ["zork", "old"]
    files = [str(tmp_path / f"{name}.safetensors") for name in ("zork", "old")]
    both = import_words(files, tmp_path / "both.safetensors", base=str(base))
    assert both.words == ("old", "zork")
    plain = plain_of(base)
    load_into(plain, files[0], "<it>")
    settings = WISH.model_copy(update={"negative_prompt": "a zork"})
    (picture,) = bespoke.sample(
        str(base), ["a zork hat"], out=tmp_path / "d", seed=3, settings=settings, words=[str(both.file)]
    ).pictures
    generator = torch.Generator("cpu").manual_seed(3)
    theirs = plain(
        "a <it> hat", negative_prompt="a <it>", num_inference_steps=3, guidance_scale=4.0, generator=generator
    )
    assert np.abs(np.asarray(Image.open(picture).convert("RGB"), int) - np.asarray(theirs.images[0], int)).max() <= 1


def test_what_is_for_one_text_encoder_or_another_base_is_refused(base, tmp_path):
    checkpoint, words = find(str(base)), words_of(base, (Word("sks"), 1))
    for name, tensors, problem in (
        ("one", {"clip_l": torch.ones(1, 32)}, "has rows for clip_l; .* 2 text encoders"),
        ("sd1", {"emb_params": torch.ones(1, 32)}, "has rows for emb_params"),
        ("wide", {"clip_l": torch.ones(1, 32), "clip_g": torch.ones(1, 40)}, "40 numbers; .* needs 48"),
        ("odd", {"clip_l": torch.ones(1, 32), "clip_g": torch.ones(2, 48)}, "as many rows"),
    ):
        save_file(tensors, tmp_path / f"{name}.safetensors")
        with pytest.raises(BespokeError, match=problem) as caught:
            read_inversion(tmp_path / f"{name}.safetensors", checkpoint)
        assert caught.value.hint
    NewWords(words.base, words.words, {"clip_l": words.rows["clip_l"]}).save(tmp_path / "half.safetensors")
    with pytest.raises(BespokeError, match="no rows for clip_g"):
        checkpoint.with_words(tmp_path / "half.safetensors")
    families.write("sdxl", tmp_path / "other", seed=1)
    shutil.copytree(base / "text_encoder", tmp_path / "other" / "text_encoder", dirs_exist_ok=True)
    words.save(tmp_path / "words.safetensors")
    with pytest.raises(BespokeError, match="another text_encoder"):  # the second differs
        find(str(tmp_path / "other")).with_words(tmp_path / "words.safetensors")


def test_a_plain_folder_has_both_vocabularies_and_the_words_beside_it(base, runs, tmp_path):
    words_of(base, (Word("halberd", aliases=("pole axe",)), 1)).save(tmp_path / "words.safetensors")
    write_plain(find(str(base)).with_words(tmp_path / "words.safetensors"), tmp_path / "plain")
    bare, plain = find(str(base)), find(str(tmp_path / "plain"))
    for part in ("unet", "tokenizer", "text_encoder", "tokenizer_2", "text_encoder_2"):
        assert plain.fingerprint(part) == bare.fingerprint(part)
    files = sorted((tmp_path / "plain" / "embeddings").iterdir())
    assert [file.stem for file in files] == ["halberd", "pole axe", "pole-axe"]
    assert set(load_file(files[0])) == {*ENCODERS}


def test_a_run_with_words_is_exported_with_them(runs, tmp_path):
    done = bespoke.export_model(str(runs["lora of all"]), tmp_path / "out.safetensors", "diffusers")
    assert done.likeness.mean <= 0.5
    (file,) = done.words
    assert set(load_file(file)) == {*ENCODERS}
    bespoke.export_model(str(runs["lora of all"]), tmp_path / "model", "model")
    assert np.abs(by_diffusers(plain_of(tmp_path / "model"), PROMPT) - drawn(runs["lora of all"])).max() <= 1
