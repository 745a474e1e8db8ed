"""A run's folder turned into its page: while it trains, when it was stopped, and when it is over."""

import math
import shlex
import time
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bespoke import page, training
from bespoke import recipe as recipes
from bespoke.hardware import machine, versions
from bespoke.models.kinds import LORA
from bespoke.models.load import RESCALED
from bespoke.pipeline.progress import columns
from bespoke.records import Curve
from bespoke.registry import shown
from bespoke.sampling import Request
from bespoke.workspace import Run, relative

Rows = Sequence[Mapping[str, Any]]

CHARTS = (
    ("step", "gradient_norm", "Gradient norm", "The length of the gradients, before longer ones are shortened."),
    ("step", "weight_norm", "Weight norm", "The length of all trained weights together."),
    ("step", "images_per_second", "Pictures a second", "How fast it trained, without what lies between two reports."),
    ("covered", "coverage", "Coverage", "The share of the training pictures that each epoch used."),
    ("step", "memory_gb", "Memory", "The most memory that the process has had, in GiB."),
    ("step", "gpu_memory_gb", "Memory of the GPU", "The most of the GPU's memory that it has had, in GiB."),
)  # fmt: skip


def write(
    run: Run,
    requests: Sequence[Request],
    *,
    now: page.Now | None = None,
    seconds: Mapping[str, float] | None = None,
    reason: str = "",
) -> None:
    """Writes the page of a training, as far as it has come."""
    recipe = recipes.load(run.recipe)
    trained = training_of(run, requests, reason)
    full = recipe.model.method == "full"
    over = now is None
    report = page.Report(
        title=recipe.text.trigger or "Your style",
        base_model=recipe.model.base,
        finished=datetime.now().astimezone() if over else None,
        seconds=float(sum(seconds.values())) if seconds else None,
        adapter=Path(relative(run.adapter)) if over and recipe.model.adapts else None,
        model=Path(relative(run.model)) if over and full else None,
        now=now,
        training=trained,
        settings=tuple(settings(run, recipe)),
        stages=tuple(page.Stage(name, float(value)) for name, value in (seconds or {}).items()),
        machine=machine_facts(),
        versions=tuple(page.Fact(name, version) for name, version in versions().items()),
        snippets=snippets(run, recipe, _prompt(recipe, requests)) if over else (),
    )
    page.write(report, run.report)


