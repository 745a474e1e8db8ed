"""What runs in each process: batches of records that come in through a pipe turned into results that go out."""

import contextlib
import os
import pickle
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

Answer = tuple[list[Any], Exception | None]
"""The results of a batch, up to the record on which the function raised the error; without one, of all."""


def at_home(path: Sequence[str], folder: str) -> None:
    """Lets this process find the modules and the files that the process finds which asked for the work."""
    sys.path.extend(entry for entry in path if entry not in sys.path)
    with contextlib.suppress(OSError):  # a machine that does not share the folder: paths must then be whole ones
        os.chdir(folder)


def answer(function: Callable[[Any], Any], records: Sequence[Any]) -> Answer:
    """The results of the function for the records, up to the first that it raises an error on."""
    results: list[Any] = []
    for record in records:
        try:
            results.append(function(record))
        except Exception as error:  # noqa: BLE001 - what it is, is told to who asked
            return results, error
    return results, None


def serve() -> None:
    """Answers batches from standard input on standard output until there are no more; each is a pickle in a pickle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the one that asked ends this one
    asked, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    # What a library reads or prints must not come between.
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    sys.stdin, sys.stdout = open(0, closefd=False), sys.stderr  # noqa: SIM115 - open for good
    with contextlib.suppress(EOFError, OSError):  # who asked is gone
        function = loaded(pickle.load(asked))  # noqa: S301 - who asks is our own parent
        while True:
            answers.write(packed(function, pickle.load(asked)))  # noqa: S301
            answers.flush()
    os._exit(0)  # closing the pipe in the usual way would complain of an end that is gone


def loaded(packed: bytes) -> Callable[[Any], Any]:
    """The packed function; where it cannot be had, one that raises why, so that it is told of a record."""
    try:
        return pickle.loads(packed)  # noqa: S301
    except Exception as error:  # noqa: BLE001 - its module may raise anything
        reason = error

        def missing(record: object) -> None:
            raise RuntimeError(f"the function cannot be had in another process, for {record!r}") from reason

        return missing


def packed(function: Callable[[Any], Any], content: bytes) -> bytes:
    """The answer for packed records as a pickle, whatever goes wrong."""
    try:
        results, error = answer(function, pickle.loads(content))  # noqa: S301
        return pickle.dumps((results, error and portable(error)))
    except Exception as error:  # noqa: BLE001 - what cannot be packed, or a record's module that is not there
        return pickle.dumps(([], portable(error)))


def portable(error: Exception) -> Exception:
    """The error with where it arose as a note; in words where it cannot be packed."""
    error.add_note("in another process:\n" + "".join(traceback.format_exception(error)))
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301
    except Exception:  # noqa: BLE001 - an error of any make
        return RuntimeError(f"{type(error).__name__}: {error}\n{error.__notes__[-1]}")
    return error
