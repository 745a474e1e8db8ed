"""Words typed in a shell turned into the verbs of `bespoke.pipeline`; nothing heavy is loaded before a verb runs."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from bespoke.cli.blind import compare
from bespoke.cli.carried import carried_content, carried_words
from bespoke.cli.datasets import became, counts, dataset_app
from bespoke.cli.display import explained, result
from bespoke.cli.drift import drift
from bespoke.cli.feedback import feedback_app
from bespoke.cli.keys import keys_app
from bespoke.cli.opinions import page
from bespoke.cli.options import Debug, Json, Set, Store, working
from bespoke.cli.plots import grid
from bespoke.cli.propose import propose
from bespoke.cli.scores import evaluate
from bespoke.cli.serving import serve
from bespoke.cli.sweeps import sweep
from bespoke.cli.versions import models_app
from bespoke.cli.words import words_app
from bespoke.errors import BespokeError
from bespoke.workspace import Run, relative

app = typer.Typer(
    help="Customise Stable Diffusion on your own images.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(dataset_app, name="data")
app.add_typer(words_app, name="words")
app.add_typer(models_app, name="models")
app.add_typer(keys_app, name="keys")
feedback_app.command()(drift)
feedback_app.command()(page)
app.add_typer(feedback_app, name="feedback")


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="The folder of the demo's project.")] = Path("demo"),
    settings: Set = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """The whole loop on bundled pictures with pico: minutes on two CPU cores, ends with a report page."""
    with working(debug=debug) as bars:
        from bespoke.pipeline.demo import demo as run

        done = run(out, overrides=tuple(settings or ()), report=bars)
    content = {
        "run": done.run, "report": done.report, "adapter": done.adapter, "pictures": done.pictures,
        "scores": {m: {n: s.to_json() for n, s in scores.items()} for m, scores in done.scores.items()},
        "seconds": done.seconds,
    }  # fmt: skip
    words = f"Done in {sum(done.seconds.values()):.0f} seconds. Open the page:\n  {relative(done.report)}"
    result(content, words, as_json=as_json)


@app.command()
def new(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The project's folder.")],
    images: Annotated[
        str | None, typer.Option(help="Pictures, captions: a folder, archive, shards, table of URLs, URL or hub id.")
    ] = None,
    base: Annotated[str | None, typer.Option(help="pico (the default), a diffusers folder or a hub id.")] = None,
    settings_from: Annotated[
        Path | None,
        typer.Option("--from", metavar="FILE", help="Settings of another trainer: kohya's, OneTrainer's, …"),
    ] = None,
    caption: Annotated[bool, typer.Option("--caption", help="Put into words what has no caption.")] = False,
    settings: Set = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """A project from a folder of pictures: the dataset checked, the recipe written."""
    with working(debug=debug) as bars:
        from bespoke.pipeline.new import new as run

        how: dict[str, Any] = {"base": base, "caption": caption, "settings_from": settings_from}
        made = run(folder, images, **how, overrides=tuple(settings or ()), report=bars)
    content = {"project": made.project, "recipe": made.recipe, **counts(made.dataset)}
    words = f"{became(made.dataset)}\nTrain with:\n  bespoke train {relative(made.recipe)}"
    if made.carried is not None:
        content["carried"] = carried_content(made)
        words = f"{carried_words(made)}\n{words}"
    result(content, words, as_json=as_json)


@app.command()
def train(
    recipe: Annotated[Path | None, typer.Argument(metavar="RECIPE", help="A recipe.toml.")] = None,
    resume: Annotated[
        str | None,
        typer.Option(metavar="RUN", help="Go on with this run instead; RECIPE's project takes one of a URL."),
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Show what it would be, and train nothing.")] = False,
    fit: Annotated[str | None, typer.Option(metavar="SIZE", help="Choose settings for so much memory: 12GB.")] = None,
    fill: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Take the largest batch that fits: 12GB, or all of the GPU's.")
    ] = None,
    time: Annotated[bool, typer.Option("--time", help="With --plan: make a few real steps, and time them.")] = False,
    ray: Annotated[bool, typer.Option("--ray", help="Train by processes of a Ray cluster.")] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="With --ray: how many; by default one a GPU.")] = None,
    cores: Annotated[int, typer.Option(min=1, help="With --ray: processor cores of each.")] = 1,
    settings: Set = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """An adapter or a model from a recipe, or the rest of a run that was stopped; or only the plan of it."""
    with working(debug=debug) as bars:
        fetching = resume is not None and "://" in resume
        if (recipe is None) == (resume is None) and not fetching:
            raise BespokeError("Name either a recipe or a run to resume.", "bespoke train recipe.toml")
        if resume is not None and settings:
            raise BespokeError("A run is resumed as it began; --set cannot change it.", "Start a new run with --set.")
        if resume is not None and (plan or fit or fill):
            raise BespokeError("A run is resumed as it began: there is nothing to plan.", "Name its recipe instead.")
        if time and not plan:
            raise BespokeError("--time belongs to --plan.", "bespoke train recipe.toml --plan --time")
        if not ray and (workers or cores != 1):
            raise BespokeError("--workers and --cores belong to --ray.", "bespoke train recipe.toml --ray --workers 2")
        if plan and recipe is not None:
            _show_plan(recipe, tuple(settings or ()), fit=fit, fill=fill, time=time, as_json=as_json)
            return
        begin, go_on = _on_ray(workers, cores) if ray else _here()
        if resume is not None:
            done = go_on(resume, recipe or "recipe.toml", report=bars)
        else:
            done = begin(recipe, settings or (), fit=fit, fill=fill, report=bars)
    content = {
        "run": done.run, "adapter": done.adapter, "model": done.model, "steps": done.steps, "best_step": done.best_step,
        "words": done.words, "reason": done.reason, "seconds": done.seconds,
    }  # fmt: skip
    kinds = {"Adapter": done.adapter, "Model": done.model, "New words": done.words}
    made = "\n".join(f"{kind}: {relative(path)}" for kind, path in kinds.items() if path)
    words = f"{done.steps} steps; {done.reason}.\n{made}\nPage: {relative(Run(done.run).report)}\nDraw with:\n"
    result(content, f'{words}  bespoke sample {relative(done.run)} "…"', as_json=as_json)


def _here() -> tuple[Callable[..., Any], Callable[..., Any]]:
    """What begins a training and what goes on with one, by this process or those that it was started with."""
    from bespoke.pipeline.train import resume, train

    return train, resume


def _on_ray(workers: int | None, cores: int) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The same by processes of a Ray cluster."""
    from bespoke.pipeline import onray
    from bespoke.scale.group import Team

    team = Team(workers, cores)
    return partial(onray.train, team=team), partial(onray.resume, team=team)


