"""Training beside diffusers' own script, `python -m benchmarks.training run …`: see docs/performance.md.

`checkpoint FOLDER --shape sd15` writes a model of random weights, `pictures FOLDER --count 256 --side 512` pictures
with captions; `run` trains LoRAs on them by both programs in turn, as real processes, and the same hook stamps the
steps of both. The peer is diffusers' examples/text_to_image/train_text_to_image_lora.py, which is not shipped.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks.side_by_side import arms, checkpoint, pictures
from benchmarks.side_by_side.arms import Work
from benchmarks.side_by_side.comparing import compared
from benchmarks.side_by_side.result import Comparison, table
from proofs import results

from bespoke.errors import BespokeError
from bespoke.hardware import cores
from bespoke.workspace import write_json


def parser() -> argparse.ArgumentParser:
    """The command's words."""
    whole = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__)
    verbs = whole.add_subparsers(dest="verb", required=True)
    made = verbs.add_parser("checkpoint", help="Write a model of random weights.")
    made.add_argument("folder", type=Path)
    made.add_argument("--shape", choices=list(checkpoint.SHAPES), required=True)
    made.add_argument("--dtype", choices=list(checkpoint.DTYPES), default="fp32")
    made.add_argument("--seed", type=int, default=0)
    drawn = verbs.add_parser("pictures", help="Write pictures with captions.")
    drawn.add_argument("folder", type=Path)
    drawn.add_argument("--count", type=int, default=256)
    drawn.add_argument("--side", type=int, default=512)
    _of_run(verbs.add_parser("run", help="Train by all arms in turn."))
    return whole


def _of_run(run: argparse.ArgumentParser) -> None:
    run.add_argument("--model", type=Path, required=True, metavar="FOLDER")
    run.add_argument("--pictures", type=Path, required=True, metavar="FOLDER")
    run.add_argument("--peer", type=Path, metavar="SCRIPT.py", help="Without it ours runs alone.")
    run.add_argument("--peer-python", default=sys.executable, metavar="PYTHON", help="What runs the peer's script.")
    run.add_argument(
        "--ours", action="append", metavar="SETTINGS", help='An arm of ours: "train.mixed_precision=no", or "".'
    )
    run.add_argument(
        "--theirs", action="append", metavar="ARGUMENTS", help='An arm of the peer: "--mixed_precision bf16", or "".'
    )
    for name, default in {"steps": 50, "warm-up": 20, "repeats": 3, "batch": 4, "side": 512, "rank": 16}.items():
        run.add_argument(f"--{name}", type=int, default=default)
    run.add_argument("--threads", type=int, default=cores(), help="OMP_NUM_THREADS of each process.")
    run.add_argument("--processes", type=int, default=1, help="Both under torchrun, a batch in each.")
    run.add_argument("--json", type=Path, metavar="FILE", help="Write the result there, too.")
    run.add_argument("--keep", type=Path, metavar="FOLDER", help="Leave what the programs write there.")


def run(asked: argparse.Namespace, folder: Path) -> Comparison:
    """What was asked for, compared in an empty folder.

    Raises: BespokeError when a program fails, or the pictures are no whole number of batches.
    """
    work = Work(
        model=asked.model.resolve(), pictures=asked.pictures.resolve(), folder=folder.resolve(),
        steps=asked.warm_up + asked.steps, batch=asked.batch, side=asked.side, rank=asked.rank, threads=asked.threads,
        processes=asked.processes,
    )  # fmt: skip
    ours = [arms.ours(work, settings) for settings in asked.ours or [""]]
    words = (asked.theirs or [""]) if asked.peer else []
    theirs = [arms.theirs(work, asked.peer.resolve(), asked.peer_python, each) for each in words]
    return compared(work, ours, theirs, warm_up=asked.warm_up, repeats=asked.repeats, say=_say)


def _say(words: str) -> None:
    sys.stderr.write(f"{words}\n")
    sys.stderr.flush()


def main() -> None:
    """The command."""
    asked = parser().parse_args()
    if asked.verb == "checkpoint":
        checkpoint.write(checkpoint.SHAPES[asked.shape], asked.folder, asked.dtype, asked.seed)
    elif asked.verb == "pictures":
        pictures.write(asked.folder, asked.count, asked.side)
    else:
        with tempfile.TemporaryDirectory() as temporary:
            folder = asked.keep or Path(temporary)
            folder.mkdir(parents=True, exist_ok=True)
            found = run(asked, folder)
        sys.stdout.write(table(found) + "\n")
        if asked.json:
            write_json(asked.json, results.told("training", found.model_dump(mode="json"), "benchmarks"))


if __name__ == "__main__":
    try:
        main()
    except BespokeError as error:
        sys.exit(f"{error.problem}\n{error.hint}")
