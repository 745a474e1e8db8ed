"""Queries, keys and values with their LoRA in one product against three, `python -m benchmarks.stacked`.

One layer after another, forward and backward, as a training step asks it: the weights frozen, gradients for what comes
in and for LoRA. Both ways take turns in one process, and the processor's own time counts.
"""

import argparse
import json
import sys
import time
from typing import Any

import torch
from torch import Tensor

SHAPES = {
    "pico, 16 pictures": (16 * 64, 160),
    "SD 1.5, 512 pixels, outermost": (4096, 320),
    "SD 1.5, 512 pixels, middle": (1024, 640),
    "SD 1.5, 512 pixels, innermost": (256, 1280),
}
"""Rows, and how wide they are."""
RANK = 16


class Sum(torch.autograd.Function):
    """`x Wᵀ + (x Aᵀ) Bᵀ`, as `bespoke.models.fused` computes it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, down: Tensor, up: Tensor) -> Tensor:  # noqa: ANN401 - autograd's
        """The answer."""
        inner = x @ down.T
        answer = x @ weight.T
        answer.addmm_(inner, up.T)
        ctx.save_for_backward(x, weight, down, up, inner)
        return answer

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:  # noqa: ANN401 - autograd's # pyright: ignore[reportIncompatibleMethodOverride]
        """The gradients of what takes part."""
        (out,) = gradients
        x, weight, down, up, inner = ctx.saved_tensors
        within = out @ up
        return (out @ weight).addmm_(within, down), None, within.T @ x, out.T @ inner  # pyright: ignore[reportReturnType]


class Stacked(torch.autograd.Function):
    """The same for three layers at once: their weights, and what goes down, below one another; what goes up apart."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, down: Tensor, up: Tensor) -> Tensor:  # noqa: ANN401 - autograd's
        """The answer."""
        inner = x @ down.T
        answer = x @ weight.T
        for part, small, large in zip(answer.chunk(3, 1), inner.chunk(3, 1), up, strict=True):
            part.addmm_(small, large.T)
        ctx.save_for_backward(x, weight, down, up, inner)
        return answer

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:  # noqa: ANN401 - autograd's # pyright: ignore[reportIncompatibleMethodOverride]
        """The gradients of what takes part."""
        (out,) = gradients
        x, weight, down, up, inner = ctx.saved_tensors
        outs = out.chunk(3, 1)
        within = torch.cat([part @ large for part, large in zip(outs, up, strict=True)], 1)
        for_up = torch.stack([part.T @ small for part, small in zip(outs, inner.chunk(3, 1), strict=True)])
        return (out @ weight).addmm_(within, down), None, within.T @ x, for_up  # pyright: ignore[reportReturnType]


def seconds(rows: int, width: int, dtype: torch.dtype, times: int) -> tuple[float, float]:
    """Seconds of the processor for three products and for one, the least of some turns."""
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(dtype)

    x, weight = drawn(rows, width).requires_grad_(), drawn(3 * width, width)
    down, up = drawn(3 * RANK, width).requires_grad_(), drawn(3, width, RANK).requires_grad_()

    downs, ups = ([part.detach().requires_grad_() for part in whole] for whole in (down.chunk(3), up))

    def apart() -> None:
        parts = zip(weight.chunk(3), downs, ups, strict=True)
        torch.autograd.backward([Sum.apply(x, *part) for part in parts], gradients)

    def stacked() -> None:
        # Attention's gradients come apart, and are put together here as autograd would for views.
        torch.autograd.backward(list(Stacked.apply(x, weight, down, up).chunk(3, 1)), gradients)

    gradients = [drawn(rows, width) for _ in range(3)]
    best = [float("inf"), float("inf")]
    for _ in range(times):
        for way, function in enumerate((apart, stacked)):
            began = time.process_time()
            function()
            best[way] = min(best[way], time.process_time() - began)
    return best[0], best[1]


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="bfloat16")
    parser.add_argument("--times", type=int, default=20)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    found = {name: seconds(*shape, getattr(torch, asked.dtype), asked.times) for name, shape in SHAPES.items()}
    figures = {
        name: {"three ms": round(1000 * a, 2), "one ms": round(1000 * b, 2), "times": round(a / b, 3)}
        for name, (a, b) in found.items()
    }
    sys.stdout.write(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
