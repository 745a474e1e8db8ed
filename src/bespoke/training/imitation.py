"""A GPU's automatic casts, imitated on a processor, so that a GPU's memory can be computed where there is none."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as trees

WIDE = ("layer_norm", "group_norm", "softmax.int")
"""What a GPU computes in float32 within 16 bits and a processor does not, of all that these networks are made of.

Source: the lists of torch's aten/src/ATen/autocast_mode.h.
"""


@contextmanager
def gpu_casts() -> Generator[None, None, None]:
    """A block in which automatic casts on processors give the formats that they give on a GPU."""
    library = torch.library.Library("aten", "IMPL")
    for name in WIDE:
        library.impl(name, _wide(name), "AutocastCPU")
    try:
        yield
    finally:
        library._destroy()  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]


def _wide(name: str) -> Any:
    """An operation whose inputs are made float32 before it."""
    packet, _, overload = name.partition(".")
    operation = getattr(getattr(torch.ops.aten, packet), overload or "default")
    keys = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCPU)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]

    def widened(*arguments: Any, **options: Any) -> Any:
        with torch._C._ExcludeDispatchKeyGuard(keys):  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
            wide, options = trees.tree_map_only(Tensor, Tensor.float, (arguments, options))
            return operation(*wide, **options)

    return widened
