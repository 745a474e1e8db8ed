"""Does training stop at the right time? `python -m proofs.stopping`: far too long on few pictures, five times.

Twelve pictures of the 8-bit example to learn from and four to measure by, others for each seed. Every training runs to
its end; its measurements say where it would have stopped and which weights would be kept. What the stop knew nothing of
says which were best: the loss on the reference pictures, of objects that no training saw. Beside it stands the distance
to them of what pico draws with the weights of each measurement. `--whole` trains on the whole example instead, by a
recipe's own defaults: there it must not stop early.
"""

import argparse
import csv
import json
import random
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from PIL import Image

import bespoke
from bespoke.evaluation.kernels import kid
from bespoke.models import Clip
from bespoke.pipeline.naming import named
from bespoke.pipeline.new import new
from bespoke.recipe import load
from bespoke.recipe.training import Validation
from bespoke.recipe.tree import Sample
from bespoke.sampling import Request, draw
from bespoke.training.stopping import Patience
from bespoke.training.validate import Measurement, Validator
from bespoke.workspace import Run
from proofs import results

mpl.use("Agg")
EXAMPLE = results.ROOT / "examples" / "8bit"
PLOT = results.ROOT / "docs" / "images" / "early-stopping.png"
TRAIN, VALIDATION, BATCH = 12, 4, 4
EPOCH = TRAIN // BATCH
"""Steps of an epoch."""
WITHIN = 1.1


class Recorded(Validator):
    """A validator that remembers what it measured."""

    seen: tuple[dict[str, Measurement], ...] = ()

    def __call__(self, network: Any, device: torch.device) -> dict[str, Measurement]:  # noqa: ANN401 - as in Validator
        """The measurement, remembered."""
        found = super().__call__(network, device)
        Recorded.seen = (*Recorded.seen, found)
        return found


@dataclass(frozen=True)
class Told:
    """One training that ran far too long, and where it would have stopped."""

    steps: list[int]
    log_ratios: list[float]
    stop: int
    """The step after which it would have stopped; the last one if never."""
    chosen: int
    """The step whose weights would have been kept."""
    held_out: list[float]
    """The loss on the reference pictures at each step, as a part of the base's."""
    drawn: list[float]
    """The distance of what the weights of each step draw to the references."""

    def worse(self, values: list[float]) -> float:
        """What the weights that would have been kept give, as a multiple of the best."""
        return values[self.steps.index(self.chosen)] / min(values)


def judged(run: Run, every: int) -> tuple[list[int], list[float], int, int]:
    """The measured steps, their log-ratios, where patience would have ended the training, and which step was kept."""
    settings = Validation(early_stopping=True)
    total = load(run.recipe).train.max_train_steps or 1
    base, *later = (found["validation"] for found in Recorded.seen)
    assert len(later) == total // every
    patience, _ = Patience().after(base, 0, settings, warm=False)
    steps = [every * (n + 1) for n in range(len(later))]
    ratios = [m.log_ratio(base) for m in later]
    stop = steps[-1]
    for step, measured in zip(steps, later, strict=True):
        patience, _ = patience.after(measured, step, settings, warm=step > settings.early_stopping_warmup * total)
        if patience.verdict(settings):
            stop = step
            break
    return steps, ratios, stop, min((r, s) for r, s in zip(ratios, steps, strict=True) if s <= stop)[1]


def pictures_of(model: str, prompts: list[str]) -> list[Image.Image]:
    """What a model draws, one picture for each prompt."""
    requests = [Request(prompt, n) for n, prompt in enumerate(prompts)]
    settings = Sample(num_inference_steps=12, batch_size=12)
    return [one.picture for one in draw(named(model).pipeline(safety_checker=False), requests, settings)]


def overlong(folder: Path, seed: int, total: int, every: int, references: "References") -> Told:
    """Trains far too long on another choice of pictures, and measures what the weights of each step draw."""
    source = folder / f"pictures-{seed}"
    source.mkdir()
    rows = [row for row in table(EXAMPLE / "train") if readable(EXAMPLE / "train" / row["file_name"]) and row["text"]]
    chosen = random.Random(seed).sample(rows, TRAIN + VALIDATION)
    lines = ["file_name,text,split"]
    for number, row in enumerate(chosen):
        shutil.copyfile(EXAMPLE / "train" / row["file_name"], source / row["file_name"])
        lines.append(f"{row['file_name']},{row['text']},{'train' if number < TRAIN else 'validation'}")
    (source / "metadata.csv").write_text("\n".join(lines), encoding="utf-8")
    made = new(folder / f"project-{seed}", source)
    bespoke.import_data(EXAMPLE / "reference", folder / f"project-{seed}" / "reference")
    Recorded.seen = ()
    settings = {
        "train.max_train_steps": total, "train.train_batch_size": BATCH, "train.num_class_images": 0,
        "train.seed": seed, "train.save_every_n_epochs": every // EPOCH, "train.checkpointing_steps": total,
        "validation.validation_steps": every, "validation.early_stopping": "false",
        "validation.sets": '{ reference = "reference" }', "sample.sample_every_n_steps": 0, "track.mlflow": "false",
    }  # fmt: skip
    trained = bespoke.train(made.recipe, [f"{key}={value}" for key, value in settings.items()])
    steps, ratios, stop, best = judged(Run(trained.run), every)
    base, *later = (found["reference"] for found in Recorded.seen)
    held_out = [float(np.exp(measured.log_ratio(base))) for measured in later]
    drawn = [references.distance(f"{trained.run}@epoch-{step // EPOCH}") for step in steps]
    return Told(steps, ratios, stop, best, held_out, drawn)


