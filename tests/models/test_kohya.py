"""Files in kohya's form: read as they were trained, written as published, and the same in every loader."""

import copy

import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from pico import families
from safetensors.torch import load_file, save_file
from torch import nn

from bespoke.errors import BespokeError
from bespoke.models import adapterfile, adapters, find, formulas, kinds, kohyafile, singlefile
from bespoke.models.families import networks_of
from bespoke.models.lowrank import LowRank
from bespoke.models.wearing import load_adapter, unload_adapter
from bespoke.models.weightless import skeletons
from bespoke.recipe.training import Model

FOR_COMFYUI = {kohyafile.LENGTHS: kohyafile.COMFYUI}
EVERYWHERE = ("attention", "feed-forward", "projections", "convolutions")
CASES = {
    "lora": {"alpha": 2, "rank_pattern": {"attn2.to_k": 2}},
    "lora, everywhere": {"targets": EVERYWHERE},
    "dora, everywhere": {"method": "dora", "targets": EVERYWHERE, "alpha": 2},
}


@pytest.fixture(scope="module")
def checkpoint():
    return find("pico")


@pytest.fixture(scope="module")
def pipeline(checkpoint):
    return checkpoint.pipeline(safety_checker=False)


def answer(unet):
    source = torch.Generator().manual_seed(0)
    noisy, texts = torch.randn(1, 4, 8, 8, generator=source), torch.randn(1, 5, 160, generator=source)
    with torch.no_grad():
        return unet(noisy, torch.tensor([700]), texts, return_dict=False)[0]


def apart(ours, theirs):
    return float((ours - theirs).detach().norm() / theirs.detach().norm())


def trained(checkpoint, case, folder):
    """Networks with a moved adapter, and its file in our form."""
    parts, source = {"unet": checkpoint.denoiser(), "text_encoder": checkpoint.text_encoder()}, torch.Generator()
    source.manual_seed(3)
    for name, part in parts.items():
        model = Model(**{"rank": 4, **CASES[case]})
        if name == "text_encoder":
            model = model.model_copy(update={"targets": ("attention", "feed-forward")})
        adapters.attach(part, kinds.config_of(model, part, checkpoint.family.groups(name)), seed=0)
        with torch.no_grad():
            for parameter in adapters.trainable(part).values():
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=source))
    adapterfile.save(parts, folder / "ours.safetensors")
    return parts


@pytest.mark.parametrize("case", CASES)
def test_a_file_in_kohyas_form_does_what_the_adapter_does(tmp_path, checkpoint, pipeline, case):
    parts, tokens = trained(checkpoint, case, tmp_path), torch.arange(77)[None]
    bare = {"unet": checkpoint.denoiser(), "text_encoder": checkpoint.text_encoder()}
    content = kohyafile.content_of(kohyafile.low_ranks(bare, tmp_path / "ours.safetensors"), bare)
    theirs = tmp_path / "theirs.safetensors"
    save_file(content, theirs)
    assert all(key.startswith(("lora_unet_", "lora_te_text_model_")) for key in content)
    expected, words = answer(parts["unet"]), parts["text_encoder"](tokens)[0]
    assert apart(answer(pipeline.unet), expected) > 0.01
    # By the published formulas, worked into the weights.
    assert formulas.work_in(bare, theirs) == len({key.partition(".")[0] for key in content})
    assert apart(answer(bare["unet"]), expected) < 1e-4
    assert apart(bare["text_encoder"](tokens)[0], words) < 1e-4
    # By diffusers, which reads kohya's LoRA itself; DoRA with its magnitudes.
    load_adapter(pipeline, theirs, "pico")
    try:
        assert apart(answer(pipeline.unet), expected) < 1e-4
        assert apart(pipeline.text_encoder(tokens)[0], words) < 1e-4
    finally:
        unload_adapter(pipeline)
    # And training begins with it.
    again = copy.deepcopy(parts)
    for part in again.values():
        with torch.no_grad():
            for parameter in adapters.trainable(part).values():
                parameter.mul_(0.5)
    adapterfile.begin(again, theirs)
    assert apart(answer(again["unet"]), expected) < 1e-5
    assert load_file(theirs).keys() == content.keys()


