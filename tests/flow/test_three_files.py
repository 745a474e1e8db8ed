"""A Stable Diffusion 3's files: LoRA in kohya's form, whole models in one file, out and in."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusion3Pipeline
from pico import families
from safetensors.torch import save_file

import bespoke
from bespoke.errors import BespokeError
from bespoke.models import adapterfile, adapters, find, kinds, kohyafile, onefile, threefile, threelora, unpacking
from bespoke.models.lowrank import LowRank
from bespoke.models.passport import passport
from bespoke.models.wearing import Wardrobe
from bespoke.models.weightless import skeletons
from bespoke.recipe.training import Model

KINDS = ("sd3", "sd3-clips", "sd35")


@pytest.fixture(scope="module")
def bases(tmp_path_factory) -> dict[str, Path]:
    found = {kind: tmp_path_factory.mktemp("bases") / kind for kind in KINDS}
    for kind, folder in found.items():
        families.write(kind, folder)
    return found


def changes(checkpoint) -> dict[str, dict[str, LowRank]]:
    """A random LoRA on all linear layers of the transformer's blocks, and on the CLIPs' attention."""
    source, found = torch.Generator().manual_seed(0), {}
    for part, network in skeletons(checkpoint).items():
        for number, (name, module) in enumerate(network.named_modules()):
            wanted = "transformer_blocks" in name or name.endswith("q_proj")
            if isinstance(module, torch.nn.Linear) and wanted:
                far, near = module.weight.shape
                rank, alpha = 1 + number % 3, float(1 + number % 5)
                down, up = (torch.randn(size, generator=source) for size in ((rank, near), (far, rank)))
                found.setdefault(part, {})[name] = LowRank(down, up, alpha)
    return found


def one_file(folder: Path, path: Path) -> dict[str, torch.Tensor]:
    checkpoint = find(str(folder))
    encoders = {part: checkpoint.network(part) for _, part in checkpoint.reading}
    content = onefile.content_of(checkpoint.denoiser(), checkpoint.vae(), encoders)
    save_file(content, path)
    return content


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_model_in_one_file_is_read_by_diffusers_to_the_last_bit(bases, kind, tmp_path):
    one_file(bases[kind], tmp_path / "one.safetensors")
    config: dict[str, Any] = {"config": str(bases[kind]), "local_files_only": True, "torch_dtype": torch.float32}
    config |= {} if kind != "sd3-clips" else {"text_encoder_3": None, "tokenizer_3": None}
    pipeline = StableDiffusion3Pipeline.from_single_file(str(tmp_path / "one.safetensors"), **config)
    threefile.mend(pipeline, tmp_path / "one.safetensors")
    checkpoint = find(str(bases[kind]))
    for part in (checkpoint.family.denoiser, "vae", *(encoder for _, encoder in checkpoint.reading)):
        ours, theirs = checkpoint.network(part).state_dict(), getattr(pipeline, part).state_dict()
        assert ours.keys() <= theirs.keys() and all(torch.equal(ours[key], theirs[key].cpu()) for key in ours), part
        assert not getattr(pipeline, part).training


@pytest.mark.parametrize("kind", KINDS)
def test_one_file_becomes_the_folder_again(bases, kind, tmp_path):
    path = tmp_path / "one.safetensors"
    one_file(bases[kind], path)
    assert passport(path).family == "Stable Diffusion 3.x"
    bespoke.import_model(path, tmp_path / "again", config=bases[kind])
    first, second = find(str(bases[kind])), find(str(tmp_path / "again"))
    assert first.reading == second.reading
    for part in (first.family.denoiser, "vae", *(encoder for _, encoder in first.reading)):
        ours, theirs = (each.network(part).state_dict() for each in (first, second))
        assert all(torch.equal(value, theirs[key]) for key, value in ours.items())


def test_a_file_without_t5_leaves_it_out_and_one_without_text_encoders_is_refused(bases, tmp_path):
    content = one_file(bases["sd3"], tmp_path / "one.safetensors")
    few = {key: value for key, value in content.items() if "t5xxl" not in key}
    save_file(few, tmp_path / "few.safetensors")
    done = bespoke.import_model(tmp_path / "few.safetensors", tmp_path / "few", config=bases["sd3"])
    assert not done.left_out  # it had none
    told = bespoke.import_model(tmp_path / "one.safetensors", tmp_path / "bare", config=bases["sd3-clips"])
    assert told.left_out == ("T5",) and find(str(tmp_path / "bare")).lacked
    assert find(str(tmp_path / "few")).lacked and len(find(str(tmp_path / "few")).readers()) == 2
    save_file({k: v for k, v in few.items() if "text_encoders" not in k}, tmp_path / "none.safetensors")
    with pytest.raises(BespokeError, match="no text encoders") as told:
        bespoke.import_model(tmp_path / "none.safetensors", tmp_path / "none", config=bases["sd3"])
    assert "incl_clips" in told.value.hint and not (tmp_path / "none").exists()


@pytest.mark.parametrize(("name", "inner"), [("sd3", ""), ("sd35", "attn2")])
def test_the_settings_that_come_along_are_those_of_the_published_models(name, inner):
    """Of so many numbers: 2,028 million, and 2,243 million with the blocks that attend twice."""
    from diffusers import SD3Transformer2DModel

    folder = unpacking.CONFIGS / name
    with torch.device("meta"):
        network: Any = SD3Transformer2DModel.from_config(SD3Transformer2DModel.load_config(folder / "transformer"))
    keys = list(threelora.fused(network))
    assert threefile.version_of(keys) == {"sd3": "3", "sd35": "3.5"}[name]
    assert any(inner in key for key in keys)
    millions = sum(p.numel() for p in network.parameters()) / 1e6
    assert round(millions) == {"sd3": 2028, "sd35": 2243}[name]
    assert json.loads((folder / "model_index.json").read_text())["text_encoder_3"] == [None, None]


@pytest.mark.parametrize("kind", ["sd3", "sd35"])
def test_a_lora_in_kohyas_form_is_the_same_change_of_stability_ais_layers(bases, kind, tmp_path):
    """Worked into a whole model in one file by kohya's formula, and that read by diffusers."""
    checkpoint = find(str(bases[kind]))
    layers, bare = changes(checkpoint), skeletons(checkpoint)
    content = kohyafile.content_of(layers, bare)
    assert {key.partition(".")[0].rpartition("_")[0][:9] for key in content} >= {"lora_unet", "lora_te1_", "lora_te2_"}
    whole = one_file(bases[kind], tmp_path / "one.safetensors")
    stem = threefile.TRANSFORMER
    for key in list(whole):
        name = f"lora_unet_{key.removeprefix(stem).removesuffix('.weight').replace('.', '_')}"
        if key.startswith(stem) and f"{name}.alpha" in content:
            down, up = (content[f"{name}.lora_{side}.weight"] for side in ("down", "up"))
            whole[key] = whole[key] + up @ down * (content[f"{name}.alpha"] / len(down))
    save_file(whole, tmp_path / "one.safetensors")
    theirs = StableDiffusion3Pipeline.from_single_file(
        str(tmp_path / "one.safetensors"), config=str(bases[kind]), local_files_only=True, torch_dtype=torch.float32
    )
    before, after = checkpoint.denoiser().state_dict(), theirs.transformer.state_dict()
    for layer, low in layers["transformer"].items():
        key = f"{layer}.weight"
        assert torch.allclose(after[key], before[key] + low.change(), atol=1e-5), layer
    save_file(content, tmp_path / "lora.safetensors")
    again = kohyafile.low_ranks(bare, tmp_path / "lora.safetensors")
    assert {part: set(those) for part, those in again.items()} == {part: set(those) for part, those in layers.items()}
    for part, those in layers.items():
        for layer, low in those.items():
            assert again[part][layer].rank == low.rank
            assert torch.allclose(again[part][layer].change(), low.change(), atol=1e-5)