class References:
    """The pictures that every style's weights should come near to, and the prompts to draw."""

    def __init__(self, count: int) -> None:
        rows = table(EXAMPLE / "reference")
        self.clip, self.prompts = Clip(), [row["text"] for row in rows][:count]
        self.features = self.clip.pictures([opened(EXAMPLE / "reference" / row["file_name"]) for row in rows])

    def distance(self, model: str) -> float:
        """The unbiased kernel distance of what a model draws to the references."""
        return kid(self.clip.pictures(pictures_of(model, self.prompts)), self.features)


def table(folder: Path) -> list[dict[str, str]]:
    """The rows of a folder's table of captions."""
    with (folder / "metadata.csv").open(encoding="utf-8", newline="") as rows:
        return list(csv.DictReader(rows))


def opened(file: Path) -> Image.Image:
    """A picture."""
    with Image.open(file) as picture:
        return picture.convert("RGB")


def readable(file: Path) -> bool:
    """Whether a file gives a picture: the example has damaged ones among its own."""
    try:
        return opened(file).size == (64, 64)
    except OSError:
        return False


def whole(folder: Path, seeds: int) -> bool:
    """Whether no training on the whole example, by a recipe's own defaults, stops early."""
    made = new(folder / "whole", EXAMPLE / "train")
    runs: list[dict[str, Any]] = []
    for seed in range(seeds):
        trained = bespoke.train(made.recipe, ["track.mlflow=false", f"train.seed={seed}"])
        runs.append({"steps": trained.steps, "best step": trained.best_step, "reason": trained.reason})
        sys.stderr.write(f"seed {seed}: {trained.steps} steps; {trained.reason}\n")
    results.write("stopping", {"runs": runs}, part="whole")
    return not any("stopped early" in run["reason"] for run in runs)


def plot(told: list[Told]) -> None:
    """One panel for each seed: what the stop saw, what it did not see, where it stopped and what it kept."""
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(3, len(told), figsize=(3.2 * len(told), 7), sharex=True, squeeze=False)
    for number, one in enumerate(told):
        for panel, values in zip(panels[:, number], (one.log_ratios, one.held_out, one.drawn), strict=True):
            panel.plot(one.steps, values, color="tab:blue")
            panel.axvline(one.stop, color="tab:red", linestyle="--", label="would stop")
            at = one.steps.index(one.chosen)
            panel.plot([one.chosen], [values[at]], "o", color="tab:green", label="kept")
        panels[0, number].set_title(f"seed {number}: {one.worse(one.held_out):.3f} × the best")
        panels[2, number].set_xlabel("steps")
    panels[0, 0].set_ylabel("validation, log-ratio\nto the base\n(what the stop sees)", fontsize=8)
    panels[1, 0].set_ylabel("loss on the references,\npart of the base's\n(what it does not see)", fontsize=8)
    panels[2, 0].set_ylabel("distance of\ndrawn pictures\n(what it does not see)", fontsize=8)
    panels[0, 0].legend()
    figure.tight_layout()
    PLOT.parent.mkdir(exist_ok=True)
    figure.savefig(PLOT, dpi=80)


def few(folder: Path, options: argparse.Namespace) -> bool:
    """Whether most trainings on a few pictures keep weights that are all but the best."""
    import bespoke.training.loop

    bespoke.training.loop.Validator = Recorded
    references = References(options.prompts)
    told: list[Told] = []
    for seed in range(options.seeds):
        one = overlong(folder, seed, options.steps, options.every, references)
        told.append(one)
        worse = f"loss {one.worse(one.held_out):.3f} × the best, drawn {one.worse(one.drawn):.2f} ×"
        sys.stderr.write(f"seed {seed}: stops at {one.stop}, keeps {one.chosen}: {worse}\n")
    plot(told)
    good = sum(one.worse(one.held_out) <= WITHIN for one in told)
    runs = [
        {
            "would stop after": o.stop,
            "keeps": o.chosen,
            "held-out loss, multiple of the best": round(o.worse(o.held_out), 4),
            "the same at the end": round(o.held_out[-1] / min(o.held_out), 4),
            "distance of drawn pictures, multiple of the best": round(o.worse(o.drawn), 3),
            "steps": o.steps,
            "log-ratios": np.round(o.log_ratios, 4).tolist(),
            "held-out losses": np.round(o.held_out, 4).tolist(),
            "distances": np.round(o.drawn, 4).tolist(),
        }
        for o in told
    ]
    figures = {"within a tenth of the best": f"{good} of {len(told)}", "runs": runs}
    sys.stdout.write(json.dumps(figures, indent=1) + "\n")
    results.write("stopping", figures)
    return good >= 0.8 * len(told)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=900)
    parser.add_argument("--every", type=int, default=60, help="steps between two measurements, in whole epochs of 3")
    parser.add_argument("--prompts", type=int, default=48)
    parser.add_argument("--whole", action="store_true", help="only this: train on the whole example")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        fine = whole(Path(place), options.seeds) if options.whole else few(Path(place), options)
    sys.exit(0 if fine else 1)


if __name__ == "__main__":
    main()
