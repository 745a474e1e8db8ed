"""`bespoke models …`: what is typed in a shell turned into the verbs about files of models and adapters."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from bespoke.cli.display import result
from bespoke.cli.options import Debug, Json, Store, working
from bespoke.workspace import relative

models_app = typer.Typer(
    help="Versions of models: registered, promoted, compared. Files of models: read, written, merged, made smaller.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
Dtype = Annotated[str, typer.Option("--dtype", help="fp32, fp16 or bf16.")]


@models_app.command("inspect")
def inspect_model(
    source: Annotated[str, typer.Argument(metavar="FILE_OR_MODEL", help="A file, a folder, a run, or pico.")],
    store: Store = "",
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """What a file or model is, what it says of itself, and what can load it; only headers are read."""
    with working(debug=debug, store=store):
        from bespoke.pipeline.passports import inspect_model as run

        found = run(source)
    lines = [f"{name:<12}{said}" for name, said in found.lines()]
    result(asdict(found), "\n".join(lines), as_json=as_json)


@models_app.command("export")
def export_model(
    source: Annotated[str, typer.Argument(metavar="RUN", help="A run, RUN@last, RUN@epoch-9, or a whole model.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A new .safetensors file, or a folder.")],
    form: Annotated[
        str, typer.Option("--as", help="kohya, comfyui, diffusers, model, single-file, onnx or openvino.")
    ] = "kohya",
    dtype: Dtype = "fp32",
    licence: Annotated[str, typer.Option("--license", help="What to say of the licence in the file.")] = "",
    tags: Annotated[
        bool,
        typer.Option("--tag-frequency", help="Also write what the captions say, and how often (ss_tag_frequency)."),
    ] = False,
    store: Store = "",
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """A run's adapter or model as other programs load it; loaded again, and drawn with, before success is said."""
    with working(debug=debug, store=store) as bars:
        from bespoke.pipeline.export import export_model as run

        done = run(source, out, form, dtype=dtype, licence=licence, tags=tags, report=bars)
    near = done.likeness
    checked = f"Loaded again by {near.loader}: its pictures are {near.mean:.2f} of 255 levels from the model's own"
    checked += f" (the base's are {near.effect:.1f} away)." if near.effect else "."
    content = {
        "path": done.path, "form": done.form, "dtype": done.dtype, "metadata": done.metadata,
        "checked": asdict(near), "words": done.words, "how": done.how, "parity": dict(done.parity),
    }  # fmt: skip
    if done.parity:
        name, most = max(done.parity.items(), key=lambda pair: pair[1])
        checked += f" On random inputs its networks answer as torch's to {most:.0e} ({name} differs most)."
    lines = (f"Written: {relative(done.path)}", checked, *(f"  {line}" for line in done.how))
    beside = f"New words are in {relative(done.words[0].parent)}." if done.words else ""
    result(content, "\n".join((*lines, *filter(None, [beside]))), as_json=as_json)


