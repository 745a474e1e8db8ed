"""Do new words help? `python -m proofs.words`: a dataset in a jargon that pico has never read, with and without tokens.

Pictures of ten of pico's objects, called by invented words, on grounds of which two have invented names, too. A LoRA
learns them with the tokenizer as it is, with and without the text encoder, and with a token for each word whose row
comes from the word's pieces, from word vectors, from the vectors of other words (the null), or from the best of these,
distilled, with and without a gloss for each word. Rows are trained with the LoRA. Every arm has the same steps, seeds
and prompts, and is measured before the first step and at three times.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pico.scenes import Scene, Thing
from pico.words import JARGON
from pico.world import GROUNDS, noun_phrase, objects
from PIL import Image, ImageDraw, ImageFont

import bespoke
from bespoke.models import Checkpoint, Clip, find
from bespoke.pipeline.naming import named
from bespoke.pipeline.new import new
from bespoke.recipe.tree import Sample
from bespoke.sampling import Request, draw
from bespoke.seeds import generator
from bespoke.text.vectors import vectors
from bespoke.words import make_rows
from bespoke.words.report import Method
from proofs import results
from proofs.augmentation import DRAWS, variety
from proofs.renders import dataset

ARMS: dict[str, Method] = {
    "base tokenizer": "subwords", "base tokenizer, text encoder trained": "subwords", "subwords": "subwords",
    "vectors": "vectors", "shuffled": "shuffled",
    "distilled": "distilled", "distilled, with glosses": "distilled",
}  # fmt: skip
"""How each arm's rows are made; the base tokenizer's have none."""
MEANT = {meaning: word for word, meaning in JARGON.items()}
GLOSSES = {word: meaning if meaning in GROUNDS else noun_phrase(meaning) for word, meaning in JARGON.items()}
THINGS = [meaning for meaning in JARGON.values() if meaning not in GROUNDS]
SMALL = results.ROOT / "src" / "bespoke" / "text" / "small" / "vectors.50d.txt"
TIMES = 3
"""How often a training is measured on its way."""


def said(name: str, ground: str) -> str:
    """A caption in the jargon."""
    thing, place = MEANT[name], MEANT.get(ground, ground)
    return f"a{'n' * (thing[0] in 'aeiou')} {thing} on a{'n' * (place[0] in 'aeiou')} {place} background"


def pictures(folder: Path) -> Path:
    """The dataset: each object on every ground, one in six of them held back for validation."""
    return dataset(folder, _scenes())


def _scenes() -> Iterator[tuple[Scene, str, str, str]]:
    for number, (name, ground) in enumerate((name, ground) for name in THINGS for ground in GROUNDS):
        random = generator("words", "picture", name, ground)
        scale, x, y = random.uniform(0.68, 0.86), *(0.5 + random.uniform(-0.08, 0.08, 2))
        scene = Scene((Thing(name, float(scale), float(x), float(y)),), ground)
        yield scene, f"{number}.png", said(name, ground), "validation" if number % 6 == 5 else "train"


@dataclass(frozen=True)
class Prompt:
    """What is asked for, and the objects that must be named in it."""

    text: str
    names: tuple[str, ...]


def asked() -> dict[str, list[Prompt]]:
    """What every model is asked for: in jargon, in jargon about two things, and in plain words."""
    grounds = ("red", "blue", "white", "green", "yellow", "gray")
    of = [(name, grounds[number % len(grounds)]) for number, name in enumerate(THINGS * 2)]
    pairs = list(zip(THINGS, [*THINGS[3:], *THINGS[:3]], strict=True))
    other = [name for name in objects() if name not in THINGS][::20][: len(THINGS)]
    return {
        "jargon": [Prompt(said(name, ground), (name,)) for name, ground in of],
        "two things in jargon": [
            Prompt(f"a {MEANT[one]} left of a {MEANT[two]} on a {MEANT['red']} background", (one, two))
            for one, two in pairs
        ],
        "plain words": [
            Prompt(f"{noun_phrase(name)} on a {ground} background", (name,))
            for name, ground in zip(other, grounds * 2, strict=False)
        ],
    }


class Judge:
    """Names pictures among all of pico's objects."""

    def __init__(self) -> None:
        self.clip, self.asked = Clip(), asked()
        self.classes = self.clip.texts([f"picture of {noun_phrase(name)}" for name in objects()])

    def scores(self, pipeline: Any, seed: int) -> dict[str, float]:  # noqa: ANN401 - diffusers'
        """The part of what was asked for that is named in what a pipeline draws, and how various it is."""
        found: dict[str, float] = {}
        settings = Sample(num_inference_steps=12, guidance_scale=2.0)
        for kind, prompts in self.asked.items():
            requests = [Request(p.text, 100 * seed + n) for p in prompts for n in range(DRAWS)]
            features = self.clip.pictures([one.picture for one in draw(pipeline, requests, settings)])
            order = np.argsort(-(features @ self.classes.T), axis=1)
            wanted = [[objects().index(name) for name in p.names] for p in prompts for _ in range(DRAWS)]
            pairs = zip(order.tolist(), wanted, strict=True)
            found[kind] = float(np.mean([len({*row[: len(of)]} & {*of}) / len(of) for row, of in pairs]))
            if kind == "jargon":
                found["variety"] = variety(features / np.linalg.norm(features, axis=1, keepdims=True))
        return found


