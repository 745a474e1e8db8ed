"""Models found by name: pico, a folder, a hub id; and what is none of these, refused in words that help."""

import json
import shutil

import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import load_file, save_file

from bespoke.errors import BespokeError
from bespoke.models import PICO, find
from bespoke.models.marks import fingerprint
from bespoke.models.quietly import quiet


@pytest.fixture(scope="module")
def pico():
    return find("pico")


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    """Pico in another folder, under another name."""
    return shutil.copytree(PICO, tmp_path_factory.mktemp("models") / "mine")


def test_pico_is_there_without_any_download(pico):
    assert pico.name == "pico" and pico.folder == PICO
    assert pico.family.pipeline == "StableDiffusionPipeline"
    assert pico.family.lora_targets == ("to_q", "to_k", "to_v", "to_out.0")


def test_a_folder_gives_the_same_networks_as_pico_frozen_and_in_float32(pico, copied):
    other = find(str(copied))
    assert other.folder == copied
    for part in ("unet", "vae", "text_encoder"):
        ours, theirs = pico.network(part), other.network(part)
        bits = theirs.state_dict()
        assert list(ours.state_dict()) == list(bits)
        assert all(torch.equal(t, bits[name]) for name, t in ours.state_dict().items())
        assert not ours.training
        assert all(p.dtype == torch.float32 and not p.requires_grad for p in ours.parameters())
    assert pico.tokenizer()("a red cat").input_ids == other.tokenizer()("a red cat").input_ids


def test_the_networks_are_those_that_diffusers_reads(pico):
    for kind, part in ((UNet2DConditionModel, "unet"), (AutoencoderKL, "vae")):
        theirs = kind.from_pretrained(PICO / part, dtype=torch.float32).state_dict()
        assert all(torch.equal(t, theirs[name]) for name, t in pico.network(part).state_dict().items())


def test_what_the_files_say(pico):
    vae = AutoencoderKL.from_config(AutoencoderKL.load_config(PICO / "vae"))
    plain = StableDiffusionPipeline.from_pretrained(PICO, dtype=torch.float32)
    assert pico.resolution == plain.unet.config["sample_size"] * plain.vae_scale_factor == 64
    assert pico.scaling == (vae.config["scaling_factor"], 0.0)
    assert DDIMScheduler.from_config(pico.scheduler_config).config["prediction_type"] == "v_prediction"


def test_a_byte_of_the_weights_changes_the_fingerprint_of_its_part_only(pico, copied, tmp_path):
    before = {part: find(str(copied)).fingerprint(part) for part in ("unet", "vae", "text_encoder", "tokenizer")}
    assert before == {part: pico.fingerprint(part) for part in before}
    changed = shutil.copytree(copied, tmp_path / "changed")
    weights = changed / "vae" / "diffusion_pytorch_model.safetensors"
    with weights.open("r+b") as file:
        file.seek(-5, 2)
        byte = file.read(1)[0]
        file.seek(-5, 2)
        file.write(bytes([byte ^ 1]))
    after = {part: find(str(changed)).fingerprint(part) for part in before}
    assert [part for part in before if before[part] != after[part]] == ["vae"]
    assert len(set(before.values())) == len(before)


def test_weights_are_told_apart_however_they_are_kept(copied, tmp_path):
    """An autoencoder as `.bin` alone, another one, and one whose `.bin` is read as the other file is of a variant."""
    changed = shutil.copytree(copied, tmp_path / "changed")
    weights = changed / "vae" / "diffusion_pytorch_model.safetensors"
    plain = changed / "vae" / "diffusion_pytorch_model.bin"
    torch.save(load_file(weights), plain)
    weights.unlink()
    marks = [find(str(changed)).fingerprint("vae")]
    assert find(str(changed)).vae().state_dict().keys() == find("pico").vae().state_dict().keys()
    other = {name: tensor + 1 for name, tensor in torch.load(plain, weights_only=True).items()}
    torch.save(other, plain)
    marks.append(find(str(changed)).fingerprint("vae"))
    save_file(other, changed / "vae" / "diffusion_pytorch_model.fp16.safetensors")
    marks.append(find(str(changed)).fingerprint("vae"))
    torch.save({name: tensor + 1 for name, tensor in other.items()}, plain)
    marks.append(find(str(changed)).fingerprint("vae"))
    assert len(set(marks)) == len(marks)
    assert marks[-1] == fingerprint(changed / "vae")


def test_a_setting_changes_the_fingerprint_too(copied, tmp_path):
    changed = shutil.copytree(copied, tmp_path / "m")
    before = find(str(changed)).fingerprint("scheduler")
    config = json.loads((changed / "scheduler" / "scheduler_config.json").read_text())
    config["rescale_betas_zero_snr"] = True
    (changed / "scheduler" / "scheduler_config.json").write_text(json.dumps(config))
    assert find(str(changed)).fingerprint("scheduler") != before


@pytest.mark.parametrize(
    "name",
    ["nope", "no/such/thing/at/all", "/nowhere/at/all", "./missing", "", "some-one/a-model-not-here", "a b/c d"],
)
def test_an_unknown_name_is_refused_with_what_would_be_right(name):
    with pytest.raises(BespokeError) as caught:
        find(name)
    assert repr(name) in caught.value.problem or (not name and "model" in caught.value.problem)
    assert "\n" not in caught.value.problem
    assert "pico" in caught.value.hint or "model_index.json" in caught.value.hint


def test_an_empty_folder_is_no_model(tmp_path):
    with pytest.raises(BespokeError, match=r"no model_index\.json") as caught:
        find(str(tmp_path))
    assert str(tmp_path) in caught.value.problem and "unet" in caught.value.hint


@pytest.mark.parametrize("kind", ["StableDiffusionGLIGENPipeline", "FluxPipeline"])
def test_a_kind_that_is_not_built_yet_is_refused_by_its_name(tmp_path, kind):
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": kind}))
    with pytest.raises(BespokeError, match=kind) as caught:
        find(str(tmp_path))
    assert "StableDiffusionPipeline" in caught.value.hint


def test_a_damaged_model_index_is_refused(tmp_path):
    (tmp_path / "model_index.json").write_text('{"_class_name": "StableDiff')
    with pytest.raises(BespokeError, match=r"model_index\.json"):
        find(str(tmp_path))


def test_quiet_puts_the_voice_back():
    import transformers.utils.logging as voice

    before = voice.get_verbosity()
    with pytest.raises(RuntimeError), quiet():
        assert voice.get_verbosity() == voice.ERROR
        raise RuntimeError
    assert voice.get_verbosity() == before


def test_a_model_that_lacks_a_part_is_refused_by_the_name_of_the_part(copied, tmp_path):
    lacking = shutil.copytree(copied, tmp_path / "m")
    shutil.rmtree(lacking / "unet")
    with pytest.raises(BespokeError, match="unet"):
        find(str(lacking))
