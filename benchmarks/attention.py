"""Compare attention in blocks with torch's own on a processor: `python -m benchmarks.attention --json FILE`.

Both passes of both ways, in alternating pairs, in seconds of this thread alone, so that what else the machine does
counts little. Told are medians, and the median of the pairs' ratios; `lean` is with the heap that training has. On a
GPU: `--ways`, the seconds of torch's own ways, by wall clock.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bespoke.hardware import lean_heap
from bespoke.models.backends import Shape, Way, measured
from bespoke.models.chunked import attend
from bespoke.workspace import write_json

SIDES = [
    (1, 8, 4096, 4096, 40), (1, 8, 4096, 77, 40), (1, 8, 1024, 1024, 80), (1, 8, 1024, 77, 80), (1, 8, 256, 256, 160),
    (1, 8, 256, 77, 160), (16, 1, 256, 256, 48), (16, 1, 256, 77, 48), (16, 2, 64, 64, 48), (16, 4, 16, 16, 48),
]  # fmt: skip
"""SD 1.5's at 512 pixels, and pico's with a batch of 16: batch, heads, queries, keys and a head's width."""


def seconds(way: Way, states: list[Tensor], grad: Tensor) -> tuple[float, float]:
    """This thread's seconds for the answer and for the gradients."""
    leaves = [state.detach().requires_grad_() for state in states]
    began = time.thread_time()
    answer = way(*leaves)
    between = time.thread_time()
    answer.backward(grad)
    return between - began, time.thread_time() - between


def compared(shape: Shape, pairs: int) -> dict[str, Any]:
    """The medians of both ways, in milliseconds, and of how many times as quick blocks are."""
    source = torch.Generator().manual_seed(0)
    sizes = [(shape.batch, n, shape.heads, shape.width) for n in (shape.rows, shape.keys, shape.keys, shape.rows)]
    *states, grad = (torch.randn(size, generator=source).to(shape.format).transpose(1, 2) for size in sizes)
    both: dict[str, Way] = {"torch": F.scaled_dot_product_attention, "blocks": attend}
    for way in both.values():
        seconds(way, states, grad)
    taken = {name: list[tuple[float, float]]() for name in both}
    for _ in range(pairs):
        for name, way in both.items():
            taken[name].append(seconds(way, states, grad))
    found: dict[str, Any] = {"shape": str(shape)}
    for name, times in taken.items():
        for place, part in enumerate(("forward", "backward")):
            found[f"{name} {part} ms"] = round(1e3 * statistics.median(one[place] for one in times), 3)
    ratios = [sum(one) / sum(two) for one, two in zip(taken["torch"], taken["blocks"], strict=True)]
    return found | {"times as quick": round(statistics.median(ratios), 2)}


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--formats", nargs="+", default=["bfloat16", "float32"])
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--lean", action="store_true", help="Give freed memory back at once, as training does.")
    parser.add_argument("--ways", action="store_true", help="Time the ways of the device that is there.")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.lean:
        lean_heap()
    shapes = [Shape(*side, getattr(torch, kind)) for kind in options.formats for side in SIDES]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rows = list[dict[str, Any]]()
    for shape in shapes:
        row = {"shape": str(shape), **measured(shape, device)} if options.ways else compared(shape, options.pairs)
        rows.append(row)
        told = "  ".join(f"{key} {value}" for key, value in row.items() if key != "shape")
        sys.stdout.write(f"{shape}: {told}\n")
        sys.stdout.flush()
    if options.json:
        facts = {"torch": torch.__version__, "threads": torch.get_num_threads(), "lean": options.lean, "rows": rows}
        write_json(options.json, {"command": " ".join(sys.argv), **facts})


if __name__ == "__main__":
    main()
