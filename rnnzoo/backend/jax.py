"""JAX: time and window loops as `lax.scan` and `lax.fori_loop`, carry as plain variables."""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.export
import keras
import numpy as np
from jax.experimental import multihost_utils
from keras import ops

from rnnzoo.backend.jax_cudnn import lstm_stack
from rnnzoo.backend.processes import devices

CUDNN = ("LSTM",)  # the layers of Keras that run on cuDNN
PADDED = ("LSTM",)  # and those that do so with rows of different length
padded_lstm = lstm_stack


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
        carry: tuple of `(batch, ...)` arrays.
        xs: `(time, batch, ...)` arrays. Zero steps are allowed.
        widths: sizes of `ys`, which JAX sees by itself.
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


def loop(
    step: Callable, weights: tuple, state: tuple, xs: Sequence, index: int, keep: bool
) -> tuple[Any, tuple]:
    """State `index` after each step, stacked, and the last state, differentiated by JAX.

    Args:
        step: `(weights, x, state) -> state`, pure, with `x` one step of each of `xs`.
        weights: arrays that every step reads.
        state: tuple of arrays.
        xs: `(time, batch, ...)` arrays. Zero steps are allowed.
        index: which of `state` to stack.
        keep: what a gradient needs is kept; JAX sees by itself whether there will be one.
    """
    del keep

    def one(carry: tuple, x: list) -> tuple:
        after = step(weights, x, carry)
        return after, after[index]

    last, stacked = jax.lax.scan(one, tuple(state), list(xs))
    return stacked, last


def tanh(x: Any) -> Any:
    """The hyperbolic tangent in the dtype of `x`; `keras.ops.tanh` has float32 at most."""
    return jax.numpy.tanh(x)


def is_open(size: Any) -> bool:
    """Whether `size` is a dimension that is not known yet, as in the inference of shapes."""
    return jax.export.is_symbolic_dim(size)


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


def compile_call(
    model: keras.Model,
    function: Callable | None = None,
    leading: str = "inputs",
    through: Callable | None = None,
) -> Callable:
    """`function`, or `inputs -> model(inputs, training=False)`, as one compiled function.

    The weights of `model` are read at each call, so later training is seen. `through(call,
    variables, inputs)` may read them in another way and then call `call(values, inputs)`.
    """
    del leading  # JAX knows its compiled functions by all shapes
    # A look for all variables takes as long as a step; those of a core stay the same.
    known = model.variables if function is None else None
    function = function or (lambda inputs: model(inputs, training=False))

    @jax.jit
    def call(values: list, inputs: dict) -> Any:
        with keras.StatelessScope(state_mapping=list(zip(model.variables, values))):
            return function(inputs)

    if through is not None:
        return lambda inputs: through(call, known or model.variables, inputs)
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
