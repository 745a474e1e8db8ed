"""A frozen network's linear layers kept in 8 or 4 bits a weight, and computed with in the format of what enters."""

import functools
import importlib
import logging
from typing import Any, Literal

import torch
from torch import Tensor, nn

from bespoke.errors import BespokeError
from bespoke.models.lightly import read_lightly

Kind = Literal["int8", "nf4", "fp8"]
BLOCK = 64
"""Weights that share a scale in nf4; else a row does. Source: Dettmers et al. 2023, section 3; 2022, section 2."""
FP8 = torch.float8_e4m3fn
"""Four bits of exponent and three of mantissa, up to 448. Source: Micikevicius et al. 2022, arXiv 2209.05433."""
logging.getLogger("bitsandbytes.backends.cpu").setLevel(logging.ERROR)  # peft imports it, and it advises on kernels
read_lightly()
WHOLE = ("time_emb", "time_text_embed", "add_embedding")
"""Layers whose names have this in them stay as they are: few weights, which all others hang on."""


def quantize(network: nn.Module, kind: Kind) -> None:
    """Rounds the weights of a network's linear layers, in place; convolutions and all else stay as they are.

    Weights are rounded from float32 where they are in it. It gives the same on every device.

    Raises: BespokeError when it needs bitsandbytes, which is not installed.
    """
    if kind != "fp8":
        check()
    for name, module in list(network.named_modules()):
        for child, layer in list(module.named_children()):
            if type(layer) is nn.Linear and not any(part in f"{name}.{child}" for part in WHOLE):
                setattr(module, child, QuantizedLinear(layer, kind))


def is_quantized(network: nn.Module) -> bool:
    """Whether a network has layers in 8 or 4 bits."""
    return any(isinstance(module, QuantizedLinear) for module in network.modules())


def check() -> None:
    """Raises: BespokeError when bitsandbytes is not installed, or is older than its kernels for processors."""
    try:
        _library()
        torch.ops.bitsandbytes.dequantize_4bit  # noqa: B018 - it raises where it is not there
    except (ImportError, AttributeError):
        problem = "model.quantization in int8 or nf4 needs bitsandbytes, 0.46 or newer, and it is not installed."
        raise BespokeError(problem, "pip install 'bespoke[optim]', or set it to \"fp8\".") from None


class QuantizedLinear(nn.Linear):
    """A linear layer whose weights are frozen in 8 or 4 bits; its `weight` is made of them whenever it is asked for.

    Only rounded weights are kept between the passes: the backward pass widens them again.
    """

    def __init__(self, layer: nn.Linear, kind: Kind) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features, self.kind = layer.in_features, layer.out_features, kind
        self.bias = layer.bias
        weight = layer.weight.detach()
        if kind == "fp8":
            scales = weight.abs().amax(dim=1).float().clamp(min=torch.finfo(torch.float32).tiny) / torch.finfo(FP8).max
            rounded = (weight / scales[:, None]).to(FP8)
        elif kind == "int8":
            rounded, scales, _ = _library().functional.int8_vectorwise_quant(weight.half())
        else:
            rounded, state = _library().functional.quantize_4bit(weight.contiguous(), blocksize=BLOCK, quant_type="nf4")
            scales = state.absmax
        self.register_buffer("rounded", rounded)
        self.register_buffer("scales", scales)

    @property
    def weight(self) -> Tensor:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The weights as they are computed with, in float32: [outputs, inputs]."""
        return self.widened(torch.float32)

    def widened(self, dtype: torch.dtype) -> Tensor:
        """The weights in a format: [outputs, inputs]."""
        rounded, scales = self.get_buffer("rounded"), self.get_buffer("scales")
        if self.kind == "fp8":
            return (rounded.float() * scales[:, None]).to(dtype)
        library = _library().functional
        if self.kind == "int8":
            return library.int8_vectorwise_dequant(rounded, scales).to(dtype)
        shape = torch.Size((self.out_features, self.in_features))
        state = library.QuantState(scales, shape=shape, blocksize=BLOCK, quant_type="nf4", dtype=dtype)
        return library.dequantize_4bit(rounded, state)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        """What the layer says: [..., outputs]."""
        return _Product.apply(input, self)  # pyright: ignore[reportReturnType]

    def _apply(self, fn: Any, recurse: bool = True) -> Any:  # noqa: FBT001, FBT002 - torch's signature
        """Moves the layer; scales and rounded weights keep their formats whatever the rest of a network is made."""
        kept = {name: self.get_buffer(name) for name in ("scales", "rounded")}
        super()._apply(fn, recurse)
        for name, before in kept.items():
            if self.get_buffer(name).dtype != before.dtype:
                setattr(self, name, before.to(self.get_buffer(name).device))
        return self


class _Product(torch.autograd.Function):
    """A product with frozen weights, which keeps neither them in a wide format nor what entered."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, layer: QuantizedLinear) -> Tensor:
        kind = values.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else values.dtype
        ctx.layer, ctx.dtype = layer, values.dtype
        bias: Any = layer.bias
        own = None if bias is None else bias.to(dtype)
        return nn.functional.linear(values.to(dtype), layer.widened(dtype), own)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        return (gradient @ ctx.layer.widened(gradient.dtype)).to(ctx.dtype), None


@functools.cache
def _library() -> Any:
    return importlib.import_module("bitsandbytes")
