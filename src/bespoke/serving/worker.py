"""What runs in a process that draws: batches that come in through a pipe turned into pictures that go out."""

import contextlib
import os
import pickle
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from queue import SimpleQueue
from typing import Any, BinaryIO

from bespoke.errors import BespokeError
from bespoke.serving.jobs import Cancelled, Engine, Job, OutOfMemory, Progress, Step

STEP, HELD = "step", "held"
"""What a worker says while it does what it was asked."""
DONE, WRONG, NO_MEMORY, LEFT_OFF, BROKE = "done", "wrong", "no memory", "left off", "broke"
"""And what it says at the end."""
PREPARE, RELEASE, DRAW, CANCEL = "prepare", "release", "draw", "cancel"
"""What a worker is asked."""


def work() -> None:
    """Answers what comes in on standard input, on standard output, until nothing comes any more.

    The first message is what makes the engine, the others are a verb, a number, and what it is about.
    """
    for number in (signal.SIGINT, signal.SIGTERM):  # they reach all processes; the one that asked ends this one
        signal.signal(number, signal.SIG_IGN)
    asked, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    # What a library reads or prints must not come between.
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    sys.stdin, sys.stdout = open(0, closefd=False), sys.stderr  # noqa: SIM115 - open for good
    try:
        engine = pickle.load(asked)()  # noqa: S301 - who asks is our own parent
        with contextlib.suppress(OSError):  # who asked is gone
            _Desk(engine, asked, answers).work()
    except BaseException:  # noqa: BLE001 - whatever it is, it is for the log of whoever runs the service
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)  # closing pipes in the usual way would complain of an end that is gone


class _Desk:
    """The engine, what it is to do next, and which batch is not wanted any more."""

    def __init__(self, engine: Engine, asked: BinaryIO, answers: BinaryIO) -> None:
        self._engine, self._asked, self._answers = engine, asked, answers
        self._todo: SimpleQueue[tuple[Any, ...]] = SimpleQueue()
        self._unwanted = 0
        threading.Thread(target=self._listen, daemon=True).start()

    def work(self) -> None:
        """Does what is asked, one after the other."""
        while True:
            verb, number, what = self._todo.get()
            answer = self._answer(verb, number, what)
            self._say(HELD, number, self._engine.held())
            self._say(*answer)

    def _listen(self) -> None:
        """Hears what is asked while something is being drawn; whoever asked being gone, there is nothing to finish."""
        with contextlib.suppress(EOFError, OSError, pickle.UnpicklingError):
            while True:
                verb, number, *rest = pickle.load(self._asked)  # noqa: S301
                if verb == CANCEL:
                    self._unwanted = number
                else:
                    self._todo.put((verb, number, *rest))
        os._exit(0)

    def _answer(self, verb: str, number: int, what: Any) -> tuple[Any, ...]:  # noqa: ANN401 - it depends on the verb
        try:
            if verb == DRAW:
                return DONE, number, tuple(self._drawn(number, what))
            return DONE, number, self._engine.prepare(what) if verb == PREPARE else self._engine.release(what)
        except BespokeError as error:
            return WRONG, number, (error.problem, error.hint)
        except (OutOfMemory, MemoryError):
            return NO_MEMORY, number, ""
        except Cancelled:
            return LEFT_OFF, number, ""
        except Exception as error:  # noqa: BLE001 - whatever an engine raises is told, and the next batch is drawn
            return BROKE, number, f"{type(error).__name__}: {error}"

    def _drawn(self, number: int, jobs: Sequence[Job]) -> Sequence[Any]:
        shown = max(job.previews for job in jobs)

        def watch(step: Step) -> None:
            if self._unwanted == number:
                raise Cancelled
            files = step.previews() if step.previews and step.number in previewed(step.steps, shown) else ()
            self._say(STEP, number, Progress(step.number, step.steps, tuple(files)))

        return self._engine.draw(jobs, watch)

    def _say(self, *message: Any) -> None:  # noqa: ANN401
        self._answers.write(pickle.dumps(message))
        self._answers.flush()


def previewed(steps: int, count: int) -> set[int]:
    """The steps after which `count` unfinished pictures are shown, evenly spread; after the last one there is none."""
    return {round(part * steps / (count + 1)) for part in range(1, count + 1)} & set(range(1, steps))
