"""Laws of every kind of adapter: fresh is the base, off again is the base, merged is applied, a file is the whole."""

import copy
import json
import sys

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from bespoke.errors import BespokeError
from bespoke.models import adapterfile, adapters, find, kinds, quantized, weightless
from bespoke.models.wearing import load_adapter, unload_adapter, weigh_adapter
from bespoke.recipe import Recipe
from bespoke.recipe.training import Model

EVERYWHERE = ("attention", "feed-forward", "projections", "convolutions")
CASES = {
    "lora": {},
    "lora, rslora": {"rslora": True, "alpha": 8},
    "lora, peft's init": {"init": "default"},
    "lora, everywhere": {"targets": EVERYWHERE},
    "lora, patterns": {"rank_pattern": {"attn2.to_k": 2}, "alpha_pattern": {"attn1.to_q": 16}},
    "pissa": {"init": "pissa"},
    "pissa, rslora, patterns": {
        "init": "pissa",
        "rslora": True,
        "alpha": 6,
        "rank_pattern": {"attn2.to_k": 2},
        "alpha_pattern": {"attn1.to_q": 16},
    },
    "olora": {"init": "olora", "targets": ("attention", "feed-forward")},
    "dora": {"method": "dora"},
    "dora, everywhere": {"method": "dora", "targets": EVERYWHERE},
    "loha": {"method": "loha", "alpha": 2},
    "loha, everywhere": {"method": "loha", "targets": EVERYWHERE, "rank_pattern": {"conv1": 2}},
    "lokr": {"method": "lokr"},
    "lokr, everywhere": {"method": "lokr", "targets": EVERYWHERE, "decompose_both": True, "decompose_factor": 4},
    "lokr, whole": {"method": "lokr", "rank": 200, "alpha": 50},
    "oft": {"method": "oft"},
    "oft, all linear": {"method": "oft", "targets": ("all-linear",), "block_size": 8},
    "boft": {"method": "boft"},
    "boft, projections": {"method": "boft", "targets": ("attention", "projections")},
}
MUTATING = ("pissa", "olora")
every_kind = pytest.mark.parametrize("case", CASES)


def model_of(case):
    return Model(**{"rank": 4, **CASES[case]})


@pytest.fixture(scope="module")
def checkpoint():
    return find("pico")


@pytest.fixture(scope="module")
def pico(checkpoint):
    return checkpoint.denoiser()


@pytest.fixture(scope="module")
def pipeline(checkpoint):
    return checkpoint.pipeline(safety_checker=False)


def answer(unet, seed=0):
    source = torch.Generator().manual_seed(seed)
    noisy, texts = torch.randn(2, 4, 8, 8, generator=source), torch.randn(2, 5, 160, generator=source)
    with torch.no_grad():
        return unet(noisy.to(unet.dtype), torch.tensor([10, 700]), texts.to(unet.dtype), return_dict=False)[0]


def attached(pico, checkpoint, case, seed=0):
    unet = copy.deepcopy(pico)
    adapters.attach(unet, kinds.config_of(model_of(case), unet, checkpoint.family.groups("unet")), seed=seed)
    return unet


def moved(unet, seed=3):
    """The adapter away from its start, as training would move it."""
    source = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in adapters.trainable(unet).values():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=source))
    return unet


def apart(ours, theirs):
    """How far answers lie apart, as a part of the answer; float32's rounding grows over the layers."""
    return float((ours - theirs).norm() / theirs.norm())


@every_kind
def test_a_fresh_one_is_the_base_and_off_again_is_the_base(pico, checkpoint, case):
    base, bits = answer(pico), pico.state_dict()
    unet = attached(pico, checkpoint, case)
    fresh = answer(unet)
    if model_of(case).init in MUTATING or model_of(case).method in kinds.TURNING:
        assert apart(fresh, base) < 1e-5  # a part was taken out and comes back; turning by nothing
    else:
        assert torch.equal(fresh, base)
    moved(unet)
    assert apart(answer(unet), base) > 0.01
    with adapters.untouched(unet):
        without = answer(unet)
    assert apart(without, base) < 1e-5
    assert apart(answer(unet), base) > 0.01
    adapters.detach(unet)
    after = unet.state_dict()
    assert list(after) == list(bits) and adapters.trainable(unet) == {}
    if model_of(case).init in MUTATING:
        assert max(float((after[name] - bits[name]).abs().max()) for name in bits) < 1e-6
    else:
        assert all(torch.equal(after[name], bits[name]) for name in bits)


