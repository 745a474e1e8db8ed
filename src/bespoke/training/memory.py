"""A network and a batch's shapes turned into the memory that a training step takes, by making the step without memory.

The step runs in torch's fake tensors, which have shapes and formats but no contents, through the very code that trains:
arithmetic in 16 bits, gradient checkpointing, adapters, accumulation and the optimizer are all in it. What kernels take
for themselves while they run is not seen.
"""

import weakref
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import _pytree as trees
from torch.utils._python_dispatch import TorchDispatchMode

from bespoke.diffusion import Schedule
from bespoke.models import Tuned, adapters
from bespoke.models.packed import sorted_bytes
from bespoke.recipe import Recipe
from bespoke.training.imitation import gpu_casts
from bespoke.training.loader import ahead_on
from bespoke.training.rehearsal import Shapes, rehearsal, step

Kind = Literal["frozen", "trained", "gradients", "optimizer", "average", "batches", "activations", "transient", "host"]
BLOCK = {"cuda": 512}
"""Bytes that an allocation is rounded up to. Source: kMinBlockSize of torch's CUDACachingAllocator."""


@dataclass(frozen=True)
class Memory:
    """Bytes that live at the moment of a step when most do."""

    frozen: int
    """Weights that stay as they are, and on a processor what is kept of them in another order."""
    trained: int
    """Weights that training moves."""
    gradients: int
    """Those that are there at that moment; over the step there is one for each trained weight."""
    optimizer: int
    """What the optimizer remembers, such as AdamW's two moments of each trained weight."""
    average: int
    """The running average of the trained weights."""
    batches: int
    """Those that are made ahead."""
    activations: int
    """What the forward pass keeps for the backward one: inner values, and weights cast to 16 bits."""
    transient: int
    """What the backward pass or the optimizer holds for a moment; also what checkpointing computes anew."""

    host: int = 0
    """What is in the host's memory while the device is another: weights, gradients and moments that are offloaded."""

    @property
    def peak(self) -> int:
        """All that is on the device."""
        return _on_device(asdict(self))

    @property
    def resting(self) -> int:
        """What lives between two steps."""
        return self.frozen + self.trained + self.optimizer + self.average + self.batches


def memory(
    network: Tuned, shapes: Shapes, schedule: Schedule, recipe: Recipe, accelerator: Accelerator, device: str = ""
) -> Memory:
    """The memory of a step at its highest, once the optimizer has its moments.

    `network` is as `models.weightless` gives it; the accelerator must not be used for training afterwards. `device` is
    the kind of device that is meant, "cuda", where it is not the accelerator's: its formats are imitated.
    """
    meant = device or accelerator.device.type
    elsewhere = meant == "cuda" and accelerator.device.type == "cpu"
    accelerator.device_placement = False  # the tensors are made where they belong
    passes = min(2, recipe.train.gradient_accumulation_steps)  # a third would find what the second found
    # Prodigy reads numbers that tensors without contents do not have; it keeps twice what AdamW does.
    stand_in = "adamw" if recipe.train.optimizer == "prodigy" else recipe.train.optimizer
    train = recipe.train.model_copy(update={"gradient_accumulation_steps": passes, "optimizer": stand_in})
    casts, tracking = gpu_casts() if elsewhere else nullcontext(), _Tracker(BLOCK.get(meant, 1))
    with casts, FakeTensorMode(allow_non_fake_inputs=True), tracking as tracker:
        _fill(network, accelerator.device)
        network.arranged = elsewhere  # as this processor would compute, no other device does
        trainer = rehearsal(network, shapes, schedule, recipe.model_copy(update={"train": train}), accelerator)
        away = recipe.train.offload_optimizer and meant != "cpu"
        tracker.mark("trained", network.trainable())
        tracker.mark("frozen", {n: p for n, p in network.named_parameters() if n not in trainer.parameters})
        tracker.mark("frozen", dict(network.named_buffers()))
        tracker.mark("host" if away else "optimizer", trainer.weights.aside)
        tracker.mark("host" if away else "average", trainer.average.values)
        tracker.optimizing = "host" if away else "optimizer"
        tracker.peak = dict(tracker.now)  # what was made so far stays, each for what it is for
        adapters.never_left_out(network)
        waiting = [trainer.loader.batch(0) for _ in range(ahead_on(meant) + bool(recipe.train.cuda_graph))]
        for batch in waiting:
            tracker.mark("batches", batch.tensors)
        tracker.watch(trainer.parameters, trainer.optimizer.optimizer)
        step(trainer)
        del waiting
    found = tracker.steady()
    found["frozen"] += sorted_bytes(network)
    if recipe.train.optimizer == "prodigy":
        found[tracker.optimizing] *= 2
    return Memory(**found)


