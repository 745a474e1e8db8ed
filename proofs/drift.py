"""Does an alarm ring when the model got worse, and only then? `python -m proofs.drift`: on pictures drawn by pico.

A pool of pictures of pico, of different prompts and seeds, is measured as served ones are. Quiet histories draw their
reference and each of 200 days anew from this pool, with replacement, so nothing changes in them: alarms there are
false, and there may be no more than the budget says. Then worse models are put under the version, several kinds and
strengths of them, and it is counted how many histories ring within so many pictures, of which none comes twice. The
last part is the command itself on a project whose model is exchanged on its seventh day: alarm, canaries and page.
"""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pico.world import caption, grounds, objects
from scipy import stats

from bespoke import seeds
from bespoke.feedback.drift import BY_NAME, Budget, Watch, Window
from bespoke.feedback.windows import Sampled, Span
from bespoke.models import Clip, find
from bespoke.pipeline.drift import Drifted, Source, drift
from bespoke.pipeline.naming import named
from bespoke.pipeline.pictures import drawn
from bespoke.pipeline.reporting import silent
from bespoke.pipeline.sample import alike, settled
from bespoke.pipeline.served import Instruments, measured
from bespoke.pipeline.warm import HERE
from bespoke.recipe.tree import Sample
from bespoke.sampling import Request, draw, save_picture
from bespoke.workspace import write_json
from proofs import results

STEPS = 8
PER_DAY, REFERENCE, DAYS = 40, 400, 200
BUDGET = Budget(0.5, DAYS)
PROMISED = 80
"""A model that is clearly worse must ring within so many pictures."""
HARD = ("steps cut to 2", "weights with 30 % noise")
OTHERS = (
    "guidance 6 instead of 2",
    "guidance 3 instead of 2",
    "steps cut to 4",
    "weights with 10 % noise",
    "an unchanged model",
)
"""What everybody sees; the others are there to see what is found at all."""


@dataclass(frozen=True)
class Kept:
    """A served picture, as `feedback.windows.Sampled` asks for it."""

    id: str
    at: str
    model: str
    prompt: str
    flagged: bool = False
    canary: bool = False
    seconds: float = 0.0


def prompts(count: int, part: str) -> list[str]:
    """What people might ask pico for, each with one thing on a ground or in a place."""

    def one(number: int) -> str:
        pick = seeds.generator("proof of drift", part, number)
        return caption(str(pick.choice(objects())), str(pick.choice(grounds())), int(pick.integers(6)))

    return [one(number) for number in range(count)]


def of_two(count: int, part: str) -> list[str]:
    """Longer prompts of two things: what people ask for has changed, not the model."""
    first, second = prompts(count, part), prompts(count, f"{part}, second")
    return [f"{a} and {b}" for a, b in zip(first, second, strict=True)]


def worse(kind: str) -> tuple[Any, Sample]:
    """Pico's pipeline and settings, or those of a worse model put in its place."""
    source = named("pico")
    settings = settled(alike(Sample(num_inference_steps=STEPS)), source.checkpoint)
    HERE.cool()
    pipeline = HERE.ready(source, settings, safety_checker=False)
    change: dict[str, Callable[[], Sample]] = {
        "steps cut to 2": lambda: settings.model_copy(update={"num_inference_steps": 2}),
        "steps cut to 4": lambda: settings.model_copy(update={"num_inference_steps": 4}),
        "guidance 6 instead of 2": lambda: settings.model_copy(update={"guidance_scale": 6.0}),
        "guidance 3 instead of 2": lambda: settings.model_copy(update={"guidance_scale": 3.0}),
        "weights with 30 % noise": lambda: noised(pipeline.unet, 0.3, settings),
        "weights with 10 % noise": lambda: noised(pipeline.unet, 0.1, settings),
    }
    return pipeline, change.get(kind, lambda: settings)()


@torch.no_grad()
def noised(network: torch.nn.Module, part: float, settings: Sample) -> Sample:
    """The settings; each weight of the network has noise of so much of its tensor's spread from now on."""
    torch.manual_seed(0)
    for weight in network.parameters():
        if weight.numel() > 1:
            weight.add_(part * weight.std() * torch.randn_like(weight))
    return settings


