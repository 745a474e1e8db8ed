"""`bespoke data …`: words typed in a shell turned into the verbs about datasets."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from bespoke.cli.display import result
from bespoke.cli.options import Debug, Json, RecipeFile, Set, working
from bespoke.errors import BespokeError
from bespoke.records import Dataset
from bespoke.workspace import relative

dataset_app = typer.Typer(help="Datasets: in, checked, cleaned, out.", no_args_is_help=True, rich_markup_mode=None)
Folder = Annotated[Path, typer.Argument(metavar="DATASET", help="A dataset's folder.")]


@dataset_app.command("import")
def import_data(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A folder, an archive, a Parquet file or a URL.")],
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="The dataset's folder, new or begun.")],
    recipe: RecipeFile = None,
    settings: Set = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """A checked dataset from pictures with captions; what each file became is in its dataset.json."""
    with working(debug=debug) as bars:
        from bespoke.pipeline.datasets import import_data as run

        made = run(source, dataset, recipe=recipe, overrides=settings or (), report=bars)
    result({"dataset": dataset, **counts(made)}, f"{became(made)}\nDataset: {relative(dataset)}", as_json=as_json)


@dataset_app.command("inspect")
def inspect_data(
    dataset: Folder, recipe: RecipeFile = None, settings: Set = None, as_json: Json = False, debug: Debug = False
) -> None:
    """What the rules of the recipe find fault with; nothing is moved. All that is known stands in facts.parquet."""
    with working(debug=debug) as bars:
        from bespoke.pipeline.datasets import inspect_data as run

        seen = run(dataset, recipe=recipe, overrides=settings or (), report=bars)
    pictures = [
        {"file": item.picture.file, "set_aside": item.judgement.verdict is not None, "rules": item.rules}
        for item in seen.pictures
        if item.rules
    ]
    content = {**counts(seen.dataset), "facts": dataset / "facts.parquet", "findings": seen.findings}
    result({**content, "pictures": pictures}, _found(seen.findings, len(seen.pictures)), as_json=as_json)


@dataset_app.command("report")
def report_data(
    dataset: Folder,
    out: Annotated[Path | None, typer.Option("--out", help="Folder of the page instead of DATASET/report.")] = None,
    recipe: RecipeFile = None,
    settings: Set = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """A page to open: what came in, what was set aside and why, figures, captions, and advice. Nothing is moved."""
    with working(debug=debug) as bars:
        from bespoke.pipeline.describe import report_data as run

        made = run(dataset, out=out, recipe=recipe, overrides=settings or (), report=bars)
    advice = [asdict(each) for each in made.advice]
    words = "".join(f"\n  {each.finding}" for each in made.advice)
    content = {"report": made.report, **counts(made.dataset), "advice": advice}
    result(content, f"{became(made.dataset)}{words}\nReport: {relative(made.report)}", as_json=as_json)


@dataset_app.command("clean")
def clean_data(
    dataset: Folder, recipe: RecipeFile = None, settings: Set = None, as_json: Json = False, debug: Debug = False
) -> None:
    """The rules of the recipe applied to all that a dataset holds; what they set aside no more comes back."""
    with working(debug=debug) as bars:
        from bespoke.pipeline.datasets import clean_data as run

        made = run(dataset, recipe=recipe, overrides=settings or (), report=bars)
    result({"dataset": dataset, **counts(made)}, became(made), as_json=as_json)


@dataset_app.command("restore")
def restore_data(
    dataset: Folder,
    wanted: Annotated[
        list[str] | None, typer.Argument(metavar="NAME…", help="Files in set-aside/, or reasons such as blurry.")
    ] = None,
    recipe: RecipeFile = None,
    settings: Set = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Pictures brought back from set-aside/; no rule sets them aside again."""
    with working(debug=debug):
        from bespoke.pipeline.datasets import restore_data as run

        if not wanted:
            raise BespokeError(
                "Nothing is named to restore.", 'Name files in set-aside/, or a reason such as "blurry".'
            )
        made = run(dataset, wanted, recipe=recipe, overrides=settings or ())
    result({"dataset": dataset, **counts(made)}, became(made), as_json=as_json)


@dataset_app.command("export")
def export_data(
    dataset: Folder,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A new folder.")],
    layout: Annotated[str, typer.Option("--as", help="imagefolder, kohya, everydream2 or parquet.")] = "imagefolder",
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """A dataset's pictures and captions as other trainers read them."""
    with working(debug=debug):
        from bespoke.pipeline.datasets import export_data as run

        done = run(dataset, out, layout)
    words = ", ".join(f"{count} pictures for {part}" for part, count in done.pictures.items())
    result({"folder": done.folder, "pictures": done.pictures}, f"{words} in {relative(out)}", as_json=as_json)


def counts(dataset: Dataset) -> dict[str, object]:
    """How many files came in, were kept and were set aside for each reason, for JSON."""
    return {"files": dataset.files, "kept": len(dataset.pictures), "set_aside": dataset.reasons()}


def became(dataset: Dataset) -> str:
    """The same in words."""
    aside = "".join(f"\n  {count} {reason}" for reason, count in dataset.reasons().items())
    doubtful = sum(bool(picture.doubts) for picture in dataset.pictures)
    doubts = f"\n{doubtful} of those kept are doubtful: see bespoke data inspect" if doubtful else ""
    return f"{dataset.files} files: {len(dataset.pictures)} kept, {len(dataset.set_aside)} set aside{aside}{doubts}"


def _found(findings: dict[str, int], pictures: int) -> str:
    lines = [f"{pictures} pictures, set-aside ones among them"]
    lines += [f"  {count} {rule}" for rule, count in findings.items()]
    return "\n".join(lines if findings else [*lines, "  no rule finds fault with any"])
