"""What would make the host wait for a device, refused wherever it is called, for a processor's waits are not seen."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

OPERATIONS = (
    "aten::_local_scalar_dense", "aten::item", "aten::is_nonzero", "aten::equal", "aten::nonzero",
    "aten::masked_select", "aten::unique_dim", "aten::_unique2", "aten::repeat_interleave",
)  # fmt: skip
"""Operations whose answer, or whose answer's size, the host must know."""
METHODS = ("item", "tolist", "numpy", "cpu", "__bool__", "__int__", "__float__", "__index__")
"""What asks for contents, also where a processor's tensor gives them without an operation."""


class _Operations(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Sequence[Any], args: Any = (), kwargs: Any = None) -> Any:
        if {func.name(), func.name().partition(".")[0]} & {*OPERATIONS}:
            raise AssertionError(f"the host waits for the device: {func.name()}")
        return func(*args, **(kwargs or {}))


class _Methods(TorchFunctionMode):
    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if getattr(func, "__name__", "") in METHODS:
            raise AssertionError(f"the host waits for the device: Tensor.{func.__name__}")
        return func(*args, **(kwargs or {}))


class NeverWaiting:
    """A block in which no tensor may be asked for its contents."""

    def __enter__(self) -> None:
        self._modes = _Operations(), _Methods()
        for mode in self._modes:
            mode.__enter__()

    def __exit__(self, *error: Any) -> None:
        for mode in reversed(self._modes):
            mode.__exit__(*error)