def test_kohyas_form_is_worn_with_its_weight_begun_from_and_told(bases, tmp_path):
    checkpoint = find(str(bases["sd3"]))
    layers, path = changes(checkpoint), tmp_path / "lora.safetensors"
    save_file(kohyafile.content_of(layers, skeletons(checkpoint)), path)
    assert passport(path).family == "Stable Diffusion 3.x" and passport(path).what == "LoRA"
    pipeline = checkpoint.pipeline()
    before = {part: getattr(pipeline, part).state_dict() for part in layers}
    with Wardrobe(pipeline, "sd3") as wardrobe:
        wardrobe.wear({path: 0.5})
        for part, those in layers.items():
            tuned = dict(adapters.tuned_layers(getattr(pipeline, part)))
            assert set(tuned) == set(those)
            for name, layer in tuned.items():
                (key,) = layer.active_adapters
                assert torch.allclose(layer.get_delta_weight(key), 0.5 * those[name].change(), atol=1e-5), name
    assert all(
        torch.equal(v, getattr(pipeline, p).state_dict()[k]) for p, state in before.items() for k, v in state.items()
    )
    network = checkpoint.denoiser()
    model = Model(rank=2, alpha=2, targets=("to_q",))
    adapters.attach(network, kinds.config_of(model, network, checkpoint.family.groups("transformer")), seed=0)
    only = {name: LowRank(low.down.repeat(2, 1)[:2], low.up.repeat(1, 2)[:, :2], 2.0)
            for name, low in layers["transformer"].items() if name.endswith("to_q")}  # fmt: skip
    save_file(kohyafile.content_of({"transformer": only}, skeletons(checkpoint)), path)
    adapterfile.begin({"transformer": network}, path)
    for name, layer in adapters.tuned_layers(network):
        assert torch.allclose(layer.get_delta_weight("default"), only[name].change(), atol=1e-5)


def test_what_kohyas_form_cannot_hold_or_the_model_has_not_is_refused(bases, tmp_path):
    checkpoint = find(str(bases["sd3"]))
    bare, layers = skeletons(checkpoint), changes(checkpoint)
    name, low = next(iter(layers["transformer"].items()))
    dora = {"transformer": {name: LowRank(low.down, low.up, low.alpha, torch.ones(len(low.up)))}}
    with pytest.raises(BespokeError, match="DoRA") as told:
        kohyafile.content_of(dora, bare)
    assert "diffusers" in told.value.hint
    content = kohyafile.content_of(layers, bare)
    save_file(content | {"lora_te3_encoder_block_0.alpha": torch.tensor(1.0)}, tmp_path / "t5.safetensors")
    with pytest.raises(BespokeError, match="lora_te3_encoder_block_0"):
        kohyafile.low_ranks(bare, tmp_path / "t5.safetensors")


@pytest.mark.parametrize("form", ["onnx", "openvino"])
def test_runtimes_are_refused_with_what_to_do_instead(bases, form, tmp_path):
    with pytest.raises(BespokeError, match=f"as {form}") as told:
        bespoke.export_model(str(bases["sd3"]), tmp_path / "out", form)
    assert "--as model" in told.value.hint and not (tmp_path / "out").exists()
