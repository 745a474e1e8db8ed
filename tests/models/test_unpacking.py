"""Models in one file, read without the internet by what comes with the package."""

import json
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from pico import families
from safetensors.torch import load_file, save_file
from transformers import CLIPTokenizer

from bespoke.errors import BespokeError
from bespoke.models import PICO, find, singlefile, unpacking
from bespoke.models.passport import passport
from bespoke.models.weightless import skeletons
from bespoke.pipeline.unpack import import_model


@pytest.mark.parametrize("kind", ["sd1", "sd2", "sd2v"])
def test_the_settings_that_ship_are_the_real_models(tmp_path: Path, kind: str) -> None:
    """Shapes and numbers that are known of the real ones: 859,520,964 and 865,910,724 weights; CLIP's own ids."""
    unpacking._stage(unpacking.CONFIGS / kind, tmp_path / kind, {})
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(tmp_path / kind / "unet"))
    assert sum(p.numel() for p in unet.parameters()) == (859_520_964 if kind == "sd1" else 865_910_724)
    tokenizer = CLIPTokenizer.from_pretrained(tmp_path / kind / "tokenizer")
    assert len(tokenizer) == 49_408
    assert tokenizer("a photo of a cat")["input_ids"] == [49406, 320, 1125, 539, 320, 2368, 49407]
    assert tokenizer.pad_token_id == (49407 if kind == "sd1" else 0)


def test_the_settings_of_an_xl_are_those_of_the_base(tmp_path: Path) -> None:
    """2,567,463,684 weights of the UNet, 123,060,480 and 694,659,840 of the text encoders; what its pages say."""
    unpacking._stage(unpacking.CONFIGS / "sdxl", tmp_path / "sdxl", {})
    bare = skeletons(find(str(tmp_path / "sdxl")))
    sizes = {name: sum(p.numel() for p in part.parameters()) for name, part in bare.items()}
    assert sizes == {"unet": 2_567_463_684, "text_encoder": 123_060_480, "text_encoder_2": 694_659_840}
    first, second = (CLIPTokenizer.from_pretrained(tmp_path / "sdxl" / name) for name in ("tokenizer", "tokenizer_2"))
    assert (len(second), first.pad_token_id, second.pad_token_id) == (49_408, 49407, 0)
    found = find(str(tmp_path / "sdxl"))
    assert found.empty_is_zero and found.resolution == 1024 and found.scaling == (0.13025, 0.0)
    assert found.text_shape == (77, 2048)
    told = {"_class_name": "EulerDiscreteScheduler", "prediction_type": "epsilon", "timestep_spacing": "leading"}
    assert told.items() <= found.scheduler_config.items()


def in_one(folder: Path, out: Path) -> dict[str, torch.Tensor]:
    base = find(str(folder))
    content = singlefile.content_of(base.denoiser(), base.vae(), *(encoder for _, encoder in base.readers()))
    save_file(content, out)
    return content


def test_a_file_of_another_shape_takes_the_settings_it_is_given(tmp_path: Path) -> None:
    families.write("sd2v", tmp_path / "sd2v")
    content = in_one(tmp_path / "sd2v", tmp_path / "one.safetensors")
    with pytest.raises(BespokeError, match="without settings"):
        find(str(tmp_path / "one.safetensors"))
    torch.save({"state_dict": content}, tmp_path / "one.ckpt")
    with pytest.raises(BespokeError, match="can hold programs"):
        import_model(tmp_path / "one.ckpt", tmp_path / "out")
    import_model(tmp_path / "one.ckpt", tmp_path / "out", config=tmp_path / "sd2v", ckpt=True)
    ours, theirs = find(str(tmp_path / "out")), find(str(tmp_path / "sd2v"))
    assert ours.scheduler_config["prediction_type"] == "v_prediction"
    for part in ("unet", "vae", "text_encoder"):
        one, two = (found.network(part).state_dict() for found in (ours, theirs))
        assert one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)
    torch.save({"state_dict": content, "callback": Path}, tmp_path / "bad.ckpt")
    with pytest.raises(BespokeError, match="more than tensors"):
        import_model(tmp_path / "bad.ckpt", tmp_path / "other", config=tmp_path / "sd2v", ckpt=True)
    assert not (tmp_path / "other").exists()


