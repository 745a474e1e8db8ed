"""Models in one file, read without the internet by what comes with the package."""

import json
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from pico import families
from safetensors.torch import save_file
from transformers import CLIPTokenizer

from bespoke.errors import BespokeError
from bespoke.models import PICO, find, singlefile, unpacking
from bespoke.pipeline.unpack import import_model


@pytest.mark.parametrize("kind", ["sd1", "sd2", "sd2v"])
def test_the_settings_that_ship_are_the_real_models(tmp_path: Path, kind: str) -> None:
    """Shapes and numbers that are known of the real ones: 859,520,964 and 865,910,724 weights; CLIP's own ids."""
    unpacking._stage(unpacking.CONFIGS / kind, tmp_path / kind, "")
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(tmp_path / kind / "unet"))
    assert sum(p.numel() for p in unet.parameters()) == (859_520_964 if kind == "sd1" else 865_910_724)
    tokenizer = CLIPTokenizer.from_pretrained(tmp_path / kind / "tokenizer")
    assert len(tokenizer) == 49_408
    assert tokenizer("a photo of a cat")["input_ids"] == [49406, 320, 1125, 539, 320, 2368, 49407]
    assert tokenizer.pad_token_id == (49407 if kind == "sd1" else 0)


def in_one(folder: Path, out: Path) -> dict[str, torch.Tensor]:
    base = find(str(folder))
    content = singlefile.content_of(base.denoiser(), base.vae(), base.text_encoder())
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
        one, two = getattr(ours, part)().state_dict(), getattr(theirs, part)().state_dict()
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
    unpacking._stage(PICO, staged, "epsilon")
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