def test_magnitudes_that_peft_does_not_have_are_refused(tmp_path, checkpoint):
    layer = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    bare, name = skeletons(checkpoint), kohyafile.name_of("unet", layer)
    content = {f"{name}.lora_down.weight": torch.ones(2, 48), f"{name}.lora_up.weight": torch.ones(48, 2)}
    for told, shape, problem in (({}, (1, 48), "of a layer's inputs"), (FOR_COMFYUI, (48, 1), "for ComfyUI alone")):
        path = tmp_path / "file.safetensors"
        save_file(content | {f"{name}.dora_scale": torch.ones(shape)}, path, told)
        with pytest.raises(BespokeError, match=problem):
            kohyafile.low_ranks(bare, path)
    save_file(content | {f"{name}.dora_scale": torch.ones(48, 1)}, path)
    assert list(kohyafile.low_ranks(bare, path)["unet"]) == [layer]
    with pytest.raises(BespokeError, match="which this model has not"):
        formulas.work_in({"text_encoder": bare["text_encoder"]}, path)


@pytest.mark.parametrize(
    "ends", [("q_proj", "k_proj", "v_proj", "out_proj"), ("q_proj",), ("fc1",), ("q_proj", "fc2")], ids=" and ".join
)
def test_a_text_encoders_layers_keep_their_names_whichever_are_there(tmp_path, checkpoint, ends):
    bare = skeletons(checkpoint)
    sides = {n: m.weight.shape for n, m in bare["text_encoder"].named_modules() if n.endswith(ends)}
    layers = {layer: LowRank(torch.ones(2, near), torch.ones(far, 2), 3.0) for layer, (far, near) in sides.items()}
    save_file(kohyafile.content_of({"text_encoder": layers}, bare), tmp_path / "file.safetensors")
    ((part, found),) = kohyafile.low_ranks(bare, tmp_path / "file.safetensors").items()
    assert part == "text_encoder" and found.keys() == layers.keys()
    assert all(low.alpha == 3.0 for low in found.values())


# --- SDXL ---


@pytest.fixture(scope="module")
def xl(tmp_path_factory):
    folder = tmp_path_factory.mktemp("xl") / "sdxl"
    families.write("sdxl", folder)
    return find(str(folder))


def pipeline_of(base):
    return StableDiffusionXLPipeline.from_pretrained(base.folder, add_watermarker=False)


def changes(base, *, alphas=(2.0,), dora=False):
    """A change of every layer that kohya's trainer can change, in all three networks."""
    source, found = torch.Generator().manual_seed(1), {}
    for part, network in networks_of(pipeline_of(base)).items():
        for number, (layer, module) in enumerate(network.named_modules()):
            if isinstance(module, nn.Linear | nn.Conv2d) and layer != "text_projection":
                weight = module.weight
                down = 0.1 * torch.randn(4, *weight.shape[1:], generator=source)
                up = 0.1 * torch.randn(len(weight), 4, *[1] * (weight.ndim - 2), generator=source)
                lengths = weight.detach().flatten(1).norm(dim=1) * 1.1
                shape = (1, -1, 1, 1) if weight.ndim == 4 else (-1,)
                alpha = alphas[number % len(alphas)]
                found.setdefault(part, {})[layer] = LowRank(down, up, alpha, lengths.reshape(shape) if dora else None)
    return found


def weights_of(pipeline):
    parts = networks_of(pipeline)
    return {f"{name}.{key}": value for name, part in parts.items() for key, value in part.state_dict().items()}


def test_an_xls_names_are_those_of_its_single_file_as_kohya_has_them(xl, tmp_path):
    """ComfyUI takes `lora_unet_` and the names in the file of the whole model; A1111 takes these as they are."""
    layers, pipe = changes(xl), pipeline_of(xl)
    content = kohyafile.content_of(layers, skeletons(xl))
    whole = singlefile.content_of(pipe.unet, pipe.vae, pipe.text_encoder, pipe.text_encoder_2)
    unet = {
        "lora_unet_" + key.removeprefix(singlefile.UNET).removesuffix(".weight").replace(".", "_")
        for key in whole
        if key.startswith(singlefile.UNET) and key.endswith(".weight")
    }
    mine = {key.partition(".")[0] for key in content}
    texts = {name for name in mine if not name.startswith("lora_unet_")}
    assert mine - texts <= unet and len(mine) == sum(len(those) for those in layers.values())
    assert "lora_unet_input_blocks_4_1_transformer_blocks_1_attn1_to_q" in mine
    assert {"lora_unet_input_blocks_4_0_emb_layers_1", "lora_unet_label_emb_0_0", "lora_unet_out_2"} <= mine
    ends = ("self_attn_q_proj", "self_attn_k_proj", "self_attn_v_proj", "self_attn_out_proj", "mlp_fc1", "mlp_fc2")
    assert texts == {
        f"lora_{te}_text_model_encoder_layers_{b}_{end}" for te in ("te1", "te2") for b in (0, 1) for end in ends
    }


