"""Measure pico, `python -m pico.measure`: the judge names the object and the ground of 500 pictures that pico drew."""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline

from bespoke.recipe.tree import Sample
from bespoke.sampling import Request, draw, grid
from pico import classifier, training, vae
from pico.assemble import MODELS
from pico.world import GROUNDS, caption, is_held_out, objects

RESULT = Path(__file__).parent / "measured.json"


def wanted(count: int, *, held_out: bool) -> list[tuple[int, int]]:
    """Numbers of objects and grounds: every object in turn, on grounds that pico's training showed it on, or not."""
    rng = np.random.default_rng(42)
    names, grounds = objects(), list(GROUNDS)
    pairs: list[tuple[int, int]] = []
    while len(pairs) < count:
        number, ground = len(pairs) % len(names), int(rng.integers(len(grounds)))
        if is_held_out(names[number], grounds[ground]) == held_out:
            pairs.append((number, ground))
    return pairs


def named_right(pipeline: StableDiffusionPipeline, pairs: list[tuple[int, int]], sheet: Path) -> tuple[float, float]:
    """The shares of pictures whose object and whose ground the judge names as asked; `sheet` shows 100 of them."""
    names, grounds = objects(), list(GROUNDS)
    requests = [Request(caption(names[o], grounds[g], k % 3), k) for k, (o, g) in enumerate(pairs)]
    pictures = [drawn.picture for drawn in draw(pipeline, requests, Sample(batch_size=25))]
    grid(pictures[:100], 10).reduce(2).save(sheet)
    judge = classifier.load()
    with torch.no_grad():
        one, two = judge(training.tensor(pictures))
    asked = torch.tensor(pairs)
    return tuple(float((got.argmax(1) == asked[:, k]).float().mean()) for k, got in enumerate((one, two)))  # type: ignore[return-value]


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--folder", type=Path, default=MODELS)
    options = parser.parse_args()
    pipeline = StableDiffusionPipeline.from_pretrained(options.folder / "pico", dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    result: dict[str, float] = {}
    for label, held_out in (("seen pairs", False), ("unseen pairs", True)):
        count = options.count if not held_out else max(100, options.count // 5)
        sheet = Path(__file__).parent / f"grid-{label.replace(' ', '-')}.png"
        result[f"object, {label}"], result[f"ground, {label}"] = named_right(
            pipeline, wanted(count, held_out=held_out), sheet
        )
    rng = np.random.default_rng(2**31)
    for label, styled in (("renders", 0.0), ("practice styles", 1.0)):
        pictures = vae.pixels(rng, 200, styled=styled, held_out=True)
        result[f"PSNR, {label}, dB"] = vae.psnr(pipeline.vae, pictures)
    result = {key: round(value, 4) for key, value in result.items()}
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
