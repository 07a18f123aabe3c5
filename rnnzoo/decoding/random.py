"""Uniform numbers that depend on a row's own seed and step only, never on its neighbours."""

from typing import Any

import keras
import numpy as np
from keras import ops

Tensor = Any

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA

# A draw has up to 2**20 numbers for each row and step.
_DRAW = 20


def uniform(seeds: Tensor, index: Tensor) -> Tensor:
    """One float32 in [0, 1) per row, a multiple of 2**-24.

    Args:
        seeds: `(rows, 2)` int32, two words for each row.
        index: int32 scalar, the step.
    """
    words = ops.cast(seeds, "uint32")
    return RowSeeds(words, index).uniform(words.shape[:1], "float32")


class RowSeeds(keras.random.SeedGenerator):
    """A seed whose numbers depend on a row's own words and step only, never on its neighbours.

    It is a generator for `keras.random` too, which then draws by the first row and the step.

    Args:
        words: `(rows, 2)` uint32.
        index: int32 scalar, the step.
    """

    def __init__(self, words: Tensor, index: Tensor):
        # Not Keras's own: that would make a variable, which no loop could count up.
        self.words, self.index, self.drawn = words, index, 0

    def next(self, ordered: bool = True) -> Tensor:
        """A seed of `keras.random`, another at each call."""
        del ordered
        return ops.stack(threefry((self.words[0, 0], self.words[0, 1]), self._counted()))

    def uniform(self, shape: tuple, dtype: str) -> Tensor:
        """Multiples of 2**-24 in [0, 1) of `shape`, whose first axis is that of the rows."""
        size = int(np.prod(shape[1:]))
        index, place = self._counted()
        place = place + ops.cast(ops.arange(size, dtype="int32"), "uint32")[None]
        zeros = ops.zeros_like(self.words[:, :1]) + ops.zeros_like(place)
        bits, _ = threefry((self.words[:, :1], self.words[:, 1:]), (zeros + index, zeros + place))
        values = ops.cast(ops.right_shift(bits, _word(8)), "float32") * 2.0**-24
        return ops.cast(ops.reshape(values, (-1, *shape[1:])), dtype)

    def _counted(self) -> tuple[Tensor, Tensor]:
        """The two words that count the numbers of a row: the step, and the first of a draw."""
        self.drawn += 1
        return ops.cast(self.index, "uint32"), _word((self.drawn - 1) << _DRAW)


def seeds_of_rows(seed: int | None, rows: int) -> np.ndarray:
    """The two words of each of `rows`, `(rows, 2)` int32: the seed and the row's number.

    A seed of None is drawn from NumPy's generator.
    """
    seed = int(np.random.randint(2**31 - 1)) if seed is None else seed
    return np.stack([np.full(rows, seed), np.arange(rows)], axis=1).astype("int32")


def words_of_paths(seeds: Tensor, paths: Any) -> Tensor:
    """The words of `paths` rows for each row, next to each other, `(rows * paths, 2)`.

    Args:
        seeds: `(rows, 2)` int32, two words for each row.
        paths: drawn of each, an int or int32 scalar.
    """
    rows = ops.shape(seeds)[0]
    words = ops.cast(ops.repeat(seeds, paths, axis=0), "uint32")
    path = ops.cast(ops.tile(ops.arange(paths, dtype="int32"), [rows]), "uint32")
    return ops.stack(threefry((words[:, 0], words[:, 1]), (path, ops.zeros_like(path))), axis=-1)


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
