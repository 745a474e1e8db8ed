"""Stable Diffusion 3 in one file, tiny and random: out, read by plain diffusers, and in again."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import SD3Transformer2DModel, StableDiffusion3Pipeline
from diffusers.loaders import single_file_utils as diffusers_own
from pico import families
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

import bespoke
from bespoke.cli.commands import app
from bespoke.errors import BespokeError
from bespoke.models import NewWords, Word, find, threefile, unpacking
from bespoke.models.passport import passport
from bespoke.models.vocabulary import FILE
from bespoke.models.weightless import skeletons
from bespoke.pipeline.convert import convert_model
from bespoke.pipeline.easel import easel
from bespoke.recipe.tree import Sample
from tests.flow.tiny import project_of

KINDS = ("sd3", "sd3-clips", "sd35")
QUICK = ("train.max_train_steps=2", "train.learning_rate=0.02", "train.lr_warmup_steps=0", "train.num_class_images=0",
         "sample.num_inference_steps=2", "sample.sample_every_n_steps=0", "validation.strata=1", "model.rank=4",
         "train.train_batch_size=2", "track.mlflow=false", "track.tensorboard=false", "words.learning_rate=0.05",
         "validation.probe=false", "words.file=words.safetensors", "words.train=true",
         "train.train_text_encoder=true")  # fmt: skip
WISH = Sample(num_inference_steps=2, guidance_scale=4.0)
T5 = threefile.TEXTS["text_encoder_3"]
FEW = "sample.num_inference_steps=2"


@pytest.fixture(scope="module")
def bases(tmp_path_factory) -> dict[str, Path]:
    folders = {kind: tmp_path_factory.mktemp("files") / kind for kind in KINDS}
    for kind, folder in folders.items():
        families.write(kind, folder)
    return folders


@pytest.fixture(scope="module")
def files(bases, tmp_path_factory) -> dict[str, Path]:
    out = tmp_path_factory.mktemp("one")
    return {
        kind: bespoke.export_model(str(base), out / f"{kind}.safetensors", "single-file").path
        for kind, base in bases.items()
    }


def read_by_diffusers(path: Path, folder: Path):
    options = {} if (folder / "text_encoder_3").is_dir() else {"text_encoder_3": None, "tokenizer_3": None}
    return StableDiffusion3Pipeline.from_single_file(
        str(path), config=str(folder), local_files_only=True, torch_dtype=torch.float32, **options
    )


def networks_of(folder: Path):
    base = find(str(folder))
    return {part: base.network(part) for part in ("transformer", "vae", *(encoder for _, encoder in base.reading))}


def drawn(model: Path, out: Path) -> np.ndarray:
    (picture,) = bespoke.sample(str(model), ["a red cat"], out=out, seed=3, settings=WISH).pictures
    with Image.open(picture) as image:
        return np.asarray(image.convert("RGB"), int)


def same(ours, theirs) -> bool:
    one, two = ours.state_dict(), theirs.state_dict()
    return one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


@pytest.mark.parametrize("kind", KINDS)
def test_diffusers_reads_back_every_bit(bases, files, kind):
    theirs = read_by_diffusers(files[kind], bases[kind])
    # diffusers takes the identity for the first CLIP's projection, which is random here.
    parts = networks_of(bases[kind])
    assert not same(parts["text_encoder"], theirs.text_encoder)
    threefile.mend(theirs, files[kind])
    for name, part in parts.items():
        assert same(part, getattr(theirs, name)), name
    assert (theirs.text_encoder_3 is None) == (kind == "sd3-clips")


def test_a_projection_that_is_the_identity_is_left_out_as_in_published_files(bases):
    parts = networks_of(bases["sd3-clips"])
    texts = {name: parts[name] for name in ("text_encoder", "text_encoder_2")}
    name = threefile.TEXTS["text_encoder"] + threefile.PROJECTION
    assert name in threefile.content_of(parts["transformer"], parts["vae"], texts)
    with torch.no_grad():
        texts["text_encoder"].text_projection.weight.copy_(torch.eye(32))
    assert name not in threefile.content_of(parts["transformer"], parts["vae"], texts)


@pytest.mark.parametrize(("kind", "weights"), [("sd3", 2_028_328_000), ("sd35", 2_243_171_520)])
def test_the_settings_that_ship_are_the_real_models(tmp_path, kind, weights):
    """2 billion weights, and 2.5 with the table of 384² places, as the models' pages say."""
    unpacking._stage(unpacking.CONFIGS / kind, tmp_path / kind, {})
    found = find(str(tmp_path / kind))
    bare = skeletons(found)
    sizes = {name: sum(p.numel() for p in part.parameters()) for name, part in bare.items()}
    # CLIP's towers have 123,060,480 and 694,659,840 numbers; the first has a projection of 768 by 768 beside.
    assert sizes["text_encoder"] == 123_060_480 + 768 * 768 and sizes["text_encoder_2"] == 694_659_840
    assert found.resolution == 1024 and found.scaling == (1.5305, 0.0609) and found.text_shape == (77 + 256, 4096)
    assert found.lacked and found.flows and found.scheduler_config["shift"] == 3.0
    first, second = (found.tokenizer(name) for name in ("tokenizer", "tokenizer_2"))
    assert (len(first), len(second), first.pad_token_id, second.pad_token_id) == (49_408, 49_408, 49407, 0)
    assert sizes["transformer"] == weights


