"""JAX: time and window loops as `lax.scan` and `lax.fori_loop`, carry as plain variables."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import keras
import numpy as np
from jax.experimental import multihost_utils
from keras import ops

from rnnzoo.backend.processes import devices, written_once

# What a training state is made of, in Keras's order.
_KINDS = ("trainable_variables", "non_trainable_variables")
_KINDS += ("optimizer_variables", "metrics_variables")


def gpu_available() -> bool:
    """Whether a function traced now may run on a GPU."""
    return jax.default_backend() == "gpu"


def scan(
    step: Callable,
    carry: tuple,
    xs: Sequence,
    widths: Sequence[int],
    reverse: bool = False,
    overwrite: bool = False,
) -> tuple[tuple, tuple]:
    """The last carry and the stacked outputs of `step` over the leading (time) axis of `xs`.

    Args:
        step: `(carry, x) -> (carry, ys)`, with `x` one step of each of `xs`.
        carry: tuple of `(batch, width)` arrays.
        xs: `(time, batch, ...)` arrays. Zero steps are allowed.
        widths: the last dimension of each of `ys`; JAX sees them by itself.
        reverse: run from the last step to the first; `ys` stay in the order of time.
        overwrite: the first of `ys`, as wide as the first of `xs`, takes its memory, step by
            step: a step's values are still in the processor's cache then.
    """
    del widths
    time = xs[0].shape[0]
    if not overwrite or time == 0:
        return jax.lax.scan(step, tuple(carry), list(xs), reverse=reverse)

    def over(loop: tuple, x: list) -> tuple:
        carry, buffer = loop
        i, *rest = x
        carry, (y, *ys) = step(carry, [jax.lax.dynamic_index_in_dim(buffer, i, 0, False), *rest])
        return (carry, jax.lax.dynamic_update_index_in_dim(buffer, y, i, 0)), ys

    first, *rest = xs
    steps = [jax.numpy.arange(time), *rest]
    (carry, first), ys = jax.lax.scan(over, (tuple(carry), first), steps, reverse=reverse)
    return carry, (first, *ys)


def project(x: Any, kernel: Any, dtype: str) -> Any:
    """`x @ kernel` for `(time, batch, features)`, flat on one device, where that is faster.

    Rows that are spread over devices cannot be joined with time: all would be gathered first.
    """
    if devices() > 1:
        return ops.cast(ops.matmul(x, kernel), dtype)
    flat = ops.matmul(ops.reshape(x, (-1, x.shape[-1])), kernel)
    return ops.cast(ops.reshape(flat, (*x.shape[:-1], kernel.shape[-1])), dtype)


def custom_gradient(forward: Callable, backward: Callable, args: tuple) -> Any:
    """`forward(*args)[0]`, differentiated by `backward`.

    Args:
        forward: `(*args) -> (outputs, residuals)`.
        backward: `(residuals, output gradients) -> gradients of args`, None where there is none.
        args: arrays or None.
    """
    call = jax.custom_vjp(lambda *args: forward(*args)[0])
    call.defvjp(forward, lambda residuals, upstream: tuple(backward(residuals, upstream)))
    return call(*args)


def repeat(lower: Any, upper: Any, body: Callable, state: tuple) -> tuple:
    """`state` after `body(i, state)` for i from `lower` to `upper - 1`, in one compiled loop."""
    return jax.lax.fori_loop(lower, upper, body, state)


def when(condition: bool, branch: Callable, state: tuple) -> tuple:
    """`branch(state)` where `condition` holds, else `state`. Lengths are static on JAX."""
    return branch(state) if condition else state


class LaneVariable(keras.Variable):
    """A variable of which each process may hold a part; its array has all of them."""

    def __array__(self, dtype: Any = None) -> np.ndarray:
        """The rows of all processes, which all must ask for."""
        value = self.value
        if not value.is_fully_addressable:
            value = multihost_utils.process_allgather(value, tiled=True)
        return np.asarray(value, dtype)


def carry_variable(shape: tuple, dtype: str, name: str) -> keras.Variable:
    """A float weight of zeros that holds the state of all lanes, each on its row's device."""
    spread = keras.distribution.distribution()
    return LaneVariable(
        "zeros",
        shape=shape,
        dtype=dtype,
        trainable=False,
        autocast=False,
        name=name,
        # Keras would give every device the state of all lanes.
        layout=None if spread is None else spread.get_data_layout(shape),
    )


def values_of(variable: keras.Variable) -> list[np.ndarray]:
    """Copies of what a variable holds, one for each replica that has its own: one on JAX."""
    return [np.array(variable)]


def set_values(variable: keras.Variable, values: Sequence[np.ndarray]) -> None:
    """Set a variable to what `values_of` gave."""
    variable.assign(values[0])


def replicas_and_scope() -> tuple[int, Callable]:
    """One, as a carry is one variable on JAX, and a scope that does nothing."""
    return 1, contextlib.nullcontext


