"""TensorFlow: loops over time as `tf.while_loop`; `tensorflow_replicas` has what trains."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from rnnzoo.backend.tensorflow_replicas import (
    carry_variable,
    repeat,
    replicas_and_scope,
    set_values,
    values_of,
    when,
)

__all__ = [
    "CUDNN",
    "PADDED",
    "Buffer",
    "carry_variable",
    "compile_call",
    "custom_gradient",
    "gpu_available",
    "is_open",
    "loop",
    "padded_lstm",
    "repeat",
    "replicas_and_scope",
    "scan",
    "set_values",
    "tanh",
    "values_of",
    "when",
]

CUDNN = ("LSTM", "GRU")  # the layers of Keras that run on cuDNN
PADDED = ()  # and those that do so with rows of different length
padded_lstm = None
_INT = tf.int32
_KINDS = 8  # numbers of rows for which a step is compiled of its own


def gpu_available() -> bool:
    """Whether a graph traced now may run on a GPU."""
    return bool(tf.config.list_logical_devices("GPU"))


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
        carry: tuple of `(batch, ...)` tensors.
        xs: `(time, batch, ...)` tensors. Zero steps are allowed.
        widths: of each of `ys` the last dimension, where it is `(batch, width)` in the dtype of
            the first of `carry` (an int or a scalar), or a tensor of its shape and dtype.
        reverse: run from the last step to the first; `ys` stay in the order of time.
        overwrite: the first of `ys`, as wide as the first of `xs`, takes its memory, step by
            step: a step's values are still in the processor's cache then.

    `keras.ops.scan` will not do: on TensorFlow it wants outputs shaped like the carry.
    """
    if xs[0].shape[0] == 1:
        return _single(step, carry, xs)
    time, batch = _sizes(xs[0])[0], _sizes(carry[0])[0]
    given = [Buffer(time, _sizes(x)[1:], x.dtype) for x in xs]
    made = [
        Buffer(time, _sizes(width), width.dtype)
        if tf.is_tensor(width) and width.shape.rank
        else Buffer(time, (batch, width), carry[0].dtype)
        for width in widths
    ]
    sources = [buffer.holding(x) for buffer, x in zip(given, xs)]
    results = [buffer.empty() for buffer in made]
    if overwrite:
        results[0] = sources[0]

    def body(i: tf.Tensor, carry: tuple, results: tuple) -> tuple:
        index = time - 1 - i if reverse else i
        now = [results[0], *sources[1:]] if overwrite else sources
        x = [buffer.read(content, index) for buffer, content in zip(given, now)]
        new_carry, ys = step(carry, x)
        new_carry = tuple(tf.ensure_shape(n, c.shape) for n, c in zip(new_carry, carry))
        return i + 1, new_carry, tuple(b.put(c, index, y) for b, c, y in zip(made, results, ys))

    _, carry, results = tf.while_loop(
        lambda i, *_: i < time,
        body,
        (tf.constant(0, _INT), tuple(carry), tuple(results)),
        maximum_iterations=time,  # XLA needs it to differentiate the loop
    )
    return carry, tuple(buffer.stacked(content) for buffer, content in zip(made, results))


