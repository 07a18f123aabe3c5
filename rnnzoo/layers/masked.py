"""A layer that says which steps of a sequence are real."""

from typing import Any

import keras
from keras import ops

from rnnzoo.cells.loop import Tensor


@keras.saving.register_keras_serializable(package="rnnzoo")
class Masked(keras.layers.Layer):
    """A call is `[sequence, flags] -> sequence`, with flags `(batch, time)` bool for its mask.

    It is `keras.layers.Masking` for a mask that is known already, instead of any other that the
    sequence has.
    """

    def __init__(self, **kwargs: Any):
        super().__init__(**{"autocast": False, **kwargs})
        self.supports_masking = True

    def call(self, inputs: list[Tensor]) -> Tensor:
        return ops.copy(inputs[0])  # the tensor that came in keeps its own mask

    def compute_output_spec(self, inputs: list) -> Any:
        return keras.KerasTensor(inputs[0].shape, inputs[0].dtype)

    def compute_mask(self, inputs: list, previous_mask: Any = None) -> Any:
        """The flags."""
        return inputs[1]

    def get_config(self) -> dict:
        config = super().get_config()
        config.pop("autocast", None)
        return config