def pool(kind: str, said: Sequence[str], place: Path, by: Instruments) -> Window:
    """The figures of pictures that were really drawn, one of each prompt, each with its own seed."""
    pipeline, settings = worse(kind)
    files = [place / f"{number:04d}.png" for number in range(len(said))]
    missing = [number for number, file in enumerate(files) if not file.is_file()]
    requests = [Request(said[number], 1000 + number) for number in missing]
    for number, one in zip(missing, draw(pipeline, requests, settings), strict=True):
        save_picture(one, files[number], settings, "pico")
        tell(f"{kind}: {number + 1} of {len(files)} pictures")
    samples = tuple(Kept(str(n), "2026-01-01T12:00:00+00:00", "pico", prompt) for n, prompt in enumerate(said))
    return measured(Span("2026-01-01", samples), lambda sample: files[int(sample.id)], by, silent, kind)


def part(window: Window, rows: np.ndarray) -> Window:
    """Some of a pool's pictures."""
    parts = ({name: each[rows] for name, each in of.items()} for of in (window.features, window.values))
    return Window(window.day, *parts)


def some(window: Window, count: int, *key: str | int) -> Window:
    """So many pictures of a pool, drawn with replacement."""
    total = len(window.features["prompts"])
    return part(window, seeds.generator("proof of drift", "rows", *key).integers(total, size=count))


def quiet(usual: Window, histories: int) -> list[dict[str, Any]]:
    """The false alarms of histories in which nothing changes."""
    found: list[dict[str, Any]] = []
    for history in range(histories):
        watch = Watch(some(usual, REFERENCE, "reference", history), BUDGET)
        rang = [(day, one.figure, one.rang) for day in range(DAYS)
                for one in watch.read(some(usual, PER_DAY, "quiet", history, day)) if one.rang]  # fmt: skip
        found.append({"false alarms": len(rang), "which": rang})
        tell(f"quiet history {history + 1} of {histories}: {len(rang)} false alarms")
    return found


def until(usual: Window, other: Window, of: str, repeats: int) -> dict[str, Any]:
    """How many histories rang within the pictures of the other pool, in which order they may come; and what rang first.

    No picture is in a history twice: a small pool that is drawn from again and again differs from a large one.
    """
    within, first = dict[int, int](), dict[str, int]()
    for repeat in range(repeats):
        watch = Watch(
            part(usual, seeds.permutation(len(usual.features["prompts"]), "before", repeat)[:REFERENCE]), BUDGET
        )
        order = seeds.permutation(len(other.features["prompts"]), "after", repeat)
        for seen in range(PER_DAY, len(order) + 1, PER_DAY):
            readings = watch.read(part(other, order[seen - PER_DAY : seen]))
            if rang := [one.figure for one in readings if one.rang and BY_NAME[one.figure].of == of]:
                first |= {name: first.get(name, 0) + 1 for name in rang}
                within[seen] = within.get(seen, 0) + 1
                break
    counted = {seen: sum(count for at, count in within.items() if at <= seen)
               for seen in range(PER_DAY, len(other.features["prompts"]) + 1, PER_DAY)}  # fmt: skip
    return {
        "histories": repeats, "rang within so many pictures": counted,
        "rang first": dict(sorted(first.items(), key=lambda pair: -pair[1])),
    }  # fmt: skip


def served(place: Path, model: Path) -> tuple[dict[str, Any], Path]:
    """The command on a project whose model is exchanged on its seventh day: what it says before and after."""
    find("pico").pipeline(safety_checker=False).save_pretrained(model)
    project, begin = place / "project", date(2026, 3, 1)
    project.mkdir(parents=True, exist_ok=True)
    canaries = json.dumps(prompts(4, "canaries"))
    (project / "recipe.toml").write_text(
        f'[model]\nbase = "pico"\n\n[drift]\nreference_pictures = 80\ncanaries = {canaries}\n'
    )
    samples, files = list[Sampled](), dict[str, Path]()
    told: dict[str, Any] = {}
    for day in range(10):
        if day == 7:
            told["before"] = _said(drift(project, str(model), source=Source(samples, lambda s: files[s.id]),
                                         now=begin + timedelta(days=day)))  # fmt: skip
            pipeline = find(str(model)).pipeline(safety_checker=False)
            noised(pipeline.unet, 0.3, Sample())
            pipeline.unet.save_pretrained(model / "unet")
        settings = settled(alike(Sample(num_inference_steps=STEPS)), named(str(model)).checkpoint)
        said = prompts(24, f"day {day}")
        made = drawn(named(str(model)), [Request(prompt, 100 * day + n) for n, prompt in enumerate(said)],
                     place / "served" / str(day), settings, silent)  # fmt: skip
        at = datetime.combine(begin + timedelta(days=day), datetime.min.time(), UTC)
        for number, (prompt, file) in enumerate(zip(said, made, strict=True)):
            sample = Kept(f"{day}-{number}", (at + timedelta(minutes=number)).isoformat(), str(model), prompt)
            samples.append(sample)
            files[sample.id] = file
    done = drift(project, str(model), source=Source(samples, lambda s: files[s.id]), now=begin + timedelta(days=10))
    told["after"] = _said(done)
    return told, done.page


