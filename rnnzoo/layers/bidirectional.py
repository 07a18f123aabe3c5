"""A recurrent layer that reads whole sequences in both directions."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from rnnzoo.layers.recurrent import RecurrentLayer, State, Tensor
from rnnzoo.layers.stack import after_layers, between_layers, stack_layers, state_key


@keras.saving.register_keras_serializable(package="rnnzoo")
class Bidirectional(keras.layers.Layer):
    """A call is `(sequence, mask=None) -> (outputs, state)`, both of twice the units (Schuster &
    Paliwal, 1997).

    Each state is that of the forward layer, then that of the backward one. The state rule knows
    no direction from the end, so there is no state to go on from: every call reads whole
    sequences. Padding at the end (`mask` `(batch, time)` False) changes nothing, whatever it
    holds: read from the end it comes first, where it holds the initial state.

    Args:
        forward: the layer that reads from the first step on.
        backward: the layer that reads from the last step back, with states of the same names.

    Raises:
        ValueError: layers whose states have other names than each other.
    """

    def __init__(self, forward: RecurrentLayer, backward: RecurrentLayer, **kwargs: Any):
        super().__init__(**kwargs)
        if forward.state_names != backward.state_names:
            raise ValueError(
                "both layers must have states of the same names; received "
                f"{forward.state_names} and {backward.state_names}"
            )
        self.forward, self.backward = forward, backward

    def build(self, sequence_shape: tuple) -> None:
        for layer in (self.forward, self.backward):
            if not layer.built:
                layer.build(sequence_shape)
        self.built = True

    def call(
        self, sequence: Tensor, mask: Tensor | None = None, training: bool = False
    ) -> tuple[Tensor, State]:
        rows = ops.shape(sequence)[0]
        ahead, state = self.forward(
            sequence, self.forward.initial_state(rows), mask=mask, training=training
        )
        back, end = self.backward(
            ops.flip(sequence, axis=1),
            self.backward.initial_state(rows),
            mask=None if mask is None else ops.flip(mask, axis=1),
            training=training,
        )
        outputs = ops.concatenate([ahead, ops.flip(back, axis=1)], axis=-1)
        return outputs, {key: ops.concatenate([state[key], end[key]], axis=-1) for key in state}

    def compute_output_spec(self, sequence: Any, mask: Any = None, training: Any = None) -> tuple:
        (outputs, state), (back, end) = (
            layer.compute_output_spec(sequence, layer.state_spec(sequence.shape[0]), mask=mask)
            for layer in (self.forward, self.backward)
        )
        return _joined(outputs, back), {key: _joined(state[key], end[key]) for key in state}

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


def bidirectional_layers(
    cell: Callable[..., RecurrentLayer], units: list[int], prefix: str = "", **options: Any
) -> list[Bidirectional]:
    """One layer in both directions for each of `units`; arguments as in `stack_layers`."""
    ahead = stack_layers(cell, units, f"{prefix}forward_", **options)
    back = stack_layers(cell, units, f"{prefix}backward_", **options)
    return [
        Bidirectional(*pair, name=f"{prefix}both_{index}")
        for index, pair in enumerate(zip(ahead, back))
    ]


def bidirectional_stack(
    sequence: Any,
    layers: list[Bidirectional],
    mask: Any,
    *,
    residual: bool = False,
    layer_norm: bool = False,
    prefix: str = "",
) -> tuple[Any, dict[str, Any]]:
    """Outputs and final states of layers that read in both directions; none to go on from.

    Arguments are those of `recurrent_stack`.
    """
    states = {}
    for index, layer in enumerate(layers):
        below = sequence
        sequence = between_layers(sequence, index, layer_norm, prefix)
        sequence, state = layer(sequence, mask)
        if residual and index:
            sequence = keras.layers.Add(name=f"{prefix}residual_{index}")([below, sequence])
        states |= {state_key(name, index): value for name, value in state.items()}
    return after_layers(sequence, layer_norm, prefix), states


def _joined(a: Any, b: Any) -> Any:
    """The spec of two tensors side by side."""
    return keras.KerasTensor((*a.shape[:-1], a.shape[-1] + b.shape[-1]), a.dtype)