@every_kind
def test_merged_is_applied(pico, checkpoint, case):
    unet = moved(attached(pico, checkpoint, case)).double()  # what float32 rounds differs between processors
    applied = answer(unet)
    adapters.merge(unet)
    assert list(unet.state_dict()) == list(pico.state_dict())
    assert apart(answer(pico), applied) > 0.01
    assert apart(answer(unet), applied) < 1e-9


@every_kind
def test_a_file_says_all_and_loads_into_a_pipeline_and_out_again(tmp_path, pico, checkpoint, pipeline, case):
    unet = moved(attached(pico, checkpoint, case))
    path = tmp_path / "adapter.safetensors"
    adapterfile.save({"unet": unet}, path)
    base = answer(pipeline.unet)
    load_adapter(pipeline, path, "pico")
    try:
        assert apart(answer(pipeline.unet), answer(unet)) < 1e-4
        weigh_adapter(pipeline, 0.0)
        assert torch.equal(answer(pipeline.unet), base)
        weigh_adapter(pipeline, 1.0)
        assert apart(answer(pipeline.unet), answer(unet)) < 1e-4
    finally:
        unload_adapter(pipeline)
    assert torch.equal(answer(pipeline.unet), base)


@every_kind
def test_loading_after_saving_is_the_same(tmp_path, pico, checkpoint, case):
    unet = moved(attached(pico, checkpoint, case))
    path = tmp_path / "adapter.safetensors"
    adapterfile.save({"unet": unet}, path)
    again = attached(pico, checkpoint, case)
    adapterfile.load({"unet": again}, path)
    ours, theirs = adapters.trainable(again), adapters.trainable(unet)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    adapterfile.save({"unet": again}, tmp_path / "again.safetensors")
    assert path.read_bytes() == (tmp_path / "again.safetensors").read_bytes()


# the text encoder


def both(checkpoint, case):
    """A UNet and a text encoder with a moved adapter each."""
    parts = {"unet": checkpoint.denoiser(), "text_encoder": checkpoint.text_encoder()}
    for name, part in parts.items():
        model = model_of(case).model_copy(update={"targets": ("attention", "feed-forward")})
        adapters.attach(part, kinds.config_of(model, part, checkpoint.family.groups(name)), seed=0)
        moved(part)
    return parts


@pytest.mark.parametrize("case", ["lora", "pissa", "dora", "lokr", "oft"])
def test_the_text_encoders_adapter_is_in_the_file_too(tmp_path, checkpoint, pipeline, case):
    parts, path, tokens = both(checkpoint, case), tmp_path / "adapter.safetensors", torch.arange(77)[None]
    adapterfile.save(parts, path)
    again = both(checkpoint, case)
    for part in again.values():
        moved(part, seed=8)
    adapterfile.load(again, path)
    with torch.no_grad():
        ours, base = parts["text_encoder"](tokens)[0], pipeline.text_encoder(tokens)[0]
        assert apart(base, ours) > 0.01
        assert apart(again["text_encoder"](tokens)[0], ours) < 1e-5
        load_adapter(pipeline, path, "pico")
        try:
            assert apart(pipeline.text_encoder(tokens)[0], ours) < 1e-4
            assert apart(answer(pipeline.unet), answer(parts["unet"])) < 1e-4
        finally:
            unload_adapter(pipeline)
        assert torch.equal(pipeline.text_encoder(tokens)[0], base)


# beginning with a file


