"""Frozen convolutions whose weights lie as the processor's library wants them, so that it does not sort them each time.

oneDNN brings weights into blocks before each convolution, forwards and backwards. With few places in a picture and many
channels that takes as long as the convolution itself. Frozen weights are sorted once here, for both ways. In bfloat16
answers and gradients are the same to the bit at the shapes of Stable Diffusion, but for rounding at odd ones; in
float32 oneDNN takes another way then, so that stays as it is.
"""

import functools
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.grad import conv2d_input

from bespoke.hardware import trim_heap

FEW = 256
"""Most places, over all pictures of a batch, with which sorting weights counts: from 1,024 on it is a twentieth."""


def pack(network: nn.Module) -> int:
    """How many convolutions of a network will have their frozen weights sorted once: when they are first asked.

    Names and weights stay as they are. None where torch was built without oneDNN.
    """
    if not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_reorder_convolution_weight")):
        return 0
    found = [part for part in network.modules() if type(part) is nn.Conv2d and _fits(part)]
    for part in found:
        part.__class__ = PackedConv
    return len(found)


def sorted_bytes(network: nn.Module) -> int:
    """The bytes that sorted weights would take beside the weights, after a step in tensors without contents."""
    convolutions = (part for part in network.modules() if isinstance(part, PackedConv))
    return sum(conv.sorts * conv.weight.nbytes for conv in convolutions)


@functools.cache
def _has_instructions() -> bool:
    """Whether oneDNN computes in bfloat16 on this processor."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())  # noqa: SLF001 - there is no other way to ask


def _fits(conv: nn.Conv2d) -> bool:
    frozen = not any(parameter.requires_grad for parameter in conv.parameters())
    square = conv.groups == 1 and conv.padding_mode == "zeros" and not isinstance(conv.padding, str)
    return frozen and square and conv.dilation == (1, 1) and conv.weight[0, 0].numel() > 1


class PackedConv(nn.Conv2d):
    """A frozen convolution that keeps its weights sorted for pictures of few places, beside the weights themselves."""

    sorts = 0
    """How many orders it would keep, as far as tensors without contents have shown."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        """The convolution's answer, sorted or not."""
        places = input.shape[0] * input.shape[2] * input.shape[3]
        fits = input.device.type == "cpu" and input.dtype == self.weight.dtype == torch.bfloat16 and places <= FEW
        fits = fits and _has_instructions() and not torch.compiler.is_compiling()
        if fits and not isinstance(input, FakeTensor):
            return _Convolved.apply(input, self)
        if fits:
            self.sorts = 1 + (input.requires_grad and self.stride == (1, 1))
        return super().forward(input)


class _Convolved(torch.autograd.Function):
    """A convolution with sorted weights, and the gradient of what it reads: a convolution with the turned weights."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, conv: PackedConv) -> Tensor:
        ctx.conv, ctx.shape = conv, x.shape
        return _run(x, _sorted(conv, "forwards", x), conv.bias, conv.stride, conv.padding)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (out,), conv = gradients, ctx.conv
        if conv.stride != (1, 1):
            return conv2d_input(ctx.shape, conv.weight, out, conv.stride, conv.padding), None
        return _run(out, _sorted(conv, "backwards", out), None, (1, 1), _reach(conv)), None


def _sorted(conv: PackedConv, way: str, x: Tensor) -> Tensor:
    """The weights sorted for one way, made when they are first needed, and anew when they were changed."""
    kept: dict[str, tuple[int, Tensor]] = conv.__dict__.setdefault("kept", {})
    version = conv.weight._version  # noqa: SLF001 - how often a tensor was written to
    if way not in kept or kept[way][0] != version:
        weight, pad, stride = conv.weight.detach(), conv.padding, conv.stride
        if way == "backwards":
            weight = weight.transpose(0, 1).flip(2, 3)
            pad, stride = _reach(conv), (1, 1)
        order: Any = torch.ops.mkldnn._reorder_convolution_weight  # noqa: SLF001 - as torch's own compiler does
        kept[way] = version, order(weight.contiguous(), list(pad), list(stride), [1, 1], 1, list(x.shape))
        del weight
        # Among what comes and goes in a step, weights that stay tear the heap: at SD 1.5's shape 1.3 GB of holes.
        trim_heap()
    return kept[way][1]


def _reach(conv: PackedConv) -> tuple[int, ...]:
    """The padding of the convolution that goes back."""
    padding: Any = conv.padding
    return tuple(size - 1 - pad for size, pad in zip(conv.kernel_size, padding, strict=True))


def _run(x: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, pad: Any) -> Tensor:
    run: Any = torch.ops.mkldnn._convolution_pointwise  # noqa: SLF001 - as torch's own compiler does
    return run(x, weight, bias, list(pad), list(stride), [1, 1], 1, "none", [], "")
