"""LoRA of Stable Diffusion 3, tiny and random, by kohya's, ComfyUI's and diffusers' names; changes are compared."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import bespoke
from bespoke.errors import BespokeError
from bespoke.models import find, formulas, kohyafile, threefile
from bespoke.models.lowrank import LowRank
from bespoke.models.passport import passport
from bespoke.models.weightless import skeletons
from bespoke.pipeline.convert import convert_model
from bespoke.recipe.tree import Sample
from tests.flow.tiny import BRIEF, by_diffusers, model_of, plain_of, project_of

QUICK = (
    *BRIEF, "train.max_train_steps=2", "train.learning_rate=0.05", "train.num_class_images=0",
    "sample.sample_every_n_steps=0", "model.rank=3",
)  # fmt: skip
PROMPT = "blot of a red cat"
WISH = Sample(num_inference_steps=3, guidance_scale=4.0)


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return model_of("sd3", tmp_path_factory)


@pytest.fixture(scope="module")
def newer(tmp_path_factory) -> Path:
    return model_of("sd35", tmp_path_factory)


@pytest.fixture(scope="module")
def project(base, tmp_path_factory) -> Path:
    return project_of(base, tmp_path_factory)


@pytest.fixture(scope="module")
def run(project):
    return bespoke.train(project / "recipe.toml", (*QUICK, "train.train_text_encoder=true"))


def drawn(model, out, wish=WISH):
    (picture,) = bespoke.sample(str(model), [PROMPT], out=out, seed=3, settings=wish).pictures
    return np.asarray(Image.open(picture).convert("RGB"), int)


def changes(checkpoint):
    """A change of another rank and alpha for every layer of a block and some outside; one of three is missing."""
    source, found = torch.Generator().manual_seed(1), {}
    last = checkpoint.denoiser().config.num_layers - 1
    for part, network in {name: checkpoint.network(name) for name in checkpoint.family.worded}.items():
        linear = [n for n, m in network.named_modules() if isinstance(m, torch.nn.Linear)]
        ends = ("q_proj",)
        if part == "transformer":
            ends = (f"transformer_blocks.{last}.", "transformer_blocks.0.", "norm_out")
        for number, name in enumerate(linear):
            if not (name.startswith(ends) or name.endswith(ends)) or name.endswith("0.attn.to_k"):
                continue
            far, near = network.get_submodule(name).weight.shape
            rank = 1 + number % 3
            down, up = torch.randn(rank, near, generator=source), 0.1 * torch.randn(far, rank, generator=source)
            found.setdefault(part, {})[name] = LowRank(down, up, float(1 + number % 2))
    return found


@pytest.mark.parametrize("which", ["base", "newer"])
def test_the_changes_of_weights_are_the_same_in_every_form(which, request, tmp_path):
    checkpoint = find(str(request.getfixturevalue(which)))
    bare, layers = skeletons(checkpoint), changes(checkpoint)
    assert any("norm1_context" in name for name in layers["transformer"]) and "text_encoder_2" in layers
    assert (which == "newer") == any("attn2" in name for name in layers["transformer"])
    file = tmp_path / "kohya.safetensors"
    content = kohyafile.content_of(layers, bare)
    save_file(content, file)
    names = {key.partition(".")[0] for key in content}
    block = "lora_unet_joint_blocks_0_"
    assert {f"{block}x_block_attn_qkv", f"{block}context_block_attn_qkv", f"{block}context_block_mlp_fc1"} <= names
    assert any(name.startswith("lora_te1_text_model_encoder_layers_0") for name in names)
    assert any(name.startswith("lora_te2_text_model_encoder_layers_0") for name in names)
    again = kohyafile.low_ranks(bare, file)
    for part, those in layers.items():
        assert again[part].keys() == those.keys()
        for name, low in those.items():
            assert torch.allclose(again[part][name].change(), low.change(), rtol=1e-5, atol=1e-6), name
            assert again[part][name].rank == low.rank
    # The oracle: the change of the whole layers, as Stability AI's file has them, laid out by threefile.
    networks = {name: checkpoint.network(name) for name in checkpoint.family.worded}
    formulas.work_in(networks, file)
    for part, those in layers.items():
        old = checkpoint.network(part)
        for name, low in those.items():
            change = networks[part].get_submodule(name).weight - old.get_submodule(name).weight
            assert torch.allclose(change, low.change(), atol=1e-5), name
    before = threefile._transformer(checkpoint.network("transformer"))
    after = threefile._transformer(networks["transformer"])
    for name in (key.removesuffix(".lora_up.weight") for key in content if key.startswith("lora_unet") and "up" in key):
        key = next(k for k in after if k.endswith(".weight") and f"lora_unet_{k[:-7].replace('.', '_')}" == name)
        told = content[f"{name}.lora_up.weight"] @ content[f"{name}.lora_down.weight"]
        told *= content[f"{name}.alpha"] / len(content[f"{name}.lora_down.weight"])
        assert torch.allclose(after[key] - before[key], told, atol=1e-5), name


def test_a_dense_lora_of_all_three_is_split_and_put_together_again_to_the_bit(base, tmp_path):
    bare, name = skeletons(find(str(base))), "lora_unet_joint_blocks_1_context_block_attn_qkv"
    width = bare["transformer"].get_submodule("transformer_blocks.1.attn.add_q_proj").weight.shape[0]
    source = torch.Generator().manual_seed(0)
    theirs = {
        f"{name}.lora_down.weight": torch.randn(4, width, generator=source),
        f"{name}.lora_up.weight": torch.randn(3 * width, 4, generator=source),
        f"{name}.alpha": torch.tensor(2.0),
    }
    save_file(theirs, tmp_path / "theirs.safetensors")
    convert_model(str(tmp_path / "theirs.safetensors"), tmp_path / "peft.safetensors", base=str(base))
    layers = load_file(tmp_path / "peft.safetensors")
    for third, one in enumerate("qkv"):
        start = f"transformer.transformer_blocks.1.attn.add_{one}_proj"
        own = theirs[f"{name}.lora_up.weight"][third * width : (third + 1) * width]
        assert torch.equal(layers[f"{start}.lora_B.weight"], own)
    convert_model(str(tmp_path / "peft.safetensors"), tmp_path / "kohya.safetensors", base=str(base))
    again = load_file(tmp_path / "kohya.safetensors")
    assert again.keys() == theirs.keys() and all(torch.equal(again[key], theirs[key]) for key in theirs)


def test_a_third_of_zeros_is_a_layer_where_the_file_has_it_and_none_where_it_has_not(base, tmp_path):
    checkpoint = find(str(base))
    bare, source = skeletons(checkpoint), torch.Generator().manual_seed(4)
    names = [f"transformer_blocks.0.attn.to_{one}" for one in "qkv"]
    width = len(bare["transformer"].get_submodule(names[0]).weight)
    downs = [torch.randn(2, width, generator=source) for _ in names]
    ups = [torch.zeros(width, 2), torch.randn(width, 2, generator=source), torch.zeros(width, 2)]
    own = {name: LowRank(down, up, 2.0) for name, down, up in zip(names, downs, ups, strict=True)}
    for left in (names, names[:2], names[1:2]):
        layers = {"transformer": {name: own[name] for name in left}}
        save_file(kohyafile.content_of(layers, bare), tmp_path / "file.safetensors")
        again = kohyafile.low_ranks(bare, tmp_path / "file.safetensors")["transformer"]
        assert (again.keys() == set(left)) or left == names[:2]  # q's and v's are the same zeros there
        assert torch.equal(again[names[1]].down, downs[1]) and torch.equal(again[names[1]].up, ups[1])
    # As kohya trains it, one first matrix for all three, of which one learnt nothing.
    fused = "lora_unet_joint_blocks_0_x_block_attn_qkv"
    theirs = {f"{fused}.lora_down.weight": downs[0], f"{fused}.lora_up.weight": torch.cat([ups[0], ups[1], ups[1]])}
    save_file(theirs, tmp_path / "theirs.safetensors")
    again = kohyafile.low_ranks(bare, tmp_path / "theirs.safetensors")["transformer"]
    assert again.keys() == set(names) and all(torch.equal(low.down, downs[0]) for low in again.values())
    assert not again[names[0]].up.any()


@pytest.mark.parametrize("form", ["kohya", "comfyui", "diffusers"])
def test_exports_are_loaded_again_draw_the_same_and_are_worn(run, base, form, tmp_path):
    out = tmp_path / "out.safetensors"
    done = bespoke.export_model(str(run.run), out, form)
    assert done.likeness.mean <= 0.5 < done.likeness.effect
    assert done.metadata["modelspec.architecture"] == "stable-diffusion-v3-medium/lora"
    assert done.metadata["ss_base_model_version"] == "medium" and "modelspec.prediction_type" not in done.metadata
    found = passport(out)
    assert found.family == "Stable Diffusion 3.x" and "bespoke" in found.loads
    assert ("diffusers" in found.loads) == (form == "diffusers") and found.what == "LoRA"
    assert set(found.layers) == {"transformer", "text encoder", "text encoder 2"}
    assert found.ranks == ((3,) if form == "diffusers" else (3, 9))
    plain = plain_of(base)
    plain.load_lora_weights(run.adapter.parent, weight_name=run.adapter.name, adapter_name="it")
    for much in (1.0, 0.5):
        plain.set_adapters(["it"], [much])
        told = Sample(num_inference_steps=3, guidance_scale=4.0, adapters={str(out): much})
        assert np.abs(drawn(base, tmp_path / f"{much}", told) - by_diffusers(plain)).max() <= 1


def test_a_run_begins_with_a_file_of_kohyas_form_and_another_rank_is_made_of_it(run, project, base, tmp_path):
    file, small = tmp_path / "kohya.safetensors", tmp_path / "small.safetensors"
    bespoke.export_model(str(run.run), file, "kohya")
    begun = bespoke.train(
        project / "recipe.toml",
        (*QUICK, "train.train_text_encoder=true", f"model.adapter_file={file}", "train.learning_rate=1e-12"),
    )
    ours, theirs = load_file(begun.adapter), load_file(run.adapter)
    assert ours.keys() == theirs.keys() and all(torch.allclose(ours[key], theirs[key], atol=1e-6) for key in ours)
    bespoke.resize_lora(file, small, rank=1, base=str(base))
    assert passport(small).ranks == (1, 3)


def test_a_lora_is_found_again_in_what_was_tuned(run, base, tmp_path):
    bespoke.merge_models(str(run.run), tmp_path / "merged")
    found = bespoke.extract_lora(str(tmp_path / "merged"), tmp_path / "again.safetensors", base=str(base), rank=3)
    assert found.error < 1e-3 and found.outside == 0
    told = Sample(num_inference_steps=3, guidance_scale=4.0, adapters={str(tmp_path / "again.safetensors"): 1.0})
    assert np.abs(drawn(base, tmp_path / "a", told) - drawn(run.run, tmp_path / "b")).max() <= 1


@pytest.mark.parametrize("method", ["loha", "dora"])
def test_other_kinds_go_out_or_are_refused(project, base, method, tmp_path):
    trained = bespoke.train(project / "recipe.toml", (*QUICK, f"model.method={method}", "train.learning_rate=0.3"))
    out = tmp_path / "out.safetensors"
    if method == "dora":
        with pytest.raises(BespokeError, match="has no form for kohya"):
            bespoke.export_model(str(trained.run), out, "kohya")
        assert bespoke.export_model(str(trained.run), out, "diffusers").likeness.mean <= 0.5
        return
    done = bespoke.export_model(str(trained.run), out, "comfyui")
    assert done.likeness.mean <= 0.5 < done.likeness.effect
    assert all(key.startswith("lycoris_transformer_blocks_") for key in load_file(out))
    found = passport(out)
    assert (found.what, found.form, found.loads) == ("LoHa", "LyCORIS", ("ComfyUI", "bespoke"))
    told = Sample(num_inference_steps=3, guidance_scale=4.0, adapters={str(out): 1.0})
    assert np.abs(drawn(base, tmp_path / "a", told) - drawn(trained.run, tmp_path / "b")).max() <= 1


def test_what_is_not_read_is_said(base, tmp_path):
    name = "lora_unet_joint_blocks_0_x_block_attn_proj"
    both = {f"{name}.lora_down.weight": torch.ones(1, 8), f"{name}.lora_up.weight": torch.ones(8, 1)}
    cases = {
        "a DoRA in kohya's form": both | {f"{name}.dora_scale": torch.ones(8, 1)},
        "lacks a matrix": {f"{name}.lora_down.weight": torch.ones(1, 8)},
        "changes lora_te3_x": {key.replace(name, "lora_te3_x"): value for key, value in both.items()},
    }  # fmt: skip
    for said, content in cases.items():
        save_file(content, tmp_path / "file.safetensors")
        told = Sample(num_inference_steps=3, adapters={str(tmp_path / "file.safetensors"): 1.0})
        with pytest.raises(BespokeError, match=said):
            drawn(base, tmp_path / "drawn", told)
