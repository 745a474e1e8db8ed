"""A network whose weights are shared out among processes: made so, and single weights put together and taken apart.

Weights are torch's DTensors, so the very names and shapes are those of the whole network. Each process holds a part of
each weight; a block's weights are put together while the block works, and let go of again.
Source: Zhao et al. 2023, "PyTorch FSDP"; torch's `fully_shard`.
"""

from typing import Any

import torch
from torch import Tensor, nn


def shard(network: nn.Module, device: torch.device, processes: int) -> None:
    """Leaves this process its part of each weight, on `device`, in place; all processes must do so at once.

    What is put together at a time are the blocks that diffusers and transformers would not split between devices, and
    what is left of the network outside them. Weights may come from memory that is not the device's: they go there block
    by block.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (processes,))
    for block in _blocks(network):
        fully_shard(block, mesh=mesh)
    fully_shard(network, mesh=mesh)


def _blocks(network: nn.Module) -> list[nn.Module]:
    """What is put together at a time, inner ones before those that hold them."""
    found: list[nn.Module] = []
    for part in network.children():
        names: Any = getattr(part, "_no_split_modules", None) or ()
        found += [module for module in part.modules() if type(module).__name__ in names]
    return found[::-1]


def is_shard(tensor: Any) -> bool:
    """Whether this process holds only a part of it; told without loading what makes such tensors."""
    return hasattr(tensor, "full_tensor")


def whole(tensor: Tensor) -> Tensor:
    """The tensor put together from all processes' parts, in each of them: all must ask. Others are as they are."""
    shards: Any = tensor
    return shards.full_tensor() if is_shard(tensor) else tensor


def own(tensor: Tensor) -> Tensor:
    """This process's part of a tensor, without asking others; where it has all of it, the tensor."""
    shards: Any = tensor
    return shards.to_local() if is_shard(tensor) else tensor


def spread(tensor: Tensor, like: Tensor) -> Tensor:
    """A whole tensor laid out as `like` is: where that is a part, this process's part of it, without asking others."""
    if not is_shard(like):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    shards: Any = like
    return distribute_tensor(tensor.to(like.device), shards.device_mesh, shards.placements, src_data_rank=None)
