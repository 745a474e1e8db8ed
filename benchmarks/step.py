"""What each technique of a LoRA's training step is worth on a processor: `python -m benchmarks.step PROJECT`.

PROJECT is a folder as `bespoke new` makes it. Each arm makes steps on the same pictures with the same weights, in turn;
what counts is the processor's own time. Their gradients are compared with float32's by peft, torch's attention and
channels first: over all weights together, and for each parameter by itself. `--curves 200` trains so many steps by the
first two arms and compares their validation.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from proofs import results
from torch import Tensor

from bespoke.models import fused, layout
from bespoke.pipeline.material import Encoder
from bespoke.pipeline.prepare import Prepared, prepare
from bespoke.pipeline.processes import accelerator
from bespoke.pipeline.reporting import silent
from bespoke.pipeline.train import trainer_for
from bespoke.training import Trainer, Validated
from bespoke.training.step import losses, weighted
from bespoke.training.window import Window
from bespoke.workspace import Project, Run

FLOAT32 = ("train.mixed_precision=no", "model.weight_dtype=fp32")
AUTOCAST = ("train.mixed_precision=bf16", "model.weight_dtype=fp32")
BFLOAT16 = ("train.mixed_precision=bf16", "model.weight_dtype=bf16")
OFF: dict[str, tuple[Any, str, Any]] = {
    "LoRA in one go": (fused, "_kind", lambda _: None),
    "sorted convolutions": (layout, "pack", lambda _: 0),
    "channels last": (layout, "channels_last", lambda _: None),
    "attention in blocks": (layout, "install", lambda _: 0),
}
"""What is put in a technique's place to be without it."""
ARMS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "float32, no technique": (FLOAT32, tuple(OFF)),
    "all": (BFLOAT16, ()),
    "float32, all else": (FLOAT32, ()),
    "bfloat16 by autocast, no technique": (AUTOCAST, tuple(OFF)),
    **{f"without {name}": (BFLOAT16, (name,)) for name in OFF},
    "all, compiled": ((*BFLOAT16, "train.compile=true"), ()),
}
"""Each arm's settings, and the techniques it is without; gradients are compared with the first one's."""
RATED = 0.999


@contextmanager
def without(names: tuple[str, ...]) -> Generator[None, None, None]:
    """A block in which networks are made without some techniques."""
    before = [getattr(OFF[name][0], OFF[name][1]) for name in names]
    for name in names:
        setattr(*OFF[name])
    try:
        yield
    finally:
        for name, value in zip(names, before, strict=True):
            setattr(*OFF[name][:2], value)


class Bench:
    """A project's pictures, encoded once, and trainers of each arm on them."""

    def __init__(self, project: Path, settings: list[str], run: Path) -> None:
        self.project, self.settings, self.run = project, tuple(settings), Run(run)
        ready = self._ready(FLOAT32)
        encoder = Encoder(Project(project), ready.start.checkpoint, ready.recipe, silent)
        self.material = encoder.material(ready.dataset, project / "dataset")

    def trainer(self, arm: str) -> Trainer:
        """A fresh trainer of an arm."""
        settings, left_out = ARMS[arm]
        ready = self._ready(settings)
        with without(left_out):
            trainer = trainer_for(self.run, ready.recipe, ready.start, self.material, accelerator(ready.recipe.train))
        if BFLOAT16[1] in settings:  # where LoRA is peft's, its own format does not make the network's another
            trainer.bare.format = torch.bfloat16
        return trainer

    def _ready(self, settings: tuple[str, ...]) -> Prepared:
        return prepare(self.project / "recipe.toml", ("train.num_class_images=0", *self.settings, *settings))


def seconds(trainer: Trainer, steps: int) -> float:
    """The processor's seconds for a step, in the mean."""
    window = Window(trainer.accelerator.device)
    began = time.process_time()
    for _ in range(steps):
        trainer.step(window)
    return (time.process_time() - began) / steps


