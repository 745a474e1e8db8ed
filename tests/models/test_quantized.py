"""Frozen weights in 8 and 4 bits: what bitsandbytes makes of them, and what an adapter on them must still do."""

import copy
import importlib
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from bespoke.errors import BespokeError
from bespoke.models import adapters, find, tuned, weightless
from bespoke.models.lightly import _compiled_when_called
from bespoke.models.quantized import WHOLE, QuantizedLinear, is_quantized, quantize
from bespoke.recipe import parse

library = importlib.import_module("bitsandbytes")
KINDS = ("int8", "nf4", "fp8")
each = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="module")
def checkpoint():
    return find("pico")


def recipe(**sections):
    """A recipe in which nothing that a network hangs on is left open."""
    content = {"model": {"rank": 4}, "train": {"mixed_precision": "no"}}
    return parse({name: {**content.get(name, {}), **sections.get(name, {})} for name in content}, "the test's recipe")


@pytest.fixture
def layer():
    torch.manual_seed(0)
    return nn.Linear(128, 96)


def theirs(kind, layer):
    """The same layer as bitsandbytes has it, quantised."""
    if kind == "nf4":
        made = library.nn.LinearNF4(128, 96, compute_dtype=torch.float32, compress_statistics=False)
    else:
        made = library.nn.Linear8bitLt(128, 96, has_fp16_weights=False)
    made.load_state_dict(layer.state_dict())
    return made.to("cpu")


@pytest.mark.parametrize("kind", ["int8", "nf4"])
def test_a_layer_says_what_that_of_bitsandbytes_says(kind, layer):
    """In training, where that of 8 bits widens its weights on a processor as ours does."""
    own, other = QuantizedLinear(layer, kind), theirs(kind, layer).train()
    values = torch.randn(3, 7, 128, requires_grad=True)
    said, wanted = own(values), other(values)
    assert torch.allclose(said, wanted, atol=1e-5)
    assert 0 < (said - layer(values)).abs().mean() < 0.2 * layer(values).abs().mean()
    (ours,) = torch.autograd.grad(said.square().sum(), values)
    (those,) = torch.autograd.grad(wanted.square().sum(), values)
    assert torch.allclose(ours, those, atol=1e-3)


def test_fp8_is_the_nearest_of_its_numbers_by_an_independent_table(layer):
    """All 256 bytes as ml_dtypes has them, scaled so that the largest weight of a row is the largest number."""
    dtypes = importlib.import_module("ml_dtypes")
    table = np.arange(256, dtype=np.uint8).view(dtypes.float8_e4m3fn).astype(np.float64)
    table = np.unique(table[np.isfinite(table)])
    weight = layer.weight.detach().double().numpy()
    scales = np.abs(weight).max(axis=1, keepdims=True) / 448
    wanted = np.abs(weight[..., None] / scales[..., None] - table).min(axis=-1)
    ours = np.abs(QuantizedLinear(layer, "fp8").weight.double().numpy() - weight) / scales
    np.testing.assert_allclose(ours, wanted, atol=2e-4)
    assert ours.max() > 1, "it is rounded"


def test_fp8_needs_no_package_and_a_row_of_nothing_stays_so(layer, monkeypatch):
    monkeypatch.setattr("bespoke.models.quantized._library", lambda: pytest.fail("it asked for bitsandbytes"))
    with torch.no_grad():
        layer.weight[3] = 0
    network = nn.ModuleDict({"one": layer})
    quantize(network, "fp8")
    weight = network.get_submodule("one").weight
    assert isinstance(weight, torch.Tensor) and (weight[3] == 0).all() and weight.isfinite().all()


@each
def test_gradients_are_those_of_the_widened_weights(kind, layer):
    own = QuantizedLinear(layer, kind)
    values = torch.randn(5, 128, dtype=torch.float32, requires_grad=True)
    plain = nn.functional.linear(values, own.weight, layer.bias)
    assert torch.equal(own(values), plain)
    (ours,), (wanted,) = (torch.autograd.grad(said.square().sum(), values) for said in (own(values), plain))
    assert torch.allclose(ours, wanted, rtol=1e-5, atol=1e-6)