def _show_plan(
    recipe: Path, settings: tuple[str, ...], *, fit: str | None, fill: str | None, time: bool, as_json: bool
) -> None:
    from bespoke.cli.plans import plan_content, planned
    from bespoke.pipeline.plan import plan

    made = plan(recipe, settings, fit=fit, fill=fill, time=time)
    result(plan_content(made), planned(made), as_json=as_json)


@app.command()
def sample(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="pico, a run, RUN@last, RUN@epoch-9, a diffusers folder, a hub id."),
    ] = "",
    prompts: Annotated[list[str] | None, typer.Argument(metavar="PROMPT…", help="What to draw.")] = None,
    file: Annotated[
        Path | None, typer.Option("--prompts", metavar="FILE", help="A text file, one prompt a line.")
    ] = None,
    n: Annotated[int, typer.Option(help="Pictures of each prompt.")] = 1,
    seed: Annotated[int | None, typer.Option(help="Seed of the first picture; the next has the next.")] = None,
    out: Annotated[Path, typer.Option(help="The folder of the pictures.")] = Path("drawn"),
    image: Annotated[Path | None, typer.Option(metavar="FILE", help="A picture to begin with.")] = None,
    mask: Annotated[
        Path | None, typer.Option(metavar="FILE", help="What of it is drawn anew: all that is white.")
    ] = None,
    again: Annotated[
        Path | None, typer.Option("--from", metavar="PICTURE", help="Draw what this picture says it shows once more.")
    ] = None,
    wildcards: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Lists for __names__ in prompts: text files, one choice a line.")
    ] = None,
    loras: Annotated[Path, typer.Option(metavar="DIR", help="Where <lora:name:0.8> looks for name.")] = Path(),
    preview: Annotated[
        bool, typer.Option("--preview", help="Show what is being drawn in preview.png, written anew each second.")
    ] = False,
    words: Annotated[
        list[str] | None, typer.Option("--words", metavar="FILE", help="New words, or a textual inversion; repeatable.")
    ] = None,
    safety_checker: Annotated[bool, typer.Option(help="Use the model's safety checker, where it has one.")] = True,
    settings: Set = None,
    store: Store = "",
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Pictures, one file for each prompt and seed, and a grid."""
    with working(debug=debug, store=store) as bars:
        from bespoke.pipeline.sample import read_prompts, sample_again
        from bespoke.pipeline.sample import sample as run

        wanted = [*(prompts or []), *(read_prompts(file) if file else [])]
        how: dict[str, Any] = {
            "out": out, "image": image, "mask": mask, "loras": loras, "words": words or (),
            "overrides": tuple(settings or ()), "preview": preview, "safety_checker": safety_checker, "report": bars,
        }  # fmt: skip
        if again is not None:
            if wanted or seed is not None or n != 1:
                raise BespokeError("--from takes prompt and seed from the picture.", "Leave the others out.")
            done = sample_again(again, model, **how)
        elif not model:
            raise BespokeError("Name a model to draw with.", 'bespoke sample pico "a red apple"')
        else:
            done = run(model, wanted, n=n, seed=seed, wildcards=wildcards, **how)
    told = f"{len(done.pictures)} pictures in {relative(out)}; together: {relative(done.grid)}"
    result({"pictures": list(done.pictures), "grid": done.grid}, told, as_json=as_json)


app.command()(grid)
app.command()(evaluate)
app.command()(sweep)
app.command()(compare)
app.command()(serve)
feedback_app.command()(propose)


@app.command()
def doctor(as_json: Json = False, debug: Debug = False) -> None:
    """What this machine can do, and what is missing."""
    with explained(debug=debug):
        from bespoke.hardware import free_disk_gb, machine, versions

        here, found = machine(), versions()
        disk = free_disk_gb(Path.cwd())
    missing = [name for name, version in found.items() if version == "missing"]
    precision = "bf16" if here.bf16 else "float32: bfloat16 is not fast here"
    content = {
        "device": here.device, "name": here.name, "cores": here.cores, "memory_gb": round(here.memory_gb, 1),
        "precision": precision, "free_disk_gb": round(disk, 1), "versions": found, "missing": missing,
    }  # fmt: skip
    lines = [
        f"device      {here.device} ({here.name})",
        f"cores       {here.cores}",
        f"memory      {here.memory_gb:.0f} GB",
    ]
    lines += [f"arithmetic  {precision}", f"free disk   {disk:.0f} GB here"]
    lines += [f"{name:<12}{version}" for name, version in found.items()]
    lines.append(f"Missing: {', '.join(missing)}. Install bespoke again." if missing else "Everything needed is here.")
    result(content, "\n".join(lines), as_json=as_json)


def main() -> None:
    """The command `bespoke`; an error that is ours shows its traceback and leaves with 1."""
    app()
