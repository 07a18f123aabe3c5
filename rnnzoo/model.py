"""`RecurrentModel`: the stateful shell around a functional core."""

from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np
from keras import ops

from rnnzoo import backend, inputs
from rnnzoo.carry import Carry
from rnnzoo.continuing import continue_prompt
from rnnzoo.generation import Generated, options
from rnnzoo.layers.recurrent import State, Tensor
from rnnzoo.layers.stack import initial_state
from rnnzoo.training import SequenceTraining
from rnnzoo.windows import run_core


@keras.saving.register_keras_serializable(package="rnnzoo")
class RecurrentModel(SequenceTraining):
    """A Keras model that carries the state of many sequences from batch to batch.

    Made by `rnnzoo.one_to_one` and `rnnzoo.many_to_one`. The state rule: a batch that brings a
    `reset` mask continues the state of the batch before it, and each row starts afresh where
    the mask says so; a batch without one is a set of whole sequences and starts from the
    initial state.

    Inputs of `fit`, `evaluate` and `predict`: `(batch, time, features)` or tokens
    `(batch, time)`, or a dict with `inputs` and, where wanted,

    * `reset`: `(batch, time)` bool, True where a sequence begins;
    * `mask`: `(batch, time)` bool, False on padding, or `lengths`: `(batch,)` integers
      (many-to-one only).

    Training and evaluation each have a carry of their own: validation, `predict` and `step`
    never move the training state. `evaluate` and `predict` start from the initial state.

    Args:
        core: Functional model `{"inputs", "reset", states} -> {"outputs", states}`.
        name: name of the model.
        vocabulary: the `rnnzoo.data.Vocabulary` of its tokens, for `generate`.
    """

    def __init__(
        self, core: keras.Model, name: str | None = None, vocabulary: Any = None, **kwargs: Any
    ):
        super().__init__(name=name, **kwargs)
        self.core = core
        self.vocabulary = vocabulary
        states = {key: value for key, value in core.output.items() if key != "outputs"}
        widths = {key: value.shape[-1] for key, value in states.items()}
        dtypes = {key: value.dtype for key, value in states.items()}
        self.training_carry = Carry(widths, dtypes, name="training_carry")
        # Every evaluation starts afresh, so there is nothing to keep.
        self.evaluation_carry = Carry(widths, dtypes, name="evaluation_carry", saved=False)
        self._compiled_core: Callable | None = None
        self.built = True

    @property
    def form(self) -> str:
        """'one_to_one' or 'many_to_one'."""
        return "many_to_one" if "mask" in self.core.input else "one_to_one"

    def call(self, inputs: Any, training: bool = False) -> Tensor:
        batch = self.standardize(inputs)
        if "reset" not in batch or self._only_shapes:
            return self.run_whole(batch, training)
        rows = ops.shape(batch["inputs"])[0]
        carry = self.training_carry if training else self.evaluation_carry
        self._check_rows(rows, carry, training)
        outputs, state = run_core(self.core, batch, carry.read(rows), self._cut, training)
        carry.write(state, rows)
        return outputs

    def run_whole(self, batch: dict[str, Tensor], training: bool) -> Tensor:
        """The outputs for a standardized batch of whole sequences."""
        batch = {"reset": self.first_step(batch["inputs"]), **batch}
        state = self.initial_state(ops.shape(batch["inputs"])[0])
        return run_core(self.core, batch, state, None, training)[0]

    def check_inputs(self, x: Any, lanes: int | None) -> None:
        """ValueError where `x` is no batch for this model, or not one of `lanes` rows."""
        inputs.check_batch(self.core, x, lanes)

    def standardize(self, x: Any) -> dict[str, Tensor]:
        """The inputs of the core but for the states: `inputs`, `reset` if given, `mask`."""
        return inputs.standardize(x, masked=self.form == "many_to_one")

    def first_step(self, x: Tensor) -> Tensor:
        """A `reset` mask for whole sequences: True at the first step of every row."""
        rows, steps = ops.shape(x)[:2]
        first = ops.equal(ops.arange(steps, dtype="int32"), 0)
        return ops.broadcast_to(first[None], (rows, steps))

    def initial_state(self, batch_size: int | Tensor) -> State:
        """The state that starts a sequence: dict of `(batch_size, units)` tensors by name."""
        return initial_state(self.core, batch_size)

    def step(self, x: Any, state: State, reset: Any = None) -> tuple[Tensor, State]:
        """Outputs for the next step or steps, and the state after them.

        A pure function: nothing in the model changes, and two callers never meet.

        Args:
            x: `(batch, time, features)` or tokens `(batch, time)`; time is 1 or more.
            state: dict as `initial_state` or an earlier `step` gave it.
            reset: `(batch, time)` bool, True where a sequence begins; None for nowhere.

        Returns:
            `(outputs, state)`: outputs `(batch, time, outputs)`, or `(batch, outputs)` for
            many-to-one.

        Raises:
            ValueError: inputs, state or reset of a wrong shape.
        """
        batch = inputs.of_step(self.core, x, state, reset)
        if self._compiled_core is None:
            self._compiled_core = backend.compile_call(self.core)
        outputs = dict(self._compiled_core(batch))
        return outputs.pop("outputs"), outputs

    def generate(
        self,
        prompt: Any = None,
        max_length: int | None = None,
        sampler: Any = "greedy",
        *,
        state: State | None = None,
        end: int | None = None,
        min_length: int = 0,
        forbidden: Iterable[int] = (),
    ) -> Generated:
        """What a one-to-one model on tokens writes after `prompt`.

        A pure function, as `step`: nothing in the model changes.

        Args:
            prompt: `(batch, time)` token ids, or a list of sequences of different length, or
                a string or strings where the model was made with a `Vocabulary`. None goes on
                from `state` without new tokens.
            max_length: tokens to write at most, the end token included.
            sampler: 'greedy', 'sample', or an object of `rnnzoo.decoding`, as
                `Sample(temperature=0.7, seed=1)` or `Beam(5)`.
            state: the state of an earlier result, or of `step`; None starts afresh.
            end: the token that ends a row; by default rows run on to `max_length`.
            min_length: tokens before the end token may come.
            forbidden: ids of tokens that never come.

        Returns:
            `rnnzoo.Generated`, without the prompt; its `state` goes on from there.

        Raises:
            ValueError: an argument out of its range, a model that is not on tokens.

        Example:

        >>> import rnnzoo
        >>> vocabulary = rnnzoo.data.Vocabulary("abc")
        >>> model = rnnzoo.one_to_one(vocabulary=vocabulary, units=4)
        >>> first = model.generate("ab", max_length=3)
        >>> more = model.generate(state=first.state, max_length=2)
        >>> len(first.text[0] + more.text[0])
        5
        """
        chosen = options(sampler, max_length, end, min_length, forbidden)
        return continue_prompt(self, prompt, state, chosen)

    @property
    def states(self) -> dict[str, np.ndarray]:
        """The carried training state: a copy, `(lanes, units)` by name; no rows before `fit`."""
        return self.training_carry.copy()

    def reset_states(self, rows: Any = None) -> None:
        """Set the carried training state to the initial one, in all lanes or in `rows`.

        Args:
            rows: integers, the lanes to reset; None for all.

        Raises:
            ValueError: a lane that does not exist.
        """
        carry = self.training_carry
        rows = inputs.lanes_of(np.arange(carry.lanes) if rows is None else rows, carry.lanes)
        state, fresh = carry.copy(), self.initial_state(carry.lanes)
        for key, values in state.items():
            values[rows] = ops.convert_to_numpy(fresh[key])[rows]
        carry.assign(state)

    def summary(self, **kwargs: Any) -> None:
        """Prints the layers of the core, as `keras.Model.summary`."""
        self.core.summary(**kwargs)

    def get_config(self) -> dict:
        serialize = keras.saving.serialize_keras_object
        config = {"name": self.name, "core": serialize(self.core)}
        config["dtype"] = serialize(self.dtype_policy)
        return {**config, "vocabulary": serialize(self.vocabulary)} if self.vocabulary else config

    @classmethod
    def from_config(cls, config: dict, custom_objects: Any = None) -> "RecurrentModel":
        core = keras.saving.deserialize_keras_object(config["core"], custom_objects=custom_objects)
        vocabulary = keras.saving.deserialize_keras_object(config.get("vocabulary"))
        own = {key: config.get(key) for key in ("name", "dtype")}
        return cls(core, vocabulary=vocabulary, **own)

    def _check_rows(self, rows: Any, carry: Carry, training: bool) -> None:
        # Under truncated BPTT a batch of whole sequences may be short: it starts afresh.
        fewer = training and self.truncation is not None
        if isinstance(rows, int) and (rows > carry.rows or (rows < carry.rows and not fewer)):
            raise ValueError(
                "a batch that continues a state must have one row for each lane of the carry; "
                f"received {rows} rows, lanes={carry.rows}. Use fit, evaluate or predict, which "
                "make the carry, or step, which takes the state as an argument."
            )
