"""Keras layers that take all steps of all rows as one matrix.

Keras multiplies `(batch, time, features)` by a matrix with `tf.tensordot` on TensorFlow, which
XLA cannot differentiate inside a loop when the number of rows is open.

`quantize` works as in Keras, which by itself leaves out what derives from its layers.
"""

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


def _per_step(call: Any, inputs: Tensor) -> Tensor:
    if len(inputs.shape) == 2:
        return call(inputs)
    outputs = call(ops.reshape(inputs, (-1, inputs.shape[-1])))
    return ops.reshape(outputs, (*ops.shape(inputs)[:-1], outputs.shape[-1]))