def _on_device(moment: Mapping[Any, int]) -> int:
    """The bytes of a moment, without those in the host's memory."""
    return sum(size for kind, size in moment.items() if kind != "host")


def _fill(network: nn.Module, device: torch.device) -> None:
    """Puts tensors on `device` in the place of those on `meta`, in place."""
    for module in network.modules():
        for name, parameter in module.named_parameters(recurse=False):
            new = torch.empty_like(parameter, device=device)
            setattr(module, name, nn.Parameter(new, requires_grad=parameter.requires_grad))
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, torch.empty_like(buffer, device=device))


class _Tracker(TorchDispatchMode):
    """Counts the bytes of all storages that are alive, by what they are for."""

    def __init__(self, block: int) -> None:
        super().__init__()
        self.block, self.stepping = block, False
        self.optimizing: Kind = "optimizer"
        """What comes to be in the optimizer's turn."""
        self.alive: dict[int, tuple[Kind, int]] = {}
        self.now: dict[Kind, int] = dict.fromkeys(get_args(Kind), 0)
        self.peak = dict(self.now)
        self.before = self.peak
        """The highest moment before the optimizer's turn."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Lets the operation run, and takes in what came out."""
        made = func(*args, **(kwargs or {}))
        for leaf in (made,) if isinstance(made, Tensor) else trees.tree_leaves(made):
            if isinstance(leaf, Tensor):
                self._see(leaf)
        return made

    def mark(self, kind: Kind, tensors: Mapping[str, Tensor]) -> None:
        """Counts tensors as `kind` from now on."""
        for tensor in tensors.values():
            key = self._see(tensor)
            before, size = self.alive[key]
            self.alive[key] = (kind, size)
            self.now[before] -= size
            self.now[kind] += size

    def watch(self, parameters: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> None:
        """Tells gradients and the optimizer's tensors from the others."""
        for parameter in parameters.values():
            parameter.register_post_accumulate_grad_hook(self._accumulated)
        optimizer.register_step_pre_hook(self._before_the_optimizer)
        optimizer.register_step_post_hook(lambda *_: setattr(self, "stepping", False))

    def steady(self) -> dict[Kind, int]:
        """The highest moment of any step but the first, in which the optimizer's moments come last.

        In the others they are there from the beginning; all else is the same.
        """
        during = dict(self.before)
        during[self.optimizing] = self.now[self.optimizing]
        return max(during, self.peak, key=_on_device)

    def _before_the_optimizer(self, *_: Any) -> None:
        self.before, self.peak, self.stepping = self.peak, dict(self.now), True

    def _accumulated(self, parameter: Tensor) -> None:
        if parameter.grad is not None:
            self.mark("gradients", {"": parameter.grad})

    def _see(self, tensor: Tensor) -> int:
        storage = tensor.untyped_storage()
        key: int = storage._cdata  # noqa: SLF001 # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue]
        if key not in self.alive:
            kind, size = self._kind(), -(-storage.nbytes() // self.block) * self.block
            self.alive[key] = (kind, size)
            self.now[kind] += size
            if _on_device(self.now) > _on_device(self.peak):
                self.peak = dict(self.now)
            weakref.finalize(storage, self._gone, key)
        return key

    def _kind(self) -> Kind:
        if self.stepping:
            return self.optimizing
        backward = torch._C._current_graph_task_id() != -1  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
        return "transient" if backward else "activations"

    def _gone(self, key: int) -> None:
        kind, size = self.alive.pop(key)
        self.now[kind] -= size
