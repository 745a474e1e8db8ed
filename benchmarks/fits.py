"""Compute which trainings fit which GPU: `python -m benchmarks.fits`; no GPU and no weights are needed.

The largest batch of each kind of training for cards of 8 to 24 GB, by the code that trains, in fake tensors of the real
models' shapes, with the formats of a GPU. Writes `docs/results/fits.json` and the page `docs/fits.md`; `--page` writes
the page from the figures that are there.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bespoke.diffusion import Schedule
from bespoke.models import Checkpoint, find, weightless
from bespoke.pipeline.filling import Filling
from bespoke.pipeline.fitting import OVERHEAD
from bespoke.pipeline.processes import accelerator
from bespoke.recipe import Recipe, parse
from bespoke.training.memory import Memory, memory
from bespoke.training.rehearsal import Shapes
from pico.families import outline
from proofs import results

GB = 2**30
CARDS = (8, 12, 16, 24)
MOST = 256
MODELS = {"SD 1.5": ("sd15-shape", 512), "SD 2.1": ("sd21-shape", 768)}
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
    Kind("LoRA, base in int8", _adapter(quantization="int8")),
    Kind("LoRA, base in nf4", _adapter(quantization="nf4")),
    Kind("LoRA and text encoder", {**_adapter(), "train": {"train_text_encoder": True}}),
    Kind("DoRA", _adapter(method="dora")),
    Kind("full", FULL),
    Kind("full, running average", {**FULL, "train": {"use_ema": True}}),
    Kind("full, bf16 weights", {"model": {"method": "full", "weight_dtype": "bf16"}}),
    Kind("full, offloaded", {**FULL, "train": {"offload_optimizer": True}}),
    Kind("full, running average, offloaded", {**FULL, "train": {"offload_optimizer": True, "use_ema": True}}),
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
    shapes = Shapes(checkpoint.moments_shape((side, side)), (length, 1 if wanted.train.train_text_encoder else width))
    schedule, workers = Schedule.from_config(checkpoint.scheduler_config), accelerator(wanted.train)
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


def rows() -> Iterator[dict[str, Any]]:
    """All rows, one after another."""
    for name, (shape, side) in MODELS.items():
        with tempfile.TemporaryDirectory() as folder:
            outline(shape, Path(folder))
            checkpoint = find(folder)
            for kind in KINDS:
                for saves in (False, True):
                    made = {"model": name, "pixels": side, **row(checkpoint, kind, side, saves=saves)}
                    sys.stderr.write(json.dumps(made) + "\n")
                    yield made


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
        yield ""


def _line(each: dict[str, Any]) -> str:
    batches = (each["batch"][str(card)] for card in CARDS)
    cells = " | ".join("-" if not batch else f"{MOST}+" if batch == MOST else str(batch) for batch in batches)
    beside = f" + {each['host']:.1f} of the host's" if each["host"] else ""
    saves = "yes" if each["checkpointing"] else "no"
    return f"| {each['kind']} | {saves} | {each['measured']['1']:.2f}{beside} | {cells} |"


HEAD = """# What fits which card

The largest batch that fits, **computed, not measured**: by `python -m benchmarks.fits`, which makes a training step in tensors
without contents, of the real models' shapes and in a GPU's formats ([how](training.md#plan-and-memory)). Nobody trained on these cards.
For four trainings the computation gave the figures that it gave on an NVIDIA H200, and what was measured there was 0.96 to
1.00 of the tensors and 0.85 to 1.19 GB beside them; {overhead:g} GB are counted for that here. A GB is 2³⁰ bytes, as cards are sold; a
desktop takes some of it. Figures: [fits.json](results/fits.json).

Arithmetic is in bf16, latents and text states are cached, captions have at most 75 tokens, AdamW. LoRA and DoRA are of rank 16 on the
attention layers, their frozen base in bf16 unless it says int8 or nf4. `-`: not even one picture fits.
"""
FOOT = """What moves it: `train.gradient_checkpointing`, `model.quantization`, `train.offload_optimizer`, `train.use_ema`, `model.weight_dtype`;
all are explained in [training](training.md). `bespoke train RECIPE --plan` says it for your own recipe, `--fit 12GB` finds settings that fit, `--fill 12GB` the
largest batch. Larger batches than it takes to fill a card's arithmetic do not train faster.
"""


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--page", action="store_true", help="Write the page from the figures that are there.")
    options = parser.parse_args()
    if not options.page:
        results.write("fits", {"overhead_gb": OVERHEAD["cuda"] / GB, "rows": list(rows())}, room="benchmarks")
    content = json.loads((results.ROOT / "docs" / "results" / "fits.json").read_text("utf-8"))
    (results.ROOT / "docs" / "fits.md").write_text(page(content["figures"]), encoding="utf-8")


if __name__ == "__main__":
    main()
