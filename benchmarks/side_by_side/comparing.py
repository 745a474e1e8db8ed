"""All arms run in turn, A, B, A, B, and what was measured of each."""

import hashlib
import json
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.side_by_side import arms, counted, runs
from benchmarks.side_by_side.arms import ROOT, Arm, Work
from benchmarks.side_by_side.result import Comparison, Found, Ratios, Run, found, times

from bespoke.errors import BespokeError
from bespoke.hardware import machine

Say = Callable[[str], object]


def compared(
    work: Work, ours: Sequence[Arm], theirs: Sequence[Arm], *, warm_up: int, repeats: int, say: Say
) -> Comparison:
    """The comparison of arms of ours and of the peer's; without the peer's, ours alone.

    Raises: BespokeError when a program fails, or the pictures are no whole number of batches.
    """
    count, size = len(list(work.pictures.glob("*.jpg"))), work.batch * work.processes
    if not count or count % size:
        hint = f"Make {size * max(1, count // size)} of them."
        raise BespokeError(f"{count} pictures in batches of {size}: the last one of an epoch would be small.", hint)
    forward, step = counted.operations(work.model, work.side, work.rank)
    every = [*ours, *theirs]
    prepare = {arm.name: runs.prepared(arm, work) for arm in every}
    taken = {arm.name: Taken() for arm in every}
    peak = _in_turn(every, work, warm_up, repeats, taken, say)
    rounds, share = min(len(each.runs) for each in taken.values()), _share_of_peak(step / max(peak.values()))
    told = [
        found(
            arm.name, arms.told(arm, work), taken[arm.name].precision, arm.versions(), taken[arm.name].runs[:rounds],
            prepare[arm.name], share, work.steps,
        )
        for arm in every
    ]  # fmt: skip
    mine, others = told[: len(ours)], told[len(ours) :]
    return Comparison(
        model=work.model.name, batch=work.batch, side=work.side, rank=work.rank, steps=work.steps - warm_up,
        warm_up=warm_up, repeats=rounds, threads=work.threads, processes=work.processes, pictures=count,
        processor=processor(), device=machine().name, operations_forward=forward, operations_step=step,
        peak_operations_per_second=peak, arms=told,
        scripts={script.name: _digest(script) for script in _scripts(theirs)},
        times_the_peer=_against(mine, others, lambda run: run.images_per_second),
        times_the_peer_by_processor=_against(mine, others, lambda run: 1 / run.processor_seconds_per_image),
    )  # fmt: skip


@dataclass
class Taken:
    """What the rounds gave of one arm so far."""

    runs: list[Run] = field(default_factory=list[Run])
    precision: str = ""


def _in_turn(
    every: Sequence[Arm], work: Work, warm_up: int, repeats: int, taken: dict[str, Taken], say: Say
) -> dict[str, float]:
    """The best rates of matrix products; the runs are put into `taken`, and Ctrl-C after a whole round keeps them."""
    peak: dict[str, float] = {}
    try:
        for turn in range(repeats):
            for name, rate in _rates(work).items():
                peak[name] = max(rate, peak.get(name, 0.0))
            for arm in every:
                run = runs.run(arm, work, warm_up)
                taken[arm.name].runs.append(run)
                taken[arm.name].precision = arms.precision(arm)
                cost = f"{run.processor_seconds_per_image:.4g} processor seconds an image"
                say(f"{turn + 1} of {repeats}, {arm.name}: {run.images_per_second:.4g} images/s, {cost}")
    except KeyboardInterrupt:
        if not all(each.runs for each in taken.values()):
            raise
    return peak


def _share_of_peak(seconds: float) -> Callable[[Run], float]:
    """What a run makes of the machine, on which the matrix products of one picture take so many seconds."""
    if machine().device == "cuda":
        return lambda run: run.images_per_second * seconds
    return lambda run: seconds / run.processor_seconds_per_image


def _rates(work: Work) -> dict[str, float]:
    """The rates of matrix products at this moment, in a process of its own with all threads of an arm."""
    command = [sys.executable, "-m", "benchmarks.side_by_side.peak"]
    environment = {**work.environment(), "OMP_NUM_THREADS": str(work.threads * work.processes)}
    said = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return json.loads(said.stdout)


def _against(mine: Sequence[Found], others: Sequence[Found], value: Callable[[Run], float]) -> Ratios:
    return {one.arm: {other.arm: times(one, other, value) for other in others} for one in mine} if others else {}


def _scripts(theirs: Sequence[Arm]) -> set[Path]:
    return {Path(next(word for word in arm.command if word.endswith(".py"))) for arm in theirs}


def _digest(script: Path) -> str:
    return hashlib.sha256(script.read_bytes()).hexdigest()


def processor() -> str:
    """The processor's name, as Linux tells it; elsewhere Python's word for it."""
    about = Path("/proc/cpuinfo")
    names = re.findall(r"^model name\s*:\s*(.+)$", about.read_text("utf-8"), re.MULTILINE) if about.exists() else []
    return names[0] if names else platform.processor() or platform.machine()
