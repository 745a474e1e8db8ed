"""`bespoke words …`: what is typed in a shell turned into the verbs about new words of a model."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from bespoke.cli.display import result
from bespoke.cli.options import Debug, Json, RecipeFile, Set, working
from bespoke.workspace import relative

words_app = typer.Typer(
    help="New words of a model: found, made, looked up.", no_args_is_help=True, rich_markup_mode=None
)
Folder = Annotated[Path, typer.Argument(metavar="DATASET", help="A dataset's folder.")]
Out = Annotated[Path | None, typer.Option("--out", help="The folder of the results instead of words/ in the project.")]


@words_app.command("build")
def build_words(
    dataset: Folder,
    out: Out = None,
    recipe: RecipeFile = None,
    settings: Set = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Words of the captions that are worth a token of their own, with their rows, and a page that says why."""
    with working(debug=debug) as bars:
        from bespoke.cli import vocabulary
        from bespoke.pipeline.coining import build_words as run

        made = run(dataset, out=out, recipe=recipe, overrides=settings or (), report=bars)
    result(vocabulary.built_content(made), vocabulary.built(made), as_json=as_json)


@words_app.command("show")
def show_word(
    dataset: Folder,
    word: Annotated[str, typer.Argument(metavar="WORD", help="A word, or a term of several in quotation marks.")],
    out: Out = None,
    recipe: RecipeFile = None,
    settings: Set = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """What is known of a word: its pieces, who knows it, its neighbours, and why it is a new token or is none."""
    with working(debug=debug) as bars:
        from bespoke.cli import vocabulary
        from bespoke.pipeline.lookup import show_word as run

        shown = run(dataset, word, out=out, recipe=recipe, overrides=settings or (), report=bars)
    content = asdict(shown) | {"neighbours": [{"word": name, "cosine": c} for name, c in shown.neighbours]}
    result(content, vocabulary.explained(shown), as_json=as_json)


@words_app.command("export")
def export_words(
    source: Annotated[Path, typer.Argument(metavar="WORDS", help="A words.safetensors, or a run, project or dataset.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A new folder.")],
    form: Annotated[str, typer.Option("--as", help="a1111 (Forge and ComfyUI, too), diffusers, or model.")] = "a1111",
    base: Annotated[str, typer.Option(help="With model: where the base is now, if its place has changed.")] = "",
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """New words as other programs read them: a textual inversion each, or the base with them as a whole model."""
    with working(debug=debug):
        from bespoke.pipeline.exchange import export_words as run

        done = run(source, out, form, base=base)
    what = f"{len(done.files)} files" if done.files else "A whole model"
    content = {"folder": done.folder, "form": done.form, "files": done.files, "words": done.words, "how": done.how}
    result(
        content, "\n".join((f"{what} in {relative(done.folder)}", *(f"  {line}" for line in done.how))), as_json=as_json
    )


@words_app.command("import")
def import_words(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE… OUT", help="Textual inversions, then a new .safetensors.")
    ],
    base: Annotated[str, typer.Option(help="The model that they were made for.")] = "pico",
    surface: Annotated[str, typer.Option("--as", metavar="WORD", help="What a single one is called in prompts.")] = "",
    pickled: Annotated[
        bool, typer.Option("--pickled", help="Read .pt and .bin, too: their tensors, and nothing else in them.")
    ] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Textual inversions of A1111, kohya and diffusers as new words, to train and to draw with."""
    with working(debug=debug):
        from bespoke.errors import BespokeError
        from bespoke.pipeline.inversions import import_words as run

        if len(files) < 2:
            raise BespokeError("There is nothing to import.", "bespoke words import FILE OUT.safetensors --base MODEL")
        done = run(files[:-1], files[-1], base=base, surface=surface, pickled=pickled)
    what = f"{relative(done.file)}: {', '.join(done.words)}, for {done.base}."
    result(asdict(done), f"{what}\nDraw with: bespoke sample {base} --words {relative(done.file)} …", as_json=as_json)
