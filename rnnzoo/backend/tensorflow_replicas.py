"""TensorFlow: training on one or many replicas, window by window, with a state for each.

Under a `tf.distribute` strategy `train_step` runs once for each replica, on its rows of the
batch. A replica may not sum gradients inside a loop or branch of its own. So where the step
comes to one, all replicas meet (`merge_call`), and the loop runs around all of them.
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from rnnzoo.backend.keras_internals import (
    apply_mask,
    class_weight_to_sample_weights,
    get_keras_mask,
)

_INT = tf.int32


def repeat(lower: Any, upper: Any, body: Callable, state: tuple) -> tuple:
    """`state` after `body(i, state)` for i from `lower` to `upper - 1`, in one compiled loop."""

    def loop(run: Callable, upper: Any) -> None:
        def turn(i: tf.Tensor) -> tuple:
            run(i, state)
            return (i + 1,)

        tf.while_loop(lambda i: i < upper, turn, (tf.convert_to_tensor(lower, _INT),))

    _together(loop, body, upper)
    return state


def when(condition: Any, branch: Callable, state: tuple) -> tuple:
    """`branch(state)` where `condition` holds, else `state`."""
    if isinstance(condition, bool):
        return branch(state) if condition else state

    def choose(run: Callable, condition: tf.Tensor) -> None:
        def chosen() -> tf.Tensor:
            run(state)
            return tf.constant(0)

        tf.cond(condition, chosen, lambda: tf.constant(0))

    _together(choose, branch, condition)
    return state


def _together(control: Callable, body: Callable, value: Any) -> None:
    """Call `control(run, value)`, in which `run(*args)` is `body(*args)` on every replica.

    `value`, on which the control flow depends, must be the same on all of them.
    """
    # A TPU's replicas are traced as one and may sum anywhere.
    on_tpu = isinstance(tf.distribute.get_strategy(), tf.distribute.TPUStrategy)
    if on_tpu or not tf.distribute.has_strategy():
        return control(body, value)

    def merged(strategy: Any, bodies: Any, values: Any) -> None:
        def own(body: Callable, *args: Any) -> None:
            body(*args)

        def run(*args: Any) -> None:
            strategy.run(own, args=(bodies, *args))

        control(run, strategy.experimental_local_results(values)[0])

    tf.distribute.get_replica_context().merge_call(merged, args=(body, value))


def replicas_and_scope() -> tuple[int, Callable]:
    """How many replicas the strategy at work has, and what opens its scope."""
    strategy = tf.distribute.get_strategy()
    return strategy.num_replicas_in_sync, strategy.scope


def carry_variable(shape: tuple, dtype: str, name: str) -> keras.Variable:
    """A float weight of zeros which every replica keeps to itself, for its own lanes."""
    return keras.Variable(
        "zeros",
        shape=shape,
        dtype=dtype,
        trainable=False,
        autocast=False,
        name=name,
        synchronization="on_read",
        aggregation="only_first_replica",
    )


def values_of(variable: keras.Variable) -> list[np.ndarray]:
    """Copies of what a variable holds, one for each replica that has its own."""
    value = variable.value
    return [part.numpy() for part in getattr(value, "values", [value])]


def set_values(variable: keras.Variable, values: Sequence[np.ndarray]) -> None:
    """Set a variable to what `values_of` gave."""
    value = variable.value
    for part, given in zip(getattr(value, "values", [value]), values):
        part.assign(given)


class WindowedTraining:
    """`train_step` and `test_step` of the shell on TensorFlow."""

    @property
    def spread(self) -> bool:
        """Whether the model was made under a strategy, whose graphs XLA cannot take whole."""
        return self._distribute_strategy is not None

    def compile(self, *args: Any, **kwargs: Any) -> None:
        super().compile(*args, **kwargs)
        if self._replicas == 1:
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
                    f"{name}={value} on {self._replicas}. Leave it out."
                )
        if self.optimizer is not None:
            _sum_first(self.optimizer)

    def train_step(self, data: Any) -> dict:
        data = self.unpack(data)
        if self.truncation is None:
            return super().train_step(data)
        parent = super()

        def step(state: tuple, data: tuple) -> tuple:
            parent.train_step(data)
            return state

        def forward(state: tuple, x: dict) -> tuple:
            return state, self(x, training=True)

        self.truncation.run(self, step, forward, (), data)
        return self.get_metrics_result()

    def test_step(self, data: Any) -> dict:
        return super().test_step(self.unpack(data))

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        context = tf.distribute.get_replica_context()
        if context is None or context.num_replicas_in_sync == 1 or self._compile_loss is None:
            return loss
        # Keras takes the mean over replicas of their means, as if all had the same weight.
        added = [self._aggregate_additional_loss(one) for one in self.losses]
        added = keras.ops.sum(added) if added else keras.ops.zeros((), loss.dtype)
        own = tf.cast(self._divisor(y_pred, sample_weight), loss.dtype)
        total = context.all_reduce(tf.distribute.ReduceOp.SUM, own)
        share = tf.math.divide_no_nan(own * context.num_replicas_in_sync, total)
        return (loss - added) * share + added

    def train_on_batch(
        self, x: Any, y: Any = None, sample_weight: Any = None, class_weight: Any = None, **kwargs
    ):
        if self._replicas > 1 and class_weight is not None and sample_weight is None:
            # Keras looks at the targets, which are about to be cut up.
            sample_weight = class_weight_to_sample_weights(y, class_weight)
            class_weight = None
        data = self._split((x, y, sample_weight))
        return super().train_on_batch(*data, class_weight, **kwargs)

    def test_on_batch(self, x: Any, y: Any = None, sample_weight: Any = None, **kwargs: Any):
        data = self._split((x, y, sample_weight))
        return super().test_on_batch(*data, **kwargs)

    def predict_on_batch(self, x: Any) -> np.ndarray:
        return super().predict_on_batch(*self._split((x,)))

    @property
    def _replicas(self) -> int:
        return self.distribute_strategy.num_replicas_in_sync

    def _divisor(self, y_pred: tf.Tensor, weight: Any) -> tf.Tensor:
        """What the loss of a replica's rows was divided by, but for a factor alike on all."""
        (_, loss, *_), *_ = self._compile_loss._flat_losses
        reduction = getattr(loss, "reduction", None)
        if reduction in (None, "none", "sum"):
            return tf.constant(1)
        mask = get_keras_mask(y_pred)
        if reduction == "mean_with_sample_weight" and not (weight is None and mask is None):
            return tf.reduce_sum(apply_mask(weight, mask, y_pred.dtype, reduction))
        return tf.shape(y_pred)[0] if mask is None else tf.reduce_sum(tf.cast(mask, _INT))

    def _split(self, data: tuple) -> tuple:
        """`data` with each replica's rows for itself; Keras would give all rows to each."""
        if self.spread and len(data) > 1:  # what follows takes whole batches only
            self._symbolic_build(data_batch=data)
        if self._replicas == 1:
            return data

        def split(values: Any) -> Any:
            parts = np.array_split(np.asarray(values), self._replicas)
            return self.distribute_strategy.experimental_distribute_values_from_function(
                lambda context: tf.convert_to_tensor(parts[context.replica_id_in_sync_group])
            )

        return keras.tree.map_structure(lambda v: None if v is None else split(v), data)

    def _symbolic_build(self, **kwargs: Any) -> None:
        with self.distribute_strategy.scope():
            super()._symbolic_build(**kwargs)

    def _maybe_symbolic_build(self, **kwargs: Any) -> None:
        """Nothing: Keras would build from the mean of all replicas' batches, tokens and flags."""


def _sum_first(optimizer: keras.optimizers.Optimizer) -> None:
    """Let `optimizer` sum the replicas' gradients before it clips them or looks for infinity.

    Keras sums last, so that each replica would clip its own part.
    """

    def apply(gradients: list, variables: list | None = None) -> None:
        places = [i for i, gradient in enumerate(gradients) if gradient is not None]
        context = tf.distribute.get_replica_context()
        found = context.all_reduce(tf.distribute.ReduceOp.SUM, [gradients[i] for i in places])
        summed = dict(zip(places, found))
        gradients = [summed.get(i) for i in range(len(gradients))]
        type(optimizer).apply(optimizer, gradients, variables)

    optimizer.apply = apply
    getattr(optimizer, "inner_optimizer", optimizer)._all_reduce_sum_gradients = list
