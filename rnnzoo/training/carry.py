"""`Carry`: the state of all lanes, kept from batch to batch in variables of the shell."""

from typing import Any

import keras
import numpy as np
from keras import ops

from rnnzoo import backend
from rnnzoo.backend.keras_internals import untrack
from rnnzoo.core.spec import State as StateSpec
from rnnzoo.layers.recurrent import State


class Carry(keras.layers.Layer):
    """The state of every lane between two batches; one variable per state.

    The variables are made when the first batch shows how many lanes there are, and made anew
    for another number. They are saved with the model, and are none of its weights: a model has
    as many parameters, and takes the weights of another, however many lanes it was trained in.

    Args:
        states: what the core declares, by name.
        name: name of the layer.
        saved: whether the state is saved with the model.

    Attributes:
        lanes: how many there are; 0 before the first batch.
        version: grows with each new set of variables, which compiled functions hold.
    """

    def __init__(self, states: dict[str, StateSpec], name: str, saved: bool = True):
        super().__init__(name=name, trainable=False)
        self.saved = saved
        self.states = dict(states)
        self.slots = {}
        self.lanes = self.version = 0
        self.rows = 0  # those of the lanes that each replica keeps
        self._replicas, self._scope = backend.replicas_and_scope()
        self.built = True

    @property
    def weights(self) -> list:
        """None: a state is no weight."""
        return []

    def prepare(self, lanes: int, initial: State) -> bool:
        """Make variables for `lanes` rows where there are others; True where that happened."""
        if lanes == self.lanes:
            return False
        if lanes % self._replicas:
            raise ValueError(
                "every replica carries the state of as many lanes, so the rows of a batch must "
                f"be a multiple of {self._replicas}, the number of replicas; received {lanes}. "
                f"Take a batch_size of {self._replicas * max(1, lanes // self._replicas)}."
            )
        for variable in self.slots.values():
            untrack(self, variable)
        self.lanes, self.rows, self.version = lanes, lanes // self._replicas, self.version + 1
        with self._scope():
            self.slots = {
                key: backend.carry_variable(
                    (self.rows, *state.shape), state.dtype, f"{self.name}_{key}"
                )
                for key, state in self.states.items()
            }
        self.assign(initial)
        return True

    def assign(self, state: State) -> None:
        """Set all lanes to `state`."""
        for key, variable in self.slots.items():
            parts = ops.split(state[key], self._replicas) if self._replicas > 1 else [state[key]]
            backend.set_values(variable, parts)

    def read(self, rows: Any) -> State:
        """The state of the first `rows` lanes; within a replica, of its own."""
        if isinstance(rows, int) and rows == self.rows:
            return {key: ops.convert_to_tensor(v) for key, v in self.slots.items()}
        return {key: v[:rows] for key, v in self.slots.items()}

    def write(self, state: State, rows: Any) -> None:
        """Set the first `rows` lanes to `state`; the others stay as they are."""
        for key, variable in self.slots.items():
            value = state[key]
            if not (isinstance(rows, int) and rows == self.rows):
                value = ops.concatenate([value, variable[rows:]], axis=0)
                value = ops.reshape(value, variable.shape)
            variable.assign(value)

    def copy(self) -> dict[str, np.ndarray]:
        """The state of all lanes, as arrays of their own."""
        if not self.slots:
            return {key: np.zeros((0, *s.shape), s.dtype) for key, s in self.states.items()}
        return {key: np.concatenate(backend.values_of(v)) for key, v in self.slots.items()}

    def save_own_variables(self, store: Any) -> None:
        for key, lanes in self.copy().items() if self.saved and self.slots else ():
            store[key] = lanes

    def load_own_variables(self, store: Any) -> None:
        """Take the state saved by `save_own_variables`, whatever its number of lanes."""
        state = {key: np.array(store[key]) for key in self.states if key in store.keys()}
        if self.saved and state and len(state) == len(self.states):
            lanes = len(next(iter(state.values())))
            if not self.prepare(lanes, state):
                self.assign(state)
