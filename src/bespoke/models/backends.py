"""The quickest way to compute attention of each shape, as measured on this machine and kept in this person's cache."""

import json
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from bespoke.models.chunked import attend
from bespoke.workspace import cache, write_json

TORCHS = "torch"
"""Torch's own choice, which no measurement can do without: it computes every shape."""
BLOCKS = "blocks"
ROUNDS, CALLS = 3, {"cpu": 1, "cuda": 10}
"""How often each way is measured, in turn, and the calls in a measurement, so that a GPU's queue is never empty."""

Way = Callable[[Tensor, Tensor, Tensor], Tensor]


def _by(kind: SDPBackend) -> Way:
    """Torch's attention by one of its kinds of kernels, forwards and so backwards."""

    def attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        with sdpa_kernel([kind]):
            return F.scaled_dot_product_attention(query, key, value)

    return attention


PLAIN: dict[str, Way] = {TORCHS: F.scaled_dot_product_attention}
WAYS: dict[str, dict[str, Way]] = {
    "other": PLAIN,
    "cpu": PLAIN | {BLOCKS: attend},
    "cuda": PLAIN | {
        "cudnn": _by(SDPBackend.CUDNN_ATTENTION), "flash": _by(SDPBackend.FLASH_ATTENTION),
        "efficient": _by(SDPBackend.EFFICIENT_ATTENTION), "math": _by(SDPBackend.MATH),
    },
}  # fmt: skip
"""The ways by their names, for each type of device."""


class Shape(NamedTuple):
    """What the time of attention depends on."""

    batch: int
    heads: int
    rows: int
    keys: int
    width: int
    format: torch.dtype

    def __str__(self) -> str:
        return " ".join(str(part).removeprefix("torch.") for part in self)


def shape_of(query: Tensor, key: Tensor) -> Shape:
    """The shape of attention between queries [b heads n width] and keys [b heads m width]."""
    batch, heads, rows, width = query.shape
    return Shape(batch, heads, rows, key.shape[2], width, query.dtype)


def ways(device: torch.device) -> Mapping[str, Way]:
    """The ways to compute attention on a device, by name; not each computes each shape."""
    return WAYS.get(device.type, WAYS["other"])


def quickest(shapes: Iterable[Shape], device: torch.device, folder: Path | None = None) -> dict[Shape, str]:
    """The name of the quickest way for each shape, forwards and backwards.

    What was not measured on such a device with this torch before is measured now, and kept in `folder`, by default in
    this person's cache; so the same machine always computes in the same way.
    """
    path = (folder or cache() / "attention") / f"{_name(device)}.json"
    known, found = _read(path), dict[Shape, str]()
    for shape in dict.fromkeys(shapes):
        if known.get(str(shape), {}).get("way") not in ways(device):
            seconds = measured(shape, device)
            known[str(shape)] = {"way": min(seconds, key=lambda way: seconds[way]), "seconds": seconds}
            write_json(path, known)
        found[shape] = known[str(shape)]["way"]
    return found


def measured(shape: Shape, device: torch.device) -> dict[str, float]:
    """The seconds that each way takes for a shape in both passes: the least of some rounds; without those that fail."""
    batch, heads, rows, keys, width, kind = shape
    sizes = [(batch, rows, heads, width), *[(batch, keys, heads, width)] * 2]
    source = torch.Generator(device).manual_seed(0)
    # Not zeros, which a GPU multiplies faster; laid out as the linear layers before attention leave it.
    states = [torch.randn(size, generator=source, device=device).to(kind).transpose(1, 2) for size in sizes]
    able = {name: way for name, way in ways(device).items() if _is_able(way, states)}
    rounds = [{name: _seconds(way, states) for name, way in able.items()} for _ in range(ROUNDS)]
    return {name: min(one[name] for one in rounds) for name in able}


def _is_able(way: Way, states: list[Tensor]) -> bool:
    """Whether a way computes such states; it is warm afterwards."""
    try:
        _seconds(way, states)
    except (RuntimeError, NotImplementedError):
        return False
    return True


def _seconds(way: Way, states: list[Tensor]) -> float:
    device = states[0].device
    leaves = [state.detach().requires_grad_() for state in states]
    _wait(device)
    began = time.perf_counter()
    for _ in range(CALLS.get(device.type, 1)):
        answer = way(*leaves)
        torch.autograd.grad(answer, leaves, answer.detach())
    _wait(device)
    return time.perf_counter() - began


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _name(device: torch.device) -> str:
    """A file's name for a kind of device, the threads where they count, and torch's version."""
    kind = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{_processor()}-{torch.get_num_threads()}"
    return "".join(c if c.isalnum() else "-" for c in f"{kind}-torch-{torch.__version__}").lower()


def _processor() -> str:
    """The processor, by what it can do: its product name says less."""
    return f"cpu-{torch.backends.cpu.get_cpu_capability()}"


def _read(path: Path) -> dict[str, Any]:
    """What was measured before; nothing where the file is missing or damaged."""
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return (
        {key: value for key, value in content.items() if isinstance(value, Mapping)}
        if isinstance(content, dict)
        else {}
    )