def test_every_name_of_as_many_blocks_as_the_real_one_has_is_one_that_diffusers_looks_for():
    """Blocks as many and of the kinds of 3.5 medium's, but narrow."""
    network = families.transformer(joint_attention_dim=32, qk_norm="rms_norm", dual_attention_layers=tuple(range(13)))
    config = dict(network.config) | {"num_layers": 24}
    network = SD3Transformer2DModel.from_config(config)
    content = threefile.content_of(network, find("pico").vae(), {})
    own = {key: value for key, value in content.items() if key.startswith(threefile.TRANSFORMER)}
    theirs = diffusers_own.convert_sd3_transformer_checkpoint_to_diffusers(own)
    state = network.state_dict()
    assert theirs.keys() == state.keys() and all(torch.equal(theirs[key], state[key]) for key in state)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_comes_in_again_with_every_bit(bases, files, kind, tmp_path):
    done = bespoke.import_model(files[kind], tmp_path / "back", config=bases[kind])
    assert (done.family, done.left_out) == ("Stable Diffusion 3.x", ())
    ours, theirs = networks_of(tmp_path / "back"), networks_of(bases[kind])
    assert ours.keys() == theirs.keys() and all(same(ours[name], theirs[name]) for name in ours)
    one, two = (find(str(folder)) for folder in (tmp_path / "back", bases[kind]))
    assert one.lacked == two.lacked and one.scheduler_config.items() >= {"shift": 3.0}.items()
    assert [one.tokenizer(name)("cat").input_ids for name, _ in one.reading] == [
        two.tokenizer(name)("cat").input_ids for name, _ in two.reading
    ]


