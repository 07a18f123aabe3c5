"""TensorFlow: loops and branches around a training step, on one or many replicas.

A replica may not sum gradients inside a loop or branch of its own. So where the step
comes to one, all replicas meet (`merge_call`), and the loop runs around all of them.
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

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
    """Copies of what a variable, or a tensor, holds, one for each replica that has its own."""
    value = getattr(variable, "value", variable)
    return [part.numpy() for part in getattr(value, "values", [value])]


def set_values(variable: keras.Variable, values: Sequence[np.ndarray]) -> None:
    """Set a variable to what `values_of` gave."""
    value = variable.value
    for part, given in zip(getattr(value, "values", [value]), values):
        part.assign(given)