def loop(
    step: Callable, weights: tuple, state: tuple, xs: Sequence, index: int, keep: bool
) -> tuple[Any, tuple]:
    """State `index` after each step, stacked, and the last state, differentiated step by step.

    The gradient runs each step again, from the state before it. TensorFlow's own gradient of a
    loop keeps all that a step computes, and under XLA copies all steps of `xs` at each.

    Args:
        step: `(weights, x, state) -> state`, pure, with `x` one step of each of `xs`.
        weights: tensors that every step reads.
        state: tuple of tensors. Those that are no floats have no gradient.
        xs: `(time, batch, ...)` tensors. Zero steps are allowed.
        index: which of `state` to stack.
        keep: whether the states of all steps are kept. Otherwise a gradient asked for all the
            same runs the loop again.
    """
    w, n = len(weights), len(state)

    def forward(*args: tf.Tensor, keep: bool = keep) -> tuple:
        weights, state, xs = args[:w], args[w : w + n], args[w + n :]

        def one(carry: tuple, x: list) -> tuple:
            after = step(weights, x, carry)
            return after, after if keep else [after[index]]

        last, after = scan(one, state, xs, state if keep else [state[index]])
        return (after[index if keep else 0], *last), (args, after)

    def backward(residuals: tuple, upstream: tuple) -> list:
        args, after = residuals if keep else forward(*residuals[0], keep=True)[1]
        weights, state, xs = args[:w], args[w : w + n], args[w + n :]
        before = [tf.concat([s[None], a], 0)[:-1] for s, a in zip(state, after)]
        of_weights, of_state, of_xs = (_learning(part) for part in (weights, state, xs))

        def one(carry: tuple, x: list) -> tuple:
            now, then, d_output = x[: len(xs)], tuple(x[len(xs) : -1]), x[-1]
            d_after = dict(zip(of_state, carry))
            d_after[index] = d_after[index] + d_output
            d_weights, d_now, d_then = _pulled_back(step, (weights, now, then), d_after)
            summed = [d + more for d, more in zip(carry[len(of_state) :], d_weights)]
            return (*d_then, *summed), d_now

        carry = [
            *(upstream[1 + i] for i in of_state),
            *(tf.zeros_like(weights[i]) for i in of_weights),
        ]
        steps, widths = [*xs, *before, upstream[0]], [xs[i][0] for i in of_xs]
        carry, d_xs = scan(one, tuple(carry), steps, widths, reverse=True)
        d_state, d_weights = carry[: len(of_state)], carry[len(of_state) :]
        parts = ((weights, of_weights, d_weights), (state, of_state, d_state), (xs, of_xs, d_xs))
        return [dict(zip(of, d)).get(i) for part, of, d in parts for i in range(len(part))]

    stacked, *last = custom_gradient(forward, backward, (*weights, *state, *xs))
    return stacked, tuple(last)


def _pulled_back(step: Callable, args: tuple, d_after: dict[int, tf.Tensor]) -> list[list]:
    """The gradients of one step's floating weights, inputs and states, given those after it."""
    sources = [[part[i] for i in _learning(part)] for part in args]
    with tf.GradientTape() as tape:
        tape.watch(sources)
        after = step(*args)
    return tape.gradient([after[i] for i in d_after], sources, list(d_after.values()), "zero")


def _learning(tensors: Sequence) -> list[int]:
    """The places of those that a gradient can flow to."""
    return [i for i, tensor in enumerate(tensors) if tensor.dtype.is_floating]


def tanh(x: tf.Tensor) -> tf.Tensor:
    """The hyperbolic tangent in the dtype of `x`."""
    return tf.tanh(x)


def is_open(size: Any) -> bool:
    """Whether `size` is a dimension that is not known yet, but is a value all the same: never."""
    return False


def _sizes(x: tf.Tensor) -> list:
    """The shape of `x`: ints where they are known, int32 scalars elsewhere."""
    return [tf.shape(x)[i] if size is None else size for i, size in enumerate(x.shape)]


def _single(step: Callable, carry: tuple, xs: Sequence) -> tuple[tuple, tuple]:
    """`scan` over one step, without the loop, which would cost more than the step."""
    carry, ys = step(tuple(carry), [x[0] for x in xs])
    return carry, tuple(y[None] for y in ys)


def project(x: Any, kernel: Any, dtype: str) -> Any:
    """`x @ kernel` for `(time, batch, features)`, flat: a batched product is slower."""
    flat = ops.matmul(ops.reshape(x, (-1, x.shape[-1])), kernel)
    return ops.cast(ops.reshape(flat, (*ops.shape(x)[:-1], kernel.shape[-1])), dtype)


