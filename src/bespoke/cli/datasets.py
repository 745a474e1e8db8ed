"""`bespoke data …`: words typed in a shell turned into the verbs about datasets."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from bespoke.cli.display import result
from bespoke.cli.options import PREVIEW, Debug, Json, Previewing, RecipeFile, Set, working
from bespoke.errors import BespokeError
from bespoke.records import MOST_GENERATED, Dataset
from bespoke.workspace import relative

dataset_app = typer.Typer(help="Datasets: in, checked, cleaned, out.", no_args_is_help=True, rich_markup_mode=None)
Folder = Annotated[Path, typer.Argument(metavar="DATASET", help="A dataset's folder.")]


@dataset_app.command("import")
def import_data(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE", help="A folder, archive, shards, table of URLs, URL, hub id or feedback:PATH."
        ),
    ],
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


@dataset_app.command("collect")
def collect(
    query: Annotated[str, typer.Argument(metavar="WORDS", help='What is searched for: "8bit illustration".')],
    dataset: Annotated[
        Path | None, typer.Argument(metavar="[DATASET]", help="The dataset's folder; by default named after the words.")
    ] = None,
    count: Annotated[int, typer.Option("--count", help="How many pictures.")] = 100,
    recipe: RecipeFile = None,
    settings: Set = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """A checked dataset of pictures that a search engine finds, each with its licence, author and page if known."""
    with working(debug=debug) as bars:
        from bespoke.pipeline.collect import collect as run

        made = run(query, dataset, count=count, recipe=recipe, overrides=settings or (), report=bars)
    content = {"dataset": made.folder, "table": made.table, **counts(made.dataset)}
    told = f"{became(made.dataset)}\nFound: {relative(made.table)}\nDataset: {relative(made.folder)}"
    result(content, told, as_json=as_json)


@dataset_app.command("inspect")
def inspect_data(
    dataset: Folder, recipe: RecipeFile = None, settings: Set = None, as_json: Json = False, debug: Debug = False
) -> None:
    """What the rules of the recipe find fault with; nothing is moved. All that is known stands in facts.parquet."""
    with working(debug=debug) as bars:
        from bespoke.pipeline.inspection import inspect_data as run

        seen = run(dataset, recipe=recipe, overrides=settings or (), report=bars)
    pictures = [
        {"file": item.picture.file, "set_aside": item.judgement.verdict is not None, "rules": item.rules}
        for item in seen.pictures
        if item.rules
    ]
    content = {**counts(seen.dataset), "facts": dataset / "facts.parquet", "findings": seen.findings}
    content |= {"models": seen.asked.models, "absent": seen.asked.absent, "pictures": pictures}
    told = "\n".join((_found(seen.findings, len(seen.pictures)), *_asked(seen.asked.models), *seen.asked.absent))
    result(content, told, as_json=as_json)


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
    told = "".join(f"\n  {each.finding}" for each in made.advice)
    content = {"report": made.report, **counts(made.dataset), "advice": advice}
    result(content, f"{became(made.dataset)}{told}\nReport: {relative(made.report)}", as_json=as_json)


@dataset_app.command("clean")
def clean_data(
    dataset: Folder, recipe: RecipeFile = None, settings: Set = None, as_json: Json = False, debug: Debug = False
) -> None:
    """The rules of the recipe applied to all that a dataset holds; what they set aside no more comes back."""
    with working(debug=debug) as bars:
        from bespoke.pipeline.inspection import clean_data as run

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


@dataset_app.command("split")
def split_data(
    dataset: Folder, recipe: RecipeFile = None, settings: Set = None, as_json: Json = False, debug: Debug = False
) -> None:
    """Pictures to learn from and pictures held back, as the recipe says; what belongs together stays together."""
    with working(debug=debug) as bars:
        from bespoke.cli import sentences
        from bespoke.pipeline.datasets import split_data as run

        done = run(dataset, recipe=recipe, overrides=settings or (), report=bars)
    parts = {part: len(done.dataset.part(part)) for part in ("train", "validation")}
    pictures = [{"file": p.file, "split": p.split, "reason": p.split_reason} for p in done.dataset.pictures]
    content = {"dataset": dataset, **parts, "moved": [p.file for p in done.moved], "pictures": pictures}
    result(content, sentences.divided(done), as_json=as_json)


@dataset_app.command("balance")
def balance_data(
    dataset: Folder,
    apply: Annotated[bool, typer.Option("--apply", help="Write the proposal into train/metadata.csv.")] = False,
    reset: Annotated[bool, typer.Option("--reset", help="Let pictures count as they did before balancing.")] = False,
    recipe: RecipeFile = None,
    settings: Set = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """What part of the training each category, subject or colour takes, and repeats that even it out."""
    with working(debug=debug) as bars:
        from bespoke.cli import sentences
        from bespoke.pipeline.datasets import balance_data as run
        from bespoke.pipeline.datasets import unbalance_data

        if apply and reset:
            raise BespokeError("--apply and --reset contradict each other.", "Give one of them.")
        changed = unbalance_data(dataset)[1] if reset else 0
        made = run(dataset, apply=apply, recipe=recipe, overrides=settings or (), report=bars)
    shares = {way: [asdict(share) for share in found] for way, found in made.shares.items()}
    changes = [{"file": p.file, "repeats": p.repeats, "weight": p.weight} for p in made.changed]
    content = {"dataset": dataset, "by": made.by, "shares": shares, "applied": apply, "changes": changes}
    told = f"{sentences.counted(changed, 'picture')} as before balancing.\n" if reset else ""
    result({**content, "reset": changed}, told + sentences.balanced(made, applied=apply), as_json=as_json)


@dataset_app.command("shrink")
def shrink_data(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="What can be imported, or a dataset's folder.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A new folder, or one that was begun.")],
    side: Annotated[int, typer.Option(help="Pixels of the longest side; nothing is enlarged.")] = 1024,
    format_: Annotated[str, typer.Option("--format", help="jpeg, png or webp.")] = "webp",
    quality: Annotated[int, typer.Option(help="Of JPEG and WebP, 1 to 100.")] = 90,
    recipe: RecipeFile = None,
    settings: Set = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Smaller working copies with their captions, to import in place of the originals, which stay as they are."""
    with working(debug=debug) as bars:
        from bespoke.cli import sentences
        from bespoke.pipeline.datasets import shrink_data as run

        how: dict[str, Any] = {"recipe": recipe, "overrides": settings or (), "report": bars}
        done = run(source, out, side=side, format=format_, quality=quality, **how)
    made = done.made
    content = {
        "folder": made.folder, "pictures": made.pictures, "as_they_were": made.as_they_were,
        "bytes_before": made.bytes_before, "bytes_after": made.bytes_after, "left_out": made.left_out,
        "too_short": done.too_short,
    }  # fmt: skip
    result(content, sentences.shrunk(done), as_json=as_json)


