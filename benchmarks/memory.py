"""Compare the memory that a step is computed to take with what it takes: `python benchmarks/memory.py`.

Measured is what the kernel says of this process: its resident memory at its highest in a real step, less what it was
before the step; on a GPU, what the allocator says of its tensors. Computed is the same difference in fake tensors.
`--plain` leaves the C library's heap as it is. Linux.
"""

import argparse
import ctypes
import gc
import json
import os
import sys
from pathlib import Path
from typing import Any

import torch

from bespoke.diffusion import Schedule
from bespoke.hardware import lean_heap
from bespoke.models import Checkpoint, find, tuned, weightless
from bespoke.pipeline.processes import accelerator
from bespoke.recipe import Recipe, parse
from bespoke.training.loop import Trainer
from bespoke.training.memory import BLOCK, Memory, memory
from bespoke.training.rehearsal import Shapes, rehearsal, step

MB = 2**20
HEAD = "method    pixels batch  checkpointing  computed  measured   ratio    libraries"
CASES = [f"{m}:{s}:{b}:{c}" for m in ("lora", "full") for s, b in ((256, 1), (128, 4), (256, 4)) for c in ("no", "yes")]


def recipe(side: int, method: str, batch: int, *, checkpointing: bool, **train: Any) -> Recipe:  # noqa: ANN401 - a recipe's values
    """A recipe with what memory depends on."""
    settings = {"train_batch_size": batch, "gradient_checkpointing": checkpointing, "mixed_precision": "no"}
    settings |= {"max_train_steps": 9, "learning_rate": 1e-6, "num_class_images": 0, **train}
    bits = settings["mixed_precision"] if method == "lora" and settings["mixed_precision"] != "no" else "fp32"
    content = {"model": {"method": method, "weight_dtype": bits}, "data": {"resolution": side}, "train": settings}
    return parse(content, "the benchmark")


def shapes(checkpoint: Checkpoint, wanted: Recipe) -> Shapes:
    """What a square picture and its caption are to the network."""
    side, (length, width) = wanted.data.resolution or 0, checkpoint.text_shape
    text = (length, 1) if wanted.train.train_text_encoder else (length, width)
    return Shapes(checkpoint.moments_shape((side, side)), text)


def computed(checkpoint: Checkpoint, wanted: Recipe) -> Memory:
    """What a step is said to take."""
    schedule = Schedule.from_config(checkpoint.scheduler_config)
    workers = accelerator(wanted.train)
    return memory(weightless(checkpoint, wanted), shapes(checkpoint, wanted), schedule, wanted, workers)


def measured(checkpoint: Checkpoint, wanted: Recipe) -> tuple[int, int, int]:
    """Bytes: what a real step adds at its highest, what the libraries take, and tensors that live between steps."""
    schedule = Schedule.from_config(checkpoint.scheduler_config)
    workers = accelerator(wanted.train)
    trainer = rehearsal(tuned(checkpoint, wanted), shapes(checkpoint, wanted), schedule, wanted, workers)
    step(trainer)  # makes the optimizer's moments, and whatever the libraries keep
    gc.collect()
    tensors = resting(trainer, BLOCK.get(workers.device.type, 1))
    rise, beside = on_gpu(trainer) if workers.device.type == "cuda" else on_processor(trainer)
    return rise, beside - tensors, tensors


def resting(trainer: Trainer, block: int) -> int:
    """Bytes of all tensors that live between two steps, each rounded up to blocks."""
    moments = [value for state in trainer.optimizer.optimizer.state.values() for value in state.values()]
    kept = [*trainer.bare.parameters(), *trainer.bare.buffers(), *trainer.average.values.values(), *moments]
    return sum(-(-t.numel() * t.element_size() // block) * block for t in kept)


def on_processor(trainer: Trainer) -> tuple[int, int]:
    """Bytes that a step adds to what is resident, and what is resident before it."""
    ctypes.CDLL(None).malloc_trim(0)
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the highest mark begins anew
    step(trainer)
    return _status("VmHWM") - before, before


def on_gpu(trainer: Trainer) -> tuple[int, int]:
    """Bytes that a step's tensors add, and all that this process takes of the GPU less that."""
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step(trainer)
    torch.cuda.synchronize()
    rise = torch.cuda.max_memory_allocated() - before
    return rise, _taken() - rise


def _taken() -> int:
    """Bytes of the GPU that this process takes, by its driver; in a container, which hides that, those of all."""
    for line in torch.cuda.list_gpu_processes().splitlines():
        if line.startswith(f"process {os.getpid():>10d}"):
            return int(float(line.split("uses")[1].split()[0]) * MB)
    free, total = torch.cuda.mem_get_info()
    return total - free


def _status(key: str) -> int:
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) * 1024


def compared(checkpoint: Checkpoint, wanted: Recipe) -> dict[str, int]:
    """Both figures of one recipe, in bytes."""
    said, (rise, libraries, tensors) = computed(checkpoint, wanted), measured(checkpoint, wanted)
    return {
        "computed": said.peak - said.resting, "measured": rise, "resting": said.resting, "tensors": tensors,
        "libraries": libraries,
    }  # fmt: skip


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", default="pico")
    parser.add_argument("--cases", nargs="+", default=CASES, metavar="METHOD:PIXELS:BATCH:CHECKPOINTING")
    parser.add_argument("--set", type=json.loads, default={}, help="More keys of [train], as JSON.")
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if not options.plain:
        lean_heap()
    checkpoint, found = find(options.base), list[dict[str, Any]]()
    sys.stderr.write(f"{options.base}, torch {torch.__version__}; MB\n{HEAD}\n")
    for case in options.cases:
        method, side, batch, saves = case.split(":")
        wanted = recipe(int(side), method, int(batch), checkpointing=saves == "yes", **options.set)
        got = compared(checkpoint, wanted)
        found.append({"case": case, **got})
        rest = f"{got['libraries'] / MB:>12.0f}"
        figures = f"{got['computed'] / MB:>10.1f}{got['measured'] / MB:>10.1f}{got['computed'] / got['measured']:>8.2f}"
        sys.stderr.write(f"{method:<8}{side:>8}{batch:>6}{saves:>15}{figures}{rest}\n")
    if options.json:
        sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
