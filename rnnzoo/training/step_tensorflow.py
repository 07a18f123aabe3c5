"""The training and test step on TensorFlow, on one or many replicas.

Under a `tf.distribute` strategy a step runs once for each replica, on its rows of the batch.
"""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from rnnzoo import backend
from rnnzoo.backend.keras_internals import apply_summed
from rnnzoo.training.losses import Measured, measure, update_metrics, weigh
from rnnzoo.training.windows import Cut


class BackendStep:
    """`train_step`, `test_step` and what a strategy asks for; a mix-in for `keras.Model`."""

    call_with_values = None  # training leaves the values in the variables

    @property
    def spread(self) -> bool:
        """Whether the model was made under a strategy, whose graphs XLA cannot take whole."""
        return self._distribute_strategy is not None

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

    def set_carry(self, state: tuple, carry: Any, values: dict, rows: Any) -> tuple:
        """The training state after the first `rows` lanes of `carry` were set to `values`."""
        carry.write(values, rows)
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

    def _maybe_symbolic_build(self, **kwargs: Any) -> None:
        """Nothing: Keras would build from the mean of all replicas' batches, tokens and flags."""


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
