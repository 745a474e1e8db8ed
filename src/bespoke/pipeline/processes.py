"""What several processes of one training do once, and what they must agree on; with one process, nothing special."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bespoke.hardware import machine


def is_main() -> bool:
    """Whether this process writes and shows things for all."""
    return bool(_processes().is_main_process)


@contextmanager
def main_first() -> Generator[None, None, None]:
    """A block that the main process passes first; the others then find its files."""
    with _processes().main_process_first():
        yield


def agreed(choose: Callable[[], Path]) -> Path:
    """The path that the main process chose, in every process."""
    from accelerate.utils import broadcast_object_list

    if _processes().num_processes == 1:
        return choose()
    return Path(broadcast_object_list([str(choose()) if is_main() else ""])[0])


def _processes() -> Any:
    """Accelerate's view of the processes; on a machine without GPU it must be told so, or it sees but one."""
    from accelerate import PartialState

    return PartialState(cpu=machine().device == "cpu")
