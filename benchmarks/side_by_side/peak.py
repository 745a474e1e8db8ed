"""The machine's fastest rate in matrix products, as one JSON object: `python -m benchmarks.side_by_side.peak`.

Of random numbers: a GPU multiplies zeros faster, for they take less power. On a processor the seconds are its own, of
all threads together, so that other programs of the machine do not count.
"""

import json
import math
import sys
import time

import torch

SECONDS = 1.0
"""How long each format is tried."""


def rates() -> dict[str, float]:
    """Operations a second of each format: the best of many products."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    side = 8192 if device == "cuda" else 2048
    return {name: _rate(device, side, dtype) for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16))}


def _rate(device: str, side: int, dtype: torch.dtype) -> float:
    one, other = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    clock = time.perf_counter if device == "cuda" else time.process_time
    best, began = math.inf, clock()
    while clock() - began < SECONDS or best == math.inf:
        started = clock()
        torch.mm(one, other)
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, clock() - started)
    return 2 * side**3 / best


if __name__ == "__main__":
    sys.stdout.write(json.dumps(rates()) + "\n")
