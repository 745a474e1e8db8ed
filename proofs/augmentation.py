"""Do other wordings of captions help? `python -m proofs.augmentation`: the same budget with and without, three seeds.

A LoRA of the 8-bit example, trained with its captions as they are, with other wordings, with many misspelt ones, and
with the text encoder trained too. Each is asked for objects that no training picture shows, by prompts as the captions
say them, reworded by hand, and misspelt; pico-CLIP names what it draws among all objects of pico's world. How various
the pictures of one prompt are, whether training captions lead nearer to their pictures than unseen ones to theirs, and
the loss on pictures held back, are measured beside it.
"""

import argparse
import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pico.world import caption, noun_phrase, objects

import bespoke
from bespoke.evaluation.membership import Asked, membership
from bespoke.models import Clip
from bespoke.pipeline.naming import named
from bespoke.pipeline.new import new
from bespoke.recipe.tree import Sample
from bespoke.sampling import Request, draw
from bespoke.seeds import generator
from bespoke.text.spelling import misspelt
from proofs import results
from proofs.scorecard import example
from proofs.stopping import opened, table

ARMS: dict[str, list[str]] = {
    "captions as they are": [],
    "other wordings": ["augment.variants=4"],
    "many misspelt": ["augment.variants=4", "augment.spelling=0.33"],
    "as they are, text encoder trained": ["train.train_text_encoder=true"],
    "many misspelt, text encoder trained": [
        "augment.variants=4", "augment.spelling=0.33", "train.train_text_encoder=true",
    ],
}  # fmt: skip
TRIGGER = "8bit illustration"
REWORDED = (
    "{thing}, drawn as an 8bit illustration",
    "an 8bit illustration showing {thing}, with nothing but {ground} behind",
    "{ground} all around, {thing} in the middle, 8bit illustration",
    "8bit illustration: {thing} and a {ground} backdrop",
)
"""Wordings that no operation makes; written for this experiment."""
DRAWS = 2
"""Pictures of each prompt."""
CAPTIONS = 16
"""Training captions, and as many of pictures held apart, that are drawn to tell what was learnt by heart."""


@dataclass(frozen=True)
class Asking:
    """What every model is asked for: the object of each prompt, and the prompts of each kind."""

    names: list[str]
    prompts: dict[str, list[str]]

    @staticmethod
    def about(names: list[str]) -> "Asking":
        """Prompts of the three kinds about objects, each on a ground."""
        grounds = ("red", "blue", "green", "white", "gray", "yellow")
        of = [(name, grounds[number % len(grounds)]) for number, name in enumerate(names)]
        said = [f"{TRIGGER} of {caption(name, ground)}" for name, ground in of]
        other = [
            REWORDED[number % len(REWORDED)].format(thing=noun_phrase(name), ground=ground)
            for number, (name, ground) in enumerate(of)
        ]
        wrong = [_misspelt(text, name) for text, name in zip(said, names, strict=True)]
        return Asking(names, {"as captions say it": said, "reworded by hand": other, "misspelt": wrong})


def _misspelt(text: str, name: str) -> str:
    """The prompt with the object's longest word misspelt, otherwise than any training does."""
    word = max(name.split(), key=len)
    wrong = misspelt(word, generator("augmentation", "prompt", name), lambda typed: typed in objects())
    return text.replace(word, wrong, 1)


