"""How many pictures a second the stream gives, the model removed: `python -m benchmarks.loader`, with `--json` as JSON.

Rows lie on the disk as training keeps them, moments and texts, and are read through the cache. Each shape is measured
as a training on a processor reads it and as one beside a GPU does, with a thread; the two take turns. `--step` also
tells which part of a step of pico on this processor loading is. Time that others took from the process is in the wall
figures and not in those of the processor.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from bespoke.encoding import Cache
from bespoke.training import Example, Material
from bespoke.training.batches import Choices, Stream
from bespoke.training.loader import AHEAD, Loader

COUNT = 256
"""Pictures on the disk."""


@dataclass(frozen=True)
class Shape:
    """What a picture and its caption are in the cache, and how many are needed."""

    moments: tuple[int, int, int]
    text: tuple[int, int]
    batch: int
    needed: float
    """Pictures a second: what an H200 at its limit would take, above every published figure."""
    sized: bool = False


SHAPES = {
    "pico 64": Shape((8, 16, 16), (77, 160), 8, 0.0),
    "SD 1.5 512": Shape((8, 64, 64), (77, 768), 16, 200.0),
    "SDXL 1024": Shape((8, 128, 128), (78, 2048), 4, 32.0, sized=True),
}


@dataclass(frozen=True)
class Rate:
    """Pictures a second: by the clock, and by the seconds that the process computed."""

    shape: str
    ahead: int
    clock: float
    processor: float
    needed: float


def material(shape: Shape, folder: Path) -> Material:
    """As many pictures of a shape, each with a caption of its own, through the cache."""
    random = torch.Generator().manual_seed(0)

    def rows(name: str, row: tuple[int, ...], count: int) -> object:
        return Cache(folder / name).rows(
            [f"{name} {number}" for number in range(count)],
            lambda part: torch.randn(len(part), *row, generator=random),
        )

    sizes = ((1024, 1024, 0, 0, 1024, 1024),) if shape.sized else ()
    examples = tuple(Example(f"{number:064x}", (number,), number, sizes=sizes) for number in range(COUNT))
    latents, texts = rows("latents", shape.moments, COUNT), rows("texts", shape.text, COUNT + 1)
    return Material(latents, texts, COUNT, examples, (), 0.18215)  # pyright: ignore[reportArgumentType]


def measured(name: str, of: Material, ahead: int, seconds: float) -> Rate:
    """The rate of one loader for so many seconds, after an epoch that brings the files into memory."""
    shape = SHAPES[name]
    loader = Loader(
        Stream(of, Choices(0, 1000, 0.05, 0.0), shape.batch), torch.device("cpu"), (0, 1), shape.batch, ahead
    )
    with loader.running():
        turn = COUNT // shape.batch
        for number in range(turn):
            loader.batch(number)
        began, computed, first = time.perf_counter(), time.process_time(), turn
        while time.perf_counter() - began < seconds:
            loader.batch(turn)
            turn += 1
        clock, processor = time.perf_counter() - began, time.process_time() - computed
    pictures = (turn - first) * shape.batch
    return Rate(name, ahead, pictures / clock, pictures / processor, shape.needed)


def rates(seconds: float, rounds: int) -> Iterator[Rate]:
    """Each shape without and with a thread in turns, the middle one of its rounds."""
    for name, shape in SHAPES.items():
        with tempfile.TemporaryDirectory() as folder:
            of = material(shape, Path(folder))
            found: dict[int, list[Rate]] = {0: [], AHEAD: []}
            for _ in range(rounds):
                for ahead, taken in found.items():
                    taken.append(measured(name, of, ahead, seconds))
            for taken in found.values():
                yield sorted(taken, key=lambda rate: rate.processor)[len(taken) // 2]


def of_a_step(steps: int, threads: int) -> dict[str, float]:
    """Seconds of the processor that a step of pico takes, and its loading, without and with a thread."""
    from bespoke.diffusion import schedule_of
    from bespoke.models import find, tuned
    from bespoke.pipeline.processes import accelerator
    from bespoke.recipe import parse
    from bespoke.training import Trainer
    from bespoke.training.window import Window
    from bespoke.workspace import Run

    torch.set_num_threads(threads)
    checkpoint = find("pico")
    train = {"max_train_steps": 1000, "train_batch_size": 8, "learning_rate": 1e-4, "lr_warmup_steps": 1}
    asked = {"train": {**train, "mixed_precision": "no"}, "validation": {"validation_steps": 1000}}
    found: dict[str, list[float]] = {"step": [], "loading": [], "step with a thread": []}
    with tempfile.TemporaryDirectory() as folder:
        of = material(SHAPES["pico 64"], Path(folder))
        wanted = parse(asked, "the benchmark")
        schedule = schedule_of(checkpoint.scheduler_config)
        trainer = Trainer(tuned(checkpoint, wanted), of, schedule, wanted, Run(Path(folder)), accelerator(wanted.train))
        window = Window(torch.device("cpu"))
        for _ in range(steps):
            for ahead in (0, AHEAD):
                trainer.loader.ahead = ahead
                with trainer.loader.running():
                    trainer.step(window)
                    began = time.process_time()
                    for _ in range(3):
                        trainer.step(window)
                    found["step with a thread" if ahead else "step"].append((time.process_time() - began) / 3)
            began = time.process_time()
            for turn in range(3):
                trainer.loader.batch(turn)
            found["loading"].append((time.process_time() - began) / 3)
    return {name: sorted(taken)[len(taken) // 2] for name, taken in found.items()}


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--step", type=int, default=0, help="also so many rounds of pico's steps")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    found = list(rates(options.seconds, options.rounds))
    step = of_a_step(options.step, options.threads) if options.step else {}
    if options.json:
        sys.stdout.write(json.dumps({"rates": [asdict(rate) for rate in found], "seconds": step}) + "\n")
        return
    sys.stdout.write(f"{'shape':<12}{'thread':>7}{'pictures/s':>12}{'per CPU s':>11}{'needed':>8}\n")
    for rate in found:
        told = f"{rate.clock:>12.0f}{rate.processor:>11.0f}{rate.needed:>8.0f}"
        sys.stdout.write(f"{rate.shape:<12}{'yes' if rate.ahead else 'no':>7}{told}\n")
    for name, seconds in step.items():
        sys.stdout.write(f"pico, batch 8, {name}: {1e3 * seconds:.2f} ms of the processor\n")


if __name__ == "__main__":
    main()
