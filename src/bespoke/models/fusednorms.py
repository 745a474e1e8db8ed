"""A diffusers network's GroupNorms, each computed in one with the SiLU that follows it, and back.

Modules stay the objects that they are, under their names: state dicts, adapters and optimizers do not notice.
"""

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from bespoke.models.groupnorm import group_norm


def fuse_norms(network: nn.Module) -> int:
    """How many of a network's GroupNorms are now computed in one with their SiLU, or in the same way without, in place.

    Those are the norms of ResNet blocks and before transformers, and the last one. A second time changes nothing.
    `bespoke.models.groupnorm.why_not` says whether that is worth it on a GPU.
    """
    for module, name in _activations(network):
        setattr(module, name, _Passed())
    for norm, silu in _norms(network):
        norm.__class__, norm.silu = FusedGroupNorm, silu
    return sum(isinstance(module, FusedGroupNorm) for module in network.modules())


def part_norms(network: nn.Module) -> None:
    """Gives a network's norms and activations back what they were, in place."""
    for module in network.modules():
        norm: Any = module
        if isinstance(module, FusedGroupNorm):
            norm.__class__ = nn.GroupNorm
            del norm.silu
        for name, child in module.named_children():
            if isinstance(child, _Passed):
                setattr(module, name, nn.SiLU())


class FusedGroupNorm(nn.GroupNorm):
    """A GroupNorm over pictures [n c h w], with the SiLU after it where `silu` says so."""

    silu: bool

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - as nn.GroupNorm has it
        """The normalised picture [n c h w]."""
        return group_norm(input, self.weight, self.bias, self.num_groups, self.eps, silu=self.silu)


class _Passed(nn.SiLU):
    """SiLU of time embeddings [n c]; pictures, which had theirs with their norm, pass by."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - as nn.SiLU has it
        return input if input.ndim == 4 else super().forward(input)


def _norms(network: nn.Module) -> Iterator[tuple[Any, bool]]:
    """The GroupNorms to fuse, and whether the SiLU after them passes pictures by."""
    from diffusers.models.resnet import ResnetBlock2D
    from diffusers.models.transformers.transformer_2d import Transformer2DModel

    for module in network.modules():
        part: Any = module
        if isinstance(part, ResnetBlock2D):
            found = [(norm, isinstance(part.nonlinearity, _Passed)) for norm in (part.norm1, part.norm2)]
        elif isinstance(part, Transformer2DModel):
            found = [(getattr(part, "norm", None), False)]
        else:
            found = [(getattr(part, "conv_norm_out", None), isinstance(getattr(part, "conv_act", None), _Passed))]
        yield from ((norm, silu) for norm, silu in found if _is_plain(norm))


def _activations(network: nn.Module) -> Iterator[tuple[Any, str]]:
    """The modules with a SiLU that follows norms alone, and the SiLU's name in them."""
    from diffusers.models.resnet import ResnetBlock2D

    for module in network.modules():
        part: Any = module
        if isinstance(part, ResnetBlock2D):
            direct = part.time_embedding_norm != "scale_shift"
            name, norms = "nonlinearity", (part.norm1, part.norm2)
        else:
            direct, name, norms = True, "conv_act", (getattr(part, "conv_norm_out", None),)
        if direct and type(getattr(part, name, None)) is nn.SiLU and all(map(_is_plain, norms)):
            yield part, name


def _is_plain(norm: Any) -> bool:
    """Whether a module is torch's GroupNorm with weights."""
    return type(norm) is nn.GroupNorm and norm.affine
