"""Files turned into folders, folders into files, LoRAs into another program's form; and back with the same bits."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from bespoke.cli.commands import app
from bespoke.models import PICO, adapterfile, adapters, find, formulas, kinds
from bespoke.models.passport import header, passport
from bespoke.pipeline import convert
from bespoke.recipe.training import Model


def typed(*words: str | Path, code: int = 0) -> str:
    invoked = CliRunner().invoke(app, ["models", "convert", *map(str, words)])
    assert invoked.exit_code == code, invoked.output
    return invoked.output


def lora(file: Path, method: str = "lora") -> Path:
    """An adapter of UNet and text encoder whose layers differ in rank and alpha."""
    base, parts = find("pico"), {"unet": find("pico").denoiser(), "text_encoder": find("pico").text_encoder()}
    wish = Model(method=method, rank=4, alpha=2, targets=("attention", "feed-forward"))
    for name, part in parts.items():
        config = kinds.config_of(wish, part, base.family.groups(name))
        ends = ("to_k", "to_v") if name == "unet" else ("k_proj", "v_proj")
        config.rank_pattern, config.alpha_pattern = {ends[0]: 2}, {ends[1]: 6}
        adapters.attach(part, config, seed=0)
        source = torch.Generator().manual_seed(5)
        with torch.no_grad():
            for parameter in adapters.trainable(part).values():
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=source))
    adapterfile.save(parts, file)
    return file


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def answers(file: Path, *, by_formulas: bool = False) -> torch.Tensor:
    """What plain diffusers makes of a LoRA: the UNet's answer and the text's states."""
    pipeline = StableDiffusionPipeline.from_pretrained(PICO, dtype=torch.float32, safety_checker=None)
    if by_formulas:
        formulas.work_in({"unet": pipeline.unet, "text_encoder": pipeline.text_encoder}, file)
    else:
        pipeline.load_lora_weights(str(file.parent), weight_name=file.name)
    states = pipeline.encode_prompt("a red cat", "cpu", 1, False)[0]
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return torch.cat([pipeline.unet(noise, 500, states).sample.flatten(), states.flatten()])


def test_a_lora_goes_to_kohyas_form_and_back_with_the_same_answers(here: Path) -> None:
    first = lora(here / "first.safetensors")
    assert "in the form of kohya" in typed(first, "kohya.safetensors")
    assert "in the form of diffusers" in typed("kohya.safetensors", "again.safetensors")
    assert passport(Path("kohya.safetensors")).form == "kohya" and passport(Path("again.safetensors")).form == "peft"
    assert header(Path("kohya.safetensors")).metadata["ss_network_dim"] == "Dynamic"
    wanted = answers(first)
    assert torch.allclose(answers(here / "again.safetensors"), wanted, atol=1e-5)
    # diffusers leaves out kohya's alphas where they differ between layers; the published formulas do not.
    assert torch.allclose(answers(here / "kohya.safetensors", by_formulas=True), wanted, atol=1e-3)
    typed("again.safetensors", "third.safetensors")
    one, two = load_file("kohya.safetensors"), load_file("third.safetensors")
    assert one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)
    told = json.loads(typed("kohya.safetensors", "half.safetensors", "--as", "kohya", "--dtype", "fp16", "--json"))
    assert told["what"] == "LoRA" and passport(Path("half.safetensors")).dtype == "fp16"
    typed(first, "of-pico.safetensors", "--base", "pico")


def test_a_dora_keeps_its_magnitudes(here: Path) -> None:
    first = lora(here / "dora.safetensors", "dora")
    typed(first, "kohya.safetensors")
    typed("kohya.safetensors", "again.safetensors")
    typed("again.safetensors", "third.safetensors")
    one, two = load_file("kohya.safetensors"), load_file("third.safetensors")
    assert any(key.endswith("dora_scale") for key in one)
    assert one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


def test_a_model_goes_into_one_file_and_back(here: Path) -> None:
    assert "Loaded again by diffusers' from_single_file" in typed("pico", "one.safetensors")
    assert "and the same" in typed("one.safetensors", "folder")
    ours, theirs = find("folder"), find("pico")
    for part in ("unet", "vae", "text_encoder"):
        one, two = ours.network(part).state_dict(), theirs.network(part).state_dict()
        assert one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)
    assert "are the same in bf16" in typed("one.safetensors", "small.safetensors", "--dtype", "bf16")
    before, after = load_file("one.safetensors"), load_file("small.safetensors")
    assert all(torch.equal(after[key], before[key].bfloat16()) for key in before)
    typed("one.safetensors", "small-folder", "--dtype", "fp16")
    assert load_file("small-folder/unet/diffusion_pytorch_model.safetensors")["conv_in.weight"].dtype == torch.float16


def test_what_has_no_other_form_is_refused_and_leaves_nothing(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lora(here / "loha.safetensors", "loha")
    first = lora(here / "first.safetensors")
    assert "would stay as it is" in typed("loha.safetensors", "out.safetensors", code=2)
    assert "are the same in fp16" in typed("loha.safetensors", "half.safetensors", "--dtype", "fp16")
    assert "becomes a file" in typed(first, "folder", code=2)
    assert "no form 'comfyui'" in typed(first, "out.safetensors", "--as", "comfyui", code=2)
    assert "no dtype" in typed(first, "out.safetensors", "--dtype", "int8", code=2)
    assert "is there already" in typed(first, first, code=2)
    save_file({"lora_unet_x_attn2_to_k.lora_down.weight": torch.ones(2, 77)}, "odd.safetensors")
    assert "--base" in typed("odd.safetensors", "out.safetensors", code=2)
    plain: Callable[..., dict[str, torch.Tensor]] = convert.rounded
    monkeypatch.setattr(
        convert, "rounded", lambda content, dtype: {k: v * 1.001 for k, v in plain(content, dtype).items()}
    )
    assert "something else than what went in" in typed(first, "out.safetensors", code=2)
    assert not Path("out.safetensors").exists()
