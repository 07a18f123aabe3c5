"""The loop over time with a hand-written gradient, for the cells that bring one.

A cell is a class of static functions, in its own module. Over one step:

* `forward(projected, state, weights, drop) -> (new_state, kept)`
* `backward(factors, gradient, turned, drop) -> (found, d_state)`, with the gradient of the new
  state and the first of the weights transposed

Over all steps at once:

* `factors(kept, before, after, hidden) -> factors`: all in the gradient that does not depend on
  what comes back from later steps, out of what `forward` kept, the states before and after each
  step, and the hidden state as it met the weights
* `gradients(factors, hidden, *found)`: of `projected` and of every weight

And the sizes of `kept` and `found`: `kept_widths(units)`, `found_widths(units)`. Resets and masks
are those of `rnnzoo.cells.loop`.

Why by hand: automatic differentiation forms the gradient of the recurrent weights inside the
loop, one small product a step. Here the loop keeps the gradient of the recurrent product; that
of the weights is then one product over all steps and rows, `hidden.T @ found`. What need not be
in the loop is not: there small operations run one by one, outside on all cores. And the loops
write over what they have read, which is still in the processor's cache: the first of `kept` over
`projected`, the first of `found` over the first of `factors`, each as wide. A step must read
that only once, or XLA makes a copy of all steps at each.

Precision: the recurrent products alone may run in half precision (`product_dtype`). States,
gates and gradients are of the state's dtype, float32, and the gradient of the weights is summed
in it: a half one would overflow, or stop growing where the steps are many.
"""

from keras import ops

from rnnzoo import backend
from rnnzoo.cells.loop import Tensor, flags_of_step, held, restarted


def dot(x: Tensor, weight: Tensor, dtype: str) -> Tensor:
    """`x @ weight` computed in the dtype of `weight`, returned in `dtype`."""
    return ops.cast(ops.matmul(ops.cast(x, weight.dtype), weight), dtype)


def biased(x: Tensor, bias: tuple) -> Tensor:
    """`x` plus the bias that the tuple holds, or `x` where it is empty."""
    return x + ops.cast(bias[0], x.dtype) if bias else x


def sequence_product(x: Tensor, d: Tensor, dtype: str) -> Tensor:
    """Sum over time and batch of the outer products of `x` and `d`, in one matrix product.

    Flat, as XLA writes a turned copy of `x` first for a product over two axes; but rows that are
    spread over devices cannot be joined with time: all would be gathered first.
    """
    if backend.devices() > 1:
        return ops.cast(ops.tensordot(x, d, axes=((0, 1), (0, 1))), dtype)
    x, d = (ops.reshape(each, (-1, each.shape[-1])) for each in (x, d))
    return ops.cast(ops.matmul(ops.transpose(x), d), dtype)


