"""Keras layers that take all steps of all rows as one matrix.

Keras multiplies `(batch, time, features)` by a matrix with `tf.tensordot` on TensorFlow, which
XLA cannot differentiate inside a loop when the number of rows is open.
"""

from typing import Any

import keras
from keras import ops

from rnnzoo.layers.recurrent import Tensor


@keras.saving.register_keras_serializable(package="rnnzoo")
class PerStepDense(keras.layers.Dense):
    """`keras.layers.Dense`, applied to `(batch, features)` or `(batch, time, features)`."""

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        return _per_step(super().call, inputs)


@keras.saving.register_keras_serializable(package="rnnzoo")
class PerStepTiedEmbedding(keras.layers.ReversibleEmbedding):
    """`keras.layers.ReversibleEmbedding`, whose reverse takes `(batch, time, features)`."""

    def call(self, inputs: Tensor, reverse: bool = False) -> Tensor:
        if not reverse:
            return super().call(inputs)
        return _per_step(lambda flat: super(PerStepTiedEmbedding, self).call(flat, True), inputs)


def _per_step(call: Any, inputs: Tensor) -> Tensor:
    if len(inputs.shape) == 2:
        return call(inputs)
    outputs = call(ops.reshape(inputs, (-1, inputs.shape[-1])))
    return ops.reshape(outputs, (*ops.shape(inputs)[:-1], outputs.shape[-1]))
