"""GroupNorm with SiLU in one, over tensors in channels_last memory; statistics and sums are in float32.

On a GPU Triton's kernels compute it, where there is Triton; elsewhere torch does, in the same order of operations.
torch's own GroupNorm goes through another memory layout in its backward pass, and reads the picture again for SiLU.
"""

import importlib.util
import os
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def group_norm(
    x: Float[Tensor, "n c h w"],
    weight: Float[Tensor, " c"],
    bias: Float[Tensor, " c"],
    groups: int,
    eps: float,
    *,
    silu: bool,
) -> Float[Tensor, "n c h w"]:
    """GroupNorm of a picture, with `silu` SiLU of that, in the picture's number format and memory layout.

    Source: Wu and He 2018, equation 1; Elfwing et al. 2018 (SiLU).
    """
    return _norm(x, weight, bias, groups, eps, silu)[0]


def why_not(device: torch.device) -> str:
    """Why Triton's kernels do not run on a device; nothing where they do."""
    if device.type != "cuda" and not _interpreted():
        return f"Triton's kernels need a GPU, and this is {device.type}."
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed."
    return ""


def _interpreted() -> bool:
    """Whether Triton's kernels run on the processor, step by step, as tests and debuggers have them."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def _kernels(x: Tensor) -> ModuleType | None:
    """The kernels, where they can compute that tensor."""
    if why_not(x.device) or not x.is_contiguous(memory_format=torch.channels_last):
        return None
    from bespoke.models import groupnorm_kernels

    return groupnorm_kernels


@torch.library.custom_op("bespoke::group_norm", mutates_args=())
def _norm(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    groups: int,
    eps: float,
    silu: bool,  # noqa: FBT001 - as operators have it
) -> tuple[Tensor, Tensor, Tensor]:
    """The answer, and the groups' means and inverse deviations [n groups] in float32."""
    kernels = _kernels(x)
    if kernels is not None:
        return kernels.forward(x, weight, bias, groups, eps, silu=silu)
    # In float32: torch's own for bfloat16 is several times slower in channels_last on a processor.
    found, mean, rstd = torch.native_group_norm(x.float(), weight.float(), bias.float(), *_sizes(x), groups, eps)
    return _like((F.silu(found) if silu else found).to(x.dtype), x), mean, rstd


@_norm.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor, groups: int, *_: Any) -> tuple[Tensor, Tensor, Tensor]:  # noqa: ARG001
    mean, rstd = (x.new_empty(x.shape[0], groups, dtype=torch.float32) for _ in range(2))
    return torch.empty_like(x), mean, rstd


@torch.library.custom_op("bespoke::group_norm_backward", mutates_args=())
def _gradients(
    grad: Tensor,
    x: Tensor,
    mean: Tensor,
    rstd: Tensor,
    weight: Tensor,
    bias: Tensor,
    silu: bool,  # noqa: FBT001
    affine: bool,  # noqa: FBT001
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of the picture, the weight and the bias; the last two are empty unless `affine`."""
    kernels = _kernels(x)
    grad = _like(grad, x)
    if kernels is not None:
        return kernels.backward(grad, x, mean, rstd, weight, bias, silu=silu, affine=affine)
    grad32, x32, groups = grad.float(), x.float(), mean.shape[1]
    if silu:
        wide = x.shape[1] // groups
        scale = weight.float() * rstd.repeat_interleave(wide, 1)
        shift = bias.float() - mean.repeat_interleave(wide, 1) * scale
        before = torch.addcmul(shift[:, :, None, None], x32, scale[:, :, None, None])
        grad32 = torch.ops.aten.silu_backward(grad32, before)
    wanted = [True, affine, affine]
    found = torch.ops.aten.native_group_norm_backward(
        grad32, x32, mean, rstd, weight.float(), *_sizes(x), groups, wanted
    )
    by_weight, by_bias = (found[1], found[2]) if affine else (weight.new_empty(0), bias.new_empty(0))
    return _like(found[0].to(x.dtype), x), by_weight.to(weight.dtype), by_bias.to(bias.dtype)


@_gradients.register_fake
def _(grad: Tensor, x: Tensor, mean: Tensor, rstd: Tensor, weight: Tensor, bias: Tensor, silu: bool, affine: bool) -> tuple[Tensor, Tensor, Tensor]:  # noqa: ARG001, FBT001, E501  # fmt: skip
    by_weight, by_bias = (each.new_empty(each.shape if affine else 0) for each in (weight, bias))
    return torch.empty_like(x), by_weight, by_bias


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, weight, bias, _, _, silu = inputs
    ctx.save_for_backward(x, *output[1:], weight, bias)
    ctx.mark_non_differentiable(*output[1:])
    ctx.silu = silu


def _back(ctx: Any, grad: Tensor, *_: Tensor | None) -> tuple[Tensor | None, ...]:
    affine = ctx.needs_input_grad[1] or ctx.needs_input_grad[2]
    by_x, by_weight, by_bias = _gradients(grad, *ctx.saved_tensors, ctx.silu, affine)
    return (by_x, *((by_weight, by_bias) if affine else (None, None)), None, None, None)


_norm.register_autograd(_back, setup_context=_keep)


def _sizes(x: Tensor) -> tuple[int, int, int]:
    """Pictures, channels and positions, as torch's operators ask for them."""
    return x.shape[0], x.shape[1], x.shape[2] * x.shape[3]


def _like(tensor: Tensor, x: Tensor) -> Tensor:
    """The tensor in the memory layout of another of its shape; the same one where it is so already."""
    return tensor if tensor.stride() == x.stride() else torch.empty_like(x, dtype=tensor.dtype).copy_(tensor)
