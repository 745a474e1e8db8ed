"""What this machine can do: its device, its fast number formats, its memory and disk."""

import importlib.metadata
import os
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Device = Literal["cuda", "mps", "cpu"]

NEEDED = ("torch", "diffusers", "transformers", "peft", "accelerate", "safetensors", "numpy", "pillow")


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

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if torch.cuda.is_available():
        facts = torch.cuda.get_device_properties(0)
        return Machine("cuda", facts.name, cores, facts.total_memory / 2**30, torch.cuda.is_bf16_supported())
    if torch.backends.mps.is_available():
        return Machine("mps", platform.machine(), cores, _memory_gb(), bf16=False)
    return Machine("cpu", platform.processor() or platform.machine(), cores, _memory_gb(), _cpu_has_bf16())


def versions() -> dict[str, str]:
    """The versions of the libraries the work rests on; "missing" where one is not installed."""
    found = {"python": platform.python_version()}
    for name in NEEDED:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "missing"
    return found


def free_disk_gb(folder: Path) -> float:
    """Free space, in GiB, on the disk that holds `folder`."""
    return shutil.disk_usage(folder).free / 2**30


def _memory_gb() -> float:
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return 0.0
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30


def _cpu_has_bf16() -> bool:
    """Whether the processor has bfloat16 instructions; without them bf16 is ten times slower than float32."""
    try:
        return any(flag in Path("/proc/cpuinfo").read_text() for flag in ("avx512_bf16", "amx_bf16", "bf16 "))
    except OSError:
        return False
