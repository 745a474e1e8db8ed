"""An engine that draws coloured squares, and on demand is slow, breaks, hangs, needs too much memory or dies."""

import hashlib
import io
import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image

from bespoke.errors import BespokeError
from bespoke.recipe.service import Serve
from bespoke.serving.jobs import NOTHING, Facts, Failure, Held, Job, Outcome, OutOfMemory, Picture, Step

SIDE, STEPS = 8, 4
FAULTS = ("slow", "raise", "hang", "oom", "nan", "die")
"""First words of prompts that are faults; all but `slow` and `nan` strike the whole batch."""


class Faulty:
    """Squares whose colour follows from model, prompt and seed, so that everybody can tell whose a picture is."""

    def __init__(self, step_s: float = 0.0, most: int = 10**6) -> None:
        """Each step takes `step_s`; more than `most` pictures at once do not fit into memory."""
        self._step_s, self._most = step_s, most

    def prepare(self, model: str) -> Facts:
        """What is known of a model; one whose name begins with `bad` cannot be read, one with `fatal` is deadly."""
        if model.startswith("bad"):
            raise BespokeError(f"{model} is damaged.", "Use another.")
        if model.startswith("fatal"):
            os.kill(os.getpid(), signal.SIGKILL)
        return Facts(model, SIDE, SIDE, (("num_inference_steps", STEPS),))

    def release(self, model: str) -> None:
        """Nothing is kept."""

    def held(self) -> Held:
        """Nothing is kept."""
        return NOTHING

    def draw(self, jobs: Sequence[Job], watch: Callable[[Step], None]) -> Sequence[Outcome]:
        """The squares, after whatever the prompts ask for has been done."""
        for number in range(1, STEPS + 1):
            time.sleep(self._step_s)
            if number == STEPS // 2:
                for job in jobs:
                    self._strike(job.prompt)
            watch(Step(number, STEPS, lambda: [_file(colour(job.model, job.prompt, job.seed)) for job in jobs]))
        if len(jobs) > self._most:
            raise OutOfMemory
        return [self._outcome(job, len(jobs)) for job in jobs]

    def _strike(self, prompt: str) -> None:
        fault, _, rest = prompt.partition(" ")
        if fault == "slow":
            time.sleep(float(rest.split()[0]))
        elif fault == "raise":
            raise ValueError(f"a secret of this machine: {Path.cwd()}")
        elif fault == "hang":
            time.sleep(3600)
        elif fault == "oom":
            raise OutOfMemory
        elif fault == "die":
            os.kill(os.getpid(), signal.SIGKILL)

    def _outcome(self, job: Job, size: int) -> Outcome:
        if job.prompt.startswith("nan"):
            return Failure("not_a_picture", "What came out is not a number.")
        data = _file(colour(job.model, job.prompt, job.seed))
        return Picture(data, "png", SIDE, SIDE, job.seed, job.model, batch=size)


def faulty(_number: int, _settings: Serve) -> Faulty:
    """The engine of each worker of a proof."""
    return Faulty(0.001, most=6)


def colour(model: str, prompt: str, seed: int) -> tuple[int, int, int]:
    """The colour of the square that is drawn for these."""
    red, green, blue, *_ = hashlib.sha256(f"{model}\0{prompt}\0{seed}".encode()).digest()
    return red, green, blue


def colour_of(data: bytes) -> tuple[int, int, int]:
    """The colour of the square in a file."""
    with Image.open(io.BytesIO(data)) as picture:
        found = picture.convert("RGB").getpixel((0, 0))
    assert isinstance(found, tuple)
    return found[0], found[1], found[2]


def _file(colour: tuple[int, int, int]) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (SIDE, SIDE), colour).save(file, "PNG")
    return file.getvalue()
