"""Does the sweep find better settings? `python -m proofs.sweep`: on the 8-bit example, within a stated budget.

A sweep of so many trainings, each of so many steps, by the default space around the recipe's own settings. What it
finds is then trained beside the recipe's own settings with seeds that the sweep never used, and measured with noise
that it never saw: the best of many trainings is also the luckiest, and only this tells.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import bespoke
from bespoke.pipeline.new import new
from bespoke.pipeline.space import written
from bespoke.training import read
from bespoke.workspace import Run
from proofs import results

EXAMPLE = results.ROOT / "examples" / "8bit" / "train"
FRESH = ("validation.seed=977", "track.mlflow=false", "sample.sample_every_n_steps=0")


def score(recipe: Path, settings: list[str], seed: int) -> float:
    """The best mean log-ratio to the base of a training with another seed, measured with other noise."""
    run = bespoke.train(recipe, [*settings, *FRESH, f"train.seed={seed}"]).run
    rows = [row for row in read(Run(Path(run)).metrics) if row["event"] == "validated" and int(row["step"]) > 0]
    return min(float(row["log_ratio"]) for row in rows)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        recipe = new(Path(name, "project"), str(EXAMPLE)).recipe
        fixed = [f"train.max_train_steps={options.steps}", "track.mlflow=false", "validation.probe=false"]
        found = bespoke.sweep(recipe, [*fixed, f"sweep.trials={options.trials}"])
        chosen = [written(key, value) for key, value in found.best.settings.items()]
        arms: dict[str, list[str]] = {"the recipe's own": fixed, "found": [*fixed, *chosen]}
        fresh = {arm: [score(recipe, arms[arm], 100 + n) for n in range(options.seeds)] for arm in arms}
    differences = np.array(fresh["found"]) - np.array(fresh["the recipe's own"])
    content: dict[str, Any] = {
        "trials": len(found.trials), "steps of each": options.steps,
        "ended early": sum(trial.state == "ended early" for trial in found.trials),
        "minutes of training": round(sum(trial.seconds for trial in found.trials) / 60, 1),
        "found": found.best.settings, "its score in the sweep": round(found.best.score or 0.0, 4),
        "the recipe's own in the sweep": round(found.default.score or 0.0, 4),
        "scores with fresh seeds and noise": {arm: [round(v, 4) for v in values] for arm, values in fresh.items()},
        "difference": [round(float(differences.mean()), 4), round(float(differences.std(ddof=1)), 4)],
    }  # fmt: skip
    assert differences.max() < 0, "what was found is not better with every fresh seed"
    sys.stdout.write(json.dumps(content, indent=1) + "\n")
    results.write("sweep", content)


if __name__ == "__main__":
    main()
