"""A small trainer for pico's parts: time-budgeted cosine, EMA, resumable checkpoints, on cores or on a GPU.

Two one-thread processes train faster on two cores than one process of two threads, so that is what it starts. Where
there is a GPU, one process trains on it, and the other cores draw pictures for it.
"""

import json
import math
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
PROCESSES = 2 if DEVICE.type == "cpu" else 1
FAST_BFLOAT16 = DEVICE.type == "cuda" or bool(torch.cpu.get_capabilities().get("amx_bf16"))
"""Elsewhere a bfloat16 convolution is up to ten times slower than a float32 one."""
Made = TypeVar("Made")
Values = dict[str, torch.Tensor]
"""A `loss`, and other figures to report."""


def precision() -> torch.autocast:
    """A block whose networks compute in bfloat16 where the machine has units for it, and in float32 elsewhere."""
    return torch.autocast(DEVICE.type, torch.bfloat16, enabled=FAST_BFLOAT16)


class _Endless(IterableDataset[Made]):
    def __init__(self, make: Callable[[np.random.Generator], Made], seed: tuple[int, ...]) -> None:
        self.make, self.seed = make, seed

    def __iter__(self) -> Iterator[Made]:
        worker = get_worker_info()
        rng = np.random.default_rng((*self.seed, worker.id if worker else 0))
        while True:
            yield self.make(rng)


def numbered(make: Callable[[int], Made], numbers: range) -> Iterator[Made]:
    """What `make` draws for each number, in their order; on the cores of `endless`."""
    return iter(DataLoader(_Made(make, numbers), batch_size=None, num_workers=_workers(), pin_memory=_workers() > 0))


class _Made(Dataset[Made]):
    def __init__(self, make: Callable[[int], Made], numbers: range) -> None:
        self.make, self.numbers = make, numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, place: int) -> Made:
        return self.make(self.numbers[place])


def _workers() -> int:
    return max(1, (os.cpu_count() or 2) - 2) if DEVICE.type == "cuda" else 0


def endless(make: Callable[[np.random.Generator], Made], *seed: int) -> Iterator[Made]:
    """What `make` draws, again and again: here on a processor, by all but two of the cores where a GPU waits for it."""
    data = _Endless(make, seed)
    return iter(DataLoader(data, batch_size=None, num_workers=_workers(), pin_memory=_workers() > 0))


