"""Uniform numbers that depend on a row's own seed and step only, never on its neighbours."""

from typing import Any

import numpy as np
from keras import ops

Tensor = Any

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA


def uniform(seeds: Tensor, index: Tensor) -> Tensor:
    """One float32 in [0, 1) per row, a multiple of 2**-24.

    Args:
        seeds: `(rows, 2)` int32, two words for each row.
        index: int32 scalar, the step.
    """
    seeds = ops.cast(seeds, "uint32")
    zero = ops.zeros_like(seeds[:, 0])
    key = (seeds[:, 0], seeds[:, 1])
    bits, _ = threefry(key, (zero + ops.cast(index, "uint32"), zero))
    return ops.cast(ops.right_shift(bits, _word(8)), "float32") * 2.0**-24


def threefry(key: tuple, counter: tuple) -> tuple[Tensor, Tensor]:
    """Two uint32 words of random bits: Threefry-2x32 with 20 rounds (Salmon et al. 2011).

    Args:
        key: two uint32 tensors of one shape.
        counter: two uint32 tensors of that shape.
    """
    parity = ops.bitwise_xor(ops.bitwise_xor(key[0], key[1]), _word(_PARITY))
    keys = (*key, parity)
    left, right = counter[0] + key[0], counter[1] + key[1]
    for group in range(1, 6):
        for distance in _ROTATIONS[(group - 1) % 2]:
            left = left + right
            right = ops.bitwise_xor(_rotated(right, distance), left)
        left = left + keys[group % 3]
        right = right + keys[(group + 1) % 3] + _word(group)
    return left, right


def _rotated(word: Tensor, distance: int) -> Tensor:
    """`word` with its bits moved up by `distance`, the upper ones coming in from below."""
    up = ops.left_shift(word, _word(distance))
    return ops.bitwise_or(up, ops.right_shift(word, _word(32 - distance)))


def _word(value: int) -> Tensor:
    """A uint32 scalar; a Python int would widen the sum to int64."""
    return ops.convert_to_tensor(np.uint32(value))
