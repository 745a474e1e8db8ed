"""Laws of adapters: fresh is the base, off again is the base, only the adapter moves, and diffusers reads the file."""

import copy
import json

import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from bespoke.errors import BespokeError
from bespoke.models import PICO, adapterfile, adapters, find, kinds, load_adapter
from bespoke.models.families import FAMILIES
from bespoke.recipe.training import Model

TARGETS = ("to_q", "to_k", "to_v", "to_out.0")
GROUPS = FAMILIES[0].groups("unet")


def small(seed=0):
    """A real UNet, small enough to be made again for every example."""
    torch.manual_seed(seed)
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=12,
        attention_head_dim=2,
        norm_num_groups=4,
    )
    return unet.eval().requires_grad_(False)


SMALL = small()


def answer(unet, seed=0):
    source = torch.Generator().manual_seed(seed)
    width = unet.config["cross_attention_dim"]
    noisy = torch.randn(2, 4, 8, 8, generator=source)
    texts = torch.randn(2, 5, width, generator=source)
    with torch.no_grad():
        return unet(noisy, torch.tensor([10, 700]), texts, return_dict=False)[0]


def attach(unet, rank=4, alpha=4, seed=0, targets=TARGETS, **more):
    model = Model(rank=rank, alpha=alpha, targets=targets, **more)
    adapters.attach(unet, kinds.config_of(model, unet, GROUPS), seed=seed)
    return unet


def shaken(unet, seed=3):
    """The adapter away from its start, as training would move it."""
    source = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in adapters.trainable(unet).values():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=source))
    return unet


@pytest.fixture(scope="module")
def pico():
    return find("pico").denoiser()


@pytest.fixture(scope="module")
def plain():
    """Plain diffusers, nothing of ours."""
    return StableDiffusionPipeline.from_pretrained(PICO, dtype=torch.float32, local_files_only=True)


ranks = st.integers(1, 12)
subsets = st.lists(st.sampled_from(TARGETS), min_size=1, unique=True).map(tuple)


@settings(max_examples=12, deadline=None)
@given(rank=ranks, alpha=ranks, seed=st.integers(0, 2**32 - 1), targets=subsets)
def test_a_fresh_adapter_is_the_base_and_taking_it_off_leaves_no_trace(rank, alpha, seed, targets):
    unet = copy.deepcopy(SMALL)
    bits = {name: t.clone() for name, t in unet.state_dict().items()}
    before = answer(unet)
    attach(unet, rank, alpha, seed, targets)
    assert torch.equal(answer(unet), before)
    shaken(unet)
    assert not torch.equal(answer(unet), before)
    adapters.detach(unet)
    after = unet.state_dict()
    assert list(after) == list(bits)
    assert all(torch.equal(after[name], bits[name]) for name in bits)
    assert torch.equal(answer(unet), before)
    assert adapters.trainable(unet) == {}


def test_the_laws_hold_for_pico(pico):
    unet = copy.deepcopy(pico)
    before = answer(unet)
    attach(unet, rank=16, alpha=8)
    assert torch.equal(answer(unet), before)
    adapters.detach(unet)
    after, bits = unet.state_dict(), pico.state_dict()
    assert list(after) == list(bits)
    assert all(torch.equal(after[name], bits[name]) for name in bits)


@settings(max_examples=6, deadline=None)
@given(rank=ranks, targets=subsets)
def test_only_low_rank_matrices_beside_the_attention_are_trainable(rank, targets):
    unet = attach(copy.deepcopy(SMALL), rank=rank, targets=targets)
    layers = [n for n, m in SMALL.named_modules() if isinstance(m, torch.nn.Linear) and n.endswith(targets)]
    expected = {f"{layer}.lora_{side}.default.weight" for layer in layers for side in "AB"}
    found = adapters.trainable(unet)
    assert set(found) == expected and layers
    assert all(".attn1." in name or ".attn2." in name for name in found)
    assert all(p.dtype == torch.float32 and rank in p.shape for p in found.values())


def test_an_optimizer_step_moves_the_adapter_and_not_the_base(pico):
    unet = attach(copy.deepcopy(pico)).train()
    moving = adapters.trainable(unet)
    optimizer = torch.optim.AdamW(moving.values(), lr=0.01, weight_decay=0.1)
    start = {name: p.detach().clone() for name, p in moving.items()}
    output = unet(torch.randn(1, 4, 8, 8), torch.tensor([5]), torch.randn(1, 5, 160), return_dict=False)[0]
    output.square().mean().backward()
    assert all(p.grad is None for name, p in unet.named_parameters() if name not in moving)
    optimizer.step()
    assert any(not torch.equal(p, start[name]) for name, p in moving.items())
    adapters.detach(unet)
    bits = pico.state_dict()
    assert all(torch.equal(t, bits[name]) for name, t in unet.state_dict().items())


def weights(seed, disturb=0):
    torch.manual_seed(disturb)
    unet = copy.deepcopy(SMALL)
    attach(unet, seed=seed)
    return {name: p.detach().clone() for name, p in adapters.trainable(unet).items()}


def test_the_seed_alone_decides_the_first_weights():
    one, again, other = weights(7, disturb=1), weights(7, disturb=2), weights(8)
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not any(torch.equal(one[name], other[name]) for name in one if "lora_A" in name)


