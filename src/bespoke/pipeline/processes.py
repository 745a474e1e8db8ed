"""What several processes of one training do once, and what they must agree on; with one process, nothing special."""

import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, TypeVar

from bespoke.errors import BespokeError
from bespoke.hardware import free_cores, machine
from bespoke.recipe.training import Train

Chosen = TypeVar("Chosen")
PLAIN = ("NO", "MULTI_CPU", "MULTI_GPU")
"""Accelerate's names for one process, and for several that each have the whole network."""


def is_main() -> bool:
    """Whether this process writes and shows things for all."""
    return bool(_processes().is_main_process)


@contextmanager
def main_first() -> Generator[None, None, None]:
    """A block that the main process passes first; the others then find its files."""
    with _processes().main_process_first():
        yield


def agreed(choose: Callable[[], Chosen]) -> Chosen:
    """What the main process chose, in every process; the others choose nothing. It is sent as a pickle."""
    from accelerate.utils import broadcast_object_list

    if _processes().num_processes == 1:
        return choose()
    sent: list[Any] = [choose() if is_main() else None]
    return broadcast_object_list(sent)[0]


def accelerator(train: Train) -> Any:
    """Accelerate's handle on the device and the processes, computing as `[train]` says.

    Raises: BespokeError when this machine does not compute so.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    precision = train.mixed_precision
    if precision == "fp16" and machine().device == "cpu":
        raise BespokeError(
            'train.mixed_precision is "fp16", which needs a GPU, and there is none here.',
            'Take it out to have it derived, or set it to "no".',
        )
    # One training after another in one process may ask for another precision, which the state remembered refuses.
    AcceleratorState._reset_state()  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
    if machine().device == "cuda":
        _repeatable(train.deterministic)
    made = Accelerator(mixed_precision=precision, cpu=machine().device == "cpu")
    if made.distributed_type.value not in PLAIN:
        hint = 'Let Accelerate start plain processes; to share out the weights set train.sharding = "full".'
        raise BespokeError(f"Accelerate is set up for {made.distributed_type.value}, which is not used here.", hint)
    if train.offload_optimizer and made.num_processes > 1:
        hint = "Train in one process, or take it out of the recipe."
        raise BespokeError("train.offload_optimizer is for one process.", hint)
    return made


def share_cores() -> str:
    """What is to be told where this process now computes with fewer threads than it has cores, else nothing.

    Several processes see to that themselves, and so does a person who sets `OMP_NUM_THREADS`.
    """
    import torch

    if machine().device != "cpu" or _processes().num_processes > 1 or "OMP_NUM_THREADS" in os.environ:
        return ""
    free, before = free_cores(), torch.get_num_threads()
    if free >= before:
        return ""
    torch.set_num_threads(free)
    return f"{before - free} of {before} cores are busy with something else; {free} of them compute here"


def _repeatable(asked: bool) -> None:  # noqa: FBT001 - a switch
    """Switches, for this process, arithmetic on the GPU that gives the same bits each time on or off.

    Source: PyTorch's notes on reproducibility; cuBLAS's workspace as its manual says under "Results Reproducibility".
    """
    import torch

    if asked:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(asked)
    # What would only help to find errors.
    torch.utils.deterministic.fill_uninitialized_memory = False  # pyright: ignore[reportAttributeAccessIssue]


def _processes() -> Any:
    """Accelerate's view of the processes; on a machine without GPU it must be told so, or it sees but one."""
    from accelerate import PartialState

    return PartialState(cpu=machine().device == "cpu")
