"""Does the scorecard rank what is known to be better or worse? `python -m proofs.scorecard`: a ladder of seven models.

pico itself; a LoRA of the 8-bit example after a quarter, a half and all of its steps; one trained far too hard; one
trained on six pictures until it copies them; and pico with random weights. The scorecard must put them in their order,
name the one that was trained too hard as over-trained, and the one that copies as a copy.
"""

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import matplotlib as mpl
import torch

import bespoke
from bespoke.cli.display import Bars
from bespoke.evaluation import Scorecard
from bespoke.models import find
from bespoke.pipeline.evaluate import Evaluated, evaluate
from bespoke.pipeline.new import new
from proofs import results
from proofs.stopping import readable, table

mpl.use("Agg")
EXAMPLE = results.ROOT / "examples" / "8bit"
PLOT = results.ROOT / "docs" / "images" / "scorecard-ladder.png"
FEW = 6
"""So many pictures are enough to copy and too few to learn from."""
RANDOM, BASE, OVER, COPIES = "random weights", "base", "over-trained", f"trained on {FEW} pictures"
SHOWN = (
    "kid_pico_clip_reference",
    "agreement_reference",
    "agreement_general",
    "copy_rate",
    "membership_auc",
    "coverage_pico_clip_reference",
)
"""What the table and the plot show."""


def example(folder: Path, count: int | None = None) -> Path:
    """The example's training pictures that have captions, or the first `count` of them and others for measuring."""
    if folder.is_dir():
        return folder
    folder.mkdir(parents=True)
    rows = [row for row in table(EXAMPLE / "train") if row["text"] and readable(EXAMPLE / "train" / row["file_name"])]
    lines = ["file_name,text,split"]
    for number, row in enumerate(rows[: count and count + 2 * FEW]):
        shutil.copyfile(EXAMPLE / "train" / row["file_name"], folder / row["file_name"])
        split = "" if count is None else "train" if number < count else "validation"
        lines.append(f"{row['file_name']},{row['text']},{split}")
    (folder / "metadata.csv").write_text("\n".join(lines), encoding="utf-8")
    return folder


def random_weights(folder: Path) -> Path:
    """The model pico with a UNet that has learnt nothing, as a diffusers folder."""
    if folder.is_dir():
        return folder
    pipeline = find("pico").pipeline(safety_checker=False)
    torch.manual_seed(0)
    pipeline.unet = type(pipeline.unet).from_config(pipeline.unet.config)
    pipeline.save_pretrained(folder)
    return folder


def trained(place: Path, name: str, source: Path, settings: dict[str, Any]) -> Path:
    """A run with these settings; one that ended before is not made again."""
    over = sorted((place / name).glob("runs/*/result.json"))
    if over:
        return over[-1].parent
    made = new(place / name, source)
    whole = {
        "track.mlflow": "false",
        "sample.sample_every_n_steps": 0,
        "validation.early_stopping": "false",
        **settings,
    }
    with Bars() as bars:
        return Path(bespoke.train(made.recipe, [f"{k}={v}" for k, v in whole.items()], report=bars).run)


def measured(models: list[str], reference: Path, out: Path, against: str, settings: list[str]) -> Evaluated:
    """The scorecard of models over the references, whose objects no training saw."""
    with Bars() as bars:
        return evaluate(models, against, reference=reference, out=out, overrides=settings, report=bars)


def figures(card: Scorecard, model: str) -> dict[str, Any]:
    """What the table shows of a model."""
    scores = card.of(model)
    return {name: [round(v, 4) for v in (scores[name].value, scores[name].low, scores[name].high)]
            for name in SHOWN if name in scores}  # fmt: skip


def verdicts(done: Evaluated, model: str) -> dict[str, str]:
    """The answers about a model, by question."""
    return {judgement.question: judgement.answer for judgement in done.verdicts[model]}


