"""A recorder of steps for processors that does what a CUDA graph does: it plays back operations, and reads no Python.

Numbers that were Python's when the step was recorded are what they were; tensors are read where they lie, and results
are written where they were. So a rate, a weight or a batch that is not in a tensor that stays shows at once.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as trees
from torch.utils._python_dispatch import TorchDispatchMode


class _Recording(TorchDispatchMode):
    """Lets operations run, notes them, and remembers what storages that it did not make held before."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, Any]] = []
        self.own: set[int] = set()
        self.before: dict[int, tuple[Any, Any]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        for tensor in _tensors((args, kwargs)):
            place = tensor.untyped_storage()
            if place.data_ptr() not in self.own and place.data_ptr() not in self.before:
                self.before[place.data_ptr()] = place, place.clone()
        made = func(*args, **kwargs)
        known = {tensor.untyped_storage().data_ptr() for tensor in _tensors((args, kwargs))}
        self.own |= {tensor.untyped_storage().data_ptr() for tensor in _tensors(made)} - known
        self.calls.append((func, args, kwargs, made))  # which keeps all of them where they are
        return made


class Tape:
    """Records work by its operations; it counts how often it recorded and played."""

    def __init__(self) -> None:
        self.recorded = self.played = 0

    def warm(self, work: Callable[[], None]) -> None:
        """Does the work."""
        work()

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """What plays the work's operations back; all that the work changed is put back first."""
        self.recorded += 1
        with _Recording() as recording:
            work()
        for place, content in recording.before.values():
            place.copy_(content)
        return lambda: self._play(recording.calls)

    @torch.no_grad()
    def _play(self, calls: list[tuple[Any, Any, Any, Any]]) -> None:
        self.played += 1
        for func, args, kwargs, made in calls:
            again = func(*args, **kwargs)
            for old, new in zip(_tensors(made), _tensors(again), strict=True):
                if old.untyped_storage().data_ptr() != new.untyped_storage().data_ptr():
                    old.copy_(new)


def _tensors(content: Any) -> list[Tensor]:
    """The tensors that lie in memory; frozen weights that oneDNN has packed do not, and never change."""
    return [leaf for leaf in trees.tree_leaves(content) if isinstance(leaf, Tensor) and not leaf.is_mkldnn]
