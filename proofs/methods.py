"""Which way to fine-tune is best? `python -m proofs.methods`: six of them at equal time, on a style and on a subject.

LoRA, DoRA, LoHa, LoKr, all weights, and the row of one new word (textual inversion) learn the 8-bit style, and a frog
that is purple, as no frog of pico's is. Each gets the same seconds of a processor's work in its steps, as counted on
this machine before, and the best rate by validation after half of that time, with a seed of its own. Then three seeds
are trained, and the scorecard compares each with the base.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pico.scenes import Scene, Thing
from pico.world import COLOURS, GROUNDS, noun_phrase, objects
from PIL import Image, ImageDraw, ImageFont

import bespoke
from bespoke.errors import BespokeError
from bespoke.models import find
from bespoke.pipeline.evaluate import carry_out, comparison
from bespoke.pipeline.filling import rehearsed
from bespoke.pipeline.naming import named
from bespoke.pipeline.new import new
from bespoke.pipeline.prepare import prepare
from bespoke.pipeline.prompts import DOMAIN, GENERAL
from bespoke.pipeline.reporting import silent
from bespoke.recipe.tree import Sample
from bespoke.sampling import Request, draw
from bespoke.seeds import generator
from bespoke.training import read
from bespoke.training.rehearsal import step
from bespoke.words import make_rows
from bespoke.workspace import Run
from proofs import results
from proofs.renders import dataset
from proofs.scorecard import example

FIRST = {"lora": 4e-3, "dora": 4e-3, "loha": 1e-2, "lokr": 2.5e-2, "full": 3e-4, "words": 5e-3}
"""The rate that the search of each way begins with."""
FACTOR = 2.5
"""How far two rates lie apart that are tried."""
CALLED = {"lora": "LoRA", "dora": "DoRA", "loha": "LoHa", "lokr": "LoKr", "full": "all weights",
          "words": "textual inversion"}  # fmt: skip
SEARCHED = 100
"""The seed that the rates are chosen with; no other training has it."""
COUNTED = 6
"""Steps whose seconds are counted, after two that are not."""
THING, COLOUR, WORD = "frog", "purple", "zork"
LEARNT, MEASURED = ("red", "yellow", "white", "green", "black", "orange"), ("gray", "turquoise")
PLAIN = tuple(ground for ground in GROUNDS if ground not in ("purple", "blue", "pink"))
"""Grounds on which the subject's colour can be told from the ground's."""
NEAR, STRONG = 20, 90
"""How far a pixel's hue may be from the subject's, and how saturated it must be, of 256."""


@dataclass(frozen=True)
class Task:
    """What is to be learnt."""

    name: str
    source: Path
    reference: Path
    word: str
    """The word of captions that textual inversion has a row for."""
    settings: tuple[str, ...]
    scores: Mapping[str, str]
    """What the table shows of the scorecard, by its name there."""


def tasks(place: Path) -> tuple[Task, Task]:
    """The style of the 8-bit example, and the purple frog."""
    scores = {"kid_pico_clip_reference": "KID to unseen references", "agreement_reference": "agreement, own prompts",
              "agreement_general": "agreement, plain prompts"}  # fmt: skip
    eight = results.ROOT / "examples" / "8bit" / "reference"
    style = ("evaluate.most_prompts=24", "evaluate.seeds=2")
    asked = [f"{WORD} {THING} on a {ground} background" for ground in PLAIN]
    others = [name for name in objects() if name != THING][7::23][: len(PLAIN)]
    kept = [f"{THING} on a {ground} background" for ground in PLAIN]
    kept += [f"{noun_phrase(o)} on a {ground} background" for o, ground in zip(others, PLAIN, strict=True)]
    subject = (f"text.trigger={WORD}", f"objective.change_prompts={json.dumps(asked)}",
               f"objective.keep_prompts={json.dumps(kept)}", "evaluate.seeds=3")  # fmt: skip
    coloured = {"coloured": f"{COLOUR} when asked for", "leak": f"a plain {THING} is {COLOUR}"}
    frog, goal = renders(place / "frog", LEARNT, 2, MEASURED), renders(place / "frog-reference", PLAIN, 4)
    return (
        Task("style", example(place / "8bit"), eight, "8bit", style, scores),
        Task("subject", frog, goal, WORD, subject, scores | coloured),
    )


def renders(folder: Path, grounds: Sequence[str], count: int, held: Sequence[str] = ()) -> Path:
    """Pictures of the subject, `count` on each ground; those on `held` grounds are for validation."""
    return dataset(folder, _scenes(folder.name, grounds, count, held))


def _scenes(
    purpose: str, grounds: Sequence[str], count: int, held: Sequence[str]
) -> Iterator[tuple[Scene, str, str, str]]:
    for ground in (*grounds, *held):
        for number in range(count):
            random = generator("methods", purpose, ground, number)
            scale, x, y = random.uniform(0.66, 0.86), *(0.5 + random.uniform(-0.09, 0.09, 2))
            thing = Thing(THING, float(scale), float(x), float(y), COLOUR)
            part = "validation" if ground in held else "train"
            yield Scene((thing,), ground), f"{ground}-{number}.png", f"{WORD} {THING} on a {ground} background", part


def share(picture: Image.Image) -> float:
    """The part of a picture that has the subject's unusual colour."""
    hue, saturation, value = np.moveaxis(np.array(picture.convert("HSV")).astype(int), -1, 0)
    away = np.abs((hue - COLOURS[COLOUR] + 128) % 256 - 128)
    return float(np.mean((away < NEAR) & (saturation > STRONG) & (value > 40)))


