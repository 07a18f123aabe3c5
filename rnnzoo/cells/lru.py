"""The linear recurrent unit (Orvieto et al., "Resurrecting Recurrent Neural Networks", 2023)."""

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from rnnzoo import _checks
from rnnzoo.cells.cell import Cell
from rnnzoo.cells.loop import Tensor


@keras.saving.register_keras_serializable(package="rnnzoo")
class LRUCell(Cell):
    """A linear cell with a complex diagonal, for long inputs.

    The linear recurrent unit (Orvieto et al., 2023).

        lambda = exp(-exp(nu) + i exp(theta))
        h' = lambda * h + exp(gamma) * (B x)      y = Re(C h') + D * x

    The complex state is two states of real numbers, `real` and `imaginary`. B, C and the skip
    matrix D map inputs of any size; in the paper D is a vector, for inputs as wide as outputs.

    Args:
        units: size of the (complex) state and of the output, at least 1.
        min_radius, max_radius: |lambda| starts evenly spread over this ring, within [0, 1); near
            1 for long memory.
        max_phase: the phase of lambda starts between 0 and this, in radians.
        **kwargs: as any layer.

    Raises:
        ValueError: radii or a phase out of range.
    """

    state_names = ("real", "imaginary")
    output_state = "output"

    def __init__(
        self,
        units: int,
        min_radius: float = 0.9,
        max_radius: float = 0.999,
        max_phase: float = 2 * math.pi,
        **kwargs: Any,
    ):
        super().__init__(units, **kwargs)
        radii = {"min_radius": min_radius, "max_radius": max_radius}
        for name, value in radii.items():
            _checks.fraction(name, value)
        if not 0 <= min_radius < max_radius < 1:
            raise ValueError(
                "min_radius and max_radius must be in [0, 1), the second larger; received "
                f"min_radius={min_radius}, max_radius={max_radius}"
            )
        _checks.number("max_phase", max_phase, "in (0, 2 pi]", lambda v: 0 < v <= 2 * math.pi)
        self.min_radius, self.max_radius, self.max_phase = min_radius, max_radius, max_phase

    def build(self, input_shape: tuple) -> None:
        features, units = input_shape[-1], self.units
        area = keras.random.uniform((units,), self.min_radius**2, self.max_radius**2)
        nu = -0.5 * ops.log(area)
        theta = self.max_phase * keras.random.uniform((units,), 1e-3, 1.0)
        for name, value in (("nu", nu), ("theta", theta), ("gamma", ops.sqrt(1.0 - area))):
            start = ops.convert_to_numpy(ops.log(value))
            weight = self.add_weight(
                shape=(units,), initializer=_constant(start), name=f"{name}_log"
            )
            setattr(self, f"{name}_log", weight)
        spread = keras.initializers.RandomNormal
        for name, shape, size in (
            ("kernel", (features, 2 * units), 2 * features),
            ("output_kernel", (2 * units, units), units),
            ("skip_kernel", (features, units), features),
        ):
            weight = self.add_weight(shape=shape, initializer=spread(stddev=size**-0.5), name=name)
            setattr(self, name, weight)

    @property
    def step_weights(self) -> Sequence[keras.Variable]:
        return (self.nu_log, self.theta_log, self.output_kernel)

    def project(self, sequence: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        real, imaginary = ops.split(self.product(sequence, self.kernel), 2, axis=-1)
        gamma = ops.exp(self.read(self.gamma_log))
        return gamma * real, gamma * imaginary, self.product(sequence, self.skip_kernel)

    def step(self, projected: Sequence[Tensor], states: Sequence[Tensor]) -> tuple[Tensor, list]:
        (b_real, b_imaginary, skip), (real, imaginary) = projected, states
        radius = ops.exp(-ops.exp(self.read(self.nu_log)))
        phase = ops.exp(self.read(self.theta_log))
        a_real, a_imaginary = radius * ops.cos(phase), radius * ops.sin(phase)
        new_real = a_real * real - a_imaginary * imaginary + b_real
        new_imaginary = a_real * imaginary + a_imaginary * real + b_imaginary
        both = ops.concatenate([new_real, -new_imaginary], axis=-1)
        return self.product(both, self.output_kernel) + skip, [new_real, new_imaginary]

    def get_config(self) -> dict:
        names = ("min_radius", "max_radius", "max_phase")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def _constant(value: Any) -> Any:
    """An initializer that gives `value`."""
    return lambda shape, dtype=None: ops.convert_to_tensor(value, dtype)