class Judge:
    """Names pictures among all objects, and keeps what every model is held against."""

    def __init__(self, prompts: int) -> None:
        self.clip = Clip()
        self.classes = self._directions(self.clip.texts([f"picture of {noun_phrase(name)}" for name in objects()]))
        rows = table(results.ROOT / "examples" / "8bit" / "reference")
        self.asking = Asking.about([n for n in objects() if any(_shows(r["text"], n) for r in rows)][:prompts])
        self.unseen = [
            (row["text"], results.ROOT / "examples" / "8bit" / "reference" / row["file_name"]) for row in rows
        ]

    def scores(self, model: str, seen: list[tuple[str, Path]], seed: int) -> dict[str, float]:
        """What is measured of one model."""
        pipeline, settings = (
            named(model).pipeline(safety_checker=False),
            Sample(num_inference_steps=12, guidance_scale=2.0),
        )

        def drawn(prompts: list[str]) -> np.ndarray:
            requests = [Request(prompt, 100 * seed + n) for prompt in prompts for n in range(DRAWS)]
            return self._directions(self.clip.pictures([one.picture for one in draw(pipeline, requests, settings)]))

        found: dict[str, float] = {}
        for kind, prompts in self.asking.prompts.items():
            features = drawn(prompts)
            right = np.repeat([objects().index(name) for name in self.asking.names], DRAWS)
            found[f"named, {kind}"] = float(((features @ self.classes.T).argmax(axis=1) == right).mean())
            if kind == "as captions say it":
                found["variety"] = variety(features)
        found["membership"] = self._membership(drawn, seen)
        return found

    def _membership(self, drawn: Any, seen: list[tuple[str, Path]]) -> float:  # noqa: ANN401 - a closure
        asked = [self._asked(drawn, part[:CAPTIONS]) for part in (seen, self.unseen)]
        return membership(*asked).auc.value

    def _asked(self, drawn: Any, pictures: list[tuple[str, Path]]) -> Asked:  # noqa: ANN401 - a closure
        texts = list(dict.fromkeys(text for text, _ in pictures))
        own = self._directions(self.clip.pictures([opened(file) for _, file in pictures]))
        return Asked(drawn(texts), np.repeat(np.arange(len(texts)), DRAWS), own,
                     np.array([texts.index(text) for text, _ in pictures]))  # fmt: skip

    @staticmethod
    def _directions(features: np.ndarray) -> np.ndarray:
        return features / np.linalg.norm(features, axis=1, keepdims=True)


def _shows(text: str, name: str) -> bool:
    return noun_phrase(name) in text


def variety(features: np.ndarray) -> float:
    """How far apart the pictures of one prompt are: one minus their mean cosine."""
    groups = features.reshape(-1, DRAWS, features.shape[1])
    cosines = groups @ groups.transpose(0, 2, 1)
    return float(1 - (cosines.sum(axis=(1, 2)) - DRAWS).mean() / (DRAWS * (DRAWS - 1)))


def trained(place: Path, arm: str, seed: int, steps: int) -> tuple[Path, float]:
    """A run, and the loss of its best weights on pictures held back, as a part of the base's."""
    recipe = place / "project" / "recipe.toml"
    if not recipe.is_file():
        new(place / "project", str(example(place / "in")))
    settings = [f"train.max_train_steps={steps}", f"train.seed={seed}", f"augment.seed={seed}", "track.mlflow=false",
                "track.tensorboard=false", "sample.sample_every_n_steps=0", "validation.early_stopping=false",
                "train.save_every_n_epochs=0", f"train.checkpointing_steps={steps}"]  # fmt: skip
    run = Path(bespoke.train(recipe, [*settings, *ARMS[arm]]).run)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]
    return run, float(np.exp(min(line["log_ratio"] for line in lines if line["event"] == "validated")))


def measured(place: Path, judge: Judge, arm: str, seed: int, steps: int) -> dict[str, float]:
    """What one arm gives with one seed; kept in the folder, so that a long experiment can be gone on with."""
    kept = place / f"{arm}-{seed}.json"
    if not kept.is_file():
        run, loss = trained(place, arm, seed, steps)
        rows = table(place / "project" / "dataset" / "train")
        seen = [(row["text"], place / "project" / "dataset" / "train" / row["file_name"]) for row in rows]
        found = judge.scores(str(run), seen, seed) | {"loss": loss}
        kept.write_text(json.dumps(found), "utf-8")
    return json.loads(kept.read_text("utf-8"))


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--prompts", type=int, default=40, help="objects that are asked for")
    parser.add_argument("--arms", type=int, default=len(ARMS), help="so many of the arms, the first ones")
    parser.add_argument("--keep", type=Path, help="a folder for runs and measurements, to go on from")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        place = options.keep or Path(scratch)
        place.mkdir(parents=True, exist_ok=True)
        judge, found = Judge(options.prompts), dict[str, dict[str, list[float]]]()
        for seed in range(options.seeds):
            for arm in list(ARMS)[: options.arms]:
                for name, value in measured(place, judge, arm, seed, options.steps).items():
                    found.setdefault(arm, {}).setdefault(name, []).append(round(value, 4))
                sys.stderr.write(f"seed {seed}, {arm}: { {name: each[-1] for name, each in found[arm].items()} }\n")
    summary = {arm: {name: [round(float(np.mean(each)), 4), round(float(np.std(each, ddof=1)), 4)]
                     for name, each in scores.items()} for arm, scores in found.items()}  # fmt: skip
    content = {"mean and standard deviation": summary, "each seed": found}
    sys.stdout.write(json.dumps(content, indent=1) + "\n")
    results.write("augmentation", content)


if __name__ == "__main__":
    main()
