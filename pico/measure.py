"""Measure pico, `python -m pico.measure`: the judge names things and grounds of the pictures that pico draws."""

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
from pico.scenes import Scene, draw_pair, draw_single
from pico.world import located, objects

RESULT = Path(__file__).parent / "measured.json"
HALF_SIZE = 2
GUIDANCE = 3.0


def wanted(count: int) -> dict[str, list[Scene]]:
    """Scenes to ask for: every object in turn, and pairs, of those that pico's training showed it and of others."""
    rng, names = np.random.default_rng(42), objects()

    def singles(count: int, *, held_out: bool) -> list[Scene]:
        return [draw_single(rng, [names[k % len(names)]], held_out) for k in range(count)]

    def pairs(count: int, *, held_out: bool) -> list[Scene]:
        return [draw_pair(rng, held_out=held_out) for _ in range(count)]

    return {
        "one object, seen pairs": singles(count, held_out=False),
        "one object, unseen pairs": singles(count // 2, held_out=True),
        "two objects, seen pairs": pairs(count // 2, held_out=False),
        "two objects, unseen pairs": pairs(count // 4, held_out=True),
    }


def named_right(
    pipeline: StableDiffusionPipeline, scenes: list[Scene], wish: Sample, sheet: Path | None
) -> tuple[float, float]:
    """The shares of pictures whose things and whose ground the judge names as asked; `sheet` shows 100 of them."""
    requests = [Request(located(s.words(k % 4), s.ground, k % 3), k) for k, s in enumerate(scenes)]
    pictures = [drawn.picture for drawn in draw(pipeline, requests, wish)]
    if sheet:
        grid(pictures[:100], 10).reduce(HALF_SIZE).save(sheet)
    shares, grounds = classifier.labelled(scenes)
    with torch.no_grad():
        things, ground = classifier.load()(training.tensor(pictures))
    named = classifier.right(things, shares).float().mean()
    return float(named), float((ground.argmax(1) == grounds).float().mean())


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--folder", type=Path, default=MODELS)
    parser.add_argument("--guidance-end", type=float, default=1.0, help="below 1 the figures are shown, not kept")
    options = parser.parse_args()
    # Without its checker: a black picture in place of a skull says nothing of how well skulls are drawn.
    pipeline = StableDiffusionPipeline.from_pretrained(
        options.folder / "pico", dtype=torch.float32, safety_checker=None, requires_safety_checker=False
    )
    pipeline.set_progress_bar_config(disable=True)
    wish = Sample(batch_size=25, guidance_scale=GUIDANCE, guidance_end=options.guidance_end)
    kept = options.guidance_end == 1
    result: dict[str, float] = {}
    for kind, scenes in wanted(options.count).items():
        name = f"grid-{kind.replace(', ', '-').replace(' ', '-')}.png"
        sheet = Path(__file__).parent / name if kept else None
        result[f"things, {kind}"], result[f"ground, {kind}"] = named_right(pipeline, scenes, wish, sheet)
    rng = np.random.default_rng(2**31)
    for label, styled in (("renders", 0.0), ("practice styles", 1.0)):
        pictures = vae.pixels(rng, 200, styled=styled, held_out=True)
        result[f"PSNR, {label}, dB"] = vae.psnr(pipeline.vae, pictures)
    result = {key: round(value, 4) for key, value in result.items()}
    if kept:
        RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