def words_file(place: Path, arm: str, seed: int) -> Path:
    """The new words of an arm, made; refused ones too, so that all arms have the same words."""
    file = place / "project" / f"{arm}-{seed}.safetensors"
    if not file.is_file():
        pico, captions = find("pico"), [said(name, ground) for name in THINGS for ground in GROUNDS]
        table = vectors(SMALL, place / "vectors")
        made, _ = make_rows(
            list(JARGON), pico.tokenizer(), pico.text_encoder(), pico.base, vectors=table, captions=captions,
            method=ARMS[arm], seed=seed, strict=False, glosses=GLOSSES if "glosses" in arm else {},
        )  # fmt: skip
        made.save(file)
    return file


def trained(place: Path, arm: str, seed: int, steps: int) -> tuple[Path, Checkpoint]:
    """A run of an arm, and the checkpoint it began with."""
    recipe = place / "project" / "recipe.toml"
    if not recipe.is_file():
        new(place / "project", str(pictures(place / "in")))
    settings = [
        f"train.max_train_steps={steps}", f"train.seed={seed}", "track.mlflow=false", "track.tensorboard=false",
        "sample.sample_every_n_steps=0", "validation.early_stopping=false", "validation.probe=false",
        "train.save_every_n_epochs=0", f"train.checkpointing_steps={steps // TIMES}", "text.trigger=",
        f"validation.validation_steps={steps // TIMES}", "train.num_class_images=0", "train.learning_rate=5e-4",
        "words.learning_rate=2e-3",
    ]  # fmt: skip
    checkpoint = find("pico")
    if arm == "base tokenizer, text encoder trained":
        settings += ["train.train_text_encoder=true"]
    elif arm != "base tokenizer":
        file = words_file(place, arm, seed)
        settings += [f"words.file={file.name}", "words.train=true"]
        checkpoint = checkpoint.with_words(file)
    return Path(bespoke.train(recipe, settings).run), checkpoint


def measured(place: Path, judge: Judge, arm: str, seed: int, steps: int) -> dict[str, Any]:
    """What one arm gives with one seed; kept in the folder, so that a long experiment can be gone on with."""
    kept = place / f"{arm}-{seed}.json"
    if not kept.is_file():
        began = time.perf_counter()
        run, checkpoint = trained(place, arm, seed, steps)
        seconds = time.perf_counter() - began
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]
        losses = {line["step"]: float(np.exp(line["log_ratio"])) for line in lines if line["event"] == "validated"}
        course = {0: judge.scores(checkpoint.pipeline(safety_checker=False), seed)}
        for step in sorted(losses)[1:]:
            course[step] = judge.scores(named(f"{run}@step-{step}").pipeline(safety_checker=False), seed)
        tokenizer = checkpoint.tokenizer()
        tokens = [len(tokenizer(said(n, g)).input_ids) - 2 for n in THINGS for g in GROUNDS]
        found = {
            "seconds": seconds, "loss": losses, "course": course, "tokens per caption": float(np.mean(tokens)),
            "run": run.name,
        }  # fmt: skip
        kept.write_text(json.dumps(found), "utf-8")
    return json.loads(kept.read_text("utf-8"))


