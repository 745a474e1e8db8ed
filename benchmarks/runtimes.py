"""Draw with torch, ONNX Runtime and OpenVINO in turn, `python -m benchmarks.runtimes`: pictures a second, and ratios.

Each round draws the same pictures with every runtime, so that what else the machine does weighs on all alike; medians
of the rounds. All compute in float32, on the processor, with `--threads`. `--model` names another model than pico,
such as a folder that `python -m pico.families sd15-shape FOLDER` wrote.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from bespoke.models.runtimes import RUNTIMES
from bespoke.pipeline.export import export_model
from bespoke.pipeline.naming import named
from bespoke.recipe.tree import Sample
from bespoke.sampling import Request, draw


def seconds(pipeline: Any, batch: int, wish: Sample) -> float:  # noqa: ANN401 - diffusers' pipelines have no common type
    """How long one batch of pictures took."""
    began = time.perf_counter()
    list(draw(pipeline, [Request("a red car on a blue ground", seed) for seed in range(batch)], wish))
    return time.perf_counter() - began


def compare(pipelines: dict[str, Any], batch: int, wish: Sample, rounds: int) -> str:
    """A line for each runtime: pictures a second, and how many times as many as torch."""
    for pipeline in pipelines.values():
        seconds(pipeline, batch, wish)  # memory is set aside, and paths are chosen
    found = [{name: seconds(one, batch, wish) for name, one in pipelines.items()} for _ in range(rounds)]
    lines: list[str] = []
    for name in pipelines:
        speed = batch / statistics.median(each[name] for each in found)
        ratio = statistics.median(each["torch"] / each[name] for each in found)
        lines.append(f"batch {batch}: {name:9} {speed:7.3f} pictures/s, {ratio:.2f} times torch\n")
    return "".join(lines)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="pico")
    parser.add_argument("--side", type=int, help="Pixels; by default the model's.")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--batches", type=int, nargs="*", default=[1, 8])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        pipelines: dict[str, Any] = {"torch": named(options.model).pipeline(safety_checker=False)}
        for form in RUNTIMES:
            done = export_model(options.model, Path(folder) / form, form)
            pipelines[form] = named(str(done.path)).pipeline(safety_checker=False)
        for batch in options.batches:
            size = {"width": options.side, "height": options.side} if options.side else {}
            wish = Sample(num_inference_steps=options.steps, guidance_scale=3.0, batch_size=batch, **size)
            sys.stdout.write(compare(pipelines, batch, wish, options.rounds))
            sys.stdout.flush()


if __name__ == "__main__":
    main()
