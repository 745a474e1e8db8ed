"""`bespoke models …` as the docs type it: each export is loaded again, and laws hold between the files."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import Conv2d, Linear
from typer.testing import CliRunner

from bespoke import data
from bespoke.cli.commands import app
from bespoke.errors import BespokeError
from bespoke.models import adapterfile, adapters, find, kinds
from bespoke.pipeline import likeness
from bespoke.pipeline.export import export_model
from bespoke.pipeline.surgery import extract_lora, merge_models
from bespoke.recipe.training import Model
from tests.flow import drawn

DOCS = Path(__file__).parents[2] / "docs" / "models.md"
RECIPE = """
[model]
base = "pico"
method = "{method}"
rank = 4
[text]
trigger = "8bit"
[sample]
num_inference_steps = 2
guidance_scale = 3.0
prompts = ["8bit fox"]
[train]
seed = 3
"""


def made(folder: Path, method: str) -> Path:
    """A run with an adapter of that kind, moved as training would move it."""
    run = folder / "my-style" / "runs" / f"20260102-03040{len(method)}"
    run.mkdir(parents=True)
    (run / "recipe.toml").write_text(RECIPE.format(method=method))
    base, source = find("pico"), torch.Generator().manual_seed(1)
    unet = base.denoiser()
    adapters.attach(unet, kinds.config_of(Model(method=method, rank=4), unet, base.family.groups("unet")), seed=0)
    with torch.no_grad():
        for parameter in adapters.trainable(unet).values():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=source))
    adapterfile.save({"unet": unet}, run / "adapter.safetensors")
    return run


def typed(*arguments: str, code: int = 0) -> str:
    """What a command printed; it must have ended with that code."""
    done = CliRunner().invoke(app, ["models", *arguments])
    assert done.exit_code == code, f"{arguments}\n{done.output}\n{done.exception!r}"
    return " ".join((done.output if code else done.stdout).split())


def unet_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")


def test_the_docs_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = made(tmp_path, "lora").relative_to(tmp_path).as_posix()
    lines = re.findall(r"^bespoke models .*$", DOCS.read_text("utf-8").partition("## Runtimes")[0], re.MULTILINE)
    said = [typed(*line.replace("my-style/runs/RUN", run).split()[2:]) for line in lines]
    (
        asked,
        kohya,
        comfy,
        model,
        single,
        opened,
        imported,
        unpacked,
        merged,
        mixed,
        extracted,
        resized,
        turned,
        one_file,
    ) = said
    assert "LoRA" in asked and "8bit" in asked and "rank 4" in asked
    for one, loader in ((kohya, "load_lora_weights"), (comfy, "load_lora_weights"), (model, "from_pretrained")):
        assert f"Loaded again by diffusers' {loader}" in one
    assert "from_single_file" in single and "models/checkpoints" in single
    assert "in the form of diffusers" in turned and "(whole model)" in one_file
    assert "whole model" in opened and "Forge" in opened
    assert "pico in fp16 is in unpacked" in imported and "whole model, diffusers names" in unpacked
    # What came out in one file comes in again with the same weights, and can be named itself.
    monkeypatch.setenv("BESPOKE_CACHE", str(tmp_path / "cache"))
    again = find("checkpoint.safetensors")
    assert again.scheduler_config["prediction_type"] == find("pico").scheduler_config["prediction_type"]
    half_precise, exact = again.denoiser().state_dict(), unet_of(tmp_path / "my-model")
    assert all(torch.equal(value, exact[key].half().float()) for key, value in half_precise.items())
    assert find("checkpoint.safetensors").folder == again.folder
    assert "is in merged" in merged and "0.5 · (merged - pico)" in mixed
    # Merged is applied: the folder that export wrote has the same weights.
    whole, half, base = unet_of(tmp_path / "merged"), unet_of(tmp_path / "mixed"), find("pico").denoiser().state_dict()
    exported = unet_of(tmp_path / "my-model")
    assert all(torch.equal(whole[key], exported[key]) for key in whole)
    changed = [key for key in base if not torch.equal(whole[key], base[key])]
    assert changed and all(re.search(r"attn\d\.to_", key) for key in changed)
    for key in changed:
        torch.testing.assert_close(half[key], (whole[key] + base[key]) / 2, rtol=1e-5, atol=1e-6)
    # Half of the change, and the other half of it as a difference: the whole.
    merge_models("mixed", "third", add="merged", minus="pico", weight=0.5)
    third = unet_of(tmp_path / "third")
    for key in changed:
        torch.testing.assert_close(third[key], whole[key], rtol=1e-5, atol=1e-6)
    # A change of rank 4 is extracted at rank 4 but for rounding, and resized to 4 it would stay as it is.
    assert re.search(r"rank 4 on \d+ layers; 0\.0% of the change is missing", extracted)
    assert re.search(r"rank 2 on \d+ layers; [1-9]\d*\.\d% of the change is lost", resized)
    told = json.loads(typed("resize", run, "same.safetensors", "--rank", "8", "--json"))
    assert told["error"] == 0
    first, same = load_file("style.safetensors"), load_file("same.safetensors")
    assert first.keys() == same.keys() and all(torch.equal(first[key], same[key]) for key in first)


@pytest.mark.parametrize("method", ["dora", "loha", "lokr"])
def test_what_diffusers_cannot_read_is_checked_by_the_published_formulas(tmp_path: Path, method: str) -> None:
    run = made(tmp_path, method)
    theirs = export_model(run, tmp_path / "theirs.safetensors", "kohya")
    assert theirs.likeness.loader == "LyCORIS's published formulas"
    assert theirs.likeness.mean < 0.01 < 1 < theirs.likeness.effect
    assert theirs.metadata["ss_network_module"] == "lycoris.kohya"
    if method == "dora":
        comfy = export_model(run, tmp_path / "comfy.safetensors", "comfyui")
        assert comfy.likeness.loader == "ComfyUI's published formulas" and comfy.likeness.mean < 0.01
        one, two = load_file(theirs.path), load_file(comfy.path)
        other = {key.rpartition(".")[2] for key in one if not torch.equal(one[key], two[key])}
        assert other == {"dora_scale"}


def test_what_cannot_be_exported_is_refused_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = made(tmp_path, "oft")
    out = tmp_path / "out.safetensors"
    assert "knows no OFT" in typed("export", str(run), str(out), code=2)
    assert "has no adapter" in typed("export", "pico", str(out), code=2)
    assert "a folder" in typed("export", "pico", str(out), "--as", "model", code=2)
    assert "no form" in typed("export", "pico", str(out), "--as", "gguf", code=2)
    assert "no whole model, but: OFT" in typed("import", str(run / "adapter.safetensors"), str(tmp_path / "x"), code=2)
    # A weak adapter that another program would not read at all is found out, too.
    assert likeness.most_apart(0.4, "bf16", alone=True) < 0.4
    monkeypatch.setattr(likeness, "MOST", {"fp32": -1.0})
    with pytest.raises(BespokeError, match="draws other pictures"):
        export_model(made(tmp_path, "lora"), out)
    assert not out.exists()


def test_a_run_that_trained_all_weights(tmp_path: Path) -> None:
    """In one file and back with the same bits; what a LoRA of it lacks is told."""
    run, unet = tmp_path / "my-style" / "runs" / "20260102-030405", find("pico").denoiser()
    run.mkdir(parents=True)
    (run / "recipe.toml").write_text(RECIPE.format(method="full").replace("rank = 4\n", ""))
    with torch.no_grad():
        for parameter in unet.parameters():
            parameter.mul_(1.01)
    unet.save_pretrained(run / "model" / "unet")
    asked = typed("inspect", str(run))
    assert "whole model" in asked and "fp16, fp32" in asked and "method full" in asked
    assert "has no adapter" in typed("export", str(run), str(tmp_path / "no.safetensors"), code=2)
    done = export_model(run, tmp_path / "one.safetensors", "single-file")
    assert done.likeness.mean < 0.01 and done.metadata["modelspec.architecture"] == "stable-diffusion-v1"
    told = extract_lora(str(run), tmp_path / "lora.safetensors", base="pico", rank=2)
    assert 0.5 < told.error < 1 and 0 < told.outside < told.error
    assert set(told.errors) == {f"unet.{n}" for n, m in unet.named_modules() if isinstance(m, Linear | Conv2d)}


def test_captions_are_counted_only_when_that_is_asked(tmp_path: Path) -> None:
    run = made(tmp_path, "lora")
    drawn.project(tmp_path, 3, "a shape, {} corners, Drawn,")
    shutil.copytree(tmp_path / "project" / "dataset", tmp_path / "my-style" / "dataset")
    quiet = export_model(run, tmp_path / "quiet.safetensors")
    assert not {"ss_tag_frequency", "ss_dataset_dirs"} & quiet.metadata.keys()
    assert "average" not in quiet.metadata["ss_training_comment"]
    recipe = run / "recipe.toml"
    recipe.write_text(recipe.read_text() + "use_ema = true\n")
    told = export_model(run, tmp_path / "told.safetensors", tags=True).metadata
    trained = [p for p in data.load(tmp_path / "my-style" / "dataset").pictures if p.split == "train"]
    counts = json.loads(told["ss_tag_frequency"])["train"]
    assert counts["a shape"] == counts["drawn"] == len(trained) == int(told["ss_num_train_images"])
    assert sum(number for tag, number in counts.items() if tag.endswith("corners")) == len(trained) and "" not in counts
    assert json.loads(told["ss_dataset_dirs"]) == {"train": {"img_count": len(trained), "n_repeats": 1}}
    assert told["ss_training_comment"].endswith("running average of the weights")
    with pytest.raises(BespokeError, match="no captions to count"):
        export_model("pico", tmp_path / "one.safetensors", "single-file", tags=True)