def custom_gradient(forward: Callable, backward: Callable, args: tuple) -> Any:
    """`forward(*args)[0]`, differentiated by `backward`.

    Args:
        forward: `(*args) -> (outputs, residuals)`.
        backward: `(residuals, output gradients) -> gradients of args`, None where there is none.
        args: tensors or None.
    """
    present = [a for a in args if a is not None]

    @tf.custom_gradient
    def call(*tensors):
        queue = iter(tensors)
        outputs, residuals = forward(*(None if a is None else next(queue) for a in args))

        def gradient(*upstream):
            gradients = backward(residuals, upstream)
            return [g for g, a in zip(gradients, args) if a is not None]

        return outputs, gradient

    return call(*present)


def compile_call(
    model: keras.Model,
    function: Callable | None = None,
    leading: str = "inputs",
    through: Callable | None = None,
) -> Callable:
    """`function`, or `inputs -> model(inputs, training=False)`, as one compiled function.

    The weights of `model` are read at each call, so later training is seen. One step of a model
    on a CPU takes less than its call from Python. So there XLA makes it one operation, and the
    function for its number of rows, those of the input `leading`, and for the sizes that the
    model leaves open is found without a look at all of its arguments. Python is not rewritten to
    graphs, as it is not in training, nor on JAX. `through` is for JAX, where training takes values
    out of variables.
    """
    del through
    if function is not None:
        return tf.function(function, reduce_retracing=True, autograph=False)
    several = tf.function(
        lambda inputs: model(inputs, training=False), reduce_retracing=True, autograph=False
    )
    if gpu_available():
        return several
    one = tf.function(several.python_function, jit_compile=True, autograph=False)
    made: dict[tuple, Callable] = {}
    sized = [name for name, one in model.input.items() if None in one.shape[1:]]

    def call(inputs: dict) -> Any:
        rows, steps = inputs[leading].shape[:2]
        open_sizes = [tuple(inputs[name].shape[1:]) for name in sized]
        inputs = {key: tf.convert_to_tensor(value) for key, value in inputs.items()}
        kind = (rows, *inputs, *(value.dtype for value in inputs.values()), *open_sizes)
        if steps > 1 or (len(made) == _KINDS and kind not in made):
            return several(inputs)
        if kind not in made:
            made[kind] = one.get_concrete_function(inputs)
        return made[kind](inputs)

    return call


class Buffer:
    """Room for a tensor of `shape` at each of a number of steps; 0 where nothing was put.

    The content goes through a loop as one of its variables, and only the methods here look
    into it. It is a list: a tensor would be copied whole at every step. Of raw ops, because
    `tf.TensorArray` cannot stack zero steps of unknown batch.

    Args:
        steps: number of steps, an int or an int32 scalar.
        shape: shape of a step's tensor, of ints or int32 scalars.
        dtype: its dtype.
    """

    def __init__(self, steps: Any, shape: tuple, dtype: str):
        self.steps, self.dtype = steps, tf.as_dtype(dtype)
        self.shape = tf.cast(tf.stack(shape), _INT)
        self.static = [None if tf.is_tensor(s) else s for s in shape]

    def empty(self) -> tf.Tensor:
        """The content before the first step."""
        return tf.raw_ops.TensorListReserve(
            element_shape=self.shape, num_elements=self.steps, element_dtype=self.dtype
        )

    def holding(self, values: tf.Tensor) -> tf.Tensor:
        """The content where all steps were put, `(steps, *shape)`."""
        return tf.raw_ops.TensorListFromTensor(tensor=values, element_shape=self.shape)

    def put(self, content: tf.Tensor, index: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
        """The content with `values` at step `index`."""
        return tf.raw_ops.TensorListSetItem(input_handle=content, index=index, item=values)

    def read(self, content: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
        """What was put at step `index`."""
        item = tf.raw_ops.TensorListGetItem(
            input_handle=content, index=index, element_shape=self.shape, element_dtype=self.dtype
        )
        return tf.ensure_shape(item, self.static)

    def stacked(self, content: tf.Tensor) -> tf.Tensor:
        """All steps, `(steps, *shape)`."""
        stacked = tf.raw_ops.TensorListStack(
            input_handle=content, element_shape=self.shape, element_dtype=self.dtype
        )
        steps = None if tf.is_tensor(self.steps) else self.steps
        return tf.ensure_shape(stacked, [steps, *self.static])