def plainly(content, bare):
    known = {
        kohyafile.published(part, layer, bare): kohyafile.name_of(part, layer)
        for part, network in bare.items()
        for layer, module in network.named_modules()
        if hasattr(module, "weight")
    }
    return {f"{known[key.partition('.')[0]]}.{key.partition('.')[2]}": value for key, value in content.items()}


SPELLINGS = {
    "as written": lambda content, bare: content,
    "by diffusers' names": plainly,
    "the first's as the only one's": lambda content, bare: {
        key.replace("lora_te1_", "lora_te_"): value for key, value in content.items()
    },
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_an_xls_file_is_read_by_every_reader_as_it_was_written(xl, tmp_path, spelling, kind):
    layers, bare = changes(xl, alphas=(2.0, 3.0, 4.0), dora=kind == "dora"), skeletons(xl)
    path = tmp_path / "lora.safetensors"
    save_file(SPELLINGS[spelling](kohyafile.content_of(layers, bare), bare), path)
    found = kohyafile.low_ranks(bare, path)
    assert {part: those.keys() for part, those in found.items()} == {p: t.keys() for p, t in layers.items()}
    for part, those in layers.items():
        for layer, low in those.items():
            again = found[part][layer]
            assert torch.equal(again.down, low.down) and torch.equal(again.up, low.up), layer
            assert again.alpha == pytest.approx(low.alpha) and (again.magnitude is None) == (low.magnitude is None)
            assert low.magnitude is None or torch.equal(again.magnitude, low.magnitude)
    assert kohyafile.respelt(load_file(path), bare).keys() == kohyafile.content_of(layers, bare).keys()
    if kind == "dora":
        return
    pipe, before = pipeline_of(xl), weights_of(pipeline_of(xl))
    assert formulas.work_in(networks_of(pipe), path) == sum(len(those) for those in layers.values())
    after = weights_of(pipe)
    for part, those in layers.items():
        for layer, low in those.items():
            key = f"{part}.{layer}.weight"
            assert torch.allclose(after[key], before[key] + low.change().reshape(before[key].shape), atol=1e-6), key


# By its own names diffusers reads both layers of `add_embedding` into one that is not there: we name them otherwise.
@pytest.mark.parametrize(("spelling", "ours"), [(one, ours) for one in SPELLINGS for ours in (False, True)])
def test_diffusers_and_what_wears_it_read_an_xls_file_into_the_same_weights(xl, tmp_path, spelling, ours):
    layers, bare, path = changes(xl), skeletons(xl), tmp_path / "lora.safetensors"
    if spelling == "by diffusers' names" and not ours:
        layers["unet"] = {layer: low for layer, low in layers["unet"].items() if not layer.startswith("add_")}
    save_file(SPELLINGS[spelling](kohyafile.content_of(layers, bare), bare), path)
    pipe, before = pipeline_of(xl), weights_of(pipeline_of(xl))
    if ours:
        load_adapter(pipe, path, "xl")
    else:
        pipe.load_lora_weights(tmp_path, weight_name="lora.safetensors")
    pipe.fuse_lora()
    pipe.unload_lora_weights()
    after = weights_of(pipe)
    assert after.keys() == before.keys()
    for part, those in layers.items():
        for layer, low in those.items():
            key = f"{part}.{layer}.weight"
            assert torch.allclose(after[key], before[key] + low.change().reshape(before[key].shape), atol=1e-5), key


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_training_an_xl_begins_with_a_file_of_any_spelling(xl, tmp_path, spelling):
    unet, bare = xl.denoiser(), skeletons(xl)
    adapters.attach(unet, kinds.config_of(Model(rank=4, alpha=8), unet, xl.family.groups("unet")), seed=0)
    own = {layer for layer, _ in adapters.tuned_layers(unet)}
    layers = {"unet": {layer: low for layer, low in changes(xl)["unet"].items() if layer in own}}
    save_file(SPELLINGS[spelling](kohyafile.content_of(layers, bare), bare), tmp_path / "lora.safetensors")
    adapterfile.begin({"unet": unet}, tmp_path / "lora.safetensors")
    adapters.merge(unet)
    before = xl.denoiser().state_dict()
    for layer, low in layers["unet"].items():
        key = f"{layer}.weight"
        assert torch.allclose(unet.state_dict()[key], before[key] + low.change().reshape(before[key].shape), atol=1e-5)