def test_attaching_does_not_disturb_torchs_random_numbers():
    unet = copy.deepcopy(SMALL)
    torch.manual_seed(11)
    state = torch.random.get_rng_state()
    attach(unet, seed=99)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize(("rank", "alpha"), [(4, 4), (4, 16), (8, 2)])
def test_plain_diffusers_reads_the_file_and_answers_the_same(tmp_path, pico, plain, rank, alpha):
    unet = shaken(attach(copy.deepcopy(pico), rank=rank, alpha=alpha))
    ours, base = answer(unet), answer(pico)
    adapterfile.save({"unet": unet}, tmp_path / "deep" / "adapter.safetensors")
    assert [f.name for f in (tmp_path / "deep").iterdir()] == ["adapter.safetensors"]
    plain.load_lora_weights(str(tmp_path / "deep"), weight_name="adapter.safetensors")
    try:
        theirs = answer(plain.unet)
        assert plain.unet.peft_config["default_0"].lora_alpha == alpha
    finally:
        plain.unload_lora_weights()
    assert float((ours - base).abs().max()) > 0.1  # the adapter does a lot, so a lost scale would show
    torch.testing.assert_close(theirs, ours, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(answer(plain.unet), base, rtol=1e-5, atol=1e-5)


def test_loading_after_saving_gives_the_same_weights(tmp_path, pico, plain):
    unet = shaken(attach(copy.deepcopy(pico)))
    adapterfile.save({"unet": unet}, tmp_path / "adapter.safetensors")
    load_adapter(plain, tmp_path / "adapter.safetensors", "pico")
    try:
        state = plain.unet.state_dict()
        for name, parameter in adapters.trainable(unet).items():
            assert torch.equal(state[name.replace(".default.", ".default_0.")], parameter), name
    finally:
        plain.unload_lora_weights()


def test_rank_alpha_and_layers_stand_in_the_file(tmp_path):
    unet = attach(copy.deepcopy(SMALL), rank=3, alpha=5)
    adapterfile.save({"unet": unet}, tmp_path / "a.safetensors")
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        facts = json.loads(file.metadata()["lora_adapter_metadata"])
        assert all(file.get_tensor(key).dtype == torch.float32 for key in file.keys())  # noqa: SIM118
    assert (facts["unet.r"], facts["unet.lora_alpha"]) == (3, 5)
    assert facts["unet.target_modules"] == sorted(TARGETS)


def test_saving_does_not_change_the_network(tmp_path):
    unet = shaken(attach(copy.deepcopy(SMALL)))
    bits = {name: t.clone() for name, t in unet.state_dict().items()}
    for number in range(8):
        adapterfile.save({"unet": unet}, tmp_path / f"{number}.safetensors")
    assert len({file.read_bytes() for file in tmp_path.iterdir()}) == 1  # equal adapters are equal files
    assert all(torch.equal(t, bits[name]) for name, t in unet.state_dict().items())


def write_garbage(path, pico):
    path.write_bytes(b"not safetensors at all")


def write_other_tensors(path, pico):
    save_file({"weights": torch.zeros(3)}, path)


def write_strange_layers(path, pico):
    layer = "unet.somewhere.else.to_q.lora"
    save_file({f"{layer}_A.weight": torch.zeros(4, 8), f"{layer}_B.weight": torch.zeros(8, 4)}, path)


def write_another_width(path, pico):
    adapterfile.save({"unet": attach(copy.deepcopy(SMALL))}, path)


def write_wrong_shapes(path, pico):
    adapterfile.save({"unet": attach(copy.deepcopy(pico))}, path)
    with safe_open(path, "pt") as file:
        tensors = {k: torch.zeros([n + 1 for n in file.get_slice(k).get_shape()]) for k in file.keys()}  # noqa: SIM118
    save_file(tensors, path)


def write_nothing(path, pico):
    save_file({}, path)


def write_another_prefix(path, pico):
    adapterfile.save({"unet": attach(copy.deepcopy(pico))}, path)
    with safe_open(path, "pt") as file:
        tensors = {k.replace("unet.", "transformer."): file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
    save_file(tensors, path)


@pytest.mark.parametrize(
    "write",
    [
        write_another_prefix,
        write_garbage,
        write_other_tensors,
        write_strange_layers,
        write_another_width,
        write_wrong_shapes,
        write_nothing,
    ],
)
@pytest.mark.filterwarnings("ignore:While injecting the PEFT adapters:RuntimeWarning")  # peft's, before it fails
def test_what_is_no_adapter_for_this_model_is_refused(tmp_path, pico, plain, write):
    path = tmp_path / "adapter.safetensors"
    write(path, pico)
    before = answer(plain.unet)
    try:
        with pytest.raises(BespokeError, match="does not fit pico") as caught:
            load_adapter(plain, path, "pico")
    finally:
        plain.unload_lora_weights()
    assert "\n" not in caught.value.problem and "base" in caught.value.hint
    assert torch.equal(answer(plain.unet), before)


def test_a_missing_adapter_is_named(tmp_path, plain):
    with pytest.raises(BespokeError, match="There is no adapter at") as caught:
        load_adapter(plain, tmp_path / "none.safetensors", "pico")
    assert caught.value.hint
