"""Triton's kernels for GroupNorm and SiLU over channels that lie side by side; imported where they run, and only there.

Each pass over the picture is cut into chunks of positions and blocks of channels, so that one picture fills a large
GPU. Statistics are of single channels of a chunk first, in float32: a mean and the squares around it, which combine
into a group's without the cancellation of E[x²] - E[x]². Nothing is added atomically: the same input gives the same
bits. Source: Chan, Golub and LeVeque 1979, equations 2.1 (Chan's combination); Wu and He 2018 (GroupNorm).
"""

# ruff: noqa: ANN001, ANN202 - what a kernel takes has no types in Python
# pyright: reportUntypedFunctionDecorator=false, reportMissingImports=false, reportIndexIssue=false
# pyright: reportMissingParameterType=false, reportMissingTypeStubs=false

from typing import Any, no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

ROWS, CHANNELS = 32, 64
"""Positions and channels that a program holds at once: 128 bytes of each position in bfloat16."""
PROGRAMS = 1024
"""Programs that a pass is cut into, about: some for each multiprocessor of the largest GPUs."""
CHUNKS = 16
"""Chunks whose statistics are combined at once."""


@triton.jit
@no_type_check
def _place(count, channels, step, chunks, CHANNELS: tl.constexpr):
    """The picture, its chunk, the chunk's first position and the one after its last, and channels."""
    picture = tl.program_id(0) // chunks
    chunk = tl.program_id(0) % chunks
    start = chunk * step
    end = tl.minimum(start + step, count)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    return picture.to(tl.int64), chunk, start, end, channel, channel < channels


@triton.jit
@no_type_check
def _tile(first, end, picture, count, channel, channels, there, ROWS: tl.constexpr):
    """Which numbers of the next positions of a chunk are in it, and where they lie."""
    row = first + tl.arange(0, ROWS)
    return (row < end)[:, None] & there[None, :], (picture * count + row)[:, None] * channels + channel[None, :]


@triton.jit
@no_type_check
def _chunks(first, picture, chunks, channel, channels, wide, CHUNKS: tl.constexpr):
    """The next chunks, which of their numbers for a group's channels there are, and where these lie."""
    chunk = first + tl.arange(0, CHUNKS)
    inside = (chunk < chunks)[:, None] & (channel < wide)[None, :]
    return chunk, inside, (picture * chunks + chunk)[:, None] * channels + tl.program_id(1) * wide + channel[None, :]


