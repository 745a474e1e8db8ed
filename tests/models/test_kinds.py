"""Laws of every kind of adapter: fresh is the base, off again is the base, merged is applied, a file is the whole."""

import copy
import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from bespoke.errors import BespokeError
from bespoke.models import adapterfile, adapters, find, kinds
from bespoke.models.wearing import load_adapter, unload_adapter, weigh_adapter
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
    return checkpoint.unet()


@pytest.fixture(scope="module")
def pipeline(checkpoint):
    return checkpoint.pipeline(safety_checker=False)


def answer(unet, seed=0):
    source = torch.Generator().manual_seed(seed)
    noisy, texts = torch.randn(2, 4, 8, 8, generator=source), torch.randn(2, 5, 160, generator=source)
    with torch.no_grad():
        return unet(noisy, torch.tensor([10, 700]), texts, return_dict=False)[0]


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
    unet = moved(attached(pico, checkpoint, case))
    applied = answer(unet)
    adapters.merge(unet)
    assert list(unet.state_dict()) == list(pico.state_dict())
    assert apart(answer(pico), applied) > 0.01
    assert apart(answer(unet), applied) < 1e-4


@every_kind
def test_a_file_says_all_and_loads_into_a_pipeline_and_out_again(tmp_path, pico, checkpoint, pipeline, case):
    unet = moved(attached(pico, checkpoint, case))
    path = tmp_path / "adapter.safetensors"
    adapterfile.save(unet, path)
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
    adapterfile.save(unet, path)
    again = attached(pico, checkpoint, case)
    adapterfile.load(again, path)
    ours, theirs = adapters.trainable(again), adapters.trainable(unet)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    adapterfile.save(again, tmp_path / "again.safetensors")
    assert path.read_bytes() == (tmp_path / "again.safetensors").read_bytes()
