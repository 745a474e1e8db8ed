"""What this machine can do: its device, its fast number formats, its memory and disk."""

import ctypes
import functools
import gc
import importlib.metadata
import os
import platform
import re
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bespoke.errors import BespokeError

Device = Literal["cuda", "mps", "cpu"]

NEEDED = ("torch", "diffusers", "transformers", "peft", "accelerate", "safetensors", "numpy", "pillow")
PICTURES_GB = 2.0
"""What decoding a picture of 80 million pixels and looking at it may take."""
SIDE, TRIES, FASTER = 384, 7, 0.8
"""What two formats are compared by: the side of the matrices, how often, and how much of the other's time is less."""
UNITS = {"M": 2**20, "G": 2**30, "T": 2**40}
M_MMAP_THRESHOLD = -3
LEAN = 65_536
"""Bytes from which on a block has pages of its own, which go back when it is freed."""


@dataclass(frozen=True)
class Machine:
    """The machine that the work runs on."""

    device: Device
    name: str
    cores: int
    memory_gb: float
    """Memory of the device: a GPU's own, else the machine's."""
    bf16: bool
    """Whether the device multiplies bfloat16 fast."""


def machine() -> Machine:
    """What this machine is; loads torch."""
    import torch

    if torch.cuda.is_available():
        facts = torch.cuda.get_device_properties(0)
        bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        return Machine("cuda", facts.name, cores(), facts.total_memory / 2**30, bf16)
    if torch.backends.mps.is_available():
        return Machine("mps", platform.machine(), cores(), _memory_gb(), bf16=False)
    return Machine("cpu", platform.processor() or platform.machine(), cores(), _memory_gb(), _cpu_has_bf16())


def cores() -> int:
    """How many cores this process may use, at least 1; loads nothing."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_cores(seconds: float = 0.3) -> int:
    """How many of these cores nobody else computes on just now, at least 1: looked at for so long.

    Threads that share a core wait for one another: two on a busy machine are many times slower than one.
    """
    import psutil  # accelerate brings it

    idle = 1 - psutil.cpu_percent(interval=seconds) / 100
    return max(1, min(cores(), round(idle * (psutil.cpu_count() or 1))))


def processes(more_gb: float = 0.0) -> int:
    """How many processes may decode pictures at once: one for each core, as long as each has 2 GB of memory, and more.

    `more_gb` is what else each of them holds, such as a model.
    """
    memory = _memory_gb()
    return max(1, min(cores(), int(memory / (PICTURES_GB + more_gb)))) if memory else cores()


def versions() -> dict[str, str]:
    """The versions of the libraries the work rests on; "missing" where one is not installed."""
    found = {"python": platform.python_version()}
    for name in NEEDED:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "missing"
    return found


def memory_size(text: str) -> int:
    """The bytes that a size such as "12GB" or "800 MB" names; a GB is 2³⁰ bytes, as memory is sold.

    Raises: BespokeError when it is no size.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(T|G|M)(?:i?B)?\s*", text, re.IGNORECASE)
    size = int(float(found[1]) * UNITS[found[2].upper()]) if found else 0
    if not size:
        raise BespokeError(f"{text!r} is no size of memory.", "Write a number and a unit: 12GB or 800MB.")
    return size


def lean_heap() -> None:
    """Lets the C library give freed memory back at once, for the rest of this process; without glibc nothing happens.

    By itself glibc keeps freed blocks of up to 32 MB for later ones, which rarely fit: a training step on a processor
    then takes a half to twice as much again. Pages that are fetched anew cost time, too: a step takes up to twice as
    long. So it is for who asks for little memory. Source: mallopt(3), M_MMAP_THRESHOLD.
    """
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LEAN)


def give_back() -> None:
    """Gives memory that was freed back to the system; the C library keeps what it thinks it needs again.

    After networks are read in another number format that is half as much as they take.
    """
    gc.collect()
    trim_heap()


def trim_heap() -> None:
    """Gives the heap's free pages back to the system, some milliseconds each time; without glibc nothing happens.

    For what is made once, stays, and has left large blocks free beside it. Source: malloc_trim(3).
    """
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def free_disk_gb(folder: Path) -> float:
    """Free space, in GiB, on the disk that holds `folder`."""
    return shutil.disk_usage(folder).free / 2**30


def free_gpu_memory() -> int:
    """The bytes that the GPU has free, 0 without one; loads torch."""
    import torch

    return torch.cuda.mem_get_info()[0] if torch.cuda.is_available() else 0


def free_memory() -> int:
    """The bytes that are free where networks compute: on the GPU, else of the machine's memory; loads torch."""
    import psutil

    return free_gpu_memory() or psutil.virtual_memory().available


def peak_memory_gb() -> tuple[float, float]:
    """The most memory that this process has had so far, and the most of its GPU's; 0 where it cannot be known."""
    import torch

    there = torch.cuda.max_memory_reserved() / 2**30 if torch.cuda.is_available() else 0.0
    try:
        import resource
    except ImportError:  # Windows
        return 0.0, there
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30, there


def _memory_gb() -> float:
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return 0.0
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30


@functools.cache
def _cpu_has_bf16() -> bool:
    """Whether the processor multiplies bfloat16 faster than float32: measured, in some hundredth of a second.

    Processors without instructions for it are ten times slower in it; those that have them, about twice as fast.
    """
    import torch

    def seconds(dtype: torch.dtype) -> float:
        factor = torch.ones(SIDE, SIDE, dtype=dtype)
        taken: list[float] = []
        for _ in range(TRIES):
            began = time.perf_counter()
            torch.mm(factor, factor)
            taken.append(time.perf_counter() - began)
        return min(taken)

    return seconds(torch.bfloat16) < FASTER * seconds(torch.float32)