def kohya(unet, path, alpha):
    """The LoRA of a network as kohya's trainer writes it, with an alpha of its own."""
    from peft.utils import get_peft_model_state_dict

    content = {}
    for key, value in get_peft_model_state_dict(unet).items():
        layer, side = key.removesuffix(".weight").rsplit(".", 1)
        name = f"lora_unet_{layer.replace('.', '_')}"
        content[f"{name}.{'lora_down' if side == 'lora_A' else 'lora_up'}.weight"] = value.contiguous()
        content[f"{name}.alpha"] = torch.tensor(float(alpha))
    save_file(content, path)


@pytest.mark.parametrize("form", ["ours", "kohya"])
def test_training_begins_with_a_lora_of_any_program_whatever_its_alpha(tmp_path, pico, checkpoint, pipeline, form):
    source, path = moved(attached(pico, checkpoint, "lora")), tmp_path / "theirs.safetensors"
    kohya(source, path, alpha=8) if form == "kohya" else adapterfile.save({"unet": source}, path)
    load_adapter(pipeline, path, "pico")  # diffusers' reading is the oracle
    expected = answer(pipeline.unet)
    unload_adapter(pipeline)
    unet = attached(pico, checkpoint, "lora", seed=9)
    adapterfile.begin({"unet": unet}, path)
    assert apart(answer(unet), answer(pico)) > 0.01
    assert apart(answer(unet), expected) < 1e-5


@pytest.mark.parametrize("case", ["dora", "loha", "lokr, whole", "oft"])
def test_training_begins_with_our_own_files_of_other_kinds(tmp_path, pico, checkpoint, case):
    source, path = moved(attached(pico, checkpoint, case)), tmp_path / "ours.safetensors"
    adapterfile.save({"unet": source}, path)
    unet = attached(pico, checkpoint, case, seed=9)
    adapterfile.begin({"unet": unet}, path)
    assert apart(answer(unet), answer(source)) < 1e-5


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ({"rank": 8}, ["rank 4 on", "rank 8 on"]),
        ({"targets": ("feed-forward",)}, ["to_k", "net.2"]),
        ({"method": "dora"}, ["rank 4", "with magnitudes"]),
        ({"method": "loha"}, ["is a LORA", "asks for a LOHA"]),
    ],
)
def test_a_file_that_does_not_fit_is_refused_with_both_shapes(tmp_path, pico, checkpoint, case, said):
    path = tmp_path / "theirs.safetensors"
    adapterfile.save({"unet": attached(pico, checkpoint, "lora")}, path)
    unet, model = copy.deepcopy(pico), Model(**{"rank": 4, **case})
    adapters.attach(unet, kinds.config_of(model, unet, checkpoint.family.groups("unet")), seed=0)
    with pytest.raises(BespokeError) as caught:
        adapterfile.begin({"unet": unet}, path)
    assert all(words in caught.value.problem for words in said) and caught.value.hint


# the names that other programs read


def test_lycoris_kinds_have_lycoris_names_and_give_the_weights_by_its_formulas(tmp_path, pico, checkpoint):
    """The oracle is LyCORIS's formula, written here in torch: scale · (w1a·w1b) ∘ (w2a·w2b), scale · w1 ⊗ w2."""
    layer = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"
    name = f"lora_unet_{layer.replace('.', '_')}"
    for case in ("loha", "lokr", "lokr, whole"):
        unet, path = moved(attached(pico, checkpoint, case)), tmp_path / f"{case}.safetensors"
        adapterfile.save({"unet": unet}, path)
        file = {k.removeprefix(f"{name}."): v for k, v in load_file(path).items() if k.startswith(f"{name}.")}
        if case == "loha":
            scale = file["alpha"] / file["hada_w1_b"].shape[0]
            delta = scale * (file["hada_w1_a"] @ file["hada_w1_b"]) * (file["hada_w2_a"] @ file["hada_w2_b"])
        else:
            whole = "lokr_w2" in file
            scale = 1.0 if whole else file["alpha"] / file["lokr_w2_b"].shape[0]
            delta = scale * torch.kron(
                file["lokr_w1"], file["lokr_w2"] if whole else file["lokr_w2_a"] @ file["lokr_w2_b"]
            )
        torch.testing.assert_close(delta, unet.get_submodule(layer).get_delta_weight("default"))
        with safe_open(path, "pt") as opened:
            facts = json.loads(opened.metadata()["bespoke_adapter"])
        assert facts["unet"]["peft_type"] == case[:4].upper()


