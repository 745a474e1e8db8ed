"""GroupNorm with SiLU in one is what both are, by torch and by Triton's kernels, alone and in networks."""

import copy
import importlib.util
import os
import re
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from diffusers.models.resnet import ResnetBlock2D
from hypothesis import given, settings
from hypothesis import strategies as st
from pico import families
from torch import nn
from torch.utils.checkpoint import checkpoint

from bespoke.models import find, groupnorm
from bespoke.models.fusednorms import FusedGroupNorm, fuse_norms, part_norms
from bespoke.models.groupnorm import group_norm, why_not

needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is for Linux")
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
"""Whether these tests are of Triton's kernels, interpreted on the processor, or of torch's way."""


@needs_triton
@pytest.mark.slow
@pytest.mark.skipif(INTERPRETED, reason="this is the run that it starts")
def test_tritons_kernels_keep_the_same_laws():
    """In a process of its own: Triton asks once, when it is first imported, whether to interpret."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    done = subprocess.run(command, env=os.environ | {"TRITON_INTERPRET": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-5000:]
    passed = re.findall(r"(\d+) passed", done.stdout)
    assert passed and int(passed[0]) > 10, done.stdout


def answers(norm, x, weight, bias, grad):
    """The answer, and the gradients of the picture, the weight and the bias."""
    leaves = [one.detach().clone(memory_format=torch.preserve_format).requires_grad_() for one in (x, weight, bias)]
    answer = norm(*leaves)
    answer.backward(grad.to(answer.dtype))
    return [answer.detach(), *(leaf.grad for leaf in leaves)]


def drawn(shape, kind, offset=0.0):
    """A picture in channels_last, a weight, a bias and a gradient."""
    source = torch.Generator().manual_seed(sum(shape))
    x, grad = (torch.randn(shape, generator=source).to(memory_format=torch.channels_last) for _ in range(2))
    weight, bias = (torch.randn(shape[1], generator=source) for _ in range(2))
    return [one.to(kind) for one in (x * 2 + offset, weight, bias, grad)]


def distance(one, two):
    return float((one.double() - two).norm() / two.norm().clamp(min=1e-12))


@settings(max_examples=8 if INTERPRETED else 40)
@given(
    pictures=st.integers(1, 3), groups=st.integers(1, 9), wide=st.integers(1, 11), height=st.integers(2, 12),
    width=st.integers(2, 12), silu=st.booleans(), offset=st.sampled_from([0.0, 30.0]),
)  # fmt: skip
def test_it_is_group_norm_and_silu(pictures, groups, wide, height, width, silu, offset):
    given = drawn((pictures, groups * wide, height, width), torch.float32, offset)

    def both(x, weight, bias):
        found = F.group_norm(x, groups, weight, bias, 1e-5)
        return F.silu(found) if silu else found

    # torch's own in float32 loses figures that the kernels keep.
    exact = answers(both, *(one.double() if INTERPRETED else one for one in given))
    found = answers(lambda x, w, b: group_norm(x, w, b, groups, 1e-5, silu=silu), *given)
    # A picture's own gradient all but cancels out where a group has few numbers.
    sizes = [1.0, float(given[1].norm() * given[3].norm()), 1.0, 1.0]
    for one, two, size in zip(found, exact, sizes, strict=True):
        assert float((one - two).norm()) <= 2e-5 * max(size, float(two.norm()))
    for one in found[:2]:
        assert one.stride() == given[0].stride()


@pytest.mark.parametrize("shape", [(1, 320, 40, 30), (2, 70, 33, 5)])
@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("programs", [1, 1024])
def test_half_formats_are_rounded_once(shape, kind, programs, monkeypatch):
    """One chunk of positions, read in parts, or many, the last of them smaller; channels that end amid a block."""
    if INTERPRETED:
        from bespoke.models import groupnorm_kernels

        monkeypatch.setattr(groupnorm_kernels, "PROGRAMS", programs)
    given = drawn(shape, kind, 5.0)
    exact = answers(lambda x, w, b: F.silu(F.group_norm(x, 10, w, b, 1e-5)), *(one.double() for one in given))
    found = answers(lambda x, w, b: group_norm(x, w, b, 10, 1e-5, silu=True), *given)
    limit = 4e-3 if kind == torch.bfloat16 else 6e-4
    assert all(distance(one, two) < limit for one, two in zip(found, exact, strict=True))
    assert all(one.dtype == kind for one in found)


def test_a_mean_far_from_nothing_costs_no_figures():
    """Squares less the square of the mean would leave nothing of a deviation of 1 around 4,000 in float32."""
    given = drawn((1, 8, 20, 20), torch.float32, 8000.0)
    exact = answers(lambda x, w, b: F.group_norm(x, 2, w, b, 1e-5), *(one.double() for one in given))
    found = answers(lambda x, w, b: group_norm(x, w, b, 2, 1e-5, silu=False), *given)
    assert distance(found[0], exact[0]) < (1e-3 if INTERPRETED else 0.5)


def test_frozen_norms_get_no_gradient_and_pass_theirs_on():
    x, weight, bias, grad = drawn((1, 12, 6, 6), torch.float32)
    whole = answers(lambda x, w, b: group_norm(x, w, b, 3, 1e-5, silu=True), x, weight, bias, grad)
    x.requires_grad_()
    group_norm(x, weight, bias, 3, 1e-5, silu=True).backward(grad)
    assert torch.equal(x.grad, whole[1]) and weight.grad is None and bias.grad is None


def test_torch_takes_it_for_an_operator():
    x, weight, bias, grad = (one.requires_grad_() for one in drawn((2, 6, 4, 3), torch.float32))
    torch.library.opcheck(groupnorm._norm, (x, weight, bias, 3, 1e-5, True))
    with torch.no_grad():
        _, mean, rstd = groupnorm._norm(x, weight, bias, 3, 1e-5, True)
        for affine in (True, False):
            torch.library.opcheck(groupnorm._gradients, (grad, x, mean, rstd, weight, bias, True, affine))


def test_it_may_be_computed_again_instead_of_kept():
    given = drawn((1, 6, 5, 5), torch.float32)

    def norm(x, weight, bias):
        return group_norm(x, weight, bias, 3, 1e-5, silu=True)

    again = answers(lambda x, w, b: checkpoint(norm, x, w, b, use_reentrant=False), *given)
    assert all(torch.equal(one, two) for one, two in zip(again, answers(norm, *given), strict=True))


def test_other_layouts_are_torchs():
    """A picture with rows that lie side by side keeps that layout."""
    x, weight, bias, grad = (one.contiguous() for one in drawn((2, 6, 5, 4), torch.float32))
    found = answers(lambda x, w, b: group_norm(x, w, b, 3, 1e-5, silu=True), x, weight, bias, grad)
    exact = answers(lambda x, w, b: F.silu(F.group_norm(x, 3, w, b, 1e-5)), x, weight, bias, grad)
    assert found[0].is_contiguous() and found[1].is_contiguous()
    assert all(distance(one, two) < 1e-5 for one, two in zip(found, exact, strict=True))


def test_where_there_is_no_gpu_it_is_said(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert "need a GPU" in why_not(torch.device("cpu"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert why_not(torch.device("cuda")) == "Triton is not installed."


@needs_triton
@pytest.mark.skipif(INTERPRETED, reason="interpreted kernels are not compiled")
def test_the_kernels_compile_for_a_gpu_that_is_not_here(monkeypatch, tmp_path):
    """As far as ptxas' machine code for an H200, in each format; what the interpreter does not notice."""
    import triton  # pyright: ignore[reportMissingImports]
    from triton.backends.compiler import GPUTarget  # pyright: ignore[reportMissingImports]

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("TRITON_DEFAULT_FP_FUSION", "1")
    from bespoke.models import groupnorm_kernels as kernels

    constants = {"ROWS": kernels.ROWS, "CHANNELS": kernels.CHANNELS, "CHUNKS": kernels.CHUNKS, "WIDE": 16, "SILU": True}
    whole = {"count", "channels", "step", "chunks", "wide"}
    for kind in ("bf16", "fp32"):
        for name in ("_means", "_combined", "_answers", "_slopes", "_shared", "_gradients"):
            kernel = getattr(kernels, name)
            signature = {
                argument: "constexpr" if argument in constants else "i32" if argument in whole
                else "fp32" if argument == "eps"
                else f"*{kind}" if argument in {"x", "y", "grad", "by_x", "weight", "bias"} else "*fp32"
                for argument in kernel.arg_names
            }  # fmt: skip
            given = {(n,): constants[a] for n, a in enumerate(kernel.arg_names) if a in constants}
            source = triton.compiler.ASTSource(kernel, signature, given)
            assert triton.compile(source, target=GPUTarget("cuda", 90, 32)).asm["cubin"]