def recurrence(
    cell: type,
    projected: Tensor,
    weights: tuple[Tensor, ...],
    state: tuple[Tensor, ...],
    initial: tuple[Tensor | None, ...] | None = None,
    reset: Tensor | None = None,
    mask: Tensor | None = None,
    drop: Tensor | None = None,
    keep: bool = True,
    product_dtype: str | None = None,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The hidden states of all steps and the last state.

    Args:
        cell: the cell class (see the module's text).
        projected: `(time, batch, gates * units)`, inputs times kernel. Its memory may be
            written over.
        weights: the recurrent weights of the cell and its biases.
        state: tuple of `(batch, units)`, the state before the first step; the first is `h`.
        initial: tuple of `(batch, units)`, the state that a reset restores; None for zeros.
        reset: `(time, batch, 1)` bool, True where a step must see nothing of what came before.
        mask: `(time, batch, 1)` bool, False where a step is padding, which holds the state.
        drop: `(batch, units)` factors on the hidden state where it meets the recurrent
            weights (recurrent dropout, the same at every step; Gal & Ghahramani, 2016).
        keep: whether the loop keeps what its gradient needs. Otherwise only the hidden states
            are stored, and a gradient asked for all the same runs the loop again.
        product_dtype: dtype of the recurrent products, None for that of the weights.

    Returns:
        `(time, batch, units)` hidden states and a tuple of `(batch, units)`.
    """
    args = (projected, *weights, *state, *(initial or (None,) * len(state)), reset, mask, drop)
    loop = _Loop(cell, len(weights), len(state), keep, product_dtype)
    hidden, *last = backend.custom_gradient(loop.forward, loop.backward, args)
    return hidden, tuple(last)


class _Loop:
    """Forward and backward pass over all steps, as `backend.custom_gradient` wants them."""

    def __init__(self, cell: type, weights: int, states: int, keep: bool, dtype: str | None):
        self.cell, self.weights, self.states, self.keep = cell, weights, states, keep
        self.dtype = dtype

    def unpack(self, args: tuple) -> tuple:
        w, s = self.weights, self.states
        projected, state = args[0], args[1 + w : 1 + w + s]
        weights = tuple(self.multiplied(weight) for weight in args[1 : 1 + w])
        initial, (reset, mask, drop) = args[1 + w + s : -3], args[-3:]
        return projected, weights, state, initial, reset, mask, drop

    def multiplied(self, weight: Tensor) -> Tensor:
        """A matrix in the dtype of the products; a bias is added, and stays as it is."""
        return ops.cast(weight, self.dtype or weight.dtype) if len(weight.shape) == 2 else weight

    def forward(self, *args: Tensor) -> tuple:
        projected, weights, state, initial, reset, mask, drop = self.unpack(args)
        flags = [f for f in (reset, mask) if f is not None]
        units = state[0].shape[-1]

        def step(state: tuple, x: list) -> tuple:
            z, *rest = x
            restart, valid = flags_of_step(reset, mask, rest)
            used = tuple(restarted(restart, s, i) for s, i in zip(state, initial))
            new, kept = self.cell.forward(z, used, weights, drop)
            new = tuple(held(valid, n, u) for n, u in zip(new, used))
            return new, (*kept, *new) if self.keep else new[:1]

        widths, n = [units] * self.states, self.states
        if not self.keep:
            last, (hidden,) = backend.scan(step, state, [projected, *flags], widths[:1])
            return (hidden, *last), args
        widths = self.cell.kept_widths(units) + widths
        last, found = backend.scan(step, state, [projected, *flags], widths, overwrite=True)
        kept, after = found[:-n], found[-n:]
        return (after[0], *last), (args, after, kept)

    def backward(self, residuals: tuple, gradients: tuple) -> list:
        if not self.keep:
            loop = _Loop(self.cell, self.weights, self.states, True, self.dtype)
            return loop.backward(loop.forward(*residuals)[1], gradients)
        args, after, kept = residuals
        _, weights, state, initial, reset, mask, drop = self.unpack(args)
        flags = [f for f in (reset, mask) if f is not None]
        learned = initial[0] is not None
        units, n = state[0].shape[-1], self.states
        turned = ops.transpose(weights[0])  # once, not at every step
        before = [ops.concatenate([s[None], a], axis=0)[:-1] for s, a in zip(state, after)]
        before = tuple(restarted(reset, b, i) for b, i in zip(before, initial))
        met = before[0] if drop is None else before[0] * drop
        factors = self.cell.factors(kept, before, after, met)

        def step(carry: tuple, x: list) -> tuple:
            d_state, d_initial = carry[:n], carry[n:]
            own, (d_hidden, *rest) = x[: len(factors)], x[len(factors) :]
            restart, valid = flags_of_step(reset, mask, rest)
            d_state = (d_state[0] + d_hidden, *d_state[1:])
            d_new = tuple(held(valid, d, None) for d in d_state)
            found, d_used = self.cell.backward(own, d_new, turned, drop)
            if valid is not None:
                d_used = tuple(ops.where(valid, u, d) for u, d in zip(d_used, d_state))
            if learned and restart is not None:
                d_initial = tuple(
                    i + ops.where(restart, d, ops.zeros_like(d)) for i, d in zip(d_initial, d_used)
                )
            d_used = tuple(restarted(restart, d, None) for d in d_used)
            return (*d_used, *d_initial), found

        carry = tuple(gradients[1:])
        if learned:
            carry += tuple(ops.zeros_like(s) for s in state)
        xs, widths = [*factors, gradients[0], *flags], self.cell.found_widths(units)
        carry, found = backend.scan(step, carry, xs, widths, reverse=True, overwrite=True)
        d_initial = carry[n:] if learned else (None,) * n
        d_given = self.cell.gradients(factors, met, *found)
        d_given = [ops.cast(d, x.dtype) for d, x in zip(d_given, args[: 1 + self.weights])]
        return [*d_given, *carry[:n], *d_initial, None, None, None]
