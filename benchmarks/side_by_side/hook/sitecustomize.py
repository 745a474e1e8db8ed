"""Stamps the optimizer steps of any program that runs with this folder first on PYTHONPATH; Python imports it itself.

`STEP_STAMPS` names the folder for the stamps, one file a process; `STEP_STAMPS_ENDS` the steps, such as "1,20,70",
after which the device is waited for and memory is read. All other steps cost a line of text, and nothing is waited for.
A step inside a CUDA graph counts when the graph runs, not when it is recorded.
"""

import importlib
import importlib.abc
import importlib.util
import json
import os
import resource
import sys
import time
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any


class Stamps:
    """The steps of this process so far."""

    def __init__(self, torch: Any, folder: Path, ends: set[int]) -> None:  # noqa: ANN401 - torch is not imported here
        self.torch, self.path, self.ends, self.steps = torch, folder / f"{os.getpid()}.jsonl", ends, 0
        self.recorded = False

    def optimizer_stepped(self) -> None:
        """Counts a step that was made; one that a graph only records is made later."""
        if self.torch.cuda.is_available() and self.torch.cuda.is_current_stream_capturing():
            self.recorded = True
        else:
            self.stepped()

    def stepped(self) -> None:
        """Writes down a step."""
        self.steps += 1
        at_an_end = self.steps in self.ends
        if at_an_end and self.torch.cuda.is_available():
            self.torch.cuda.synchronize()
        stamp = {"step": self.steps, "seconds": time.monotonic(), "processor_seconds": time.process_time()}
        if at_an_end:
            stamp |= {"memory": resident(), "device_memory": self._device_memory()}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(stamp) + "\n")

    def _device_memory(self) -> int:
        return self.torch.cuda.max_memory_reserved() if self.torch.cuda.is_available() else 0


def resident() -> int:
    """Bytes of memory that this process had at its highest.

    Linux's `ru_maxrss` would also count what the process had that started this one.
    """
    status = Path("/proc/self/status")
    if status.exists():
        return next(int(line.split()[1]) * 1024 for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def watch(torch: Any) -> None:  # noqa: ANN401
    """Has every optimizer's steps stamped, and every run of a CUDA graph that holds one."""
    ends = {int(number) for number in os.environ.get("STEP_STAMPS_ENDS", "").split(",") if number}
    stamps, holding = Stamps(torch, Path(os.environ["STEP_STAMPS"]), ends), set[int]()
    optimizers: Any = importlib.import_module("torch.optim.optimizer")
    optimizers.register_optimizer_step_post_hook(lambda *_: stamps.optimizer_stepped())
    kind = torch.cuda.CUDAGraph
    capture_end, replay = kind.capture_end, kind.replay

    def captured(graph: object) -> None:
        capture_end(graph)
        (holding.add if stamps.recorded else holding.discard)(id(graph))
        stamps.recorded = False

    def replayed(graph: object) -> None:
        replay(graph)
        if id(graph) in holding:
            stamps.stepped()

    kind.capture_end, kind.replay = captured, replayed


class AfterTorch(importlib.abc.MetaPathFinder):
    """Waits until the program itself imports torch, so that nothing is loaded earlier than it would be."""

    def find_spec(self, fullname: str, *_: object) -> ModuleSpec | None:
        """Torch's own spec, whose execution ends with `watch`; nothing for all else.

        Programs also ask for it to learn whether torch is there, without importing it.
        """
        if fullname != "torch":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        sys.meta_path.insert(0, self)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def executed(module: ModuleType) -> None:
                execute(module)
                watch(module)

            spec.loader.exec_module = executed
        return spec


if "STEP_STAMPS" in os.environ:
    sys.meta_path.insert(0, AfterTorch())