def reused(fresh: Iterator[torch.Tensor], batch: int, room: int = 65_536) -> Iterator[torch.Tensor]:
    """Batches of what `fresh` brought last, at most `room` of it; for each batch comes one from there.

    A GPU learns faster than the cores draw: each picture comes again, batch / len(fresh's batch) times in the mean.
    """
    known, place = 0, 0
    held = torch.empty(0)
    for new in fresh:
        if not len(held):
            held = torch.empty(room // len(new) * len(new), *new.shape[1:], device=DEVICE)
        held[place : place + len(new)].copy_(new, non_blocking=True)
        known, place = max(known, place + len(new)), (place + len(new)) % len(held)
        if known >= min(4 * batch, len(held)):
            yield held[torch.randint(known, (batch,), device=DEVICE)]


def tensor(pictures: Sequence[Image.Image]) -> torch.Tensor:
    """Pictures in −1..1, as the autoencoder, the UNet's encoding and the judge take them, [b 3 h w]."""
    batch = torch.from_numpy(np.stack([np.asarray(p.convert("RGB")) for p in pictures])).permute(0, 3, 1, 2).float()
    return batch.div(127.5).sub(1)


@dataclass(frozen=True)
class Budget:
    """How long and how fast to train: `minutes` of wall time, `batch` per process, cosine from `learning_rate` to 2 %.

    With `muon_rate` the hidden matrices and kernels learn by Muon, the rest by AdamW.
    """

    minutes: float
    batch: int
    learning_rate: float
    muon_rate: float | None = None
    warmup_steps: int = 100
    ema: float = 0.999
    weight_decay: float = 0.01
    clip: float = 1.0
    processes: int = PROCESSES
    save_every: float = 120.0


def cosine(progress: float) -> float:
    """The learning rate's factor at `progress` (0..1) of the budget."""
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


EDGES = ("conv_in", "conv_out", "quant_conv", "embedding")


def is_hidden_matrix(name: str, parameter: torch.Tensor) -> bool:
    """Whether this is a matrix or a kernel between hidden layers."""
    return parameter.ndim >= 2 and not any(edge in name for edge in EDGES)


class Muon:
    """Momentum orthogonalised by Newton-Schulz, for matrices and kernels; the processes share the work.

    On the autoencoder, 100 s of one thread: 16.9 dB against AdamW's 14.7.
    Source: Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks"; scale after Liu et al.
    2025, arXiv 2502.16982, eq. 4.
    """

    def __init__(self, parameters: list[nn.Parameter], rate: float) -> None:
        self.parameters, self.rate = parameters, rate
        self.momentum = [torch.zeros_like(p) for p in parameters]

    @torch.no_grad()
    def step(self, factor: torch.Tensor) -> None:
        """One update at `factor` of the rate, []; kernels of one shape are orthogonalised together."""
        world, rank = (dist.get_world_size(), dist.get_rank()) if dist.is_initialized() else (1, 0)
        if not self.parameters:
            return
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        assert len(gradients) == len(self.parameters)
        torch._foreach_lerp_(self.momentum, gradients, 0.05)
        updates = [torch.zeros_like(p) for p in self.parameters]
        alike: dict[tuple[int, int], list[int]] = {}
        for index in range(rank, len(gradients), world):
            alike.setdefault(as_matrix(gradients[index]).shape, []).append(index)
        for shape, indices in alike.items():
            matrices = torch.stack([as_matrix(gradients[i].lerp(self.momentum[i], 0.95)) for i in indices])
            for index, matrix in zip(indices, orthogonal(matrices) * (0.2 * max(shape) ** 0.5), strict=True):
                updates[index].copy_(matrix.reshape(updates[index].shape))
        if world > 1:
            sum_over_processes(updates)
        torch._foreach_mul_(updates, factor * -self.rate)
        torch._foreach_add_(self.parameters, updates)


def as_matrix(kernel: torch.Tensor) -> torch.Tensor:
    """The kernel as one matrix, a row for each channel that comes out."""
    return kernel.reshape(kernel.shape[0], -1)


def sum_over_processes(tensors: Sequence[torch.Tensor]) -> None:
    """Adds up each tensor over the processes, in place, in one message."""
    flat = torch.cat([t.reshape(-1) for t in tensors])
    dist.all_reduce(flat)
    for tensor, piece in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
        tensor.copy_(piece.view(tensor.shape))


def orthogonal(matrices: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """Roughly the nearest matrices with orthonormal rows or columns, [b m n], by a quintic Newton-Schulz iteration."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrices / (matrices.norm(dim=(1, 2), keepdim=True) + 1e-7)
    x = x.to(torch.bfloat16 if FAST_BFLOAT16 else matrices.dtype)
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if tall else x).to(matrices.dtype)


PACKAGE = Path(__file__).parent.parent / "src" / "bespoke" / "models"


def load_average(folder: Path, parts: dict[str, nn.Module]) -> None:
    """Puts what a training folder trained, averaged, into those of its parts that are given; what it froze stays."""
    for name, value in load_file(folder / "average.safetensors").items():
        key, _, parameter = name.partition(".")
        if key in parts:
            parts[key].get_parameter(parameter).data.copy_(value)


def begin(module: nn.Module, key: str, shipped: Path, *stages: Path) -> None:
    """Puts in the averaged weights of training folders, a later stage's over an earlier one's.

    Where the first stage, which trains everything, left nothing, the shipped weights are the ground; what has another
    shape by now is told, and stays as it was built.
    """
    if not (stages[0] / "average.safetensors").exists():
        own, held = module.state_dict(), load_file(shipped)
        changed = [name for name, value in held.items() if own[name].shape != value.shape]
        print(*(f"{name}: of another shape than the shipped one, begins anew\n" for name in changed), end="")
        module.load_state_dict({n: v for n, v in held.items() if n not in changed}, strict=not changed)
    for stage in stages:
        if (stage / "average.safetensors").exists():
            load_average(stage, {key: module})


class Graph:
    """A step as one CUDA graph: the kernels of a small network take less time than the host takes to start them.

    Source: PyTorch's notes on CUDA graphs, "Whole-network capture".
    """

    def __init__(self, step: Callable[..., Values]) -> None:
        self.step, self.graph = step, torch.cuda.CUDAGraph()
        self.batch: list[torch.Tensor] = []
        self.values: Values = {}

    def __call__(self, *batch: torch.Tensor) -> Values:
        """What the step gives for a batch; the same tensors each time."""
        if not self.batch:
            self._capture(batch)
        for held, new in zip(self.batch, batch, strict=True):
            held.copy_(new, non_blocking=True)
        self.graph.replay()
        return self.values

    def _capture(self, batch: Sequence[torch.Tensor]) -> None:
        self.batch = [tensor.to(DEVICE, copy=True) for tensor in batch]
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(3):  # the libraries choose their kernels, and the optimizer makes its moments
                self.step(*self.batch)
        torch.cuda.current_stream().wait_stream(aside)
        with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):  # another thread pins memory meanwhile
            self.values = self.step(*self.batch)


class Trainer:
    """One process of a run: parameters, optimizer, EMA and the clock, saved to and restored from one folder."""

    def __init__(self, parts: dict[str, nn.Module], folder: Path, budget: Budget, rank: int) -> None:
        self.parts, self.folder, self.budget, self.rank = parts, folder, budget, rank
        self.named = {f"{k}.{n}": p for k, m in parts.items() for n, p in m.named_parameters() if p.requires_grad}
        self.parameters = list(self.named.values())
        inner = [] if budget.muon_rate is None else [p for n, p in self.named.items() if is_hidden_matrix(n, p)]
        self.muon = Muon(inner, budget.muon_rate or 0.0)
        others = {id(p) for p in inner}
        self.optimizer = torch.optim.AdamW(
            [p for p in self.parameters if id(p) not in others],
            lr=budget.learning_rate if DEVICE.type == "cpu" else torch.tensor(budget.learning_rate, device=DEVICE),
            weight_decay=budget.weight_decay, betas=(0.9, 0.98), fused=True, capturable=DEVICE.type == "cuda",
        )  # fmt: skip
        self.factor = torch.zeros((), device=DEVICE)
        """What the learning rates are multiplied by, where a graph can read it."""
        self.average = {n: p.detach().clone() for n, p in self.named.items()}
        self.step, self.elapsed = 0, 0.0

    def restore(self) -> None:
        """Continues from the folder's checkpoint, if there is one."""
        if not (self.folder / "clock.json").exists():
            return
        clock = json.loads((self.folder / "clock.json").read_text())
        self.step, self.elapsed = clock["step"], clock["elapsed"]
        live, average = load_file(self.folder / "live.safetensors"), load_file(self.folder / "average.safetensors")
        moments = load_file(self.folder / "moments.safetensors")
        for name, parameter in self.named.items():
            parameter.data.copy_(live[name])
            self.average[name].copy_(average[name])
            if f"m.{name}" not in moments:
                continue
            self.optimizer.state[parameter] = {
                "step": torch.tensor(float(self.step), device=DEVICE),
                "exp_avg": torch.empty_like(parameter).copy_(moments[f"m.{name}"]),
                "exp_avg_sq": torch.empty_like(parameter).copy_(moments[f"v.{name}"]),
            }

        for index, momentum in enumerate(self.muon.momentum):
            momentum.copy_(moments[f"muon.{index}"])

    def use_average(self) -> None:
        """Puts the averaged weights in place of the live ones."""
        for name, parameter in self.named.items():
            parameter.data.copy_(self.average[name])

    def save(self) -> None:
        """Writes live and averaged weights, the optimizer's moments and the clock, each by rename."""
        self.folder.mkdir(parents=True, exist_ok=True)
        state = self.optimizer.state
        moments = {f"m.{n}": state[p]["exp_avg"].contiguous() for n, p in self.named.items() if p in state}
        moments |= {f"v.{n}": state[p]["exp_avg_sq"].contiguous() for n, p in self.named.items() if p in state}
        moments |= {f"muon.{i}": m.contiguous() for i, m in enumerate(self.muon.momentum)}
        live = {n: p.detach().contiguous() for n, p in self.named.items()}
        average = {n: p.contiguous() for n, p in self.average.items()}
        for name, tensors in (("live", live), ("average", average), ("moments", moments)):
            save_file(tensors, self.folder / f"{name}.tmp")
            os.replace(self.folder / f"{name}.tmp", self.folder / f"{name}.safetensors")
        (self.folder / "clock.tmp").write_text(json.dumps({"step": self.step, "elapsed": self.elapsed}))
        os.replace(self.folder / "clock.tmp", self.folder / "clock.json")

    def optimize(self, loss: torch.Tensor) -> None:
        """One optimizer step on the gradient averaged over the processes."""
        for parameter in self.parameters:
            parameter.grad = None
        loss.backward()
        if self.budget.processes > 1:
            gradients = [p.grad for p in self.parameters if p.grad is not None]
            torch._foreach_div_(gradients, self.budget.processes)
            sum_over_processes(gradients)
        torch.nn.utils.clip_grad_norm_(self.parameters, self.budget.clip)
        self.optimizer.step()
        self.muon.step(self.factor)

    def _set_rates(self) -> None:
        warmup = min(1.0, (self.step + 1) / self.budget.warmup_steps)
        factor = cosine(self.elapsed / (self.budget.minutes * 60)) * warmup
        self.factor.fill_(factor)
        for group in self.optimizer.param_groups:
            if isinstance(group["lr"], torch.Tensor):
                group["lr"].fill_(self.budget.learning_rate * factor)
            else:
                group["lr"] = self.budget.learning_rate * factor

    def _take_in(self) -> None:
        """Takes the weights into their average."""
        decay = min(self.budget.ema, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(list(self.average.values()), [p.detach() for p in self.parameters], 1 - decay)
        self.step += 1

    def run(self, batches: Iterator[Any], loss_of: Callable[..., Values] | None = None) -> None:
        """Trains until the budget's minutes are used, reporting every 50 steps.

        `batches` yields a `loss` per batch; or, with `loss_of`, tensors that it turns into one: then a GPU makes each
        step as one graph. The first step, which may be captured or compiled, is not in the minutes.
        """

        def step(*batch: torch.Tensor) -> Values:
            values = loss_of(*batch) if loss_of else batch[0]
            self.optimize(values["loss"])
            return {key: value.detach() for key, value in values.items()}

        make = Graph(step) if loss_of and DEVICE.type == "cuda" else step
        seen, began, reported, saved = 0, 0.0, 0.0, 0.0
        for turn, batch in enumerate(batches):
            self._set_rates()
            values = make(*(part.to(DEVICE, non_blocking=True) for part in batch)) if loss_of else make(batch)
            self._take_in()
            if turn == 0:
                began, reported, saved = time.time() - self.elapsed, time.time(), time.time()
            seen += self.budget.batch * self.budget.processes
            self.elapsed = self._agreed(time.time() - began)
            if self.rank == 0 and self.step % 50 == 0:
                rate, seen = seen / (time.time() - reported), 0
                reported = time.time()
                shown = "  ".join(f"{k} {v.item():.4f}" for k, v in values.items())
                print(f"step {self.step}  {self.elapsed / 60:.1f} min  {rate:.0f}/s  {shown}", flush=True)
            if self.rank == 0 and time.time() - saved > self.budget.save_every:
                self.save()
                saved = time.time()
            if self.elapsed >= self.budget.minutes * 60:
                break
        if self.rank == 0:
            self.save()

    def _agreed(self, seconds: float) -> float:
        """Rank 0's clock, so that all processes stop at the same step."""
        if self.budget.processes == 1:
            return seconds
        clock = torch.tensor([seconds], dtype=torch.float64)
        dist.broadcast(clock, 0)
        return float(clock)


def launch(work: Callable[..., None], processes: int, *arguments: object) -> None:
    """Runs `work(rank, *arguments)` in so many one-thread processes joined by gloo, or here if one."""
    if processes == 1:
        work(0, *arguments)
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(_joined, args=(work, processes, port, arguments), nprocs=processes)  # type: ignore[no-untyped-call]


def _joined(rank: int, work: Callable[..., None], processes: int, port: int, arguments: tuple[object, ...]) -> None:
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=processes)
    work(rank, *arguments)
    dist.destroy_process_group()
