"""Keras layers that take all steps of all rows as one matrix.

Keras multiplies `(batch, time, features)` by a matrix with `tf.tensordot` on TensorFlow, which
XLA cannot differentiate inside a loop when the number of rows is open.

`quantize` works as in Keras, which by itself leaves out what derives from its layers.
"""

import inspect
from typing import Any

import keras
from keras import ops

from rnnzoo.cells.loop import Tensor


@keras.saving.register_keras_serializable(package="rnnzoo")
class PerStepDense(keras.layers.Dense):
    """`keras.layers.Dense`, applied to `(batch, features)` or `(batch, time, features)`."""

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        return _per_step(super().call, inputs)

    def quantized_call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        return _per_step(super().quantized_call, inputs)

    def quantize(self, mode: str | None = None, type_check: bool = True, config: Any = None):
        super().quantize(mode, type_check=False, config=config)


@keras.saving.register_keras_serializable(package="rnnzoo")
class PerStepTiedEmbedding(keras.layers.ReversibleEmbedding):
    """`keras.layers.ReversibleEmbedding`, whose reverse takes `(batch, time, features)`."""

    def call(self, inputs: Tensor, reverse: bool = False) -> Tensor:
        call = super().call
        return _per_step(lambda flat: call(flat, True), inputs) if reverse else call(inputs)

    def quantized_call(self, inputs: Tensor, reverse: bool = False) -> Tensor:
        call = super().quantized_call
        return _per_step(lambda flat: call(flat, True), inputs) if reverse else call(inputs)

    def quantize(self, mode: str | None = None, type_check: bool = True, config: Any = None):
        super().quantize(mode, type_check=False, config=config)


@keras.saving.register_keras_serializable(package="rnnzoo")
class PerStepRepeat(keras.layers.Layer):
    """A call is `[values, sequence] -> (batch, time, features)`: the values at every step.

    Values are `(batch, features)`; of the sequence `(batch, time, ...)` only the steps count.
    """

    def call(self, inputs: list[Tensor]) -> Tensor:
        values, sequence = inputs
        rows, steps = ops.shape(sequence)[:2]
        return ops.broadcast_to(values[:, None], (rows, steps, values.shape[-1]))

    def compute_output_shape(self, input_shape: list[tuple]) -> tuple:
        values, sequence = input_shape
        return (*sequence[:2], values[-1])


@keras.saving.register_keras_serializable(package="rnnzoo")
class PerStepLayer(keras.layers.TimeDistributed):
    """`keras.layers.TimeDistributed`, right also where the number of steps is open.

    On TensorFlow that of Keras 3.15 then gives as many steps as there are rows, where its layer
    reshapes (`Flatten`).
    """

    def call(self, inputs: Tensor, training: bool | None = None, mask: Any = None) -> Tensor:
        if isinstance(inputs.shape[1], int):
            return super().call(inputs, training=training, mask=mask)
        steps = ops.shape(inputs)[:2]

        def flat(values: Tensor) -> Tensor:
            return ops.reshape(values, (-1, *ops.shape(values)[2:]))

        takes = inspect.signature(self.layer.call).parameters
        options = {"training": training} if "training" in takes else {}
        if mask is not None and "mask" in takes:
            options["mask"] = flat(mask)
        outputs = self.layer.call(flat(inputs), **options)
        return ops.reshape(outputs, (*steps, *ops.shape(outputs)[1:]))


def _per_step(call: Any, inputs: Tensor) -> Tensor:
    if len(inputs.shape) == 2:
        return call(inputs)
    outputs = call(ops.reshape(inputs, (-1, inputs.shape[-1])))
    return ops.reshape(outputs, (*ops.shape(inputs)[:-1], outputs.shape[-1]))
