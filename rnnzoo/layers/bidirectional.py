"""A recurrent layer that reads whole sequences in both directions."""

from typing import Any

import keras
from keras import ops

from rnnzoo.layers.recurrent import RecurrentLayer, State, Tensor


@keras.saving.register_keras_serializable(package="rnnzoo")
class Bidirectional(keras.layers.Layer):
    """A call is `(sequence, mask) -> (outputs, state)`, both of twice the units (Schuster &
    Paliwal, 1997).

    The state rule knows no direction from the end, so there is no state to go on from: every
    call reads whole sequences. Padding at the end (`mask` False) changes nothing: read from
    the end it comes first, where it holds the initial state.

    Args:
        forward: the layer that reads from the first step on.
        backward: the layer that reads from the last step back.
    """

    def __init__(self, forward: RecurrentLayer, backward: RecurrentLayer, **kwargs: Any):
        super().__init__(**kwargs)
        self.forward, self.backward = forward, backward

    def build(self, sequence_shape: tuple) -> None:
        for layer in (self.forward, self.backward):
            if not layer.built:
                layer.build(sequence_shape)
        self.built = True

    def call(self, sequence: Tensor, mask: Tensor, training: bool = False) -> tuple[Tensor, State]:
        rows = ops.shape(sequence)[0]
        ahead, state = self.forward(
            sequence, self.forward.initial_state(rows), mask=mask, training=training
        )
        back, end = self.backward(
            ops.flip(sequence, axis=1),
            self.backward.initial_state(rows),
            mask=ops.flip(mask, axis=1),
            training=training,
        )
        outputs = ops.concatenate([ahead, ops.flip(back, axis=1)], axis=-1)
        return outputs, {key: ops.concatenate([state[key], end[key]], axis=-1) for key in state}

    def compute_output_spec(self, sequence: Any, mask: Any, training: Any = None) -> tuple:
        shape, units, layer = sequence.shape, 2 * self.forward.units, self.forward
        return keras.KerasTensor((*shape[:2], units), layer.compute_dtype), {
            name: keras.KerasTensor((shape[0], units), layer.state_dtype)
            for name in layer.state_names
        }

    def compute_mask(self, *_: Any, **__: Any) -> None:
        """None: masks are passed as an argument, never implicitly."""
        return None

    def get_config(self) -> dict:
        serialize = keras.saving.serialize_keras_object
        layers = {"forward": serialize(self.forward), "backward": serialize(self.backward)}
        return {**super().get_config(), **layers}

    @classmethod
    def from_config(cls, config: dict) -> "Bidirectional":
        config = dict(config)
        for key in ("forward", "backward"):
            config[key] = keras.saving.deserialize_keras_object(config[key])
        return cls(**config)