def _said(done: Drifted) -> dict[str, Any]:
    rang = {day.day: [f"{one.figure} {one.rang}" for one in day.alarms] for day in done.days}
    return {"alarms by day": rang, "canaries": done.flight.worst}


def faults(quiets: Sequence[dict[str, Any]], rings: dict[str, dict[str, Any]], told: dict[str, Any]) -> Iterator[str]:
    """What was not as it must be."""
    count, expected = sum(one["false alarms"] for one in quiets), BUDGET.false_alarms * len(quiets)
    if count > stats.poisson.ppf(0.99, expected):
        yield f"{count} false alarms in {len(quiets)} times {DAYS} days, more than chance makes of {expected}"
    for kind in HARD:
        if rings[kind]["rang within so many pictures"][PROMISED] < rings[kind]["histories"]:
            yield f"{kind}: not every alarm rang within {PROMISED} pictures"
    if any(told["before"]["alarms by day"].values()) or told["before"]["canaries"] != "same":
        yield "the command rang before the model was exchanged"
    after = list(told["after"]["alarms by day"].values())
    if not after[3] and not after[4]:
        yield "the command did not ring within two days of the exchange"
    if told["after"]["canaries"] != "changed":
        yield "the canaries did not change with the model"


def tell(words: str) -> None:
    """Says how far it is."""
    sys.stderr.write(f"\r{words:<70}")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pool", type=int, default=600, help="pictures of the unchanged model")
    parser.add_argument("--others", type=int, default=80, help="pictures of each other one")
    parser.add_argument("--histories", type=int, default=12, help="quiet ones, of 200 days each")
    parser.add_argument("--repeats", type=int, default=12, help="histories for each worse model")
    parser.add_argument("--keep", type=Path, help="a folder for pictures, quiet histories and the page: to go on from")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        place = options.keep or Path(scratch)
        by = Instruments(Clip("pico-CLIP"), find("pico").tokenizer(), None)
        usual = pool("pico", prompts(options.pool, "usual"), place / "pico", by)
        shutil.rmtree(place / "project", ignore_errors=True)
        told, page = served(place, place / "model")
        rings: dict[str, dict[str, Any]] = {}
        for kind in (*HARD, *OTHERS):
            other = pool(kind, prompts(options.others, kind), place / kind, by)
            rings[kind] = until(usual, other, "pictures", options.repeats)
        asked = pool("prompts of two things", of_two(options.others, "two"), place / "two", by)
        rings["prompts of two things"] = until(usual, asked, "prompts", options.repeats)
        file = place / f"quiet-{options.pool}-{options.histories}.json"
        if not file.is_file():
            write_json(file, quiet(usual, options.histories))
        quiets: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))
    wrong = list(faults(quiets, rings, told))
    figures = {
        "pictures drawn": {"of pico unchanged": options.pool, "of each other pool": options.others},
        "figures watched": usual.names(), "pictures a day": PER_DAY, "reference": REFERENCE,
        "budget": f"{BUDGET.false_alarms} false alarms in {DAYS} days",
        "quiet": {
            "histories": options.histories, "days of each": DAYS,
            "false alarms in each": [one["false alarms"] for one in quiets],
            "mean": round(float(np.mean([one["false alarms"] for one in quiets])), 3),
            "which": [each for one in quiets for each in one["which"]],
        },
        "worse": rings, "promised": f"within {PROMISED} pictures for {', '.join(HARD)}",
        "the command": told, "not as it must be": wrong,
    }  # fmt: skip
    sys.stdout.write(json.dumps(figures, indent=1) + "\n")
    results.write("drift", figures)
    if options.keep:
        tell(f"The page: {page}\n")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