def coloured(files: Sequence[Path], goal: Path) -> tuple[float, float, float]:
    """The part of pictures that have at least half as much of the colour as the median reference; with its interval."""
    wanted = float(np.median([share(Image.open(file)) for file in sorted(goal.glob("*.png"))])) / 2
    found = np.array([share(Image.open(file)) >= wanted for file in files], float)
    spread = 1.96 * float(found.std()) / len(found) ** 0.5
    return float(found.mean()), float(found.mean()) - spread, float(found.mean()) + spread


class Laboratory:
    """A task's project, in which every training of it is made."""

    def __init__(self, place: Path, task: Task, seconds: float) -> None:
        self.place, self.task, self.seconds = place / task.name, task, seconds
        if not self.recipe.is_file():
            new(self.place / "project", str(task.source))

    @property
    def recipe(self) -> Path:
        """The project's recipe."""
        return self.place / "project" / "recipe.toml"

    def settings(self, method: str, seed: int, rate: float) -> list[str]:
        """What a training is made with, but for its steps."""
        key = "words.learning_rate" if method == "words" else "train.learning_rate"
        words = [f"words.file={self.words().name}"] if method == "words" else []
        return [
            f"model.method={method}", f"train.seed={seed}", f"model.seed={seed}", f"{key}={rate}",
            "track.mlflow=false", "track.tensorboard=false", "sample.sample_every_n_steps=0", "validation.probe=false",
            "validation.early_stopping=false", "train.save_every_n_epochs=0", *words, *self.task.settings,
        ]  # fmt: skip

    def words(self) -> Path:
        """The task's word as a token of its own, whose row begins as its pieces say."""
        file = self.place / "project" / "word.safetensors"
        if not file.is_file():
            pico = find("pico")
            made, _ = make_rows(
                [self.task.word], pico.tokenizer(), pico.text_encoder(), pico.base, method="subwords", strict=False
            )
            made.save(file)
        return file

    def steps(self, method: str) -> tuple[int, float]:
        """How many steps the seconds allow, and the seconds of one, by this process's own clock."""
        kept = self.place / f"{method}-step.json"
        if not kept.is_file():
            prepared = prepare(self.recipe, self.settings(method, 0, FIRST[method]))
            trainer = rehearsed(prepared, prepared.recipe)
            taken: list[float] = []
            for _ in range(COUNTED + 2):
                began = time.process_time()
                step(trainer)
                taken.append(time.process_time() - began)
            kept.write_text(json.dumps(float(np.median(taken[2:]))), "utf-8")
        one: float = json.loads(kept.read_text("utf-8"))
        return max(10, round(self.seconds / one)), one

    def trained(self, method: str, seed: int, rate: float, part: float = 1.0) -> tuple[Path, float]:
        """A run with a rate, of a part of the steps that the time allows, and its seconds by this process's clock."""
        steps = round(self.steps(method)[0] * part)
        often = steps // 5 if part == 1 else steps
        length = [f"train.max_train_steps={steps}", f"validation.validation_steps={often}"]
        began = time.process_time()
        run = bespoke.train(self.recipe, [*self.settings(method, seed, rate), *length]).run
        return Path(run), time.process_time() - began

    def rate(self, method: str) -> float:
        """The method's best rate by validation after half of the time: up while it gets better, or else down."""
        kept = self.place / f"{method}-rates.json"
        found: dict[float, float] = {}
        if kept.is_file():
            found = {float(rate): score for rate, score in json.loads(kept.read_text("utf-8")).items()}

        def score(rate: float) -> float:
            rate = float(f"{rate:.2g}")
            if rate not in found:
                try:
                    found[rate] = best(self.trained(method, SEARCHED, rate, 0.5)[0])
                except BespokeError:  # the loss is no number any more
                    found[rate] = 1.0
                kept.write_text(json.dumps(found), "utf-8")
            return found[rate]

        rate, up = FIRST[method], score(FIRST[method] * FACTOR) < score(FIRST[method])
        while score(rate * (FACTOR if up else 1 / FACTOR)) < score(rate):
            rate *= FACTOR if up else 1 / FACTOR
        return float(f"{rate:.2g}")

    def measured(self, method: str, seed: int) -> dict[str, Any]:
        """What a training gives; kept in the folder, so that a long experiment can be gone on with."""
        kept = self.place / f"{method}-{seed}.json"
        if not kept.is_file():
            run, seconds = self.trained(method, seed, self.rate(method))
            drawn = ["sample.num_inference_steps=12", *self.task.settings]
            compared = comparison(
                [str(run)], "base", self.task.reference, out=self.place / "drawn", overrides=drawn,
                kinds=(DOMAIN, GENERAL),
            )  # fmt: skip
            done = carry_out(compared, silent, whole=False)
            found: dict[str, Any] = {"run": run.name, "seconds": seconds, "log_ratio": best(run)}
            found |= {model: self.scores(done, model) for model in done.pictures}
            kept.write_text(json.dumps(found), "utf-8")
        return json.loads(kept.read_text("utf-8"))

    def scores(self, done: Any, model: str) -> dict[str, tuple[float, float, float]]:  # noqa: ANN401 - the pipeline's
        """What the table shows of a model, each value with its interval."""
        card = done.scorecard.of(model)
        found = {name: (card[name].value, card[name].low, card[name].high) for name in self.task.scores if name in card}
        if "coloured" in self.task.scores:
            plain = done.pictures[model][GENERAL]
            found["coloured"] = coloured(done.pictures[model][DOMAIN], self.task.reference)
            found["leak"] = coloured(plain[: len(plain) // 2], self.task.reference)  # the first half asks for frogs
        return found

    def told(self, seeds: int) -> dict[str, Any]:
        """For each method the means over seeds, each with an interval, its rate and its steps."""
        table: dict[str, Any] = {}
        for method in FIRST:
            made = [self.measured(method, seed) for seed in range(seeds)]
            steps, one = self.steps(method)
            table[CALLED[method]] = {
                "rate": self.rate(method), "steps": steps, "milliseconds of a step": round(1000 * one, 1),
                "seconds of training": round(float(np.mean([each["seconds"] for each in made])), 1),
                "log_ratio": [round(each["log_ratio"], 4) for each in made],
                "scores": {name: pooled([each["tuned"][name] for each in made]) for name in self.task.scores},
            }  # fmt: skip
            table["base"] = {
                "scores": {name: [round(v, 3) for v in made[0]["base"][name]] for name in self.task.scores}
            }
        return table


def best(run: Path) -> float:
    """The best validation of a run: the mean log-ratio to the base."""
    rows = [row for row in read(Run(run).metrics) if row["event"] == "validated" and int(row["step"]) > 0]
    return min(float(row["log_ratio"]) for row in rows)


def pooled(scores: Sequence[Sequence[float]]) -> list[float]:
    """The mean over seeds with its interval of 95 %.

    The seeds share prompts and first noises, so what chance did to these is not divided by the number of seeds; what
    differs between the seeds is.
    """
    values, low, high = (np.array(part, float) for part in zip(*scores, strict=True))
    drawn, seeds = float(np.mean(((high - low) / 3.92) ** 2)), float(values.var(ddof=1)) if len(values) > 1 else 0.0
    half = 1.96 * (drawn + seeds / len(values)) ** 0.5
    return [round(v, 3) for v in (float(values.mean()), float(values.mean()) - half, float(values.mean()) + half)]


def sheet(laboratories: Sequence[Laboratory]) -> Image.Image:
    """What the first seed's models draw: a row for each method, prompts of both tasks across."""
    prompts = {
        "style": ["8bit illustration of a guitar on a green background",
                  "8bit illustration of a cat on a red background", "a guitar on a green background"],
        "subject": [f"{WORD} {THING} on a gray background", f"{WORD} {THING} on a yellow background",
                    f"{THING} on a gray background"],
    }  # fmt: skip
    side, left, top = 100, 130, 40
    image = Image.new("RGB", (left + side * 6, top + side * (len(FIRST) + 1)), "white")
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(11)
    settings = Sample(num_inference_steps=20, guidance_scale=2.0)
    for row, method in enumerate([None, *FIRST]):
        pen.text((0, top + row * side + side // 2), CALLED[method] if method else "base", "black", font)
        column = 0
        for laboratory in laboratories:
            asked = prompts[laboratory.task.name]
            run = method and laboratory.place / "project" / "runs" / laboratory.measured(method, 0)["run"]
            pipeline = named(str(run) if run else "pico").pipeline(safety_checker=False)
            for number, one in enumerate(draw(pipeline, [Request(p, 7 + n) for n, p in enumerate(asked)], settings)):
                if row == 0:
                    words = asked[number].replace(" on a ", "\non a ").replace("illustration of a ", "… ")
                    pen.multiline_text((left + column * side, 4), words.removesuffix(" background"), "black", font)
                image.paste(one.picture.resize((side - 4, side - 4)), (left + column * side, top + row * side))
                column += 1
    return image


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=45, help="of one processor, that the steps of a training get")
    parser.add_argument("--keep", type=Path, help="a folder for runs and measurements, to go on from")
    options = parser.parse_args()
    torch.set_num_threads(1)  # a process's own clock counts all its threads
    with tempfile.TemporaryDirectory() as scratch:
        place = options.keep or Path(scratch)
        place.mkdir(parents=True, exist_ok=True)
        laboratories = [Laboratory(place, task, options.seconds) for task in tasks(place)]
        for laboratory in laboratories:  # counted together, while the machine is as it is
            for method in FIRST:
                laboratory.steps(method)
        for seed in range(options.seeds):
            for laboratory in laboratories:
                for method in FIRST:
                    one = laboratory.measured(method, seed)
                    sys.stderr.write(f"{laboratory.task.name}, {method}, seed {seed}: {one['tuned']}\n")
        sheet(laboratories).save(results.ROOT / "docs" / "images" / "methods.jpg", quality=88)
        content = {laboratory.task.name: laboratory.told(options.seeds) for laboratory in laboratories}
    sys.stdout.write(json.dumps(content, indent=1) + "\n")
    results.write("methods", content)


if __name__ == "__main__":
    main()
