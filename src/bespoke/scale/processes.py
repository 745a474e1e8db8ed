"""Fresh interpreters on this machine that answer batches.

They talk through pipes and are neither forked nor those of `multiprocessing`: a fork of a process in which torch has
started threads may hang, and `multiprocessing` runs the caller's own script again in each process, so that a script
without `if __name__ == "__main__"` would start itself. They load what the function needs and nothing else, and hold no
semaphore that could be left behind.
"""

import os
import pickle
import subprocess
import sys
from collections.abc import Sequence
from functools import partial

from bespoke.errors import BespokeError
from bespoke.scale.pool import Pool, told
from bespoke.scale.worker import Answer

# Each process is one core's worth; the libraries in it must not start threads for all cores.
_THREADS = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
# Memory that one picture leaves is used for the next, not given back and asked for anew: a quarter of the time saved.
# Source: mallopt(3), M_MMAP_THRESHOLD and M_TRIM_THRESHOLD.
_HEAP = {"MALLOC_MMAP_THRESHOLD_": str(1 << 25), "MALLOC_TRIM_THRESHOLD_": str(1 << 30)}
ENVIRONMENT = _THREADS | _HEAP


def processes(function: bytes, count: int) -> Pool:
    """So many processes that answer batches with a packed function."""
    return Pool(partial(Process, function), count)


class Process:
    """One process, to which records go and from which results come."""

    def __init__(self, function: bytes) -> None:
        code = f"import sys; sys.path[:] = {sys.path!r}; from bespoke.scale.worker import serve; serve()"
        self._process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=ENVIRONMENT | dict(os.environ),
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._to, self._from, self._function = self._process.stdin, self._process.stdout, function

    def ask(self, records: Sequence[object]) -> Answer:
        """The answer for some records. Raises: BespokeError when the process dies over them."""
        content = pickle.dumps(records)
        try:
            if self._function:
                pickle.dump(self._function, self._to)
                self._function = b""
            pickle.dump(content, self._to)
            self._to.flush()
            return pickle.load(self._from)  # noqa: S301 - what our own process wrote
        except (OSError, EOFError, pickle.UnpicklingError):
            problem = f"A process ended with code {self._process.wait()} over {told(records[0])} or one of the next"
            hint = "The memory may have been too little: use fewer processes, --set data.processes=1."
            raise BespokeError(f"{problem} {len(records) - 1}.", hint) from None

    def kill(self) -> None:
        """Ends the process, whatever it does."""
        self._process.kill()

    def close(self) -> None:
        """Lets go of what is left of the process."""
        self._process.wait()
        for stream in (self._to, self._from):
            try:
                stream.close()
            except OSError:  # what was not yet written to it
                continue