def ladder(place: Path, steps: int, prompts: int) -> dict[str, dict[str, Any]]:
    """Every rung's figures and verdicts, in the order in which they should be: the worst first."""
    source, few = example(place / "in"), example(place / "few", FEW)
    reference, out = EXAMPLE / "reference", place / "evaluation"
    quarter = {"train.max_train_steps": steps, "train.save_every_n_epochs": 0, "train.checkpointing_steps": steps // 4,
               "train.checkpoints_total_limit": 4}  # fmt: skip
    run = trained(place, "whole", source, quarter)
    over = trained(place, "over", source, {"train.max_train_steps": 2 * steps, "train.learning_rate": 2e-2,
                                           "train.num_class_images": 0})  # fmt: skip
    copies = trained(place, "copies", few, {"train.max_train_steps": steps, "train.num_class_images": 0,
                                            "model.rank": 64, "model.alpha": 64})  # fmt: skip
    wish = [f"evaluate.most_prompts={prompts}", "sample.num_inference_steps=12"]
    nothing = random_weights(place / "random")
    parts = {f"{share} % of the steps": f"{run}@step-{steps * share // 100}" for share in (25, 50, 100)}
    rungs = measured([*parts.values(), str(nothing)], reference, out, "pico", wish)
    made: dict[str, dict[str, Any]] = {RANDOM: {"scores": figures(rungs.scorecard, str(nothing)),
                                                "verdicts": verdicts(rungs, str(nothing))},
                                       BASE: {"scores": figures(rungs.scorecard, "pico")}}  # fmt: skip
    made |= {called: {"scores": figures(rungs.scorecard, model), "verdicts": verdicts(rungs, model)}
             for called, model in parts.items()}  # fmt: skip
    for called, model in ((OVER, over), (COPIES, copies)):
        done = measured([str(model)], reference, out, "pico", wish)
        made[called] = {"scores": figures(done.scorecard, "tuned"), "verdicts": verdicts(done, "tuned")}
    return made


def plot(rungs: dict[str, dict[str, Any]]) -> None:
    """One panel for each score: every rung's value in its interval, the worst rung at the top."""
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(1, len(SHOWN), figsize=(3.4 * len(SHOWN), 0.5 * len(rungs) + 1.2), sharey=True)
    titles = ("KID to unseen references\n(lower is nearer)", "agreement, style prompts", "agreement, plain prompts",
              "copies of training pictures",
              "training pictures redrawn\nwhen asked for (0.5: none)", "coverage of the references")  # fmt: skip
    for panel, name, title in zip(panels, SHOWN, titles, strict=True):
        for place, rung in enumerate(rungs.values()):
            if name in rung["scores"]:
                value, low, high = rung["scores"][name]
                panel.plot([low, high], [place, place], color="tab:blue")
                panel.plot([value], [place], "o", color="tab:blue")
        panel.set_title(title, fontsize=9)
        panel.grid(axis="x", alpha=0.3)
    panels[0].set_yticks(range(len(rungs)), list(rungs))
    panels[0].invert_yaxis()
    figure.tight_layout()
    PLOT.parent.mkdir(exist_ok=True)
    figure.savefig(PLOT, dpi=80)


def faults(rungs: dict[str, dict[str, Any]]) -> list[str]:
    """What the scorecard did not rank or name as it must, in words."""
    distance = {name: rung["scores"]["kid_pico_clip_reference"][0] for name, rung in rungs.items()}
    steps = [name for name in rungs if name.endswith("of the steps")]
    said = {name: rung["verdicts"] for name, rung in rungs.items() if "verdicts" in rung}
    expected = {
        "random weights are furthest": max(distance, key=lambda name: distance[name]) == RANDOM,
        "every step of the training is nearer than the base": all(distance[name] < distance[BASE] for name in steps),
        "all steps are nearer than a quarter of them": distance[steps[-1]] < distance[steps[0]],
        "the finished LoRA is closer": said[steps[-1]]["Closer to your pictures?"].startswith("yes"),
        "the finished LoRA copies nothing": not _copies(said[steps[-1]]),
        "the finished LoRA is not over-trained": not _burnt(said[steps[-1]]),
        "the over-trained one is named so": _burnt(said[OVER]) or _forgot(said[OVER]),
        "the one that copies is named so": _copies(said[COPIES]),
    }
    return [what for what, holds in expected.items() if not holds]


def _copies(said: dict[str, str]) -> bool:
    questions = ("Copies training pictures?", "Redraws training pictures when asked with their captions?")
    return any(said[question].startswith("yes") for question in questions)


def _burnt(said: dict[str, str]) -> bool:
    return said["Over-trained, to judge by how its pictures look?"] == "yes"


def _forgot(said: dict[str, str]) -> bool:
    return said["Still follows plain prompts?"] == "no"


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=800, help="of the whole training")
    parser.add_argument("--prompts", type=int, default=64, help="of each seed; three seeds are drawn")
    parser.add_argument("--keep", type=Path, help="a folder for runs, pictures and pages, to look at and to go on from")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        place = options.keep or Path(scratch)
        place.mkdir(parents=True, exist_ok=True)
        rungs = ladder(place, options.steps, options.prompts)
    plot(rungs)
    wrong = faults(rungs)
    content = {"ladder": rungs, "not as it must be": wrong}
    sys.stdout.write(json.dumps(content, indent=1) + "\n")
    results.write("scorecard", content)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