@triton.jit
@no_type_check
def _norm(weight, bias, mean, rstd, picture, channel, channels, there, wide):
    """The group of each channel, and in float32 its mean and inverse deviation, the channel's weight and bias."""
    group = picture * (channels // wide) + channel // wide
    middle = tl.load(mean + group, mask=there, other=0.0)[None, :]
    scale = tl.load(rstd + group, mask=there, other=0.0)[None, :]
    slope = tl.load(weight + channel, mask=there, other=0.0).to(tl.float32)[None, :]
    return group, middle, scale, slope, tl.load(bias + channel, mask=there, other=0.0).to(tl.float32)[None, :]


@triton.jit
@no_type_check
def _means(x, means, squares, count, channels, step, chunks, ROWS: tl.constexpr, CHANNELS: tl.constexpr):
    """Of each channel in a chunk: its mean, and the sum of squares around it."""
    picture, chunk, start, end, channel, there = _place(count, channels, step, chunks, CHANNELS)
    mean = tl.zeros([CHANNELS], tl.float32)
    square = tl.zeros([CHANNELS], tl.float32)
    for first in range(start, end, ROWS):
        inside, place = _tile(first, end, picture, count, channel, channels, there, ROWS)
        tile = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
        here = tl.minimum(end - first, ROWS).to(tl.float32)
        before = (first - start).to(tl.float32)
        own = tl.sum(tile, 0) / here
        apart = tl.where(inside, tile - own[None, :], 0.0)
        shift = own - mean
        mean += shift * (here / (before + here))
        square += tl.sum(apart * apart, 0) + shift * shift * (before * here / (before + here))
    place = (picture * chunks + chunk) * channels + channel
    tl.store(means + place, mean, mask=there)
    tl.store(squares + place, square, mask=there)


@triton.jit
@no_type_check
def _combined(
    means, squares, mean, rstd, count, channels, step, chunks, eps, wide,
    CHUNKS: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """A group's mean and the inverse of its deviation, from its channels' in all chunks."""
    picture = (tl.program_id(0)).to(tl.int64)
    channel = tl.arange(0, WIDE)
    total = 0.0
    for first in range(0, chunks, CHUNKS):
        chunk, inside, place = _chunks(first, picture, chunks, channel, channels, wide, CHUNKS)
        own = tl.load(means + place, mask=inside, other=0.0)
        total += tl.sum(own * tl.minimum(step, count - chunk * step)[:, None].to(tl.float32))
    size = count * wide
    middle = total / size
    around = 0.0
    for first in range(0, chunks, CHUNKS):
        chunk, inside, place = _chunks(first, picture, chunks, channel, channels, wide, CHUNKS)
        apart = tl.load(means + place, mask=inside, other=0.0) - middle
        here = tl.minimum(step, count - chunk * step)[:, None].to(tl.float32)
        square = tl.load(squares + place, mask=inside, other=0.0) + apart * apart * here
        around += tl.sum(tl.where(inside, square, 0.0))
    place = picture * (channels // wide) + tl.program_id(1)
    tl.store(mean + place, middle)
    tl.store(rstd + place, 1 / tl.sqrt(around / size + eps))


@triton.jit
@no_type_check
def _answers(
    x, y, weight, bias, mean, rstd, count, channels, step, chunks, wide,
    SILU: tl.constexpr, ROWS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """The normalised picture, and SiLU of it."""
    picture, _, start, end, channel, there = _place(count, channels, step, chunks, CHANNELS)
    _, middle, scale, slope, level = _norm(weight, bias, mean, rstd, picture, channel, channels, there, wide)
    for first in range(start, end, ROWS):
        inside, place = _tile(first, end, picture, count, channel, channels, there, ROWS)
        tile = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
        found = (tile - middle) * scale * slope + level
        if SILU:
            found = found * tl.sigmoid(found)
        tl.store(y + place, found.to(y.dtype.element_ty), mask=inside)


@triton.jit
@no_type_check
def _inner(tile, grad, middle, scale, slope, level, SILU: tl.constexpr):
    """The normalised numbers, and the gradient before SiLU."""
    normal = (tile - middle) * scale
    if SILU:
        before = normal * slope + level
        share = tl.sigmoid(before)
        grad = grad * share * (1 + before * (1 - share))
    return normal, grad


@triton.jit
@no_type_check
def _slopes(
    grad, x, weight, bias, mean, rstd, by_bias, by_weight, count, channels, step, chunks, wide,
    SILU: tl.constexpr, ROWS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Of each channel in a chunk: the sum of gradients, and of their products with the normalised numbers."""
    picture, chunk, start, end, channel, there = _place(count, channels, step, chunks, CHANNELS)
    _, middle, scale, slope, level = _norm(weight, bias, mean, rstd, picture, channel, channels, there, wide)
    total = tl.zeros([CHANNELS], tl.float32)
    product = tl.zeros([CHANNELS], tl.float32)
    for first in range(start, end, ROWS):
        inside, place = _tile(first, end, picture, count, channel, channels, there, ROWS)
        tile = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
        slope_y = tl.load(grad + place, mask=inside, other=0.0).to(tl.float32)
        normal, inner = _inner(tile, slope_y, middle, scale, slope, level, SILU)
        total += tl.sum(inner, 0)
        product += tl.sum(inner * normal, 0)
    place = (picture * chunks + chunk) * channels + channel
    tl.store(by_bias + place, total, mask=there)
    tl.store(by_weight + place, product, mask=there)


@triton.jit
@no_type_check
def _shared(
    by_bias, by_weight, weight, level, tilt, count, channels, chunks, wide, CHUNKS: tl.constexpr, WIDE: tl.constexpr
):
    """A group's mean gradient, and its mean product with the normalised numbers."""
    picture = (tl.program_id(0)).to(tl.int64)
    channel = tl.arange(0, WIDE)
    own = tl.load(weight + tl.program_id(1) * wide + channel, mask=channel < wide, other=0.0).to(tl.float32)[None, :]
    total = 0.0
    product = 0.0
    for first in range(0, chunks, CHUNKS):
        _, inside, place = _chunks(first, picture, chunks, channel, channels, wide, CHUNKS)
        total += tl.sum(tl.load(by_bias + place, mask=inside, other=0.0) * own)
        product += tl.sum(tl.load(by_weight + place, mask=inside, other=0.0) * own)
    place = picture * (channels // wide) + tl.program_id(1)
    tl.store(level + place, total / (count * wide))
    tl.store(tilt + place, product / (count * wide))


@triton.jit
@no_type_check
def _gradients(
    grad, x, by_x, weight, bias, mean, rstd, level, tilt, count, channels, step, chunks, wide,
    SILU: tl.constexpr, ROWS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """The picture's gradient."""
    picture, _, start, end, channel, there = _place(count, channels, step, chunks, CHANNELS)
    group, middle, scale, slope, shift = _norm(weight, bias, mean, rstd, picture, channel, channels, there, wide)
    off = tl.load(level + group, mask=there, other=0.0)[None, :]
    lean = tl.load(tilt + group, mask=there, other=0.0)[None, :]
    for first in range(start, end, ROWS):
        inside, place = _tile(first, end, picture, count, channel, channels, there, ROWS)
        tile = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
        slope_y = tl.load(grad + place, mask=inside, other=0.0).to(tl.float32)
        normal, inner = _inner(tile, slope_y, middle, scale, slope, shift, SILU)
        found = scale * (inner * slope - off - normal * lean)
        tl.store(by_x + place, found.to(by_x.dtype.element_ty), mask=inside)


def _launch(kernel: Any) -> Any:
    """The kernel, whose blocks take arguments that its signature does not show to a checker of types."""
    return kernel


def forward(x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float, *, silu: bool) -> tuple[Tensor, ...]:
    """The answer in channels_last [n c h w], and the groups' means and inverse deviations [n groups] in float32."""
    cut = _Cut(x, groups)
    means, squares = (x.new_empty(cut.partial, dtype=torch.float32) for _ in range(2))
    mean, rstd = (x.new_empty(len(x), groups, dtype=torch.float32) for _ in range(2))
    _launch(_means)[cut.grid](x, means, squares, *cut.sizes, ROWS=ROWS, CHANNELS=CHANNELS)
    _launch(_combined)[len(x), groups](
        means, squares, mean, rstd, *cut.sizes, eps, cut.wide, CHUNKS=CHUNKS, WIDE=cut.padded
    )
    y = torch.empty_like(x)
    _launch(_answers)[cut.grid](
        x, y, weight, bias, mean, rstd, *cut.sizes, cut.wide, SILU=silu, ROWS=ROWS, CHANNELS=CHANNELS
    )  # fmt: skip
    return y, mean, rstd


def backward(
    grad: Tensor, x: Tensor, mean: Tensor, rstd: Tensor, weight: Tensor, bias: Tensor, *, silu: bool, affine: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of the picture, the weight and the bias; the last two are empty unless `affine`."""
    cut = _Cut(x, mean.shape[1])
    by_bias, by_weight = (x.new_empty(cut.partial, dtype=torch.float32) for _ in range(2))
    level, tilt = torch.empty_like(mean), torch.empty_like(mean)
    given, block = (weight, bias, mean, rstd), {"SILU": silu, "ROWS": ROWS, "CHANNELS": CHANNELS}
    _launch(_slopes)[cut.grid](grad, x, *given, by_bias, by_weight, *cut.sizes, cut.wide, **block)
    count, channels, _, chunks = cut.sizes
    _launch(_shared)[len(x), mean.shape[1]](
        by_bias, by_weight, weight, level, tilt, count, channels, chunks, cut.wide, CHUNKS=CHUNKS, WIDE=cut.padded
    )
    by_x = torch.empty_like(x)
    _launch(_gradients)[cut.grid](grad, x, by_x, *given, level, tilt, *cut.sizes, cut.wide, **block)
    if not affine:
        return by_x, weight.new_empty(0), bias.new_empty(0)
    return by_x, by_weight.sum((0, 1)).to(weight.dtype), by_bias.sum((0, 1)).to(bias.dtype)


class _Cut:
    """How the passes over a picture [n c h w] are cut."""

    def __init__(self, x: Tensor, groups: int) -> None:
        pictures, channels, height, width = x.shape
        count, blocks = height * width, triton.cdiv(channels, CHANNELS)
        wanted = max(1, PROGRAMS // (pictures * blocks))
        step = max(1, triton.cdiv(triton.cdiv(count, wanted), ROWS)) * ROWS
        chunks = triton.cdiv(count, step)
        self.sizes: tuple[int, ...] = (count, channels, step, chunks)
        self.grid: Any = (pictures * chunks, blocks)
        self.partial = (pictures, chunks, channels)
        self.wide = channels // groups
        self.padded = triton.next_power_of_2(self.wide)