@each
def test_weights_take_the_bytes_that_were_promised(kind, layer):
    own = QuantizedLinear(layer, kind)
    count = layer.weight.numel()
    size = sum(buffer.numel() * buffer.element_size() for buffer in own.buffers())
    assert size == (count // 2 + 4 * count // 64 if kind == "nf4" else count + 4 * 96)
    assert sum(p.numel() for p in own.parameters()) == 96


@each
def test_scales_stay_whole_whatever_a_network_is_made(kind, layer):
    own = QuantizedLinear(layer, kind)
    moved = copy.deepcopy(own).to(torch.bfloat16)
    assert torch.equal(moved.weight, own.weight) and moved.bias.dtype == torch.bfloat16
    values = torch.randn(4, 128)
    with torch.autocast("cpu", torch.bfloat16):
        said = own(values)
    assert said.dtype == torch.bfloat16, "as a plain linear layer says in 16 bits"


@each
def test_only_linear_layers_are_rounded_and_not_those_that_read_the_time(kind, checkpoint):
    network = checkpoint.denoiser()
    plain = {name for name, part in network.named_modules() if type(part) is nn.Linear}
    quantize(network, kind)
    rounded = {name for name, part in network.named_modules() if isinstance(part, QuantizedLinear)}
    assert rounded == {name for name in plain if not any(part in name for part in WHOLE)}
    assert rounded and plain - rounded
    assert any(type(part) is nn.Conv2d for part in network.modules())


@pytest.fixture(scope="module")
def inputs(checkpoint):
    torch.manual_seed(1)
    width = checkpoint.text_shape[1]
    return torch.randn(2, 4, 8, 8), torch.tensor([10, 700]), torch.randn(2, 77, width)


@each
@pytest.mark.parametrize("method", ["lora", "dora"])
def test_a_fresh_adapter_is_the_rounded_base_and_comes_off_again(kind, method, checkpoint, inputs):
    rounded = checkpoint.denoiser()
    quantize(rounded, kind)
    network = tuned(checkpoint, recipe(model={"method": method, "quantization": kind})).eval()
    with torch.no_grad():
        base, plain = rounded(*inputs).sample, checkpoint.denoiser()(*inputs).sample
        assert torch.allclose(network(*inputs), base, atol=1e-5)
        assert not torch.allclose(base, plain, atol=1e-4), "it is not the base itself"
        for parameter in network.trainable().values():
            parameter.add_(0.05)
        assert not torch.allclose(network(*inputs), base, atol=1e-3)
        with network.untouched():
            assert torch.equal(network(*inputs), base)


@each
def test_what_is_saved_is_an_ordinary_adapter(kind, checkpoint, inputs, tmp_path):
    network = tuned(checkpoint, recipe(model={"quantization": kind}))
    with torch.no_grad():
        for number, parameter in enumerate(network.trainable().values()):
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number)) * 0.05)
    network.save(tmp_path)
    plain = tuned(checkpoint, recipe())
    plain.load(tmp_path)
    assert all(torch.equal(p, plain.trainable()[name]) for name, p in network.trainable().items())
    pipeline = checkpoint.pipeline(tmp_path / adapters.FILE, safety_checker=False)
    with torch.no_grad():
        assert torch.allclose(pipeline.unet(*inputs).sample, plain.eval()(*inputs), atol=1e-4)
    with pytest.raises(BespokeError, match="cannot be merged"):
        adapters.merge(network.unet)
    adapters.merge(plain.unet)


@each
def test_without_weights_it_has_the_same_shapes(kind, checkpoint):
    wanted = recipe(model={"quantization": kind, "weight_dtype": "bf16"}, train={"train_text_encoder": True})
    made, real = weightless(checkpoint, wanted), tuned(checkpoint, wanted)
    assert is_quantized(real.unet) and is_quantized(real.text_encoder)
    for said, there in (
        (made.named_parameters(), real.named_parameters()),
        (made.named_buffers(), real.named_buffers()),
    ):
        assert {n: (t.shape, t.dtype) for n, t in said} == {n: (t.shape, t.dtype) for n, t in there}
    assert all(tensor.is_meta for tensor in (*made.parameters(), *made.buffers()))


@pytest.mark.parametrize(
    ("model", "problem"),
    [
        ({"method": "full"}, "Only the base of an adapter"),
        ({"method": "loha"}, "means nothing to"),
        ({"init": "pissa"}, "rounded ones are not taken from"),
    ],
)
def test_what_does_not_go_together_is_refused(model, problem, checkpoint):
    with pytest.raises(BespokeError, match=problem):
        tuned(checkpoint, recipe(model={"quantization": "nf4", **model}))


READ = """
import sys
import bespoke.models
import bitsandbytes, diffusers.models, peft, torch
compiler = torch.compile
print("torch._inductor.compile_fx" in sys.modules, compiler.__module__)
print(hasattr(torch.ops.bitsandbytes, "dequantize_4bit"), bitsandbytes.__spec__.origin == bitsandbytes.__file__)
"""


def test_reading_it_reads_no_compiler_and_leaves_torchs_own_in_its_place():
    done = subprocess.run([sys.executable, "-c", READ], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["False", "torch", "True", "True"]


def test_what_is_to_be_compiled_is_compiled_once_when_it_is_first_called():
    asked = []

    def compiler(function, **how):
        asked.append(how)
        return lambda number: function(number) + 0.5

    plain = _compiled_when_called(compiler, lambda number: number + 1)

    @_compiled_when_called(compiler, dynamic=False)
    def decorated(number):
        """What is said of it."""
        return number + 2

    assert asked == [] and decorated.__doc__ == "What is said of it."
    assert (plain(1), plain(2), decorated(1)) == (2.5, 3.5, 3.5)
    assert asked == [{}, {"dynamic": False}]