def network_answers(network, config, kind):
    """A denoiser's answer and the gradient of all its parameters, in float64."""
    source = torch.Generator().manual_seed(0)
    latents = torch.randn(2, config.in_channels, 16, 16, generator=source).to(memory_format=torch.channels_last)
    texts = torch.randn(2, 7, config.cross_attention_dim, generator=source)
    told = None
    if config.addition_embed_type == "text_time":
        summary = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
        told = {
            "text_embeds": torch.randn(2, summary, generator=source).to(kind),
            "time_ids": torch.ones(2, 6).to(kind),
        }
    network.zero_grad()
    answer = network(latents.to(kind), torch.tensor([100, 700]), texts.to(kind), added_cond_kwargs=told).sample
    (answer.double() * torch.randn(answer.shape, generator=source)).sum().backward()
    return answer.detach().double(), torch.cat([p.grad.double().flatten() for p in network.parameters()])


@pytest.fixture(scope="module")
def denoisers(tmp_path_factory):
    """pico's, and a small one of XL's form."""
    folder = tmp_path_factory.mktemp("xl")
    families.write("sdxl", folder / "model")
    return {"pico": find("pico").denoiser(), "sdxl": find(str(folder / "model")).denoiser()}


def test_a_block_answers_as_before():
    block = ResnetBlock2D(in_channels=8, out_channels=12, temb_channels=6, groups=4, non_linearity="silu")
    x, _, _, grad = drawn((2, 12, 5, 4), torch.float32)
    x = x[:, :8].clone(memory_format=torch.channels_last).requires_grad_()
    embedding = torch.linspace(-2, 2, 12).view(2, 6).requires_grad_()
    wanted = [x, embedding, *block.parameters()]
    before = torch.autograd.grad(block(x, embedding), wanted, grad)
    assert fuse_norms(block) == 2
    for one, two in zip(torch.autograd.grad(block(x, embedding), wanted, grad), before, strict=True):
        assert distance(one, two.double()) < 2e-5


