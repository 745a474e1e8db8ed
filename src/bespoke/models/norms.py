"""Adapters whose part of a layer's weights has grown too long, shortened."""

from typing import Any

import torch
from torch import Tensor, nn


@torch.no_grad()
def limit_norms(network: nn.Module, longest: float) -> None:
    """Shortens each low-rank adapter whose share of its layer's weights has a norm above `longest`, in place.

    Both matrices of a layer are shortened alike; the host does not wait for the device. Source: the max-norm
    regularisation of kohya's sd-scripts, `scale_weight_norms`.
    """
    for layer in network.modules():
        for name, down in getattr(layer, "lora_A", {}).items():
            up: Any = layer.lora_B[name]  # pyright: ignore[reportIndexIssue, reportUnknownVariableType]
            scale: float = layer.scaling[name]  # pyright: ignore[reportIndexIssue, reportUnknownVariableType, reportAssignmentType]
            factor = (longest / (scale * _norm(up.weight, down.weight)).clamp(min=1e-12)).clamp(max=1).sqrt()
            up.weight.mul_(factor)
            down.weight.mul_(factor)


def _norm(up: Tensor, down: Tensor) -> Tensor:
    """The norm of the matrix that both make, without making it: the trace of two small products."""
    left, right = up.float().flatten(1), down.float().flatten(1)
    return ((left.T @ left) * (right @ right.T)).sum().clamp(min=0).sqrt()
