"""Steps that are there already, read by a model: in few compiled calls, or in a graph."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from rnnzoo.decoding.stepper import by_rows, shaped_like
from rnnzoo.generation.options import room
from rnnzoo.layers.recurrent import State, Tensor


def read_steps(
    model: Any, values: dict[str, np.ndarray], lengths: np.ndarray, still: dict, state: State
) -> tuple[Tensor | None, State]:
    """What the one output says after each row's last step, and the state there; None for no steps.

    In pieces of 1, 2, 4, ... steps, of which a row reads those that its length is made of: so
    rows of different length run together, and few shapes are compiled for all lengths.

    Args:
        model: a model of one core, with one output per step.
        values: inputs per step by name, `(rows, time, ...)`; rows are padded at their end.
        lengths: `(rows,)`, the steps of each row.
        still: inputs per sequence by name.
        state: where the rows go on from.
    """
    said, read = None, np.zeros_like(lengths)
    piece = room(int(lengths.max())) if lengths.any() else 0
    while piece:
        on = (lengths & piece) > 0
        if on.any():
            part = {name: _part(whole, on, read, piece) for name, whole in values.items()}
            given = {**part, **still}
            y, new = model.step(given if len(given) > 1 else part[model.spec.leading], state)
            state = new if on.all() else {k: by_rows(on, new[k], state[k]) for k in new}
            said = y[:, -1] if on.all() or said is None else by_rows(on, y[:, -1], said)
            read += piece * on
        piece //= 2
    return said, state


def read_rows(
    core: Callable, values: dict[str, Tensor], lengths: Tensor, state: State
) -> tuple[Tensor, State]:
    """Traced: what is said after each row's last step, `(rows, ...)`, and the state there.

    The steps that all rows have are read in one call, the others one by one.

    Args:
        core: from inputs per step by name, and a state, to what it says at each step and a state.
        values: `(rows, time, ...)` by name; rows are padded at their end.
        lengths: `(rows,)` int32, the steps of each row, at least 1.
        state: where the rows go on from.
    """
    shared = ops.min(lengths)
    said, state = core({name: whole[:, :shared] for name, whole in values.items()}, state)

    def turn(index: Tensor, carry: tuple) -> tuple:
        now = {name: ops.take(whole, index, axis=1)[:, None] for name, whole in values.items()}
        y, new = core(now, carry[1])
        on, new = index < lengths, (y[:, -1], new)
        chosen = keras.tree.map_structure(lambda a, b: by_rows(on, a, b), new, carry)
        return index + 1, shaped_like(chosen, carry)

    carry = (said[:, -1], state)
    _, carry = ops.while_loop(lambda i, _: i < ops.max(lengths), turn, (shared, carry))
    return carry


def _part(whole: np.ndarray, on: np.ndarray, read: np.ndarray, steps: int) -> np.ndarray:
    """The next `steps` of each row of `whole` that is `on`, after those it has `read`."""
    if on.all() and (read == read[0]).all():
        return whole[:, read[0] : read[0] + steps]
    part = np.zeros((len(on), steps, *whole.shape[2:]), whole.dtype)
    for i in np.flatnonzero(on):
        part[i] = whole[i, read[i] : read[i] + steps]
    return part