def gradients(trainer: Trainer, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The gradients of the first batch at some weights."""
    with torch.no_grad():
        for name, parameter in trainer.parameters.items():
            parameter.copy_(weights[name])
            parameter.grad = None
    batch = trainer.stream.batch(0, trainer.size)
    trainer.network.train()
    errors = losses(trainer.network, batch, trainer.schedule, trainer.loss)
    weighted(errors, batch, trainer.schedule, trainer.weighting).mean().backward()
    found = {name: parameter.grad for name, parameter in trainer.parameters.items() if parameter.grad is not None}
    for parameter in trainer.parameters.values():
        parameter.grad = None
    return found


def agreement(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> dict[str, float]:
    """Cosines with other gradients: of all together, the least of a parameter, and the share that reaches 0.999."""

    def cosine(one: Tensor, other: Tensor) -> float:
        return float(F.cosine_similarity(one.flatten().double(), other.flatten().double(), dim=0))

    each = [cosine(found[name], wanted[name]) for name in wanted]
    whole = cosine(*(torch.cat([grads[name].flatten() for name in wanted]) for grads in (found, wanted)))
    return {"cosine": whole, "least": min(each), "share over 0.999": sum(one >= RATED for one in each) / len(each)}


def compared(bench: Bench, arms: list[str], options: argparse.Namespace) -> dict[str, Any]:
    """Each arm's seconds for a step, how much faster than the first that is, and how its gradients agree."""
    trainers: dict[str, Trainer] = {}
    taken: dict[str, list[float]] = {arm: [] for arm in arms}
    agreed: dict[str, dict[str, float]] = {}
    begun: dict[str, float] = {}
    weights: dict[str, Tensor] = {}
    wanted: dict[str, Tensor] = {}
    for number in range(options.repeats):
        for arm in arms:
            trainer = trainers.get(arm) or bench.trainer(arm)
            if not number:
                began = time.monotonic()  # what compiles does so in processes of its own, too
                seconds(trainer, 1)
                begun[arm] = time.monotonic() - began
                seconds(trainer, options.warm_up - 1)
                weights = weights or {name: p.detach().clone() for name, p in trainer.parameters.items()}
                found = gradients(trainer, weights)
                wanted = wanted or found
                agreed[arm] = agreement(found, wanted)
            elif options.one_at_a_time:
                seconds(trainer, 1)
            taken[arm].append(seconds(trainer, options.steps))
            if not options.one_at_a_time:
                trainers[arm] = trainer
            sys.stderr.write(f"{arm}: {taken[arm][-1]:.4f} s\n")
    first = taken[arms[0]]
    return {
        arm: {
            "seconds": round(statistics.median(own), 4),
            "range": [round(min(own), 4), round(max(own), 4)],
            "seconds of the first step": round(begun[arm], 2),
            "times as fast": round(statistics.median(a / b for a, b in zip(first, own, strict=True)), 2),
            **{name: round(value, 5) for name, value in agreed[arm].items()},
        }
        for arm, own in taken.items()
    }


def curves(bench: Bench, steps: int) -> dict[str, list[float]]:
    """The log ratio of validation to the base's, every tenth of a training, by the first two arms."""
    found: dict[str, list[float]] = {}
    for arm in list(ARMS)[:2]:
        bench.settings += (f"train.max_train_steps={steps}", f"validation.validation_steps={steps // 10}")
        events: Iterator[Any] = bench.trainer(arm).fit()
        found[arm] = [round(event.log_ratio, 4) for event in events if isinstance(event, Validated)]
        sys.stderr.write(f"{arm}: {found[arm]}\n")
    return found


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("project", type=Path)
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="KEY=VALUE")
    parser.add_argument("--only", nargs="*", help="Compare these arms; the first one is what others are compared with.")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--warm-up", type=int, default=20, help="Steps before: at least 2.")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--curves", type=int, default=0, metavar="STEPS")
    parser.add_argument("--one-at-a-time", action="store_true", help="Keep one network in memory: for large ones.")
    parser.add_argument("--part", default="pico", help="What the file of results is called after.")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(options.project, options.settings, Path(folder))
        told: dict[str, Any] = {
            "threads": options.threads,
            "arms": compared(bench, options.only or list(ARMS), options),
        }
        if options.curves:
            told["curves"] = curves(bench, options.curves)
    for arm, own in told["arms"].items():
        sys.stdout.write(f"{arm:36s} {own['seconds']:8.4f} s {own['times as fast']:6.2f}x  {own['cosine']:.5f}\n")
    sys.stdout.write(f"{results.write('step', told, options.part, 'benchmarks')}\n")


if __name__ == "__main__":
    main()