# what is refused


@pytest.mark.parametrize(
    ("settings", "problem", "hint"),
    [
        ({"targets": ("atention",)}, "no layer is called 'atention'", "Did you mean attention?"),
        ({"targets": ("to_z",)}, "no layer is called 'to_z'", "Known are attention"),
        ({"rank": 100}, "A rank of 100 is more than down_blocks.0", "at most 48"),
        ({"method": "oft", "block_size": 20}, "Blocks of 20 do not divide the 48 values", "2, 4, 8, 16"),
        ({"method": "boft", "block_size": 32}, "Blocks of 32 do not divide", "2, 4, 8, 16"),
        ({"method": "oft", "targets": ("convolutions",)}, "OFT cannot be used on the convolution", "lora"),
        ({"init": "pissa", "targets": ("projections",)}, '"pissa" cannot be used on the convolution', "model.targets"),
        ({"method": "dora", "init": "pissa"}, "is for LoRA", '"lora"'),
        ({"method": "loha", "rslora": True}, "model.rslora means nothing", '"lora" or "dora"'),
        ({"method": "oft", "rank_pattern": {"to_q": 2}}, "model.rank_pattern means nothing", "loha"),
        ({"init": "pissa", "quantization": "nf4"}, "rounded ones are not taken from", "Take model.init or"),
        ({"method": "loha", "quantization": "int8"}, "model.quantization means nothing", '"lora" or "dora"'),
        ({"init": "olora", "adapter_file": "x.safetensors"}, "model.adapter_file gives others", "one of them"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_would(pico, checkpoint, settings, problem, hint):
    with pytest.raises(BespokeError) as caught:
        kinds.config_of(Model(**settings), pico, checkpoint.family.groups("unet"))
    assert problem in caught.value.problem and hint in caught.value.hint


def test_without_bitsandbytes_it_says_what_to_install(monkeypatch, checkpoint):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    quantized._library.cache_clear()
    try:
        with pytest.raises(BespokeError, match="needs bitsandbytes") as caught:
            weightless(checkpoint, Recipe(model=Model(quantization="nf4")))
        assert "bespoke[optim]" in caught.value.hint
    finally:
        quantized._library.cache_clear()


def test_what_adds_can_be_weighed_and_what_turns_cannot(tmp_path, pico, checkpoint, pipeline):
    for case in ("loha", "lokr", "oft", "boft"):
        adapterfile.save({"unet": moved(attached(pico, checkpoint, case))}, tmp_path / f"{case}.safetensors")
        load_adapter(pipeline, tmp_path / f"{case}.safetensors", "pico")
        try:
            whole = answer(pipeline.unet)
            if model_of(case).method in kinds.TURNING:
                with pytest.raises(BespokeError, match=r"cannot be weighed with 0\.5"):
                    weigh_adapter(pipeline, 0.5)
            else:
                weigh_adapter(pipeline, 0.5)
                assert 0 < apart(answer(pipeline.unet), answer(pico)) < apart(whole, answer(pico))
        finally:
            unload_adapter(pipeline)


def test_layers_that_only_the_unet_has_are_none_of_the_text_encoder(checkpoint):
    groups, encoder = checkpoint.family.groups("text_encoder"), checkpoint.text_encoder()
    both = kinds.layers_of(encoder, ("attention", "projections", "convolutions"), groups)
    assert both == checkpoint.family.text_lora_targets
    with pytest.raises(BespokeError, match="names no layer of the CLIPTextModel"):
        kinds.config_of(Model(rank=4, targets=("projections",)), encoder, groups)
