"""The loop over time: what a reset and a mask mean, here once for every cell.

A step sees the state of the step before it, or the initial state where `reset` is True; what it
makes of it is the next state, or nothing where `mask` is False: padding holds the state. Both are
selects. Multiplied, a state that is infinite would not be forgotten, since 0 * inf is not 0.

A cell may leave its gradient to `backend.loop`, or bring one of its own (`rnnzoo.cells.adjoint`).
"""

from collections.abc import Callable, Sequence
from typing import Any

from keras import ops

from rnnzoo import backend

Tensor = Any


def run(
    step: Callable,
    weights: Sequence[Tensor],
    xs: Sequence[Tensor],
    state: tuple[Tensor, ...],
    initial: tuple[Tensor | None, ...],
    reset: Tensor | None = None,
    mask: Tensor | None = None,
    output: int = 0,
    keep: bool = True,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """State `output` after every step, `(time, batch, ...)`, and the last state.

    Args:
        step: `(weights, x, state) -> state`, pure, with `x` one step of each of `xs`.
        weights: tensors that the step reads; a gradient flows to them.
        xs: `(time, batch, ...)` tensors.
        state: tuple of `(batch, ...)`, the state before the first step.
        initial: the state that a reset restores, None for zeros. What follows in `state` knows
            no rows, such as a random seed, and goes on from step to step untouched.
        reset: `(time, batch, 1)` bool, True where a step must see nothing of what came before.
        mask: `(time, batch, 1)` bool, False where a step is padding.
        output: which of the states is handed back for every step.
        keep: whether what a gradient needs is kept. Otherwise one asked for all the same costs
            another run of the loop.
    """
    flags = [flag for flag in (reset, mask) if flag is not None]
    learned = [i for i in initial if i is not None]
    n, w = len(xs), len(weights)

    def guarded(weights: Sequence, x: list, state: tuple) -> tuple:
        restart, valid = flags_of_step(reset, mask, x[n:])
        starts = iter(weights[w:])
        fresh = [None if i is None else next(starts) for i in initial]
        rows, rest = state[: len(initial)], state[len(initial) :]
        used = tuple(restarted(restart, s, f) for s, f in zip(rows, fresh))
        new = step(weights[:w], x[:n], (*used, *rest))
        after = tuple(held(valid, ops.cast(a, s.dtype), s) for a, s in zip(new, used))
        return (*after, *new[len(initial) :])

    return backend.loop(guarded, (*weights, *learned), state, [*xs, *flags], output, keep)


def flags_of_step(reset: Any, mask: Any, given: Sequence) -> tuple:
    """One step's reset and mask out of `given`, with None for what the loop has not."""
    queue = iter(given)
    return tuple(None if flag is None else next(queue) for flag in (reset, mask))


def restarted(restart: Tensor | None, state: Tensor, initial: Tensor | None) -> Tensor:
    """`state`, or `initial` (None: zeros) in the rows of `restart`."""
    if restart is None:
        return state
    initial = ops.zeros_like(state) if initial is None else initial
    return ops.where(_rows(restart, state), initial, state)


def held(valid: Tensor | None, new: Tensor, before: Tensor | None) -> Tensor:
    """`new` in the rows of `valid`, else `before` (None: zeros)."""
    if valid is None:
        return new
    before = ops.zeros_like(new) if before is None else before
    return ops.where(_rows(valid, new), new, before)


def _rows(flag: Tensor, like: Tensor) -> Tensor:
    """`(..., batch, 1)` flags with as many dimensions as `like`."""
    while len(flag.shape) < len(like.shape):
        flag = flag[..., None]
    return flag