def training_of(run: Run, requests: Sequence[Request], reason: str = "") -> page.Training:
    """What a page says of a run's training, read from its metrics and its pictures."""
    rows = list(training.read(run.metrics))
    rates = [row["images_per_second"] for row in rows if row["event"] == "step" and row["images_per_second"]]
    steps = max((row["step"] for row in rows), default=None)
    best = max((row["step"] for row in rows if row.get("best")), default=None)
    return page.Training(
        loss=_curve(rows, "step", "loss", "training loss"),
        validation=_curve(rows, "validated", "log_ratio", "validation loss against the base, log-ratio"),
        learning_rate=_curve(rows, "step", "learning_rate", "learning rate"),
        steps=steps,
        best_step=best,
        images_per_second=sorted(rates)[len(rates) // 2] if rates else None,
        reason=f"{reason[:1].upper()}{reason[1:]}{'' if reason.endswith('.') else '.'}" if reason else "",
        notes=tuple(_notes(rows, best)),
        others=_others(rows),
        bands=_list(rows, "bands"),
        gap=_gap(rows),
        charts=tuple(_charts(rows)),
        progress=_progress(run, requests),
    )


def settings(run: Run, recipe: recipes.Recipe) -> Iterable[page.Setting]:
    """Every setting; a derived one with the reason that stands beside it in the run's recipe."""
    text = run.recipe.read_text(encoding="utf-8")
    written = tomllib.loads(text)
    reasons = recipes.comments(text)
    for section, content in recipe.model_dump(mode="json").items():
        if isinstance(content, list):
            yield from _of_tables(section, content)
            continue
        for key, value in content.items():
            name = f"{section}.{key}"
            given = key in written.get(section, {})
            origin = "derived" if name in reasons else "asked" if given else "default"
            yield page.Setting(name, _said(value), reasons.get(name, ""), origin)


def machine_facts() -> tuple[page.Fact, ...]:
    """The machine, as a page says it."""
    here = machine()
    facts = {
        "device": f"{here.device} {here.name}".strip(),
        "cores": str(here.cores),
        "memory": f"{here.memory_gb:.0f} GB",
    }
    return tuple(page.Fact(label, value) for label, value in facts.items())


def snippets(run: Run, recipe: recipes.Recipe, prompt: str) -> tuple[page.Snippet, ...]:
    """How to draw with what was trained, on the command line and in plain diffusers."""
    full = recipe.model.method == "full"
    pico = recipe.model.base == "pico" and not full
    base = "bespoke.models.PICO" if pico else repr(relative(run.model) if full else recipe.model.base)
    lines = ["import torch", "from diffusers import DiffusionPipeline"]
    lines += ["import bespoke.models", ""] if pico else [""]
    drawing = recipe.sample.model_dump(include={"num_inference_steps", "guidance_scale"})
    lines.append(f"pipe = DiffusionPipeline.from_pretrained({base})")
    if recipe.model.method in LORA:
        lines.append(f"pipe.load_lora_weights({relative(run.root)!r}, weight_name={run.adapter.name!r})")
    elif recipe.model.adapts:
        lines[2:3] = ["from pathlib import Path", "import bespoke.models", *([] if pico else [""])]
        lines.append(f"bespoke.models.load_adapter(pipe, Path({relative(run.adapter)!r}), {recipe.model.base!r})")
    if recipe.train.rescale_betas_zero_snr and not full:
        rescaled = ", ".join(f"{key}={value!r}" for key, value in RESCALED.items())
        lines.append(f"pipe.scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config, {rescaled})")
    end = recipe.sample.guidance_end
    if end < 1:
        lines.append(f"# The recipe's guidance_end, {end:g}, is no setting of diffusers: here all steps are guided.")
    lines += [
        f"settings = {drawing!r}",
        f"picture = pipe({prompt!r}, generator=torch.Generator().manual_seed(0), **settings).images[0]",
    ]
    command = f"bespoke sample {shlex.quote(relative(run.root))} {shlex.quote(prompt)} --n 3"
    return page.Snippet("On the command line", command), page.Snippet("In diffusers", "\n".join(lines))


class Live:
    """The page of a training that goes on, written anew now and then, for as little of the time as nobody notices."""

    SECONDS, SHARE = 5.0, 0.02
    """Least time between two writings, and most of the training's time that they take."""

    def __init__(self, run: Run, requests: Sequence[Request], step: int, steps: int) -> None:
        self._run, self._requests, self._steps = run, requests, steps
        self._first, self._began, self._next = step, time.monotonic(), 0.0

    def show(self, step: int) -> None:
        """Writes the page, if it was not written just now."""
        begun = time.monotonic()
        if begun < self._next:
            return
        made, left = step - self._first, None
        if made > 0:
            left = (self._steps - step) * (begun - self._began) / made
        self._write(step, "training", left, refresh=10)
        ended = time.monotonic()
        self._next = ended + max(self.SECONDS, (ended - begun) / self.SHARE)

    def leave(self, step: int, why: str) -> None:
        """Writes the page of a training that stops before its end: nothing will change any more."""
        command = f"bespoke train --resume {shlex.quote(relative(self._run.root))}"
        self._write(step, why, None, command=command)

    def _write(self, step: int, words: str, left: float | None, **more: Any) -> None:
        now = datetime.now().astimezone()
        write(self._run, self._requests, now=page.Now(words, step, self._steps, now, left, **more))


def _prompt(recipe: recipes.Recipe, requests: Sequence[Request]) -> str:
    trigger = recipe.text.trigger or ""
    return requests[0].prompt if requests else f"{trigger} of a city" if trigger else "a city"


def _curve(rows: Rows, event: str, key: str, name: str) -> Curve | None:
    return _points(name, [(row["step"], row.get(key)) for row in rows if row["event"] == event])


def _points(name: str, found: Iterable[tuple[int, float | None]]) -> Curve | None:
    """A curve; what was no number is one that no plot shows."""
    points = [(int(step), math.nan if value is None else float(value)) for step, value in found]
    return Curve(name, tuple(step for step, _ in points), tuple(value for _, value in points)) if points else None


def _list(rows: Rows, key: str) -> tuple[Curve, ...]:
    """A curve for each place of a field that is a list."""
    found = [(row["step"], row[key]) for row in rows if row.get(key)]
    places = min((len(values) for _, values in found), default=0)
    curves = [_points(f"{key} {n}", [(step, values[n]) for step, values in found]) for n in range(places)]
    return tuple(curve for curve in curves if curve)


def _gap(rows: Rows) -> tuple[Curve, Curve, Curve] | None:
    curves = _list(rows, "gap")
    return (curves[0], curves[1], curves[2]) if len(curves) == 3 else None


def _others(rows: Rows) -> tuple[Curve, ...]:
    measured = [row for row in rows if row["event"] == "validated"]
    names = dict.fromkeys(str(name) for row in measured for name in row["others"])
    titles: dict[str, str] = {"probe": "training pictures"}
    curves = (_points(titles.get(n) or n, [(row["step"], row["others"].get(n)) for row in measured]) for n in names)
    return tuple(curve for curve in curves if curve)


def _charts(rows: Rows) -> Iterable[page.Chart]:
    for event, key, title, words in CHARTS:
        curve = _curve(rows, event, key, title)
        if curve and any(curve.values):
            yield page.Chart(title, words, curve)


def _progress(run: Run, requests: Sequence[Request]) -> page.Progress | None:
    drawn = columns(run, requests)
    if not drawn:
        return None
    rows = tuple((r.prompt, tuple(column.pictures[n] for column in drawn)) for n, r in enumerate(requests))
    return page.Progress(tuple(column.head for column in drawn), rows, run.samples / "progress.png")


def _notes(rows: Rows, best: int | None) -> Iterable[str]:
    """Which step is best, and what the gap says, each as a sentence."""
    measured = {row["step"]: row for row in rows if row["event"] == "validated"}
    if not measured:
        return
    if not best:
        yield "No measurement was better than the base so far."
    else:
        gain = -100 * math.expm1(measured[best]["log_ratio"])
        yield f"Step {best} is the best: held back pictures are predicted {gain:.1f} % better than by the base."
    at = best or max(measured)
    gap = measured[at].get("gap")
    if not gap or at == 0 or None in gap:
        return
    low, middle, high = (_percent(100 * math.expm1(value)) for value in gap)
    figures = f"{middle} (95 %: {low} to {high})"
    if gap[0] > 0:
        yield f"At step {at} training pictures are {figures} ahead of held back ones: they begin to be learnt by heart."
    elif gap[2] < 0:
        yield f"At step {at} held back pictures are ahead of training pictures, by chance or an easy split: {figures}."
    else:
        yield f"At step {at} training pictures are not clearly ahead of held back ones: {figures}."


def _percent(value: float) -> str:
    return f"{value:z.1f} %".replace("-", "\N{MINUS SIGN}")


def _of_tables(section: str, tables: list[dict[str, Any]]) -> Iterable[page.Setting]:
    """What the tables of a list, such as [[stage]], say."""
    for number, values in enumerate(tables, start=1):
        for key, value in values.items():
            if value is not None:
                yield page.Setting(f"{section} {number}: {key}", _said(value), "", "asked")


def _said(value: object) -> str:
    """A value as the page shows it; of a list of prompts the first, and how many; of a URL no password."""
    if isinstance(value, str) and urlsplit(value).netloc:
        return shown(value)
    if not isinstance(value, list):
        return str(value)
    return f"{len(value)} prompts, the first: {value[0]}" if value else "none"