@pytest.mark.skipif(INTERPRETED, reason="too large to interpret")
@pytest.mark.parametrize("kind", ["pico", "sdxl"])
def test_networks_answer_as_before(denoisers, kind):
    network = copy.deepcopy(denoisers[kind]).float().requires_grad_().to(memory_format=torch.channels_last)
    keys, names = [*network.state_dict()], [name for name, _ in network.named_modules()]
    before = network_answers(network, network.config, torch.float32)
    norms = [m for m in network.modules() if isinstance(m, nn.GroupNorm)]
    assert fuse_norms(network) == fuse_norms(network) == len(norms)
    assert all(isinstance(norm, FusedGroupNorm) for norm in norms), "the very modules, so that optimizers keep theirs"
    assert len([norm for norm in norms if norm.silu]) > len(norms) / 2
    assert [*network.state_dict()] == keys and [name for name, _ in network.named_modules()] == names
    for one, two in zip(network_answers(network, network.config, torch.float32), before, strict=True):
        assert distance(one, two) < 1e-5
    half = copy.deepcopy(network).to(torch.bfloat16)
    fused, true = network_answers(half, network.config, torch.bfloat16), before
    part_norms(half)
    for one, two, exact in zip(fused, network_answers(half, network.config, torch.bfloat16), true, strict=True):
        apart, theirs = (1 - float(F.cosine_similarity(v.flatten(), exact.flatten(), dim=0)) for v in (one, two))
        assert apart <= max(1e-3, 1.5 * theirs), "further from float32 than torch's own norms"
    part_norms(network)
    assert all(type(norm) is nn.GroupNorm for norm in norms)
    for one, two in zip(network_answers(network, network.config, torch.float32), before, strict=True):
        assert torch.equal(one, two)


@pytest.mark.skipif(INTERPRETED, reason="too large to interpret")
def test_an_autoencoder_answers_as_before():
    vae = find("pico").vae().float()
    x = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)).to(memory_format=torch.channels_last)
    with torch.no_grad():
        before = vae(x).sample
        assert fuse_norms(vae) > 10
        assert distance(vae(x).sample, before.double()) < 1e-5
