"""`RecurrentModel`: the stateful shell around a functional core."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import ops

from rnnzoo import _checks, backend
from rnnzoo.backend.keras_internals import get_keras_mask
from rnnzoo.core.network import spec_of_old
from rnnzoo.core.spec import CoreSpec, Input
from rnnzoo.core.to_stock import stock_model
from rnnzoo.data.tokenizer import kept
from rnnzoo.data.tokens import TextVocabulary
from rnnzoo.data.vocabularies import as_vocabulary
from rnnzoo.feed.inputs import CoreInputs, lanes_of
from rnnzoo.generation.forecaster import Forecaster
from rnnzoo.generation.forecasts import Forecast, continue_series, feed_of
from rnnzoo.generation.options import Generated, options, refuse_given
from rnnzoo.generation.prompts import continue_prompt, continues
from rnnzoo.heads.head import Head
from rnnzoo.layers.recurrent import State, Tensor
from rnnzoo.models.shell import Shell
from rnnzoo.training.carry import Carry
from rnnzoo.training.defaults import fingerprint
from rnnzoo.training.windows import Cut, Task, run_core


@keras.saving.register_keras_serializable(package="rnnzoo")
class RecurrentModel(Shell):
    """A Keras model that carries the state of many sequences from batch to batch.

    Made by `rnnzoo.one_to_one` and `rnnzoo.many_to_one`, or from a core of your own. The state
    rule: a batch that brings a `reset` mask continues the state of the batch before it, and each
    row starts afresh where the mask says so; a batch without one is a set of whole sequences and
    starts from the initial state.

    Inputs of `fit`, `evaluate` and `predict`: `(batch, time, features)` or tokens
    `(batch, time)`, or a dict with `inputs` and, where wanted,

    * `reset`: `(batch, time)` bool, True where a sequence begins;
    * `mask`: `(batch, time)` bool, False on padding, or `lengths`: `(batch,)` integers.
      Outputs of many-to-one are those of the last real step. One-to-one models read padding as
      steps, so theirs ends a row, or a `reset` follows; losses and metrics leave it out;
    * `state`: dict of arrays `(batch, ...)` by the names that `initial_state` has, from which
      the rows begin, as `step` gave them or as they were stored. Such a batch is one of sequences
      of its own, with a `reset` mask too: it neither reads nor moves a carried state. The arrays
      are data, to which no gradient goes.

    Training and evaluation each have a carry of their own: validation, `predict` and `step`
    never move the training state. `evaluate` and `predict` start from the initial state. Arrays
    may be lists of numbers and tables too, but for states. What the first batch of a data set
    has, all others have.

    Called as a layer, `model(inputs)`, also within a Functional model, it is a pure function that
    knows no carry: rows begin with the initial state, or with `state`, and start afresh where
    `reset` says so. What such a model must go on from, it passes in.

    Args:
        core: Functional model from inputs, reset and states to outputs and states, by name.
        spec: what it takes and gives, as `rnnzoo.CoreSpec`.
        name: name of the model.
        vocabulary: the `rnnzoo.data.Vocabulary` of its tokens, or a tokenizer of another
            library, for `generate`.
    """

    def __init__(
        self,
        core: keras.Model,
        spec: CoreSpec,
        name: str | None = None,
        vocabulary: Any = None,
        **kwargs: Any,
    ):
        _checks.instance("core", core, keras.Model, "a Functional Keras model")
        _checks.instance("spec", spec, CoreSpec, "the rnnzoo.CoreSpec of what core takes and gives")
        spec.check(core)
        _check_vocabulary(vocabulary, spec)
        super().__init__(name=_checks.label("name", name), **kwargs)
        self.core, self.spec = core, spec
        known = None if vocabulary is None else as_vocabulary("vocabulary", vocabulary)
        self.vocabulary = known
        self.reader = CoreInputs(spec)
        self.carries_state = spec.reset is not None
        self.make_carries(spec, self.carries_state)
        self._compiled_core: Callable | None = None
        self.begun_with = fingerprint(self)
        self.built = True

    @property
    def form(self) -> str:
        """What kind of core it has, as its `spec` says: 'one_to_one', 'many_to_one' or another."""
        return self.spec.form

    @property
    def heads(self) -> dict[str, Head]:
        """The heads of the outputs that have one, by name: what `predict` gives are their
        parameters, as in `model.heads["outputs"].quantile(model.predict(x), 0.9)`.
        """
        return self.spec.heads

    @property
    def cores(self) -> list[keras.Model]:
        """The functional models that hold its weights."""
        return [self.core]

    @property
    def vocabularies(self) -> dict[str, Any]:
        """The `Vocabulary` of what a prompt is made of, None where there is none."""
        return {"prompt": self.vocabulary}

    @property
    def core_of_outputs(self) -> keras.Model:
        """The functional model that ends with the outputs."""
        return self.core

    def call(self, inputs: Any, training: bool = False) -> Any:
        return self._from_start(self.reader.standardize(inputs), training)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Shapes of the outputs for inputs of such shapes."""
        leading = input_shape
        if isinstance(input_shape, dict):
            leading = input_shape[self.spec.leading]
        return self.spec.bare(
            {
                name: (*leading[: 1 + one.per_step], *one.shape)
                for name, one in self.spec.outputs.items()
            }
        )

    def compute_output_spec(self, inputs: Any, training: Any = None) -> Any:
        return self.output_specs(self.reader.as_dict(inputs))

    def output_specs(self, x: dict[str, Any]) -> Any:
        """Symbols of the outputs for a batch of symbols."""
        rows, steps = x[self.spec.leading].shape[:2]
        return self.spec.bare(
            {
                name: keras.KerasTensor(
                    (rows, *((steps,) if one.per_step else ()), *one.shape), one.dtype
                )
                for name, one in self.spec.outputs.items()
            }
        )

    def run(
        self, x: dict[str, Tensor], training: bool, cut: Cut | None = None, carry: Any = None
    ) -> Any:
        """The outputs for a batch in its one form.

        Args:
            x: inputs by name; those that bring a reset go on from a carry.
            training: whether dropout is at work, and which carry that is.
            cut: of a window, how it is run.
            carry: the carry that it goes on from, where it is another.
        """
        spec = self.spec
        if carry is None and self.reader.carries(x):
            carry = self.training_carry if training else self.evaluation_carry
        if carry is None:
            return self._from_start(x, training)
        x = self._read(x)
        rows = ops.shape(x[spec.leading])[0]
        self._check_rows(rows, carry)
        outputs, state = run_core(self.core, spec, x, carry.read(rows), cut, training)
        carry.write(state, rows)
        return spec.bare(outputs)

    def train_batch(
        self, state: Any, x: dict, y: Any, weight: Any, update: Callable, forward: Callable
    ) -> Any:
        """The training state after all updates on one batch: one, or one for each window.

        Args:
            state: what updates hand on.
            x, y, weight: the batch in its one form.
            update: `(state, x, y, weight, cut, share, carry) -> state`, one update.
            forward: `(state, x, carry) -> (state, outputs)`, a run without gradient.
        """
        truncation, spec = self.settings.truncation, self.spec
        if truncation is None:
            return update(state, x, y, weight, None, 1.0, None)
        carry = self.training_carry
        if not self.reader.carries(x):
            carry, rows = self.window_carry, ops.shape(x[spec.leading])[0]
            x, given = self._begun(x, rows)
            if given or spec.reset is None:
                first = partial(dict, given) if given else partial(self.start_of, rows)
                state = self.set_carry(state, carry, first, rows)
        still = {name: x[name] for name, one in spec.inputs.items() if not one.per_step}
        steps = x[spec.leading].shape[1]
        task = Task(
            update=lambda state, x, y, w, cut, share, _: update(state, x, y, w, cut, share, carry),
            forward=lambda state, x: forward(state, x, carry),
            x={name: value for name, value in x.items() if name not in still},
            still=still,
            y=y,
            weight=weight,
            timed=[_timed(value, steps, truncation.window) for value in _leaves(y, weight)],
            last_only=spec.of_last_step,
            mask=spec.mask,
        )
        return truncation.run(task, state)

    def output_masks(self, x: Any, y_pred: Any) -> Any:
        """For each output the steps of it that count, None for all."""
        named = x is not None and self.reader.mask not in self.spec.inputs
        mask = x.get(self.reader.mask) if named else None
        masks = {}
        for name, one in self.spec.outputs.items():
            outputs = y_pred[name] if len(self.spec.outputs) > 1 else y_pred
            own = get_keras_mask(outputs)  # of a `Masking` or `Embedding(mask_zero=True)`
            given = _newest(mask, outputs) if mask is not None and one.judged_per_step else None
            masks[name] = own if given is None else given
            if own is not None and given is not None:
                masks[name] = ops.logical_and(own, given)
        return self.spec.bare(masks)

    def _from_start(self, x: dict[str, Tensor], training: bool) -> Any:
        """The outputs for sequences of their own, whatever a carry holds."""
        x = self._read(x)
        rows = ops.shape(x[self.spec.leading])[0]
        x, given = self._begun(x, rows)
        state = given or self.start_of(rows)
        return self.spec.bare(run_core(self.core, self.spec, x, state, None, training)[0])

    def _read(self, x: dict[str, Tensor]) -> dict[str, Tensor]:
        """What of a batch the core reads, as tensors."""
        # A mask may be for the losses alone; a step that is not compiled gets arrays of the host.
        return {k: ops.convert_to_tensor(v) for k, v in x.items() if k in self.core.input}

    def _begun(self, x: dict[str, Tensor], rows: Any) -> tuple[dict[str, Tensor], State]:
        """`x` without the states that it may bring, and these.

        Where it brings neither states nor a reset mask, it gets one that is True at the first
        step of every row: there a sequence starts, from a learned state too.
        """
        given = {name: x[name] for name in self.spec.states if name in x}
        x = {name: value for name, value in x.items() if name not in given}
        if self.spec.reset is not None and self.spec.reset not in x:
            steps = ops.shape(x[self.spec.leading])[1]
            first = ops.equal(ops.arange(steps, dtype="int32"), -1 if given else 0)
            x[self.spec.reset] = ops.broadcast_to(first[None], (rows, steps))
        return x, given

    def initial_state(self, batch_size: int | Tensor) -> State:
        """The state that starts a sequence: dict of `(batch_size, units)` tensors by name."""
        starts = any(state.start for state in self.spec.states.values())
        if self.call_with_values is None or not starts:
            return self.start_of(batch_size)
        return self.evaluated(self.core.variables, lambda: self.start_of(batch_size))

    def start_of(self, rows: int | Tensor) -> State:
        """As `initial_state`, inside a step."""
        return self.spec.initial_state(self.core, rows)

    def step(self, x: Any, state: State, reset: Any = None) -> tuple[Tensor, State]:
        """Outputs for the next step or steps, and the state after them.

        A pure function: nothing in the model changes, and two callers never meet.

        Args:
            x: `(batch, time, features)` or tokens `(batch, time)`, of several inputs a dict by
                name; time is 1 or more.
            state: dict as `initial_state` or an earlier `step` gave it.
            reset: `(batch, time)` bool, True where a sequence begins; None for nowhere.

        Returns:
            `(outputs, state)`: outputs `(batch, time, outputs)`, or `(batch, outputs)` for
            many-to-one.

        Raises:
            ValueError: inputs, state or reset of a wrong shape; a model without a state.
        """
        if not self.spec.states:
            raise ValueError(
                "step must be called on a model that goes on from a state; received one of form "
                f"{self.form!r}: {self.spec.uncut}. Give predict whole sequences."
            )
        batch = self.reader.of_step(x, state, reset)
        if self._compiled_core is None:
            self._compiled_core = backend.compile_call(
                self.core, leading=self.spec.leading, through=self.call_with_values
            )
        outputs, state = self.spec.split(self._compiled_core(batch))
        return self.spec.bare(outputs), state

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
        samples: int | None = None,
        seed: int | None = None,
        feed: str | None = None,
        future: Mapping[str, Any] | None = None,
    ) -> Generated | Forecast:
        """What a one-to-one model writes after `prompt`: tokens, or numbers with their intervals.

        A pure function, as `step`: nothing in the model changes. A model on numbers is one whose
        output is the next value of one of its inputs. It is fed the mean that its head says, or
        paths drawn from it; the prompt is read once for all paths. A SavedModel has the same loop.

        Args:
            prompt: `(batch, time)` token ids, or a list of sequences of different length, or
                a string or strings where the model was made with a `Vocabulary`. Of numbers what
                `fit` takes, `(batch, time, features)` or a dict by name, with `lengths` where
                rows are shorter than others. None goes on from `state` without new steps.
            max_length: tokens to write at most, the end token included; of numbers, the steps.
            sampler: 'greedy', 'sample', or an object of `rnnzoo.decoding`, as
                `Sample(temperature=0.7, seed=1)` or `Beam(5)`. For tokens, as are the next three.
            state: the state of an earlier result, or of `step`; None starts afresh.
            end: the token that ends a row; by default rows run on to `max_length`.
            min_length: tokens before the end token may come.
            forbidden: ids of tokens that never come.
            samples: paths drawn for each row. None feeds the mean: of a head that has none, the
                median. For numbers, as are the next three.
            seed: an integer of at least 0, which with its number draws a row's paths, so that
                they depend on no other row; None draws one from NumPy's generator.
            feed: the input whose next value the output is, where several could be.
            future: the other inputs per step at the steps to come, `(batch, steps, ...)` by name;
                of `max_length` steps the last is not fed, and may be left out.

        Returns:
            `rnnzoo.Generated`, or of numbers `rnnzoo.Forecast`, without the prompt; its `state`
            goes on from there.

        Raises:
            ValueError: an argument out of its range or for the other kind of model, a model that
                can be fed neither; `samples` from a head that draws none.

        Example:

        >>> import numpy as np, rnnzoo
        >>> vocabulary = rnnzoo.data.Vocabulary("abc")
        >>> model = rnnzoo.one_to_one(vocabulary=vocabulary, units=4)
        >>> first = model.generate("ab", max_length=3)
        >>> more = model.generate(state=first.state, max_length=2)
        >>> len(first.text[0] + more.text[0])
        5
        >>> model = rnnzoo.one_to_one(features=1, units=4, outputs=rnnzoo.heads.StudentT())
        >>> found = model.generate(np.zeros((2, 9, 1)), max_length=24, samples=50, seed=1)
        >>> found.samples.shape, found.mean.shape, found.quantile([0.1, 0.9]).shape
        ((2, 50, 24, 1), (2, 24, 1), (2, 24, 1, 2))
        """
        of_numbers = {"samples": samples, "seed": seed, "feed": feed, "future": future}
        if continues(self):
            refuse_given(of_numbers, "numbers", "tokens, drawn by sampler=Sample(seed=...)")
            chosen = options(sampler, max_length, end, min_length, forbidden)
            return continue_prompt(self, prompt, state, chosen)
        feed_of(self, feed, "generate")
        given = {"sampler": sampler, "end": end, "min_length": min_length, "forbidden": forbidden}
        refuse_given(given, "tokens", "numbers, drawn by samples=n")
        return continue_series(self, prompt, max_length, state=state, **of_numbers)

    def forecaster(
        self, static: Mapping[str, Any] | None = None, feed: str | None = None
    ) -> Forecaster:
        """A new `rnnzoo.Forecaster`: observes series step by step, and forecasts from now.

        Args:
            static: the inputs per sequence, `(batch, ...)` by name.
            feed: the input whose next value the output is, where several could be.
        """
        return Forecaster(self, static, feed)

    @property
    def states(self) -> dict[str, np.ndarray]:
        """The carried training state: a copy, `(lanes, units)` by name; no rows before `fit`."""
        with self.waiting():
            return self.training_carry.copy()

    def reset_states(self, rows: Any = None) -> None:
        """Set the carried training state to the initial one, in all lanes or in `rows`.

        Args:
            rows: integers, the lanes to reset; None for all.

        Raises:
            ValueError: a lane that does not exist.
        """
        with self.waiting():
            carry = self.training_carry
            rows = lanes_of(np.arange(carry.lanes) if rows is None else rows, carry.lanes)
            state, fresh = carry.copy(), self.initial_state(carry.lanes)
            for key, values in state.items():
                values[rows] = ops.convert_to_numpy(fresh[key])[rows]
            carry.assign(state)

    def to_keras(self) -> keras.Model:
        """A stock Functional model with copies of the weights, from whole sequences to outputs.

        What state, reset and windows were is left out, and so is a mask that comes with the
        data. `rnnzoo.from_keras` is the way here. One input and one output are bare, several
        are dicts by name.

        Raises:
            ValueError: a layer that no stock one can hold, as one of a learned initial state.

        Example:

        >>> import rnnzoo
        >>> model = rnnzoo.one_to_one(features=3, units=4, outputs=2, cell="gru")
        >>> [type(layer).__name__ for layer in model.to_keras().layers]
        ['InputLayer', 'GRU', 'Dense', 'Activation']
        """
        return stock_model(self.core, self.spec, self.name)

    @property
    def inputs_of_preset(self) -> dict[str, Input]:
        """What a batch of whole sequences is made of, by name."""
        return self.spec.inputs

    def get_config(self) -> dict:
        serialize = keras.saving.serialize_keras_object
        config = {"name": self.name, "core": serialize(self.core), "spec": self.spec.get_config()}
        config["dtype"] = serialize(self.dtype_policy)
        return {**config, "vocabulary": kept(self.vocabulary)} if self.vocabulary else config

    @classmethod
    def from_config(cls, config: dict, custom_objects: Any = None) -> "RecurrentModel":
        core = keras.saving.deserialize_keras_object(config["core"], custom_objects=custom_objects)
        spec = config.get("spec")
        spec = spec_of_old(core) if spec is None else CoreSpec.from_config(spec)
        vocabulary = keras.saving.deserialize_keras_object(config.get("vocabulary"))
        own = {key: config.get(key) for key in ("name", "dtype")}
        return cls(core, spec, vocabulary=vocabulary, **own)

    def _check_rows(self, rows: Any, carry: Carry) -> None:
        # In windows a batch of whole sequences may be short: it starts afresh.
        fewer = carry is self.window_carry
        if isinstance(rows, int) and (rows > carry.rows or (rows < carry.rows and not fewer)):
            raise ValueError(
                "a batch that continues a state must have one row for each lane of the carry; "
                f"received {rows} rows, lanes={carry.rows}. Use fit, evaluate or predict, which "
                "make the carry, or step, which takes the state as an argument."
            )


def _check_vocabulary(vocabulary: Any, spec: CoreSpec) -> None:
    """ValueError unless `vocabulary` is None or that of the model's tokens."""
    size = spec.inputs[spec.leading].vocabulary
    known = isinstance(vocabulary, TextVocabulary) and not isinstance(vocabulary, type)
    if vocabulary is not None and not (known and len(vocabulary) == size):
        raise _checks.refuse("vocabulary", f"None or a vocabulary of the {size} tokens", vocabulary)


def _leaves(y: Any, weight: Any) -> list:
    return keras.tree.flatten((y, weight))


def _timed(value: Any, steps: Any, window: int) -> bool:
    """Whether targets or weights are cut with the windows: they have a time axis.

    What has none is trained in one window of all steps, as was checked on its way here.
    """
    if value is None or len(value.shape) < 2:
        return False
    own = value.shape[1]
    return own == steps or None in (own, steps)


def _newest(mask: Tensor, outputs: Tensor) -> Tensor:
    """The part of `mask` for `outputs`, which may be the last steps only."""
    return mask[:, ops.shape(mask)[1] - ops.shape(outputs)[1] :]
