"""Compute which trainings fit which GPU: `python -m benchmarks.fits`; no GPU and no weights are needed.

The largest batch of each kind of training for cards of 8 to 24 GB, by the code that trains, in fake tensors of the real
models' shapes, with the formats of a GPU. Writes `docs/results/fits.json`, row by row, and the page `docs/fits.md`.
Rows that are there are not computed again, unless `--again` says so: `--models SDXL --kinds LoRA --again` computes two.
All took some ten minutes of one quiet core; on a busy one a single step of SDXL took ten processor seconds.
"""

import argparse
import itertools
import json
import tempfile
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pico.families import outline
from proofs import results

from bespoke.diffusion import schedule_of
from bespoke.models import Checkpoint, find, weightless
from bespoke.pipeline.filling import Filling
from bespoke.pipeline.fitting import OVERHEAD
from bespoke.pipeline.processes import accelerator
from bespoke.recipe import Recipe, parse
from bespoke.training.memory import Memory, memory
from bespoke.training.rehearsal import Shapes

GB = 2**30
CARDS = (8, 12, 16, 24)
MOST = 256
FILE = results.ROOT / "docs" / "results" / "fits.json"
MODELS = {
    "SD 1.5": ("sd15-shape", 512), "SD 2.1": ("sd21-shape", 768), "SDXL": ("sdxl-shape", 1024),
    "SD 3.5 medium": ("sd35-shape", 1024),
}  # fmt: skip
FULL: dict[str, Any] = {"model": {"method": "full"}}


@dataclass(frozen=True)
class Kind:
    """A kind of training, by the sections of a recipe."""

    name: str
    sections: dict[str, dict[str, Any]]


def _adapter(**model: Any) -> dict[str, Any]:  # noqa: ANN401 - a recipe's values
    return {"model": {"weight_dtype": "bf16", "rank": 16, **model}}


KINDS = (
    Kind("LoRA", _adapter()),
    Kind("LoRA, base in fp8", _adapter(quantization="fp8")),
    Kind("LoRA, base in nf4", _adapter(quantization="nf4")),
    Kind("DoRA", _adapter(method="dora")),
    Kind("full", FULL),
    Kind("full, offloaded", {**FULL, "train": {"offload_optimizer": True}}),
    Kind("full, running average", {**FULL, "train": {"use_ema": True}}),
    Kind("full, bf16 weights", {"model": {"method": "full", "weight_dtype": "bf16"}}),
)


def recipe(kind: Kind, side: int, batch: int, *, saves: bool) -> Recipe:
    """A recipe with all that memory depends on; arithmetic is in bf16."""
    train = {"train_batch_size": batch, "gradient_checkpointing": saves, "mixed_precision": "bf16"}
    train |= {"max_train_steps": 9, "learning_rate": 1e-6, "num_class_images": 0}
    content = {"model": {"weight_dtype": "fp32"}, "data": {"resolution": side}, "train": train}
    return parse({name: {**keys, **kind.sections.get(name, {})} for name, keys in content.items()}, "the benchmark")


def needed(checkpoint: Checkpoint, wanted: Recipe) -> Memory:
    """What a step of square pictures takes on a GPU."""
    side, (length, width) = wanted.data.resolution or 0, checkpoint.text_shape
    length += checkpoint.summarised  # a row more is the caption's summary
    shapes = Shapes(checkpoint.moments_shape((side, side)), (length, 1 if wanted.train.train_text_encoder else width))
    schedule, workers = schedule_of(checkpoint.scheduler_config), accelerator(wanted.train)
    return memory(weightless(checkpoint, wanted), shapes, schedule, wanted, workers, "cuda")


def row(checkpoint: Checkpoint, kind: Kind, side: int, *, saves: bool) -> dict[str, Any]:
    """The largest batches of one kind of training, and what one picture at a time takes."""

    def taken(batch: int) -> int:
        return needed(checkpoint, recipe(kind, side, batch, saves=saves)).peak + OVERHEAD["cuda"]

    filling = Filling(taken, MOST)
    batches = {str(card): filling.largest(card * GB) for card in sorted(CARDS, reverse=True)}
    host = needed(checkpoint, recipe(kind, side, 1, saves=saves)).host if "offloaded" in kind.name else 0
    sizes = {str(batch): round(size / GB, 3) for batch, size in sorted(filling.known.items())}
    return {"kind": kind.name, "checkpointing": saves, "batch": batches, "host": round(host / GB, 2), "measured": sizes}