@dataset_app.command("caption", cls=Previewing)
def caption_data(
    dataset: Folder,
    preview: Annotated[
        int | None,
        typer.Option(
            PREVIEW, min=1, help="Show so many pictures, or 5, with captions under several settings; change none."
        ),
    ] = None,
    recipe: RecipeFile = None,
    settings: Set = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Pictures put into words by a captioner: those without a caption or, if the recipe says so, all of them."""
    with working(debug=debug) as bars:
        from bespoke.pipeline.caption import caption_data as run
        from bespoke.pipeline.caption import preview_captions

        if preview is not None:
            page = preview_captions(dataset, preview, recipe=recipe, overrides=settings or (), report=bars)
            result({"preview": page}, f"Captions to choose from: {relative(page)}", as_json=as_json)
            return
        done = run(dataset, recipe=recipe, overrides=settings or (), report=bars)
    examples = "".join(f"\n  {file}: {text}" for file, text in done.examples)
    kept = "\nCaptions that are there were kept; to change them: --set caption.existing=replace, or extend"
    what = f"{done.pictures} picture{'s' * (done.pictures != 1)} put into words by {done.captioner}"
    words = f"{what}{examples if done.pictures else kept}"
    content = {"dataset": dataset, "captioned": done.pictures, "captioner": done.captioner, **counts(done.dataset)}
    result(content, f"{words}\n{became(done.dataset)}", as_json=as_json)


@dataset_app.command("augment", cls=Previewing)
def augment_data(
    dataset: Folder,
    preview: Annotated[
        int | None, typer.Option(PREVIEW, min=1, help="Show so many pictures, or 5, as training would; change none.")
    ] = None,
    images: Annotated[bool, typer.Option("--images", help="Show the versions of pictures only.")] = False,
    captions: Annotated[bool, typer.Option("--captions", help="Show the wordings of captions only.")] = False,
    recipe: RecipeFile = None,
    settings: Set = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Pictures and captions beside the versions and wordings of them that training would see, on a page."""
    with working(debug=debug) as bars:
        if preview is None:
            hint = "See what it would be: bespoke data augment DATASET --preview"
            raise BespokeError("A training varies what it encodes; there is nothing to do before.", hint)
        from bespoke.cli import sentences
        from bespoke.pipeline.augment import augment

        both = images == captions
        made = augment(
            dataset, preview, images=images or both, captions=captions or both, recipe=recipe, overrides=settings or (),
            report=bars,
        )  # fmt: skip
    pictures = [
        {
            "file": s.picture.file, "caption": s.picture.text, "versions": [asdict(each) for each, _ in s.versions],
            "wordings": made.wordings.others(s.picture),
        }
        for s in made.pictures
    ]  # fmt: skip
    content = {
        "preview": made.preview, "varied": made.varied, "notes": made.notes, "pictures": pictures,
        "refused": made.wordings.reasons(),
    }  # fmt: skip
    result(content, sentences.augmented(made), as_json=as_json)


@dataset_app.command("export")
def export_data(
    dataset: Folder,
    out: Annotated[str, typer.Argument(metavar="OUT", help="A new folder or, for shards, a URL.")],
    layout: Annotated[
        str, typer.Option("--as", help="imagefolder, kohya, everydream2, parquet or webdataset.")
    ] = "imagefolder",
    shard_size: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Pictures in one file of parquet or webdataset: 256MB.")
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """A dataset's pictures and captions as other trainers read them."""
    with working(debug=debug) as bars:
        from bespoke.pipeline.datasets import export_data as run

        done = run(dataset, out, layout, shard_size=shard_size, report=bars)
    told = ", ".join(f"{count} pictures for {part}" for part, count in done.pictures.items())
    left = f"\nThis layout cannot say: {', '.join(done.unsaid)}." if done.unsaid else ""
    where = done.folder if isinstance(done.folder, str) else relative(done.folder)
    content = {"folder": done.folder, "pictures": done.pictures, "unsaid": done.unsaid}
    result(content, f"{told} in {where}{left}", as_json=as_json)


def counts(dataset: Dataset) -> dict[str, object]:
    """How many files came in, were kept and were set aside for each reason, and a model's own share, for JSON."""
    came = {"files": dataset.files, "kept": len(dataset.pictures), "set_aside": dataset.reasons()}
    return {**came, "generated": dataset.generated}


def became(dataset: Dataset) -> str:
    """The same in words."""
    aside = "".join(f"\n  {count} {reason}" for reason, count in dataset.reasons().items())
    doubtful = sum(bool(picture.doubts) for picture in dataset.pictures)
    doubts = f"\n{doubtful} of those kept are doubtful: see bespoke data inspect" if doubtful else ""
    own = f"\n{_own(dataset)}" if dataset.generated else ""
    kept, gone = len(dataset.pictures), len(dataset.set_aside)
    return f"{dataset.files} files: {kept} kept, {gone} set aside{aside}{doubts}{own}"


def _own(dataset: Dataset) -> str:
    """How much of the training a model's own pictures are, and that it is too much where it is."""
    told = f"{dataset.generated:.1%} of the training pictures were drawn by a model of ours"
    if dataset.generated <= MOST_GENERATED:
        return f"{told}."
    return f"{told}, more than {MOST_GENERATED:.0%}: models that learn from themselves get worse. Add others."


def _asked(models: dict[str, str]) -> tuple[str, ...]:
    named = ", ".join(f"{name} ({key.replace('_', ' ')})" for key, name in models.items())
    return (f"Looked at by {named}",) if named else ()


def _found(findings: dict[str, int], pictures: int) -> str:
    lines = [f"{pictures} pictures, set-aside ones among them"]
    lines += [f"  {count} {rule}" for rule, count in findings.items()]
    return "\n".join(lines if findings else [*lines, "  no rule finds fault with any"])