def test_t5_is_left_out_and_told_where_its_vocabulary_is_not_there(
    bases, files, tmp_path, monkeypatch, tmp_path_factory
):
    told = CliRunner().invoke(
        app, ["models", "import", str(files["sd3"]), str(tmp_path / "out"), "--config", str(bases["sd3-clips"])]
    )
    assert told.exit_code == 0 and "T5 was left out" in " ".join(told.output.split()), told.output
    found = find(str(tmp_path / "out"))
    assert found.lacked and not (tmp_path / "out" / "text_encoder_3").exists()
    index = json.loads((tmp_path / "out" / "model_index.json").read_text())
    assert index["text_encoder_3"] == [None, None]
    # A file without T5, by the settings of a model that has one.
    assert bespoke.import_model(files["sd3-clips"], tmp_path / "clips", config=bases["sd3"]).left_out == ()
    assert find(str(tmp_path / "clips")).lacked
    # A name alone is enough where the shape is that of the settings that come with the package.
    monkeypatch.setenv("BESPOKE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(unpacking.THIRDS, "3", bases["sd3-clips"])
    one, two = (drawn(name, tmp_path / out) for name, out in ((files["sd3-clips"], "a"), (bases["sd3-clips"], "b")))
    assert one.any() and (one == two).all()
    # Such a base tells what it does without, in each way to use it.
    told = CliRunner().invoke(app, ["sample", str(files["sd3"]), "a cat", "--out", str(tmp_path / "c"), "--set", FEW])
    assert told.exit_code == 0 and "T5 of the file is left out" in " ".join(told.output.split()), told.output
    project, heard = project_of(files["sd3"], tmp_path_factory), []
    plain = [setting for setting in QUICK if not setting.startswith("words.") and "text_encoder" not in setting]
    bespoke.train(project / "recipe.toml", plain, report=lambda *said: heard.extend(map(str, said)))
    assert any("T5 of the file is left out" in words for words in heard)
    facts = dict(easel(tmp_path, None, 2.0, False).prepare(str(files["sd3"])).facts)
    assert "T5 of the file is left out" in facts["left out"]
    assert not find(str(files["sd3-clips"])).unread and not find(str(bases["sd3"])).unread


@pytest.mark.parametrize("few", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_a_file_whose_t5_is_in_eight_bits_comes_in_in_sixteen_and_loses_nothing(bases, files, few, tmp_path):
    """As the published `…_incl_clips_t5xxlfp8.safetensors` is."""
    content = {key: value.half() for key, value in load_file(files["sd3"]).items()}
    content |= {key: value.to(few) for key, value in content.items() if key.startswith(T5)}
    save_file(content, tmp_path / "mixed.safetensors")
    bespoke.import_model(tmp_path / "mixed.safetensors", tmp_path / "back", config=bases["sd3"])
    with safe_open(tmp_path / "back" / "text_encoder_3" / "model.safetensors", "pt") as file:
        wide = [key for key in file.keys() if file.get_slice(key).get_dtype() != "F16"]  # noqa: SIM118
    assert all(key.endswith(".wo.weight") for key in wide), "transformers keeps these in float32"
    ours, theirs = networks_of(tmp_path / "back"), networks_of(bases["sd3"])
    for name, network in ours.items():
        kind = few if name == "text_encoder_3" else torch.float16
        own = theirs[name].state_dict()
        assert all(torch.equal(v, own[k].half().to(kind).float()) for k, v in network.state_dict().items()), name


def test_what_cannot_be_read_is_refused_with_what_to_do(bases, files, tmp_path):
    content, path = load_file(files["sd3"]), tmp_path / "other.safetensors"
    save_file({key: value for key, value in content.items() if not key.startswith("text_encoders.")}, path)
    with pytest.raises(BespokeError, match="no text encoders") as told:
        bespoke.import_model(path, tmp_path / "out", config=bases["sd3"])
    assert "incl_clips" in told.value.hint
    with pytest.raises(BespokeError, match="does not fit its family") as told:
        bespoke.import_model(files["sd3"], tmp_path / "out")
    assert "--config" in told.value.hint
    for lacking in ("model.diffusion_model.final_layer.linear.bias", f"{T5}encoder.final_layer_norm.weight"):
        save_file({key: value for key, value in content.items() if key != lacking}, path)
        with pytest.raises(BespokeError, match="does not fit its family"):
            bespoke.import_model(path, tmp_path / "out", config=bases["sd3"])
    large = {"model.diffusion_model.joint_blocks.37.x_block.mlp.fc1.weight": torch.zeros(2, 2)}
    save_file(content | large, path)
    with pytest.raises(BespokeError, match=r"without settings here: Stable Diffusion 3\.x \(3\.5-large\)"):
        bespoke.import_model(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("kind", "version", "spec"), [("sd3", "3", "v3-medium"), ("sd35", "3.5", "v3.5-medium")])
def test_files_say_what_they_are(files, kind, version, spec):
    found = passport(files[kind])
    assert (found.what, found.family, found.version) == ("whole model", "Stable Diffusion 3.x", version)
    assert "ComfyUI" in found.loads and "A1111" not in found.loads and found.dtype == "fp32"
    assert ("family", f"Stable Diffusion 3.x: {version}") in list(found.lines())
    with unpacking.safe_open(files[kind], "pt") as file:
        told = file.metadata()
    assert told["modelspec.architecture"] == f"stable-diffusion-{spec}" and "modelspec.prediction_type" not in told


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_half_the_room_and_back_into_a_folder(bases, tmp_path, dtype, monkeypatch):
    done = convert_model(str(bases["sd35"]), tmp_path / "half.safetensors", dtype=dtype)
    assert "Loaded again by diffusers' from_single_file" in done.checked and passport(done.path).dtype == dtype
    monkeypatch.setitem(unpacking.THIRDS, "3.5", bases["sd35"])
    back = convert_model(str(done.path), tmp_path / "folder")
    assert "and the same." in back.checked
    ours, theirs = networks_of(tmp_path / "folder"), networks_of(bases["sd35"])
    kind = {"fp16": torch.float16, "bf16": torch.bfloat16}[dtype]
    for name, part in ours.items():
        own = theirs[name].state_dict()
        assert all(torch.equal(value, own[key].to(kind).float()) for key, value in part.state_dict().items()), name


@pytest.fixture(scope="module")
def trained(bases, tmp_path_factory) -> Path:
    """A run on 3.5 medium's kind: a LoRA of the transformer and both CLIPs, and a new word of two rows."""
    pictures = tmp_path_factory.mktemp("pictures")
    for number in range(4):
        pixels = np.random.default_rng(number).integers(0, 255, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(pictures / f"{number}.png")
        (pictures / f"{number}.txt").write_text(f"a vulpenor {'on a hill' if number % 2 else 'by a house'}")
    root = bespoke.new(tmp_path_factory.mktemp("project") / "p", pictures, base=str(bases["sd35"])).project
    base = find(str(bases["sd35"]))
    widths = {name: base.config(encoder)["hidden_size"] for name, encoder in base.rows_for.items()}
    rows = {
        name: torch.randn(2, width, generator=torch.Generator().manual_seed(width)) for name, width in widths.items()
    }
    NewWords.of(base.base, [(Word("vulpenor"), rows)]).save(root / FILE)
    return Path(bespoke.train(root / "recipe.toml", QUICK).run)


def test_a_runs_adapter_and_words_go_out_as_other_programs_read_them(bases, trained, tmp_path):
    """The words' rows stand in files beside it; the file has the base's vocabulary, and draws what the folder draws."""
    done = bespoke.export_model(str(trained), tmp_path / "one.safetensors", "single-file")
    assert done.likeness.mean <= 0.5 and len(done.words) > 0
    assert any("Forge" in line and "A1111" not in line for line in done.how)
    bespoke.export_model(str(trained), tmp_path / "whole", "model")
    theirs = read_by_diffusers(done.path, bases["sd35"])
    threefile.mend(theirs, done.path)
    bare = networks_of(bases["sd35"])
    for name, network in networks_of(tmp_path / "whole").items():
        own, out = network.state_dict(), getattr(theirs, name).state_dict()
        assert own.keys() == out.keys()
        for key, value in own.items():
            assert torch.equal(value[: len(out[key])] if value.ndim else value, out[key]), (name, key)
        changed = name in ("transformer", "text_encoder", "text_encoder_2")
        assert same(bare[name], getattr(theirs, name)) != changed
