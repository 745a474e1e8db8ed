"""An arm run as a process, and what the stamps of its steps say."""

import json
import os
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.side_by_side.arms import Arm, Work
from benchmarks.side_by_side.result import MARKS, Run

from bespoke.errors import BespokeError

HOOK = Path(__file__).parent / "hook"
GB = 2**30


@dataclass(frozen=True)
class Stamp:
    """The end of one step; seconds count from the process's start."""

    seconds: float
    processor_seconds: float
    memory: int = 0
    device_memory: int = 0


def prepared(arm: Arm, work: Work) -> float:
    """Seconds that an arm's preparation took, 0 where it has none.

    Raises: BespokeError when it ended badly, or left out pictures.
    """
    if arm.project is None:
        return 0.0
    began = time.monotonic()
    _carried_out(arm, arm.prepare, work.environment(), work.folder / "prepare.log")
    taken = time.monotonic() - began
    there, kept = (len(list(folder.glob("*.jpg"))) for folder in (work.pictures, arm.project / "dataset" / "train"))
    if there != kept:
        hint = "Make them anew with `pictures`: no two may be alike."
        raise BespokeError(f"{arm.name} trains on {kept} of {there} pictures.", hint)
    return taken


def run(arm: Arm, work: Work, warm_up: int) -> Run:
    """One run of an arm from nothing, measured.

    Raises: BespokeError when it ended badly, or made another number of steps than it was told.
    """
    for place in arm.fresh:
        shutil.rmtree(place, ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder:
        ends = ",".join(str(step) for step in (1, warm_up, work.steps))
        environment = {**work.environment(), "STEP_STAMPS": folder, "STEP_STAMPS_ENDS": ends}
        began = time.monotonic()
        _carried_out(arm, arm.command, environment, work.folder / "run.log")
        total, stamps = time.monotonic() - began, read(Path(folder), began)
    if len(stamps) != work.steps:
        hint = "Steps are stamped by torch's optimizers: does the program make them otherwise?"
        raise BespokeError(f"{arm.name} made {len(stamps)} steps that were stamped, not {work.steps}.", hint)
    return measured(stamps, warm_up, work, total)


def read(folder: Path, began: float) -> list[Stamp]:
    """The stamps of the process that made most steps; `began` is the clock's time when the program was started."""
    files = [file.read_text("utf-8").splitlines() for file in sorted(folder.glob("*.jsonl"))]
    lines: list[dict[str, Any]] = [json.loads(line) for line in max(files, key=len, default=[])]
    return [
        Stamp(line["seconds"] - began, line["processor_seconds"], line.get("memory", 0), line.get("device_memory", 0))
        for line in lines
    ]


def measured(stamps: list[Stamp], warm_up: int, work: Work, total: float) -> Run:
    """The figures of a run whose first `warm_up` steps do not count."""
    begun, ended = stamps[warm_up - 1], stamps[-1]
    steps = len(stamps) - warm_up
    step = (ended.seconds - begun.seconds) / steps
    wall = {
        mark: stamps[mark - 1].seconds if mark <= len(stamps) else ended.seconds + (mark - len(stamps)) * step
        for mark in MARKS
    }
    return Run(
        images_per_second=work.batch * work.processes / step,
        processor_seconds_per_image=(ended.processor_seconds - begun.processor_seconds) / steps / work.batch,
        seconds_to_first_step=stamps[0].seconds,
        seconds_to=wall,
        seconds_in_all=total,
        memory_gb=ended.memory / GB,
        device_memory_gb=ended.device_memory / GB,
    )


def _carried_out(arm: Arm, arguments: tuple[str, ...], environment: dict[str, str], log: Path) -> None:
    """Runs a command with the hook first on its path; what it prints goes to a file."""
    paths = [str(HOOK), arm.source, environment.get("PYTHONPATH", "")]
    environment = {**environment, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    with log.open("w", encoding="utf-8") as file:
        done = subprocess.run(
            [arm.python, *arguments], env=environment, stdout=file, stderr=subprocess.STDOUT, check=False
        )
    if done.returncode:
        said = "\n".join(log.read_text("utf-8", errors="replace").splitlines()[-15:])
        raise BespokeError(
            f"{arm.name} ended with {done.returncode}. It last said:\n{said}", "Try its command by itself."
        )