@models_app.command("import")
def import_file(
    source: Annotated[str, typer.Argument(metavar="FILE", help="A whole model in one .safetensors file.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A new folder.")],
    config: Annotated[Path | None, typer.Option(help="A folder whose settings to take, for other shapes.")] = None,
    ckpt: Annotated[bool, typer.Option("--ckpt", help="Read a .ckpt: its tensors, and nothing else in it.")] = False,
    ema: Annotated[bool, typer.Option("--ema", help="Take the running average that the file holds, too.")] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """A model in one file as a folder in diffusers' layout, without the internet."""
    with working(debug=debug):
        from bespoke.pipeline.unpack import import_model as run

        done = run(source, out, config=config, ckpt=ckpt, ema=ema)
    both = {
        "weights": ". Its running average (EMA) was left: --ema takes that",
        "average": ", its running average (EMA)",
    }
    left = ". T5 was left out, for its vocabulary is not in the file: --config FOLDER of a model that has it takes it"
    told = f"{done.family} in {done.dtype} is in {relative(done.path)}{both.get(done.which, '')}"
    told += left if done.left_out else ""
    result(asdict(done), told, as_json=as_json)


@models_app.command("convert")
def convert_model(
    source: Annotated[str, typer.Argument(metavar="IN", help="A model's file or folder, or a LoRA's file.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A new .safetensors file or folder.")],
    form: Annotated[str, typer.Option("--as", help="Of a LoRA: kohya or diffusers; by default the other one.")] = "",
    dtype: Annotated[str, typer.Option("--dtype", help="fp32, fp16 or bf16; by default a file's own.")] = "",
    base: Annotated[str, typer.Option(help="A LoRA's model, where its layers are of an unknown kind.")] = "",
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """A file as a folder, a folder as a file, a LoRA in another program's form; read again before success is said."""
    with working(debug=debug) as bars:
        from bespoke.pipeline.convert import convert_model as run

        done = run(source, out, form=form, dtype=dtype, base=base, report=bars)
    result(asdict(done), f"Written: {relative(done.path)} ({done.what})\n{done.checked}", as_json=as_json)


Out = Annotated[Path, typer.Argument(metavar="OUT", help="A new .safetensors file.")]
Model = Annotated[str, typer.Argument(metavar="MODEL", help="A run, pico, a folder or a hub id.")]


@models_app.command("merge")
def merge_models(
    model: Model,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A new folder.")],
    add: Annotated[str, typer.Option(metavar="B", help="Add WEIGHT · (B - C), or B - MODEL without --minus.")] = "",
    minus: Annotated[str, typer.Option(metavar="C", help="What is taken from B first.")] = "",
    weight: Annotated[float, typer.Option(help="How much of it is added.")] = 1.0,
    blocks: Annotated[
        str, typer.Option(metavar="W,W,…", help="How much in IN00…IN11,M00,OUT00…OUT11; WEIGHT is the text encoder's.")
    ] = "",
    store: Store = "",
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """A whole model with its adapter worked in, or MODEL + WEIGHT · (B - C) of whole models."""
    with working(debug=debug, store=store):
        from bespoke.pipeline.surgery import merge_models as run

        done = run(model, out, add=add, minus=minus, weight=weight, blocks=blocks)
    result(asdict(done), f"{done.formula} is in {relative(done.path)}", as_json=as_json)


@models_app.command("extract")
def extract_lora(
    model: Model,
    out: Out,
    base: Annotated[str, typer.Option(help="What the model was tuned from.")],
    rank: Annotated[int, typer.Option(help="The LoRA's rank.", min=1)] = 16,
    store: Store = "",
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """A LoRA, in kohya's form, from a model whose weights were all trained; says what it lacks of the change."""
    with working(debug=debug, store=store):
        from bespoke.pipeline.surgery import extract_lora as run

        done = run(model, out, base=base, rank=rank)
    words = (
        f"{relative(done.path)}: rank {done.rank} on {done.layers} layers; {done.error:.1%} of the change is missing"
    )
    words += f", {done.outside:.1%} lies in what no LoRA holds" if done.outside else ""
    result(asdict(done), f"{words}.\n{_worst(done.errors)}", as_json=as_json)


@models_app.command("resize")
def resize_lora(
    source: Annotated[str, typer.Argument(metavar="LORA", help="A run, or a file.")],
    out: Out,
    rank: Annotated[int, typer.Option(help="The new rank; a larger one than it has changes nothing.", min=1)],
    base: Annotated[str, typer.Option(help="The model that a file belongs to.")] = "",
    store: Store = "",
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """A LoRA at a smaller rank, in kohya's form; says what is lost."""
    with working(debug=debug, store=store):
        from bespoke.pipeline.surgery import resize_lora as run

        done = run(source, out, rank=rank, base=base)
    words = f"{relative(done.path)}: rank {done.rank} on {done.layers} layers; {done.error:.1%} of the change is lost."
    result(asdict(done), f"{words}\n{_worst(done.errors)}", as_json=as_json)


def _worst(errors: Mapping[str, float], most: int = 5) -> str:
    """The layers that lose most, a line each."""
    worst = sorted(errors.items(), key=lambda pair: -pair[1])[:most]
    return "\n".join(f"  {error:6.1%} {layer}" for layer, error in worst)