def told(found: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """For each arm the means over seeds, at each time, and when it reaches the base tokenizer's best."""
    best = float(np.mean([max(c["jargon"] for c in one["course"].values()) for one in found[next(iter(ARMS))]]))
    summary: dict[str, Any] = {}
    for arm, runs in found.items():
        steps = list(runs[0]["course"])
        scores = {
            step: {name: _spread([run["course"][step][name] for run in runs]) for name in runs[0]["course"][step]}
            for step in steps
        }
        seconds = float(np.mean([run["seconds"] for run in runs]))
        reached = next((step for step in steps if scores[step]["jargon"][0] >= best), None)
        summary[arm] = {
            "scores": scores,
            "loss": {step: _spread([run["loss"][step] for run in runs]) for step in steps if step in runs[0]["loss"]},
            "tokens per caption": runs[0]["tokens per caption"],
            "seconds of training": round(seconds, 1),
            "seconds to the base tokenizer's best": None
            if reached is None
            else round(seconds * int(reached) / int(steps[-1]), 1),
        }
    return summary


def sheet(place: Path, steps: int) -> Image.Image:
    """What the models of the first seed draw after training: a row for each arm, a column for each word."""
    prompts, side, left, top = asked()["jargon"][: len(THINGS)], 92, 230, 34
    arms = [arm for arm in ARMS if arm != "shuffled"]
    image = Image.new("RGB", (left + side * len(prompts), top + side * len(arms)), "white")
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(13)
    for column, prompt in enumerate(prompts):
        word = MEANT[prompt.names[0]]
        pen.multiline_text((left + column * side, 0), f"{word}\n({prompt.names[0]})", "black", font)
    settings = Sample(num_inference_steps=20, guidance_scale=2.0)
    for row, arm in enumerate(arms):
        run = place / "project" / "runs" / json.loads((place / f"{arm}-0.json").read_text("utf-8"))["run"]
        pen.text((0, top + row * side + side // 2), arm, "black", font)
        requests = [Request(prompt.text, 100 + number) for number, prompt in enumerate(prompts)]
        pipeline = named(f"{run}@step-{steps}").pipeline(safety_checker=False)
        for column, one in enumerate(draw(pipeline, requests, settings)):
            image.paste(one.picture.resize((side - 4, side - 4)), (left + column * side, top + row * side))
    return image


def _spread(values: list[float]) -> list[float]:
    """Mean and standard deviation."""
    return [round(float(np.mean(values)), 4), round(float(np.std(values, ddof=1)) if len(values) > 1 else 0.0, 4)]


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=240)
    parser.add_argument("--keep", type=Path, help="a folder for runs and measurements, to go on from")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        place = options.keep or Path(scratch)
        place.mkdir(parents=True, exist_ok=True)
        judge, found = Judge(), dict[str, list[dict[str, Any]]]()
        for seed in range(options.seeds):
            for arm in ARMS:
                one = measured(place, judge, arm, seed, options.steps)
                found.setdefault(arm, []).append(one)
                course = {step: {name: round(v, 3) for name, v in c.items()} for step, c in one["course"].items()}
                sys.stderr.write(f"seed {seed}, {arm}: {course}, {one['seconds']:.0f} s\n")
        sheet(place, options.steps).save(results.ROOT / "docs" / "images" / "words.jpg", quality=88)
    content = {"means and standard deviations": told(found)}
    sys.stdout.write(json.dumps(content, indent=1) + "\n")
    results.write("words", content)


if __name__ == "__main__":
    main()
