"""The training and test step on TensorFlow, on one or many replicas.

Under a `tf.distribute` strategy a step runs once for each replica, on its rows of the batch.
On one CPU, each batch runs with or without XLA as `rnnzoo.training.shapes` has it.
"""

import warnings
from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from rnnzoo import backend
from rnnzoo.backend.keras_internals import apply_summed
from rnnzoo.feed.batches import shape_of
from rnnzoo.training.losses import Measured, measure, update_metrics, weigh
from rnnzoo.training.shapes import LEAST, Shapes, gain
from rnnzoo.training.windows import Cut


class BackendStep:
    """`train_step`, `test_step` and what a strategy asks for; a mix-in for `keras.Model`."""

    call_with_values = None  # training leaves the values in the variables

    @property
    def spread(self) -> bool:
        """Whether the model was made under a strategy, whose graphs XLA cannot take whole."""
        return self.own_strategy is not None

    @property
    def replicas(self) -> int:
        """How many replicas train, each on its rows."""
        return self.distribute_strategy.num_replicas_in_sync

    def compile(self, *args: Any, **kwargs: Any) -> None:
        super().compile(*args, **kwargs)
        if self.replicas == 1:
            return
        optimizer = getattr(self.optimizer, "inner_optimizer", self.optimizer)
        accumulated = getattr(optimizer, "gradient_accumulation_steps", None)
        # What Keras or XLA cannot do on several devices; it would fail far from its cause.
        for name, allowed, value in (
            ("jit_compile", "'auto' or False", kwargs.get("jit_compile") is True),
            ("steps_per_execution", 1, self.steps_per_execution),
            ("gradient_accumulation_steps", None, accumulated),
        ):
            if value not in (allowed, False, None):
                self.compiled = False
                raise ValueError(
                    f"{name} must be {allowed} for a model on several devices; received "
                    f"{name}={value} on {self.replicas}. Leave it out."
                )

    @property
    def by_shape(self) -> bool:
        """Whether each batch is compiled with XLA or not as its shape asks for it."""
        left_to_us = self.auto_jit and not (self.jit_compile or self.without_xla)
        plain = not self.run_eagerly and self.steps_per_execution == 1
        return left_to_us and plain and self.xla_fits()

    def make_train_function(self, force: bool = False) -> None:
        if not self.by_shape:
            return super().make_train_function(force)
        if self.train_function is None or force:
            least = LEAST if self.settings.truncation is None else 0.0
            self.train_function = self._by_shape("train_function", self.train_step, least)

    def make_test_function(self, force: bool = False) -> None:
        if not self.by_shape:
            return super().make_test_function(force)
        if self.test_function is None or force:
            self.test_function = self._by_shape("test_function", self.test_step, LEAST)

    def make_predict_function(self, force: bool = False) -> None:
        if not self.by_shape:
            return super().make_predict_function(force)
        if self.predict_function is None or force:
            self.predict_function = self._by_shape("predict_function", self.predict_step, LEAST)

    def _by_shape(self, name: str, step: Callable, least: float) -> Callable:
        """`step` on the next of some batches, as Keras calls it.

        Args:
            name: of the function; Keras has it as an attribute.
            step: `batch -> outputs`.
            least: what XLA has to save in batches of one shape, for it to be compiled.
        """
        plain = tf.function(step, reduce_retracing=True, autograph=False)
        fast = tf.function(step, reduce_retracing=True, autograph=False, jit_compile=True)
        shapes = Shapes()
        units = max((one.shape[-1] for one in self.spec.states.values() if one.shape), default=0)

        def function(batches: Iterable) -> Any:
            batch = _without_optionals(next(iter(batches)))
            spec = getattr(batches, "element_spec", None) or self._open_shapes(batch)
            kind, known = shape_of(batch), len(shapes.compiled)
            steps = self.reader.steps_in(batch[0]), self.planned.get(name, {}).get(kind, 0)
            saved = [gain(one, self.reader.rows(batch[0]), units) for one in steps]
            if self.without_xla or not shapes.take(kind, *saved, least):
                return _traced_once(plain, spec)(batch)
            if name == "train_function" and len(shapes.compiled) > known:
                self.tell_compiling()
            try:
                return _traced_once(fast, spec)(batch)
            except tf.errors.OpError as error:
                outputs = _traced_once(plain, spec)(batch)  # raises where the batch is to blame
                self._warn_of_xla(error)
                return outputs

        function.shapes = shapes
        return function

    def _open_shapes(self, batch: tuple) -> tuple:
        """What batches like `batch` look like, of any number of rows and steps."""

        def spec(array: Any, open_axes: int) -> tf.TensorSpec:
            left = 1 + open_axes
            return tf.TensorSpec([None] * left + list(array.shape[left:]), array.dtype)

        given = tuple(part for part in batch if part is not None)
        found = iter(keras.tree.map_structure(spec, given, self.reader.open_axes(given)))
        return tuple(None if part is None else next(found) for part in batch)

    def _warn_of_xla(self, error: Exception) -> None:
        self.without_xla = True
        warnings.warn(
            "XLA cannot compile this model, so it runs without, and slower; compile it with "
            f"jit_compile=False to leave XLA out. XLA said: {str(error).strip().splitlines()[0]}",
            stacklevel=2,
        )

    def train_step(self, data: Any) -> dict:
        x, y, weight = _tensors(data)
        self.train_batch((), x, y, weight, self._update, self._forward)
        return self._told()

    def test_step(self, data: Any) -> dict:
        x, y, weight = _tensors(data)
        y_pred = self.run(x, training=False)
        self.loss_tracker.update_state(measure(self, x, y, y_pred, weight, training=False))
        update_metrics(self, x, y, y_pred, weight)
        return self._told()

    def _told(self) -> dict:
        """Loss and metrics so far, over the steps of all replicas.

        Each replica counts its own; Keras would tell the mean of what each of them makes of it.
        """
        if self.replicas == 1:
            return self.get_metrics_result()
        counted = [(variable, _total(variable.value)) for variable in self.metrics_variables]
        with keras.StatelessScope(state_mapping=counted):
            return self.get_metrics_result()

    def predict_step(self, data: Any) -> Any:
        return self.run(_tensors(data)[0], training=False)

    def _forward(self, state: tuple, x: dict, carry: Any) -> tuple:
        """A run forward without gradient: `(state, outputs)`."""
        return state, self.run(x, training=True, carry=carry)

    def _update(
        self, state: tuple, x: dict, y: Any, weight: Any, cut: Cut | None, share: Any, carry: Any
    ) -> tuple:
        """One update on a batch or window, which a window without weight does not make."""
        with tf.GradientTape() as tape:
            y_pred = self.run(x, training=True, cut=cut, carry=carry)
            measured = measure(self, x, y, y_pred, weight, share)
            scaled = self.optimizer.scale_loss(self._own_part(measured))
        self.loss_tracker.update_state(measured)
        variables = self.trainable_weights
        gradients = self._summed(tape.gradient(scaled, variables))
        held = weigh(weight, self.output_masks(x, y_pred))

        def apply(state: tuple) -> tuple:
            if self.replicas > 1:
                apply_summed(self.optimizer, gradients, variables)
            else:
                self.optimizer.apply(gradients, variables)
            return state

        if not variables:
            pass
        elif held is None:
            apply(state)
        else:
            backend.when(_total(held) > 0, apply, state)
        update_metrics(self, x, y, y_pred, weight)
        return state

    def set_carry(self, state: tuple, carry: Any, values: Callable, rows: Any) -> tuple:
        """The training state after the first `rows` lanes of `carry` were set to `values()`."""
        carry.write(values(), rows)
        return state

    def _own_part(self, measured: Measured) -> tf.Tensor:
        """What this replica adds to the loss of all, whose gradients are summed.

        A mean is over all replicas' steps; Keras would take the mean of their means.
        """
        if self.replicas == 1:
            return measured.total()
        values = []
        for value, divisor in zip(measured.values, measured.divisors):
            own = tf.cast(divisor, value.dtype)
            values.append(tf.math.divide_no_nan(value * own, _total(own)))
        added = measured.added
        added = None if added is None else added / self.replicas
        return measured._replace(values=values, added=added).total()

    def _summed(self, gradients: list) -> list:
        """The gradients of all replicas, before any is clipped or looked at for infinity."""
        if self.replicas == 1:
            return gradients
        places = [i for i, gradient in enumerate(gradients) if gradient is not None]
        context = tf.distribute.get_replica_context()
        found = context.all_reduce(tf.distribute.ReduceOp.SUM, [gradients[i] for i in places])
        summed = dict(zip(places, found))
        return [summed.get(i) for i in range(len(gradients))]

    def train_on_batch(self, x: Any, y: Any = None, sample_weight: Any = None, **kwargs: Any):
        return super().train_on_batch(*self._split((x, y, sample_weight)), **kwargs)

    def test_on_batch(self, x: Any, y: Any = None, sample_weight: Any = None, **kwargs: Any):
        return super().test_on_batch(*self._split((x, y, sample_weight)), **kwargs)

    def predict_on_batch(self, x: Any) -> np.ndarray:
        return super().predict_on_batch(*self._split((x,)))

    def _split(self, data: tuple) -> tuple:
        """`data` with each replica's rows for itself; Keras would give all rows to each."""
        if self.replicas == 1:
            return data

        def split(values: Any) -> Any:
            parts = np.array_split(np.asarray(values), self.replicas)
            return self.distribute_strategy.experimental_distribute_values_from_function(
                lambda context: tf.convert_to_tensor(parts[context.replica_id_in_sync_group])
            )

        return keras.tree.map_structure(lambda v: None if v is None else split(v), data)

    def building(self) -> Any:
        """The scope in which variables of losses, metrics and optimizer are made."""
        return self.distribute_strategy.scope()

    def build_from_batch(self, build: Any, **data: Any) -> None:
        """Nothing: Keras would build from the mean of all replicas' batches, tokens and flags."""


def _traced_once(function: Any, spec: Any) -> Any:
    """`function`, traced for all batches that fit `spec`, not first for one shape and then for any.

    XLA compiles what was traced for each shape all the same.
    """
    if not function.experimental_get_tracing_count():
        function.get_concrete_function(
            keras.tree.map_structure(
                lambda part: None if isinstance(part, tf.OptionalSpec) else part, spec
            )
        )
    return function


def _without_optionals(batch: Any) -> Any:
    """`batch` with None in the places where `tf.data` says so."""
    return keras.tree.map_structure(
        lambda part: None if isinstance(part, tf.experimental.Optional) else part, batch
    )


def _tensors(data: Any) -> tuple:
    """`(x, y, weight)` of a batch, as tensors where they run eagerly too."""
    parts = keras.utils.unpack_x_y_sample_weight(data)
    return keras.tree.map_structure(
        lambda part: None if part is None else tf.convert_to_tensor(part), parts
    )


def _total(value: tf.Tensor) -> tf.Tensor:
    """The sum of a scalar over all replicas."""
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return value
    return context.all_reduce(tf.distribute.ReduceOp.SUM, value)