def compile_call(model: keras.Model, function: Callable | None = None) -> Callable:
    """`function`, or `inputs -> model(inputs, training=False)`, as one compiled function.

    The weights of `model` are read at each call, so later training is seen.
    """
    # A look for all variables takes as long as a step; those of a core stay the same.
    known = model.variables if function is None else None
    function = function or (lambda inputs: model(inputs, training=False))

    @jax.jit
    def call(values: list, inputs: dict) -> Any:
        with keras.StatelessScope(state_mapping=list(zip(model.variables, values))):
            return function(inputs)

    return lambda inputs: call([v.value for v in known or model.variables], inputs)


class Buffer:
    """Room for an array of `shape` at each of a number of steps; 0 where nothing was put.

    The content goes through a loop as one of its variables, and only the methods here look
    into it.

    Args:
        steps: number of steps.
        shape: shape of a step's array.
        dtype: its dtype.
    """

    def __init__(self, steps: int, shape: tuple, dtype: str):
        self.steps, self.shape, self.dtype = steps, shape, dtype

    def empty(self) -> jax.Array:
        """The content before the first step."""
        return jax.numpy.zeros((self.steps, *self.shape), self.dtype)

    def put(self, content: jax.Array, index: jax.Array, values: jax.Array) -> jax.Array:
        """The content with `values` at step `index`."""
        return content.at[index].set(values)

    def read(self, content: jax.Array, index: jax.Array) -> jax.Array:
        """What was put at step `index`."""
        return content[index]

    def stacked(self, content: jax.Array) -> jax.Array:
        """All steps, `(steps, *shape)`."""
        return content


class WindowedTraining:
    """`train_step` of the shell on JAX, and passes over the data that may fail.

    Keras takes the values out of the variables for the time of a pass. Where its first step
    fails, and where `evaluate` or `predict` fails, it would not put them back.

    Several processes write one file, and all must call `save` or `save_weights`.
    """

    spread = False  # no strategy forbids compiling a whole step

    def save(self, filepath: Any, *args: Any, **kwargs: Any) -> None:
        with written_once(filepath) as path:
            super().save(path, *args, **kwargs)

    def save_weights(self, filepath: Any, *args: Any, **kwargs: Any) -> None:
        with written_once(filepath) as path:
            super().save_weights(path, *args, **kwargs)

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().evaluate(*args, **kwargs)
        finally:
            self.jax_state_sync()

    def predict(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().predict(*args, **kwargs)
        finally:
            self.jax_state_sync()

    def _symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        # Of a batch as it is on JAX: JAX 0.12 warns of a symbol of 64 bits, of an array not.
        if data_batch is not None:
            data_batch = _symbols(data_batch)
        super()._symbolic_build(iterator=iterator and _symbolic(iterator), data_batch=data_batch)

    def _get_jax_state(self, purge_model_variables: bool = False, **wanted: bool) -> tuple:
        state = super()._get_jax_state(purge_model_variables=purge_model_variables, **wanted)
        if purge_model_variables:
            kinds = (kind for kind in _KINDS if wanted.get(kind))
            self._jax_state = dict(zip(kinds, state))
        return state

    def train_step(self, state: tuple, data: Any) -> tuple[dict, tuple]:
        data = self.unpack(data)
        if self.truncation is None:
            return super().train_step(state, data)
        parent = super()

        def step(state: tuple, data: tuple) -> tuple:
            return tuple(parent.train_step(state, data)[1])

        def forward(state: tuple, x: dict) -> tuple:
            trainable, fixed, optimizer, metrics = state
            outputs, fixed = self.stateless_call(trainable, fixed, x, training=True)
            return (trainable, fixed, optimizer, metrics), outputs

        state = self.truncation.run(self, step, forward, tuple(state), data)
        mapping = list(zip(self.metrics_variables, state[3]))
        with keras.StatelessScope(state_mapping=mapping):
            logs = self.get_metrics_result()
        return logs, state

    def test_step(self, state: tuple, data: Any) -> tuple[dict, tuple]:
        return super().test_step(state, self.unpack(data))


def _symbolic(iterator: Any) -> Iterator[tuple]:
    """The steps of Keras's iterator over an epoch, with symbols for each step's first batch."""
    for begin, end, batches in iterator:
        yield begin, end, [_symbols(batches[0] if isinstance(batches, list) else next(batches))]


def _symbols(batch: Any) -> Any:
    """The shape of each array, with the dtype that it gets on JAX."""

    def symbol(value: Any) -> keras.KerasTensor | None:
        if value is None:
            return None
        dtype = keras.backend.standardize_dtype(value.dtype)
        return keras.KerasTensor(value.shape, jax.numpy.asarray(np.empty(0, dtype)).dtype.name)

    return keras.tree.map_structure(symbol, batch)
