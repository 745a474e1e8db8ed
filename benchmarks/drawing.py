"""Pictures per second against plain diffusers, `python -m benchmarks.drawing [FOLDER] --side 256 --batches 1 8`.

The plain arm is `StableDiffusionPipeline` as its documentation has it, with a LoRA loaded by `load_lora_weights`; ours
are the same networks by `bespoke`, in each way that is faster. All arms draw in each round, in turn. FOLDER is
any model; without it, pico. `python -m pico.families sd15-shape FOLDER` writes one of Stable Diffusion 1.5's shapes.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from peft import LoraConfig
from proofs import results

from bespoke.hardware import machine
from bespoke.models.wearing import worked_in
from bespoke.pipeline.naming import named
from bespoke.recipe.tree import Sample
from bespoke.sampling import Request, draw

PROMPT = "a red car on a blue background"
LAYERS = ["to_q", "to_k", "to_v", "to_out.0"]
Arm = Callable[[int], Any]


def pipeline_of(name: str, dtype: Literal["fp32", "bf16"], rank: int) -> Any:  # noqa: ANN401 - diffusers' pipelines have no common type
    """A pipeline with a random LoRA on the UNet's attention."""
    made = named(name).pipeline(safety_checker=False, settings=Sample(dtype=dtype))
    made.unet.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=LAYERS, init_lora_weights="gaussian"))
    made.unet.requires_grad_(requires_grad=False)
    return made


def arms(name: str, side: int, steps: int, rank: int) -> dict[str, Arm]:
    """What is compared: each draws so many pictures at once."""
    exact = pipeline_of(name, "fp32", rank)
    seeds = [torch.Generator("cpu").manual_seed(n) for n in range(64)]
    size = {"width": side, "height": side}

    def plain(count: int) -> Any:  # noqa: ANN401
        return exact([PROMPT] * count, num_inference_steps=steps, guidance_scale=5.0, generator=seeds[:count], **size)

    def ours(pipeline: Any, **change: Any) -> Arm:  # noqa: ANN401
        wish = Sample(num_inference_steps=steps, guidance_scale=5.0, batch_size=64, **size, **change)

        def drawing(count: int) -> Any:  # noqa: ANN401
            with worked_in(pipeline):
                return list(draw(pipeline, [Request(PROMPT, n) for n in range(count)], wish))

        return drawing

    found = {
        "plain diffusers": plain,
        "bespoke": ours(exact),
        "bespoke, guidance to 0.6": ours(exact, guidance_end=0.6),
        "bespoke, deep cache 2": ours(exact, deep_cache=2),
        "bespoke, deep cache 3": ours(exact, deep_cache=3),
        "bespoke, deep cache 3, guidance to 0.6": ours(exact, deep_cache=3, guidance_end=0.6),
    }
    if machine().bf16:
        found["bespoke, bf16"] = ours(pipeline_of(name, "bf16", rank))
    return found


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default="pico")
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--settle", type=float, default=30, help="Draw for so many seconds before anything is timed.")
    parser.add_argument("--only", nargs="*", help="Compare these arms; plain diffusers must be one.")
    parser.add_argument("--processor", action="store_true", help="Count the processor's time, on a busy machine.")
    options = parser.parse_args()
    compared, figures = arms(options.model, options.side, options.steps, options.rank), dict[str, Any]()
    compared = {name: arm for name, arm in compared.items() if not options.only or name in options.only}
    clock = time.process_time if options.processor else time.perf_counter
    for count in options.batches:
        _settled(compared["plain diffusers"], count, options.settle)
        figures[f"batch {count}"] = _compared(compared, count, options.rounds, clock)
    part = "pico" if options.model == "pico" else Path(options.model).name
    told = {"side": options.side, "steps": options.steps, "clock": clock.__name__, **figures}
    results.write("drawing", told, part, "benchmarks")


def _settled(arm: Arm, count: int, seconds: float) -> None:
    """Draws for a while: a processor that has rested is faster at first, and would flatter whoever begins."""
    began = time.perf_counter()
    while time.perf_counter() - began < seconds:
        arm(count)


def _compared(compared: dict[str, Arm], count: int, rounds: int, clock: Callable[[], float]) -> dict[str, Any]:
    """Each arm's pictures per second, and how often the plain arm's: medians over the rounds."""
    taken: dict[str, list[float]] = {name: [] for name in compared}
    names = list(compared)
    for number in range(rounds + 1):
        # Another arm begins each round, so that none always follows the same one.
        for name in names[number % len(names) :] + names[: number % len(names)]:
            arm = compared[name]
            began = clock()
            arm(count)
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if number:  # the first round warms up
                taken[name].append(clock() - began)
    plain = taken["plain diffusers"]
    found: dict[str, Any] = {}
    for name, seconds in taken.items():
        ratios = [one / other for one, other in zip(plain, seconds, strict=True)]
        found[name] = {
            "pictures per second": float(f"{count / statistics.median(seconds):.3g}"),
            "times plain": [round(value, 2) for value in (statistics.median(ratios), min(ratios), max(ratios))],
        }
        sys.stdout.write(f"batch {count}, {name}: {found[name]}\n")
        sys.stdout.flush()
    return found


if __name__ == "__main__":
    main()
