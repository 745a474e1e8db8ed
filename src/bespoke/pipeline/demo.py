"""The whole loop on the bundled example: pictures checked, a LoRA trained on pico, both models compared on a page."""

import csv
import importlib.resources
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bespoke.errors import BespokeError
from bespoke.pipeline.evaluate import carry_out, comparison
from bespoke.pipeline.new import new
from bespoke.pipeline.prompts import DOMAIN, GENERAL
from bespoke.pipeline.reporting import Reporter, Stopwatch, silent
from bespoke.pipeline.train import train
from bespoke.records import Score
from bespoke.text import plain

REFERENCE_PROMPTS, GENERAL_PROMPTS = 80, 24
TRIGGER, HERO = "8bit illustration", "city view"


@dataclass(frozen=True)
class Demonstrated:
    """What the demo left behind."""

    run: Path
    report: Path
    adapter: Path | None
    pictures: Mapping[str, Path]
    """The folders of both models' pictures of the reference prompts."""
    scores: Mapping[str, Mapping[str, Score]]
    seconds: Mapping[str, float]


def demo(out: str | Path = "demo", *, overrides: tuple[str, ...] = (), report: Reporter = silent) -> Demonstrated:
    """The example's project in `out`, trained, compared and shown; a second call trains a second run.

    Raises: BespokeError when `out` holds something else.
    """
    watch, example = Stopwatch(), example_folder()
    with watch.stage("check"):
        made = new(out, example / "train", report=report)
    trained = train(made.recipe, (*prompts(example, TRIGGER), *overrides), report=report)
    seconds = {"check": watch.seconds["check"] + trained.seconds.get("check", 0.0)}
    seconds |= {stage: value for stage, value in trained.seconds.items() if stage != "check"}
    # One seed and the verdict's measures only: `bespoke evaluate` on the run draws and measures the rest.
    compared = comparison(
        [str(trained.run)],
        reference=example / "reference",
        overrides=("evaluate.seeds=1",),
        kinds=(DOMAIN, GENERAL),
        hero=f"{TRIGGER} of {HERO}",
    )
    done = carry_out(compared, report, whole=False, seconds=seconds)
    pictures = {model: kinds[DOMAIN][0].parent for model, kinds in done.pictures.items()}
    scores = {model: done.scorecard.of(model) for model in done.scorecard.models}
    return Demonstrated(trained.run, done.report, trained.adapter, pictures, scores, done.seconds)


def prompts(example: Path, trigger: str) -> tuple[str, str]:
    """What the demo says before training: which prompts should change and which must stay, as overrides of a recipe.

    The first are the references' captions; the others are plain ones, half of unseen and half of seen objects.
    """
    unseen, seen = (_captions(example / part / "metadata.csv") for part in ("reference", "train"))
    half = GENERAL_PROMPTS // 2
    # Every object of the references once, in the words of its first picture.
    change = unseen[:REFERENCE_PROMPTS]
    keep = [plain(caption, trigger) for caption in (*unseen[-half:], *seen[:half])]
    return f"objective.change_prompts={json.dumps(change)}", f"objective.keep_prompts={json.dumps(keep)}"


def example_folder() -> Path:
    """The bundled example: beside the package's code when it was installed, in the checkout when it was not.

    Raises: BespokeError when neither has it.
    """
    package = Path(str(importlib.resources.files("bespoke")))
    for folder in (package / "examples" / "8bit", package.parent.parent / "examples" / "8bit"):
        if (folder / "train" / "metadata.csv").is_file():
            return folder
    raise BespokeError("The bundled example is missing from this installation.", "Install bespoke again.")


def _captions(table: Path) -> list[str]:
    with table.open(encoding="utf-8", newline="") as rows:
        return [row["text"] for row in csv.DictReader(rows) if row["text"]]
