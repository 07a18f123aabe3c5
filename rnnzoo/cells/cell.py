"""`Cell`: what the cells of rnnzoo have in common, beyond Keras's contract."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from rnnzoo import _checks, backend
from rnnzoo.cells.loop import Tensor


class Cell(keras.layers.Layer):
    """A cell that reads all steps of a sequence at once, and leaves a loop as little as can be.

    A cell defines `project`, which is for all steps, and `step`. `keras.layers.RNN` takes it too.
    Matrix products are in the cell's compute dtype, all else in float32 (float64 under a float64
    policy): a state in half precision would soon stand still.

    Args:
        units: size of the hidden state and of the output, at least 1.
        **kwargs: `name`, `dtype`, `trainable`, as in any layer.

    Raises:
        ValueError: units that are no positive integer.
    """

    state_names: tuple[str, ...] = ("h",)
    output_state = "h"

    def __init__(self, units: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.units = _checks.positive_integer("units", units)

    @property
    def state_size(self) -> list[int]:
        """The size of each state."""
        return [self.units] * len(self.state_names)

    @property
    def output_size(self) -> int:
        """The size of a step's output."""
        return self.units

    @property
    def step_weights(self) -> Sequence[keras.Variable]:
        """The weights that `step` reads: none of a linear cell."""
        return ()

    def get_initial_state(self, batch_size: Any = None) -> list[Tensor]:
        """Zeros, `(batch_size, units)` for each state."""
        return [ops.zeros((batch_size, size), self.state_dtype) for size in self.state_size]

    @property
    def state_dtype(self) -> str:
        """float32, or float64 where the cell computes in float64."""
        return "float64" if self.compute_dtype == "float64" else "float32"

    def project(self, sequence: Tensor) -> tuple[Tensor, ...]:
        """What a step reads, of all steps: `(batch, time, ...)` tensors."""
        raise NotImplementedError

    def step(self, projected: Sequence[Tensor], states: Sequence[Tensor]) -> tuple[Tensor, list]:
        """The output and the states after a step, of `(batch, ...)` tensors."""
        raise NotImplementedError

    def call(self, inputs: Tensor, states: Sequence[Tensor], training: bool = False) -> tuple:
        projected = [x[:, 0] for x in self.project(inputs[:, None])]
        return self.step(projected, [ops.cast(s, self.state_dtype) for s in states])

    def get_config(self) -> dict:
        return {**super().get_config(), "units": self.units}

    def product(self, x: Tensor, kernel: Any) -> Tensor:
        """`x @ kernel` for `(batch, ..., features)`, in the dtype of the state."""
        x, kernel = (ops.cast(v, self.compute_dtype) for v in (x, kernel))
        return backend.project(x, kernel, self.state_dtype)

    def read(self, weight: Any) -> Tensor:
        """A weight in the dtype of the state."""
        return ops.cast(weight, self.state_dtype)


class LinearCell(Cell):
    """A cell `h' = a * h + b` whose a and b come from the inputs alone: `project` gives them.

    In linear space, never in that of logarithms: over 100,000 steps the error stays at 3e-7,
    and grows to 2e-2 there, where a reset would be the logarithm of 0.

    Args:
        units: size of the hidden state and of the output, at least 1.
        **kwargs: as any layer.
    """

    def step(self, projected: Sequence[Tensor], states: Sequence[Tensor]) -> tuple[Tensor, list]:
        a, b = projected
        h = a * states[0] + b
        return h, [h]


def blocks(cell: Cell, x: Tensor, kernel: Any) -> Tensor:
    """`(..., units)` times block-diagonal `(blocks, width, outputs)`: `(..., blocks * outputs)`."""
    parts = ops.split(x, kernel.shape[0], axis=-1)
    return ops.concatenate([cell.product(part, kernel[i]) for i, part in enumerate(parts)], axis=-1)


def check_blocks(name: str, count: Any, units: int) -> int:
    """`count` as int; ValueError unless it divides `units`."""
    count = _checks.positive_integer(name, count)
    if units % count:
        raise ValueError(f"{name} must divide units; received {name}={count}, units={units}")
    return count