def rows(
    models: Sequence[str], kinds: Sequence[str], known: Collection[tuple[str, str, bool]]
) -> Iterator[dict[str, Any]]:
    """The rows of some models and kinds that are not known, one after another."""
    for name in models:
        shape, side = MODELS[name]
        with tempfile.TemporaryDirectory() as folder:
            outline(shape, Path(folder))
            checkpoint = find(folder)
            for kind, saves in itertools.product(KINDS, (False, True)):
                if kind.name in kinds and (name, kind.name, saves) not in known:
                    yield {"model": name, "pixels": side, **row(checkpoint, kind, side, saves=saves)}


def place(each: dict[str, Any]) -> tuple[str, str, bool]:
    """What a row is about."""
    return each["model"], each["kind"], each["checkpointing"]


def found() -> list[dict[str, Any]]:
    """The rows in the file, in the table's order."""
    if not FILE.is_file():
        return []
    order = list(itertools.product(MODELS, (kind.name for kind in KINDS), (False, True)))
    rows = json.loads(FILE.read_text("utf-8"))["figures"]["rows"]
    return sorted((each for each in rows if place(each) in order), key=lambda each: order.index(place(each)))


def page(figures: dict[str, Any]) -> str:
    """The figures as a page of the documentation."""
    return "\n".join([HEAD.format(overhead=figures["overhead_gb"]), *_tables(figures["rows"]), FOOT])


def _tables(found: Sequence[dict[str, Any]]) -> Iterator[str]:
    for name, (_, side) in MODELS.items():
        yield f"## {name}, {side} × {side} pixels\n"
        yield "| training | checkpointing | one picture, GB | " + " | ".join(f"{card} GB" for card in CARDS) + " |"
        yield "|---" * (3 + len(CARDS)) + "|"
        for each in found:
            if each["model"] == name:
                yield _line(each)
        there = {(each["kind"], each["checkpointing"]) for each in found if each["model"] == name}
        missing = [kind.name for kind in KINDS if {(kind.name, False), (kind.name, True)} - there]
        yield f"\nNot computed yet: {'; '.join(missing)}.\n" if missing else ""


def _line(each: dict[str, Any]) -> str:
    batches = (each["batch"][str(card)] for card in CARDS)
    cells = " | ".join("-" if not batch else f"{MOST}+" if batch == MOST else str(batch) for batch in batches)
    beside = f" + {each['host']:.1f} of the host's" if each["host"] else ""
    saves = "yes" if each["checkpointing"] else "no"
    return f"| {each['kind']} | {saves} | {each['measured']['1']:.2f}{beside} | {cells} |"


HEAD = """# What fits which card

The largest batch that fits, **computed, not measured**: `python -m benchmarks.fits` makes a training step in tensors
without contents, of the real models' shapes and in a GPU's formats ([how](training.md#plan-and-memory)). Nobody trained
on these cards. For four trainings it gives the figures that the same computation gave on an NVIDIA H200, which were
0.96 to 1.00 of what was measured there; beside the tensors it took 0.85 to 1.19 GB, for which {overhead:g} GB are
counted here. A GB is 2³⁰ bytes, as cards are sold; a desktop takes some of it. Figures: [fits.json](results/fits.json).

Arithmetic is in bf16, latents and text states are cached, captions have at most 75 tokens; AdamW. LoRA and DoRA are of
rank 16 on the attention layers, their frozen base in bf16 unless it says fp8 or nf4. `-`: not even one picture fits.
A LoRA of SDXL fits 10 GB with checkpointing, up to four pictures a pass, as a test holds
(`tests/training/test_memory.py`).
"""
FOOT = """The running average of an offloaded training is in the host's memory, too, so that it costs nothing here.

What moves it is explained in [training](training.md#less-memory). `bespoke train RECIPE --plan` says it for your own
recipe, `--fit 12GB` finds settings that fit, `--fill 12GB` the largest batch. Once a card's arithmetic is busy, a
larger batch does not train faster.
"""


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="*", choices=list(MODELS), default=list(MODELS))
    kinds = [kind.name for kind in KINDS]
    parser.add_argument("--kinds", nargs="*", choices=kinds, default=kinds)
    parser.add_argument("--again", action="store_true", help="Compute these rows anew.")
    options = parser.parse_args()
    known = [] if options.again else [place(each) for each in found()]
    for made in rows(options.models, options.kinds, known):
        kept = [each for each in found() if place(each) != place(made)]
        results.write("fits", {"overhead_gb": OVERHEAD["cuda"] / GB, "rows": [*kept, made]}, room="benchmarks")
    figures = {"overhead_gb": OVERHEAD["cuda"] / GB, "rows": found()}
    (results.ROOT / "docs" / "fits.md").write_text(page(figures), encoding="utf-8")


if __name__ == "__main__":
    main()
