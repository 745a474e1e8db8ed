"""A process of this machine that draws, as the service sees it: asked, waited for, and killed where it hangs."""

import asyncio
import contextlib
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bespoke.errors import BespokeError
from bespoke.recipe.service import Serve
from bespoke.serving import worker
from bespoke.serving.jobs import NOTHING, Cancelled, Factory, Facts, Job, Lost, Outcome, OutOfMemory, Progress

GONE = "gone"
"""What is heard last of a process."""
_CODE = "import sys; sys.path[:] = {path!r}; from bespoke.serving.worker import work; work()"


class Process:
    """One worker; its process is started when it is first asked, and anew when it has died.

    It is neither forked nor one of `multiprocessing`: see `bespoke.scale.processes`.
    """

    def __init__(self, factory: Factory, settings: Serve, environment: Mapping[str, str] | None = None) -> None:
        """`environment` is added to that of this process, as `CUDA_VISIBLE_DEVICES`."""
        self._factory, self._settings = pickle.dumps(factory), settings
        self._environment = {**os.environ, **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._heard: asyncio.Queue[tuple[Any, ...]] = asyncio.Queue()
        self._number = 0
        self.held = NOTHING

    @property
    def pid(self) -> int | None:
        """The number of the process, while there is one."""
        return self._process.pid if self._process else None

    async def prepare(self, model: str) -> Facts:
        """Lets the process read a model and draw a picture with it.

        Raises: BespokeError when it cannot, Lost when the process died over it or took too long.
        """
        return await self._ask(worker.PREPARE, model, self._settings.load_timeout_s)

    async def release(self, model: str) -> None:
        """Lets the process forget a model; one that died has forgotten all."""
        if self._process:
            await self._ask(worker.RELEASE, model, self._settings.load_timeout_s)

    async def draw(self, jobs: Sequence[Job], told: Callable[[Progress], None]) -> Sequence[Outcome]:
        """The outcomes of some jobs. Raises: as `jobs.Worker.draw`."""
        return await self._ask(worker.DRAW, tuple(jobs), self._settings.step_timeout_s, told)

    def cancel(self) -> None:
        """Lets the process leave off what it draws, after the step that it makes."""
        if self._process:
            with contextlib.suppress(OSError):
                _send(self._process, (worker.CANCEL, self._number))

    async def close(self) -> None:
        """Ends the process, whatever it does."""
        process, self._process = self._process, None
        if process:
            process.kill()
            await asyncio.to_thread(process.wait)
            for stream in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):
                    assert stream
                    stream.close()

    async def _ask(
        self, verb: str, what: object, patience: float, told: Callable[[Progress], None] | None = None
    ) -> Any:  # noqa: ANN401 - it depends on the verb
        process = self._process or self._start()
        self._number += 1
        number = self._number
        try:
            await asyncio.to_thread(_send, process, (verb, number, what))
            while True:
                kind, about, content = await asyncio.wait_for(self._heard.get(), patience)
                if kind == GONE:
                    raise Lost(f"a worker ended with code {process.wait()}")
                if kind == worker.HELD:
                    self.held = content
                elif about == number and kind != worker.STEP:
                    return _meant(kind, content)
                elif about == number and told:
                    told(content)
        except (TimeoutError, OSError) as error:
            why = f"made no step in {patience:g} seconds" if isinstance(error, TimeoutError) else "could not be asked"
            await self.close()
            raise Lost(f"a worker {why}") from None
        except Lost:
            await self.close()
            raise

    def _start(self) -> subprocess.Popen[bytes]:
        code = _CODE.format(path=sys.path)
        program = [sys.executable, "-c", code]
        self._process = process = subprocess.Popen(
            program, env=self._environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._heard = heard = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def listen() -> None:
            assert process.stdout
            with contextlib.suppress(EOFError, OSError, ValueError, pickle.UnpicklingError):
                while True:
                    loop.call_soon_threadsafe(heard.put_nowait, pickle.load(process.stdout))  # noqa: S301 - our own
            with contextlib.suppress(RuntimeError):  # the loop has ended before the process
                loop.call_soon_threadsafe(heard.put_nowait, (GONE, 0, ""))

        threading.Thread(target=listen, daemon=True, name="bespoke-worker").start()
        with contextlib.suppress(OSError):  # it died at once, which is heard
            assert process.stdin
            process.stdin.write(self._factory)
        return process


def _send(process: subprocess.Popen[bytes], message: object) -> None:
    assert process.stdin
    process.stdin.write(pickle.dumps(message))  # at once: what is sent meanwhile comes before or after it
    process.stdin.flush()


def _meant(kind: str, content: Any) -> Any:  # noqa: ANN401
    """What a worker answered, or what it says went wrong, raised."""
    if kind == worker.DONE:
        return content
    if kind == worker.WRONG:
        raise BespokeError(*content)
    if kind == worker.NO_MEMORY:
        raise OutOfMemory
    if kind == worker.LEFT_OFF:
        raise Cancelled
    raise RuntimeError(content)
