"""A step's work recorded once for each shape of batch, and played back: the host then says one word for a whole pass.

Played back is exactly what was recorded, from and to the same memory. So batches are copied into buffers that stay, the
rate and the average's weight are tensors, and sums are made in place. What cannot be played back is told, and done as
ever.
"""

import gc
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn

from bespoke.recipe import Recipe
from bespoke.training.batch import Batch, Undrawn
from bespoke.training.window import Window

WARM_UP = 3
"""Passes of a shape that are made as ever before it is recorded: libraries set themselves up in the first.

Source: PyTorch's "CUDA semantics", section "CUDA Graphs".
"""
MOST = 16
"""Recordings that are kept; of more the one that was not played for longest is given up, and made again if needed."""


@runtime_checkable
class Work(Protocol):
    """What the device does in a pass, and after the last one of a step also the step itself."""

    def __call__(self, batch: Batch | Undrawn, window: Window, *, last: bool) -> None:
        """Does it."""
        ...


@runtime_checkable
class Recorder(Protocol):
    """How work is recorded: by a graph or, to try all but that, by remembering what to call."""

    def warm(self, work: Callable[[], None]) -> None:
        """Does the work, as a recording of it will need it to have been done."""
        ...

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """What does the work again, whenever it is called; by itself nothing is done yet."""
        ...


class Graphs:
    """Records as CUDA graphs, which share their memory: none needs what it leaves there once it was played."""

    def __init__(self, device: torch.device) -> None:
        self._stream, self._pool = torch.cuda.Stream(device), torch.cuda.graph_pool_handle()

    def warm(self, work: Callable[[], None]) -> None:
        """Does the work on the stream that records: what is tied to a stream is tied to this one."""
        here = torch.cuda.current_stream(self._stream.device)
        self._stream.wait_stream(here)
        with torch.cuda.stream(self._stream):
            work()
        here.wait_stream(self._stream)

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """The graph's playback. The loader's thread may allocate and copy meanwhile."""
        gc.collect()  # what dead circles hold would stay beside the graph's own memory
        graph, here = torch.cuda.CUDAGraph(), torch.cuda.current_stream(self._stream.device)
        try:
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
                work()
        finally:
            torch.cuda.set_stream(here)  # which a recording that fails does not do
        return graph.replay


@dataclass(frozen=True)
class Recording:
    """Work on a batch's buffers and a window's sums, ready to be played."""

    buffers: Batch | Undrawn
    window: Window
    play: Callable[[], None]

    def __call__(self, batch: Batch | Undrawn) -> None:
        """Does the work on a batch of the same shape."""
        given = batch.tensors
        for name, buffer in self.buffers.tensors.items():
            buffer.copy_(given[name], non_blocking=True)
        self.play()


class Captured:
    """Work that is done as ever at first, then recorded for each shape of batch, and from then on played back."""

    def __init__(self, work: Work, network: nn.Module, recorder: Recorder) -> None:
        self.work, self.network, self.recorder = work, network, recorder
        self.trouble = ""
        """Why work is done as ever, if recording failed."""
        self._kept: OrderedDict[Any, Recording] = OrderedDict()
        self._made: Counter[Any] = Counter()
        self._places = self._addresses()

    def __call__(self, batch: Batch | Undrawn, window: Window, *, last: bool) -> None:
        """Does the work on a batch."""
        key = (*((name, tensor.shape, tensor.dtype) for name, tensor in batch.tensors.items()), last)
        found = None if self.trouble else self._recording(key, batch, window, last=last)
        if found:
            found(batch)
        elif self.trouble:
            self.work(batch, window, last=last)
        else:
            self._made[key] += 1
            self.recorder.warm(lambda: self.work(batch, window, last=last))

    def forget(self) -> None:
        """Gives up all recordings, for what they read or write is another now."""
        self._kept.clear()
        self._made.clear()
        self._places = self._addresses()

    def check(self) -> None:
        """Gives up all recordings if the network's weights are no longer where they were."""
        if self._addresses() != self._places:
            self.forget()

    def _recording(self, key: Any, batch: Batch | Undrawn, window: Window, *, last: bool) -> Recording | None:
        """The recording of work on such a batch, made now if it is time; nothing as long as it is not."""
        kept = self._kept.get(key)
        if kept is None or kept.window is not window:
            if self._made[key] < WARM_UP:
                return None
            kept = self._recorded(batch, window, last=last)
            if kept is None:
                return None
            self._kept[key] = kept
        self._kept.move_to_end(key)
        while len(self._kept) > MOST:
            self._kept.popitem(last=False)
        return kept

    def _recorded(self, batch: Batch | Undrawn, window: Window, *, last: bool) -> Recording | None:
        """A recording of work on such a batch; nothing if it cannot be recorded, which is kept as `trouble`."""
        buffers = batch.each(torch.clone)
        gradients = [(parameter, parameter.grad) for parameter in self.network.parameters() if parameter.requires_grad]
        try:
            return Recording(buffers, window, self.recorder.record(lambda: self.work(buffers, window, last=last)))
        except RuntimeError as error:
            self.trouble = str(error).partition("\n")[0] or type(error).__name__
        self._kept.clear()
        for parameter, gradient in gradients:  # what a broken recording left there was never computed
            parameter.grad = gradient
        return None

    def _addresses(self) -> list[int]:
        return [tensor.data_ptr() for tensor in (*self.network.parameters(), *self.network.buffers())]


def hindrances(recipe: Recipe, network: nn.Module, device: torch.device, processes: int) -> list[str]:
    """Why steps of a resolved recipe cannot be played back as CUDA graphs; nothing where they can."""
    train, model = recipe.train, recipe.model
    drops = model.dropout > 0 or any(isinstance(m, nn.Dropout) and m.p > 0 for m in network.modules())
    found = {
        "there is no CUDA GPU": device.type != "cuda",
        "several processes speak with each other in each step": processes > 1,
        "train.offload_optimizer has the host move the weights": train.offload_optimizer,
        f"train.optimizer {train.optimizer} has the host look at each step": train.optimizer != "adamw",
        "weights in bf16 are rounded by numbers that the host seeds": model.method == "full"
        and model.weight_dtype == "bf16",
        "fp16's scaler has the host look at each step": train.mixed_precision == "fp16",
        "train.gradient_checkpointing reads the state of the GPU's random numbers": train.gradient_checkpointing,
        "dropout draws by numbers that the host seeds": drops,
        "the base is asked in some of the steps": train.masked_prior_preservation_weight > 0
        or train.regularisation_target == "base",
        "train.max_adapter_norm changes weights after a step": train.max_adapter_norm is not None,
        f"model.quantization {model.quantization} computes by bitsandbytes": model.quantization in ("int8", "nf4"),
    }
    return [reason for reason, there in found.items() if there]
