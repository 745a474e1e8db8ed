"""LoRA's layers computed in one go: fewer products, fewer inner values kept, the base's format throughout.

peft adds `B (A x) · scale` beside its base layer in five kernels, in the adapter's float32, and keeps every value
between for the backward pass. Here the scale is in the matrix that is small, the sum is made by the product itself, and
only `x` and `A x` are kept.
"""

from typing import Any

import torch
import torch.nn.functional as F
from peft.tuners.lora.layer import Conv2d, Linear
from torch import Tensor, nn

from bespoke.models.adapters import NAME, tuned_layers


def fuse(network: nn.Module) -> bool:
    """Lets the LoRA of a network be computed in one go, in place, and says whether all of its adapter is.

    Layers stay peft's: names, weights and what peft can do with them are as before. What has more to it (DoRA, dropout,
    rounded or trained bases) stays as it was.
    """
    fits = True
    for _, layer in tuned_layers(network):
        kind = _kind(layer)
        fits = fits and kind is not None
        if kind is not None:
            layer.__class__ = kind
    return fits


def _kind(layer: Any) -> type | None:
    kinds: dict[type, tuple[type, type]] = {Linear: (FusedLinear, nn.Linear), Conv2d: (FusedConv, nn.Conv2d)}
    if type(layer) not in kinds:
        return None
    fused, base = kinds[type(layer)]
    plain = isinstance(layer.base_layer, base) and not layer.base_layer.weight.requires_grad
    more = layer.lora_variant or layer.lora_bias.get(NAME) or getattr(layer, "fan_in_fan_out", False)
    return fused if plain and not more and isinstance(layer.lora_dropout[NAME], nn.Identity) else None


def _alone(layer: Any, more: Any) -> bool:
    """Whether a layer's adapter takes part, by itself: what any other case needs is peft's to do."""
    return not (more or layer.disable_adapters or layer.merged) and layer.active_adapters == [NAME]


class FusedLinear(Linear):
    """peft's LoRA of a linear layer, in one go."""

    def forward(self, x: Tensor, *args: Any, **more: Any) -> Tensor:
        """What the layer answers with its adapter; peft answers where it is off, merged, or one of several."""
        if args or not _alone(self, more):
            return super().forward(x, *args, **more)
        base: Any = self.base_layer
        down, up = self.lora_A[NAME].weight, self.lora_B[NAME].weight
        if torch.is_autocast_enabled(x.device.type):
            x = x.to(torch.get_autocast_dtype(x.device.type))
        bias = None if base.bias is None else base.bias.to(x.dtype)
        return _Sum.apply(x, base.weight.to(x.dtype), bias, down, up, self.scaling[NAME])


class FusedConv(Conv2d):
    """peft's LoRA of a convolution, in the base's format; its second convolution is a product of places."""

    def forward(self, x: Tensor, *args: Any, **more: Any) -> Tensor:
        """What the layer answers with its adapter; peft answers where it is off, merged, or one of several."""
        if args or not _alone(self, more):
            return super().forward(x, *args, **more)
        down: Any = self.lora_A[NAME]
        up: Any = self.lora_B[NAME]
        answer = self.base_layer(x)
        inner = F.conv2d(x, down.weight.to(x.dtype), None, down.stride, down.padding, down.dilation, down.groups)
        return answer + F.conv2d(inner, (up.weight * self.scaling[NAME]).to(x.dtype)).to(answer.dtype)


class _Sum(torch.autograd.Function):
    """`x Wᵀ + b + (x Aᵀ)(s B)ᵀ` with its gradients for `x`, `A` and `B`. Source: Hu et al. 2021, equation 3."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, down: Tensor, up: Tensor, scale: float
    ) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            rows, a, b = x.reshape(-1, x.shape[-1]), down.to(x.dtype), (up * scale).to(x.dtype)
            inner = rows @ a.T
            answer = rows @ weight.T if bias is None else torch.addmm(bias, rows, weight.T)
            answer.addmm_(inner, b.T)
        ctx.save_for_backward(rows, weight, a, b, inner)
        ctx.scale, ctx.shape, ctx.formats = scale, x.shape, (down.dtype, up.dtype)
        return answer.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        rows, weight, a, b, inner = ctx.saved_tensors
        with torch.autocast(rows.device.type, enabled=False):
            out = gradients[0].reshape(-1, gradients[0].shape[-1])
            within = out @ b
            for_down = (within.T @ rows).to(ctx.formats[0])
            for_up = (out.T @ inner).to(ctx.formats[1]).mul_(ctx.scale)
            for_x = None
            if ctx.needs_input_grad[0]:
                for_x = (out @ weight).addmm_(within, a).view(ctx.shape)
        return for_x, None, None, for_down, for_up, None
