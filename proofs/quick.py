"""What does faster drawing cost? `python -m proofs.quick FOLDER`: fewer steps, other samplers, deep layers remembered.

pico draws the same prompts from the same first noises in each way. The scorecard measures how near the pictures are to
renders that it never saw and how well they show what was asked for; beside it stand the time of a picture, against that
of the plain way in the same minutes, and how far the pictures lie from the plain way's.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from pico.scenes import Scene, draw_single
from PIL import Image

from bespoke import recipe as recipes
from bespoke.pipeline.measuring import measure
from bespoke.pipeline.naming import named
from bespoke.pipeline.prompts import DOMAIN, prompts
from bespoke.pipeline.references import references
from bespoke.pipeline.reporting import silent
from bespoke.pipeline.sample import settled
from bespoke.recipe.tree import Sample
from bespoke.sampling import Request, draw, grid, save_picture
from bespoke.seeds import generator
from bespoke.workspace import atomic_file
from proofs import results
from proofs.renders import dataset

PLAIN = "20 steps, as by default"
WAYS: dict[str, dict[str, Any]] = {
    PLAIN: {},
    "guidance to 0.6": {"guidance_end": 0.6},
    "deep cache 2": {"deep_cache": 2},
    "deep cache 3": {"deep_cache": 3},
    "deep cache 5": {"deep_cache": 5},
    "12 steps": {"num_inference_steps": 12},
    "8 steps": {"num_inference_steps": 8},
    "dpm++_2m, 12 steps": {"scheduler": "dpm++_2m", "num_inference_steps": 12},
    "dpm++_2m, 8 steps": {"scheduler": "dpm++_2m", "num_inference_steps": 8},
    "dpm++_2m, 5 steps": {"scheduler": "dpm++_2m", "num_inference_steps": 5},
    "unipc, 8 steps": {"scheduler": "unipc", "num_inference_steps": 8},
    "unipc, 5 steps": {"scheduler": "unipc", "num_inference_steps": 5},
    "lcm, 4 steps": {"scheduler": "lcm", "num_inference_steps": 4},
    "dpm++_2m, 8 steps, deep cache 2, guidance to 0.6": {
        "scheduler": "dpm++_2m", "num_inference_steps": 8, "deep_cache": 2, "guidance_end": 0.6,
    },
}  # fmt: skip
SHOWN = {"kid_pico_clip_reference": "KID", "agreement_reference": "agreement"}
ROWS = 6
"""So many prompts are in the picture of all ways."""


def goal(folder: Path, count: int) -> Path:
    """Renders of single things that pico's training showed in other arrangements, with their captions."""
    return dataset(folder, _scenes(count))


def _scenes(count: int) -> Iterator[tuple[Scene, str, str, str]]:
    random = generator("quick", "goal")
    for number in range(count):
        scene = draw_single(random)
        yield scene, f"{number:04d}.png", f"{scene.words(0)} on a {scene.ground} background", "train"


def drawn(place: Path, requests: list[Request]) -> tuple[dict[str, tuple[Path, ...]], dict[str, list[float]]]:
    """Each way's pictures, and its seconds against the plain way's: all ways draw a batch before the next begins."""
    source = named("pico")
    pipeline = source.pipeline(safety_checker=False)
    wishes = {way: settled(Sample(**change), source.checkpoint) for way, change in WAYS.items()}
    files: dict[str, list[Path]] = {way: [] for way in WAYS}
    ratios: dict[str, list[float]] = {way: [] for way in WAYS}
    list(draw(pipeline, requests[:8], wishes[PLAIN]))  # the machine is warm then
    for first in range(0, len(requests), 8):
        part, taken = requests[first : first + 8], dict[str, float]()
        for number, (way, wish) in enumerate(wishes.items()):
            began = time.process_time()
            pictures = list(draw(pipeline, part, wish))
            taken[way] = time.process_time() - began
            for place_of, one in enumerate(pictures):
                file = place / f"{number:02d}" / f"{first + place_of:04d}.png"
                save_picture(one, file, wish, "pico")
                files[way].append(file)
        for way, seconds in taken.items():
            ratios[way].append(seconds / taken[PLAIN])
        sys.stderr.write(f"\r{first + len(part)} of {len(requests)} pictures in {len(WAYS)} ways")
    return {way: tuple(those) for way, those in files.items()}, ratios


def apart(files: tuple[Path, ...], plain: tuple[Path, ...]) -> float:
    """How far pictures lie from the plain way's on average, in levels of 255."""
    pairs = ([np.asarray(Image.open(file), float) for file in pair] for pair in zip(files, plain, strict=True))
    return float(np.mean([np.abs(one - other).mean() for one, other in pairs]))


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--prompts", type=int, default=100)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        place = options.folder or Path(temporary)
        recipe = recipes.parse({"evaluate": {"most_prompts": options.prompts}}, "the proof")
        own = references(recipe, None, goal(place / "goal", 4 * options.prompts))
        asked = prompts(recipe, own.captions, [], (DOMAIN,))
        files, ratios = drawn(place / "pictures", asked.requests(DOMAIN))
        card = measure(recipe, {way: {DOMAIN: those} for way, those in files.items()}, asked, own, silent, whole=False)
        figures = {way: _figures(card.of(way), ratios[way], apart(files[way], files[PLAIN])) for way in WAYS}
        _sheet(files, len(asked.seeds))
    results.write("quick", figures)
    for way, told in figures.items():
        sys.stdout.write(f"{way:<50} {told}\n")


def _figures(scores: Any, ratios: list[float], distance: float) -> dict[str, Any]:  # noqa: ANN401 - a mapping of scores
    found: dict[str, Any] = {"time": round(float(np.median(ratios)), 2)}
    for name, called in SHOWN.items():
        one = scores[name]
        found[called] = [round(value, 3) for value in (one.value, one.low, one.high)]
    return found | {"levels from plain": round(distance, 1)}


def _sheet(files: dict[str, tuple[Path, ...]], each: int) -> None:
    """The first pictures of each way, a row for each."""
    shown = [Image.open(those[each * n]).convert("RGB") for those in files.values() for n in range(ROWS)]
    with atomic_file(results.ROOT / "docs" / "images" / "quick.png") as temporary:
        grid(shown, ROWS).save(temporary, format="PNG")


if __name__ == "__main__":
    main()
