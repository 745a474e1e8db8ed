"""LoRA in one go, and convolutions with sorted weights: the answers and gradients that peft and torch give."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig
from peft.tuners.lora.layer import Conv2d, Linear
from torch import nn

from bespoke.models import adapters, find
from bespoke.models.fused import FusedConv, FusedLinear, fuse
from bespoke.models.packed import FEW, PackedConv, pack


def relative(found, wanted):
    found, wanted = found.detach().double(), wanted.detach().double()
    return float((found - wanted).norm() / wanted.norm())


def unet(**more):
    """Pico's denoiser with a LoRA of convolutions and attention, whose weights are not nothing."""
    network = find("pico").network("unet")
    wanted = ["to_q", "to_k", "to_v", "to_out.0", "conv1", "conv_shortcut", "proj_in"]
    adapters.attach(network, LoraConfig(r=4, lora_alpha=6, target_modules=wanted, **more), seed=3)
    source = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "lora_B" in name:
                parameter.copy_(0.02 * torch.randn(parameter.shape, generator=source))
    return network


def told(network, x, states, format_=torch.float32):
    """An answer and the gradients of all that is trained."""
    answer = network(x.to(format_), torch.tensor([300, 700]), states.to(format_), return_dict=False)[0]
    answer = answer.float() if format_ is torch.bfloat16 else answer
    answer.square().mean().backward()
    return answer.detach(), {name: p.grad for name, p in network.named_parameters() if p.requires_grad}


@pytest.fixture
def inputs():
    source = torch.Generator().manual_seed(1)
    return torch.randn(2, 4, 8, 8, generator=source), torch.randn(2, 77, 160, generator=source)


def test_a_whole_network_answers_and_learns_as_with_peft(inputs):
    plain, fused = unet(), unet()
    before = [(name, p.shape) for name, p in fused.named_parameters()]
    assert fuse(fused) and [(name, p.shape) for name, p in fused.named_parameters()] == before
    kinds = [type(layer) for _, layer in adapters.tuned_layers(fused)]
    assert kinds.count(FusedLinear) == 80 and kinds.count(FusedConv) > 20 and {*kinds} == {FusedLinear, FusedConv}
    (wanted, theirs), (found, ours) = (told(one.double(), *inputs, format_=torch.float64) for one in (plain, fused))
    assert relative(found, wanted) < 1e-12
    assert ours.keys() == theirs.keys()
    assert max(relative(ours[name], theirs[name]) for name in theirs) < 1e-10


def test_taken_off_switched_off_and_merged_it_is_peft_that_answers(inputs):
    network, base = unet(), find("pico").network("unet")
    with torch.no_grad():
        wanted = base(inputs[0], torch.tensor([300, 700]), inputs[1], return_dict=False)[0]
        fuse(network)
        with adapters.untouched(network):
            off = network(inputs[0], torch.tensor([300, 700]), inputs[1], return_dict=False)[0]
        on = network(inputs[0], torch.tensor([300, 700]), inputs[1], return_dict=False)[0]
        merged = copy.deepcopy(network)
        adapters.merge(merged)
        whole = merged(inputs[0], torch.tensor([300, 700]), inputs[1], return_dict=False)[0]
        adapters.detach(network)
        bare = network(inputs[0], torch.tensor([300, 700]), inputs[1], return_dict=False)[0]
    assert torch.equal(off, wanted) and torch.equal(bare, wanted) and not torch.allclose(on, wanted, atol=1e-3)
    assert relative(whole, on) < 1e-5


@pytest.mark.parametrize("more", [{"use_dora": True}, {"lora_dropout": 0.1}])
def test_what_has_more_to_it_is_left_to_peft(more):
    network = unet(**more)
    before = [type(layer) for _, layer in adapters.tuned_layers(network)]
    assert not fuse(network) and [type(layer) for _, layer in adapters.tuned_layers(network)] == before
    assert {Linear, Conv2d} >= {*before}


