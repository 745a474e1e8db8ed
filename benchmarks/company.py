"""How far pictures drawn in company lie from those drawn alone: `python -m benchmarks.company pico --json FILE`.

By the service's engine, from prompts of one window of the text encoder and of several. Told are, in levels of 255, the
mean and the largest difference of any picture; beside them, for formats of fewer bits than float32, how far pictures
drawn alone lie from those in float32: so much such a format costs by itself.
"""

import argparse
import io
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bespoke.pipeline.easel import easel
from bespoke.serving.jobs import Engine, Job, Picture
from bespoke.workspace import write_json

LONG = "a red car in front of a blue house, two yellow cats and a dog on a green background, " * 6
PROMPTS = ("a red car", LONG, "a (blue:1.4) house", "", "a dog", LONG + LONG, "a fox", "two yellow cats")


def jobs(model: str, **settings: str | int) -> list[Job]:
    """One for each prompt."""
    how = tuple(sorted(settings.items()))
    return [Job(str(seed), model, prompt, seed, how) for seed, prompt in enumerate(PROMPTS)]


def drawn(engine: Engine, those: list[Job]) -> np.ndarray:
    """The pictures of jobs drawn at once, [n height width 3], levels of 255."""
    found = engine.draw(those, lambda _: None)
    pictures = [Image.open(io.BytesIO(one.data)).convert("RGB") for one in found if isinstance(one, Picture)]
    return np.stack([np.asarray(one, float) for one in pictures])


def apart(ours: np.ndarray, theirs: np.ndarray) -> dict[str, float]:
    """The mean and the largest difference of the picture that differs most."""
    off = np.abs(ours - theirs)
    return {"mean": round(float(off.mean(axis=(1, 2, 3)).max()), 3), "most": float(off.max())}


def measured(engine: Engine, model: str, dtype: str, scheduler: str, options: argparse.Namespace) -> dict[str, Any]:
    """What company does to pictures in a format by a scheduler, by the size of batches."""
    how: dict[str, str | int] = {"num_inference_steps": options.steps, "scheduler": scheduler}
    those = jobs(model, **how, dtype=dtype)
    alone = np.concatenate([drawn(engine, [one]) for one in those])
    found: dict[str, Any] = {"dtype": dtype, "scheduler": scheduler}
    for size in options.batches:
        found[f"in {size}"] = apart(drawn(engine, those[:size]), alone[:size])
    if dtype != "fp32":
        exact = [drawn(engine, [replace(one, settings=jobs(model, **how, dtype="fp32")[0].settings)]) for one in those]
        found["from float32"] = apart(alone, np.concatenate(exact))
    return found


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--dtypes", nargs="+", default=["fp32", "bf16"])
    parser.add_argument("--schedulers", nargs="+", default=["default", "euler_a", "dpm++_2m_karras"])
    parser.add_argument("--batches", nargs="+", type=int, default=[2, 8])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    engine = easel(Path(), None, 0.0, safety_checker=False)
    rows: list[dict[str, Any]] = []
    for dtype in options.dtypes:
        for scheduler in options.schedulers:
            rows.append(measured(engine, options.model, dtype, scheduler, options))
            sys.stdout.write(f"{rows[-1]}\n")
            sys.stdout.flush()
    if options.json:
        write_json(options.json, {"command": " ".join(sys.argv[1:]), "rows": rows})


if __name__ == "__main__":
    main()
