"""A signal turned into a wish to stop, which the training grants after it has saved."""

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType


class StopWish:
    """Whether a signal asked to stop, and which."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    def reason(self) -> str | None:
        """Why to stop, or None to go on."""
        return f"stopped by {self.signal.name}" if self.signal else None

    @property
    def exit_code(self) -> int:
        """What a shell expects of a process that this signal ended: 130 for Ctrl-C, 143 for SIGTERM."""
        return 128 + self.signal if self.signal else 0


@contextmanager
def stop_wish() -> Generator[StopWish, None, None]:
    """A block in which the first Ctrl-C or SIGTERM is a wish; the second ends the process at once."""
    wish = StopWish()
    if threading.current_thread() is not threading.main_thread():
        yield wish  # only the main thread hears signals
        return

    def heard(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - a handler's signature
        wish.signal = signal.Signals(number)
        signal.signal(number, signal.SIG_DFL)

    kept = {number: signal.signal(number, heard) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield wish
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
