"""Keys turned into noise where the network computes: the words are those that numpy's Philox gives on the host.

Only integer arithmetic of torch's, in 64 bits, so that it runs anywhere, in a CUDA graph too. The normal numbers made
of the words are others than numpy's (Box-Muller in place of the ziggurat), and their last bits are the device's.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from bespoke.seeds import Key, philox_key

PhiloxKeys = Int[Tensor, "b 2"]
"""The key of each picture, in int64 whose bits are those of uint64."""
ROUNDS = 10
MULTIPLIERS = (0xD2E7470EE14C6C93, 0xCA5A826395121157)
STEPS = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)
"""What each half of the key grows by between rounds. Source of all three: Random123's philox4x64, as in numpy."""
LOW = 0xFFFFFFFF


def keys_of(keys: Sequence[tuple[Key, ...]]) -> PhiloxKeys:
    """The keys under which `seeds.generator` draws."""
    return torch.from_numpy(np.stack([philox_key(*key) for key in keys]).view(np.int64))


def words(keys: PhiloxKeys, count: int) -> Int[Tensor, "b count"]:
    """The first words of each key's stream, as `numpy.random.Philox(key=key).random_raw(count)` gives them.

    Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", section 3.3.
    """
    blocks = -(-count // 4)
    # numpy counts on before it draws.
    first = torch.arange(1, blocks + 1, device=keys.device).expand(len(keys), blocks)
    nothing = torch.zeros_like(first)
    a, b, c, d = first, nothing, nothing, nothing
    left, right = keys[:, :1], keys[:, 1:]
    for _ in range(ROUNDS):
        (high, low), (other_high, other_low) = _product(a, MULTIPLIERS[0]), _product(c, MULTIPLIERS[1])
        a, b, c, d = other_high ^ b ^ left, other_low, high ^ d ^ right, low
        left, right = left + _signed(STEPS[0]), right + _signed(STEPS[1])
    return torch.stack([a, b, c, d], dim=-1).flatten(1)[:, :count]


def normals(keys: PhiloxKeys, shape: Sequence[int]) -> Float[Tensor, " b *shape"]:
    """Standard normal numbers for each key, in float32: two of each word, at most 6.8 from 0.

    Source: Box & Muller 1958, "A note on the generation of random normal deviates".
    """
    size = math.prod(shape)
    drawn = words(keys, -(-size // 2))
    part, turn = ((half.float() + 0.5) * 2.0**-32 for half in ((drawn >> 32) & LOW, drawn & LOW))
    # Where rounding makes a part 1 its logarithm is 0, and so is the number.
    radius, angle = (-2 * part.log()).sqrt(), 2 * math.pi * turn
    pairs = torch.stack([radius * angle.cos(), radius * angle.sin()], dim=-1)
    return pairs.flatten(1)[:, :size].reshape(len(keys), *shape)


def _product(factor: Tensor, other: int) -> tuple[Tensor, Tensor]:
    """The upper and the lower 64 of the 128 bits of a product of two unsigned numbers."""
    upper, lower = (factor >> 32) & LOW, factor & LOW
    top, bottom = other >> 32, other & LOW
    least, left, right = lower * bottom, lower * top, upper * bottom
    middle = ((least >> 32) & LOW) + (left & LOW) + (right & LOW)
    high = upper * top + ((left >> 32) & LOW) + ((right >> 32) & LOW) + (middle >> 32)
    return high, factor * _signed(other)


def _signed(value: int) -> int:
    """The int64 with the bits of a uint64."""
    return value - (1 << 64) if value >> 63 else value