@pytest.mark.parametrize("base", [nn.Linear(48, 40), nn.Linear(48, 40, bias=False), nn.Conv2d(48, 40, 3, padding=1)])
def test_a_layer_in_sixteen_bits_learns_what_exact_arithmetic_teaches(base):
    torch.manual_seed(0)
    kind = Conv2d if isinstance(base, nn.Conv2d) else Linear
    config = LoraConfig(r=4, init_lora_weights=False)
    layer = kind(base.requires_grad_(False), "default", config=config, r=4, lora_alpha=6)
    exact = copy.deepcopy(layer).double()
    fuse(layer)
    layer.base_layer.bfloat16()
    x = torch.randn(5, 48, 6, 6) if kind is Conv2d else torch.randn(5, 7, 48)
    learnt = []
    for one, format_ in ((layer, torch.bfloat16), (exact, torch.float64)):
        given_ = x.to(format_).requires_grad_()
        answer = one(given_)
        assert answer.dtype == given_.dtype
        answer.backward(torch.linspace(-1, 1, answer.numel()).view(answer.shape).to(answer.dtype))
        learnt.append([given_.grad, *(p.grad for p in one.parameters() if p.requires_grad)])
    for found, wanted in zip(*learnt, strict=True):
        assert found.dtype in {torch.float32, torch.bfloat16} and relative(found, wanted) < 0.02
        assert nn.functional.cosine_similarity(found.flatten().double(), wanted.flatten(), dim=0) > 0.9999


CONVS = st.builds(
    lambda inner, outer, side, size, stride, count, bias: (count, inner, outer, side, size, stride, bias),
    st.sampled_from([3, 8, 16, 33]),
    st.sampled_from([4, 16, 40]),
    st.integers(3, 8),
    st.sampled_from([2, 3, 5]),
    st.sampled_from([1, 2]),
    st.integers(1, 3),
    st.booleans(),
)


@given(CONVS, st.sampled_from([torch.float32, torch.bfloat16]), st.booleans())
@settings(max_examples=40, deadline=None)
def test_sorted_weights_give_what_weights_as_they_are_do(shape, format_, last):
    count, inner, outer, side, size, stride, bias = shape
    torch.manual_seed(0)
    plain = nn.Conv2d(inner, outer, size, stride, padding=size // 2, bias=bias).to(format_).requires_grad_(False)
    kept = copy.deepcopy(plain)
    assert pack(kept) == 1 and type(kept) is PackedConv and kept.state_dict().keys() == plain.state_dict().keys()
    x = torch.randn(count, inner, side, side).to(format_)
    x = x.to(memory_format=torch.channels_last if last else torch.contiguous_format)
    found, wanted = x.clone().requires_grad_(), x.clone().requires_grad_()
    ours, theirs = kept(found), plain(wanted)
    gradient = torch.randn_like(theirs)
    ours.backward(gradient)
    theirs.backward(gradient)
    assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
    bound = 0 if format_ is torch.float32 else 0.01
    assert relative(ours, theirs) <= bound and relative(found.grad, wanted.grad) <= bound


@pytest.mark.parametrize("shape", [(1, 320, 16, 640), (1, 1280, 8, 1280), (4, 640, 8, 320)])
def test_at_the_shapes_of_stable_diffusion_they_do_so_to_the_bit(shape):
    count, inner, side, outer = shape
    torch.manual_seed(0)
    plain = nn.Conv2d(inner, outer, 3, padding=1).bfloat16().requires_grad_(False)
    kept = copy.deepcopy(plain)
    pack(kept)
    x = torch.randn(count, inner, side, side).bfloat16().to(memory_format=torch.channels_last)
    found, wanted = x.clone().requires_grad_(), x.clone().requires_grad_()
    ours, theirs = kept(found), plain(wanted)
    gradient = torch.randn_like(theirs)
    ours.backward(gradient)
    theirs.backward(gradient)
    assert torch.equal(ours, theirs) and torch.equal(found.grad, wanted.grad)


def test_sorted_weights_follow_what_becomes_of_the_weights():
    conv = nn.Conv2d(16, 16, 3, padding=1).bfloat16().requires_grad_(False)
    pack(conv)
    x = torch.randn(1, 16, 8, 8).bfloat16()
    before = conv(x)
    with torch.no_grad():
        conv.weight.mul_(2)
    bias = conv.state_dict()["bias"][:, None, None].float()
    assert relative(conv(x).float() - bias, 2 * (before.float() - bias)) < 0.02
    conv.bias.data.zero_()
    many = torch.randn(1, 16, FEW, 2).bfloat16()
    assert torch.equal(conv(many), nn.functional.conv2d(many, conv.weight, conv.bias, padding=1))


def test_trained_and_odd_convolutions_stay_as_they_are():
    network = nn.Sequential(
        nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 3, groups=2), nn.Conv2d(8, 8, 3, dilation=2),
        nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect"), nn.Conv2d(8, 8, 3, padding="same"),
    ).requires_grad_(False)  # fmt: skip
    network[0].requires_grad_(True)
    assert pack(network) == 0 and {type(part) for part in network} == {nn.Conv2d}
