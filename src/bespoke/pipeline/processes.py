"""What several processes of one training do once, and what they must agree on; with one process, nothing special."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path


def is_main() -> bool:
    """Whether this process writes and shows things for all."""
    from accelerate import PartialState

    return PartialState().is_main_process


@contextmanager
def main_first() -> Generator[None, None, None]:
    """A block that the main process passes first; the others then find its files."""
    from accelerate import PartialState

    with PartialState().main_process_first():
        yield


def agreed(choose: Callable[[], Path]) -> Path:
    """The path that the main process chose, in every process."""
    from accelerate import PartialState
    from accelerate.utils import broadcast_object_list

    if PartialState().num_processes == 1:
        return choose()
    return Path(broadcast_object_list([str(choose()) if is_main() else ""])[0])