def test_what_predicts_v_is_what_it_says_or_looks_like(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    for spread, said, wanted in ((0.01, "", False), (1.0, "", True), (1.0, "epsilon", False), (0.01, "v", True)):
        told = {"modelspec.prediction_type": said} if said else None
        save_file({unpacking.TELLING: spread * torch.linspace(-1, 1, 320)}, path, told)
        assert unpacking.predicts_v(path) is wanted
    staged = tmp_path / "staged"
    unpacking._stage(PICO, staged, {"prediction_type": "epsilon"})
    config = json.loads((staged / "scheduler" / "scheduler_config.json").read_text())
    assert config["prediction_type"] == "epsilon" and not list(staged.rglob("*.safetensors"))


def test_a_file_with_an_average_gives_either(tmp_path: Path) -> None:
    """CompVis's checkpoints hold the UNet twice; the average's names have no dots."""
    content = in_one(PICO, tmp_path / "plain.safetensors")
    names = {
        key: "model_ema." + key.removeprefix("model.").replace(".", "") for key in content if key.startswith("model.")
    }
    averages = {name: content[key] + 0.5 for key, name in names.items()}
    save_file(content | averages, tmp_path / "both.safetensors")
    assert "model_ema.diffusion_modelinput_blocks00weight" in averages
    own = find("pico").denoiser().state_dict()
    for ema, which, added in ((False, "weights", 0.0), (True, "average", 0.5)):
        done = import_model(tmp_path / "both.safetensors", tmp_path / which, ema=ema)
        assert done.which == which
        found = find(str(tmp_path / which)).denoiser().state_dict()
        assert all(torch.equal(found[key], own[key] + added) for key in own)
    assert import_model(tmp_path / "plain.safetensors", tmp_path / "alone").which == ""
    with pytest.raises(BespokeError, match=r"no running average \(EMA\) of its UNet"):
        import_model(tmp_path / "plain.safetensors", tmp_path / "none", ema=True)
    save_file(content | dict(list(averages.items())[1:]), tmp_path / "part.safetensors")
    with pytest.raises(BespokeError, match="no running average"):
        import_model(tmp_path / "part.safetensors", tmp_path / "none", ema=True)
    assert not (tmp_path / "none").exists()


XL_SAYS = {
    "nothing": ((), {}, ("epsilon", False, "linspace")),
    "it predicts v": (("v_pred",), {}, ("v_prediction", False, "linspace")),
    "v to the end": (("v_pred", "ztsnr"), {}, ("v_prediction", True, "trailing")),
    "in its metadata": ((), {"modelspec.prediction_type": "v"}, ("v_prediction", False, "linspace")),
    "the end alone": (("ztsnr",), {}, ("epsilon", False, "linspace")),
}


@pytest.fixture(scope="module")
def xl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("xl") / "sdxl"
    families.write("sdxl", folder)
    return folder


@pytest.mark.parametrize("case", XL_SAYS)
def test_an_xl_comes_back_with_all_its_parts_and_predicts_what_it_says(tmp_path: Path, xl: Path, case: str) -> None:
    names, told, (prediction, ends, spacing) = XL_SAYS[case]
    content = in_one(xl, tmp_path / "plain.safetensors")
    path = tmp_path / "one.safetensors"
    save_file(content | {name: torch.zeros(0) for name in names}, path, told or None)
    assert (passport(path).what, passport(path).family) == ("whole model", "SDXL")
    assert import_model(path, tmp_path / "out", config=xl).family == "SDXL"
    ours, theirs = find(str(tmp_path / "out")), find(str(xl))
    for part in theirs.family.parts:
        one, two = (list((each / part).glob("*.safetensors")) for each in (tmp_path / "out", xl))
        assert len(one) == len(two)
        for mine, other in zip(one, two, strict=True):
            a, b = load_file(mine), load_file(other)
            assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)
    config = ours.scheduler_config
    assert config["prediction_type"] == prediction and config["timestep_spacing"] == spacing
    assert config["rescale_betas_zero_snr"] is ends and ours.empty_is_zero


def test_an_xl_of_another_shape_kind_or_noise_is_refused(tmp_path: Path, xl: Path) -> None:
    content, path = in_one(xl, tmp_path / "one.safetensors"), tmp_path / "other.safetensors"
    with pytest.raises(BespokeError, match="does not fit its family") as told:
        import_model(tmp_path / "one.safetensors", tmp_path / "out")
    assert "--config" in told.value.hint
    for lacking in ("model.diffusion_model.out.2.bias", "conditioner.embedders.1.model.text_projection"):
        save_file({key: value for key, value in content.items() if key != lacking}, path)
        with pytest.raises(BespokeError, match="does not fit its family"):
            import_model(path, tmp_path / "out", config=xl)
    for name in ("edm_mean", "edm_vpred.sigma_max"):
        save_file(content | {name: torch.zeros(4)}, path)
        with pytest.raises(BespokeError, match=f"another noise .* holds {name}"):
            import_model(path, tmp_path / "out", config=xl)
    text = {key: value for key, value in content.items() if not key.startswith("conditioner")}
    refiner = "conditioner.embedders.0.model.transformer.resblocks.9.mlp.c_proj.bias"
    save_file(text | {refiner: torch.zeros(4)}, path)
    with pytest.raises(BespokeError, match="without settings here: SDXL refiner"):
        import_model(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
