"""Truncated back-propagation through time: one batch cut into windows, one update each.

The plan of `Truncation` for one-to-one, over T steps with `window` w and `stride` s, has
ceil(T / s) updates. Update u owns the outputs of steps u*s to (u+1)*s - 1, the last one what is
left; it runs from step max(0, (u+1)*s - w) on, and hands on the state in front of the first
step of update u + 1. So the first ceil(w / s) - 1 updates grow, all others but the last are
alike and run in one compiled loop, and the last may be short (Williams & Peng, 1990).
The steps of a burn-in come before all of these, and are not among the T.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import keras
from keras import ops

from rnnzoo import _checks, backend
from rnnzoo.backend.keras_internals import get_keras_mask, set_keras_mask
from rnnzoo.core.spec import CoreSpec
from rnnzoo.layers.recurrent import State, Tensor


class Cut(NamedTuple):
    """How a window is run: `advance` steps to the state handed on, `newest` outputs trained."""

    newest: int | Tensor
    advance: int | Tensor | None  # None: the whole window


def run_core(
    core: Callable, spec: CoreSpec, batch: dict, state: State, cut: Cut | None, training: bool
) -> tuple[dict, State]:
    """The outputs of one window by name, and the state to hand on.

    Args:
        core: `(values, training=) -> outputs and states`, a Functional model or a function.
        spec: its contract.
        batch: its inputs but for the states.
        state: the states in front of the window.
        cut: how it is run; None for all of it at once.
        training: whether dropout is at work.
    """
    if cut is None or cut.advance is None:
        outputs, handed_on = spec.split(core({**batch, **state}, training=training))
    elif isinstance(cut.advance, int) and cut.advance == 0:
        outputs, handed_on = run_core(core, spec, batch, state, None, training)[0], state
    else:
        still = {key for key, one in spec.inputs.items() if not one.per_step}
        parts = [
            {key: v if key in still else v[:, piece] for key, v in batch.items()}
            for piece in (slice(cut.advance), slice(cut.advance, None))
        ]
        first, handed_on = run_core(core, spec, parts[0], state, None, training)
        rest, _ = run_core(core, spec, parts[1], handed_on, None, training)
        outputs = {
            key: _with_mask(lambda *parts: ops.concatenate(parts, axis=1), first[key], rest[key])
            if one.per_step
            else rest[key]
            for key, one in spec.outputs.items()
        }
    if cut is not None:
        outputs = {
            key: _with_mask(lambda y: y[:, ops.shape(y)[1] - cut.newest :], y)
            if spec.outputs[key].per_step
            else y
            for key, y in outputs.items()
        }
    return outputs, handed_on


def _with_mask(change: Callable, *outputs: Tensor) -> Tensor:
    """Outputs after a change along time, with their Keras mask changed likewise."""
    changed, masks = change(*outputs), [get_keras_mask(y) for y in outputs]
    if all(mask is not None for mask in masks):
        set_keras_mask(changed, change(*masks))
    return changed


def align_right(batch: dict, mask: str) -> dict:
    """`batch` with each row's padding moved from its end to its front.

    The last window must hold the last valid steps of every row: there is the gradient.
    """
    valid = ops.cast(batch[mask], "bool")
    steps = ops.shape(valid)[1]
    place = ops.arange(1, steps + 1, dtype="int32")[None]
    length = ops.max(ops.where(valid, place, 0), axis=1, keepdims=True)
    source = ops.mod(place - 1 + length, ops.maximum(steps, 1))

    def move(value: Tensor) -> Tensor:
        index = ops.reshape(source, (*ops.shape(source), *[1] * (len(value.shape) - 2)))
        return ops.take_along_axis(value, index, axis=1)

    return {key: move(value) for key, value in batch.items()}


class Task(NamedTuple):
    """One batch to be trained window by window, and how a window of it is trained.

    Attributes:
        update: `(state, x, y, weight, cut, share) -> state`, one update on one window.
        forward: `(state, x) -> (state, outputs)`, a run forward without gradient.
        x: inputs that have time, by name.
        still: inputs that have none, the same in every window.
        y, weight: targets and weights.
        timed: for each of them in the order of `keras.tree.flatten` whether it has time.
        last_only: whether the outputs belong to the last step alone.
        mask: name of the mask of the inputs, None where there is none.
    """

    update: Callable
    forward: Callable
    x: dict
    still: dict
    y: Any
    weight: Any
    timed: list[bool]
    last_only: bool
    mask: str | None

    @property
    def steps(self) -> Any:
        """Steps of the batch."""
        return ops.shape(next(iter(self.x.values())))[1]

    def window(self, state: Any, start: Any, length: Any, cut: Cut | None) -> Any:
        """The training state after an update on steps `start` to `start + length - 1`."""
        newest = length if cut is None else cut.newest
        first = start + length - newest
        y, weight = self._targets(first, newest)
        share = ops.cast(newest, "float32") / ops.cast(self.steps, "float32")
        x = {**_cut(self.x, start, length), **self.still}
        return self.update(state, x, y, weight, cut, share, start)

    def read(self, state: Any, start: Any, length: Any) -> Any:
        """The training state after steps that run forward only."""
        return self.forward(state, {**_cut(self.x, start, length), **self.still})[0]

    def last(self, state: Any, start: Any, length: Any) -> Any:
        """The training state after an update on the last steps, whose targets have no time."""
        x = {**_cut(self.x, start, length), **self.still}
        return self.update(state, x, self.y, self.weight, None, 1.0, start)

    def after(self, steps: int) -> "Task":
        """The task without its first steps, of which there are fewer than all."""
        y, weight = self._along_time(lambda values: values[:, steps:])
        x = {key: values[:, steps:] for key, values in self.x.items()}
        return self._replace(x=x, y=y, weight=weight)

    def _targets(self, first: Any, newest: Any) -> tuple:
        return self._along_time(lambda values: _cut(values, first, newest))

    def _along_time(self, change: Callable) -> tuple:
        """Targets and weights after a change of those that have time."""
        parts = keras.tree.flatten((self.y, self.weight))
        changed = [change(v) if timed else v for v, timed in zip(parts, self.timed)]
        return keras.tree.pack_sequence_as((self.y, self.weight), changed)


@dataclass(frozen=True)
class Truncation:
    """Runs a training step window by window.

    Attributes:
        window: steps to propagate back through, at least 1.
        stride: steps between updates, 1 to `window`.
        burn_in: first steps of a batch that run forward only, without a loss; at least 0.
    """

    window: int
    stride: int
    burn_in: int = 0

    def run(self, task: Task, state: Any) -> Any:
        """The training state after all windows of one batch."""
        if self.burn_in:
            state = task.read(state, 0, self.burn_in)
            task = task.after(self.burn_in)
        if task.last_only:
            return self._last_window(task, state)
        if self.stride == self.window:
            return self._whole_windows(task, state)
        return self._overlapping(task, state)

    def _whole_windows(self, task: Task, state: Any) -> Any:
        window, steps = self.window, task.steps
        full = steps // window
        rest = steps - full * window

        def body(u: Any, state: Any) -> Any:
            return task.window(state, u * window, window, None)

        def loop(state: Any) -> Any:
            return backend.repeat(0, full, body, state)

        # XLA also compiles a branch that never runs, and it cannot scan no steps: at least 1.
        def short(state: Any) -> Any:
            length = _at_least(1, rest)
            return task.window(state, steps - length, length, None)

        state = backend.when(full > 0, loop, state)
        return backend.when(rest > 0, short, state)

    def _overlapping(self, task: Task, state: Any) -> Any:
        window, stride, steps = self.window, self.stride, task.steps
        last = (steps + stride - 1) // stride - 1
        growing = (window - 1) // stride

        def start(u: int) -> int:
            return max(0, (u + 1) * stride - window)

        for u in range(growing):
            cut = Cut(stride, start(u + 1) - start(u))
            length = (u + 1) * stride - start(u)
            state = backend.when(
                u < last,
                lambda state, u=u, n=length, c=cut: task.window(state, start(u), n, c),
                state,
            )

        def body(u: Any, state: Any) -> Any:
            first = (u + 1) * stride - window
            return task.window(state, first, window, Cut(stride, stride))

        def loop(state: Any) -> Any:
            return backend.repeat(growing, last, body, state)

        state = backend.when(last > growing, loop, state)
        first = _at_least(0, (last + 1) * stride - window)
        return task.window(state, first, steps - first, Cut(steps - last * stride, None))

    def _last_window(self, task: Task, state: Any) -> Any:
        """The steps before the last window run forward only."""
        if task.mask is not None:
            task = task._replace(x=align_right(task.x, task.mask))
        window, steps = self.window, task.steps
        head = _at_least(0, steps - window)
        chunks = head // window
        rest = head - chunks * window

        def first(state: Any) -> Any:
            return task.read(state, 0, _at_least(1, rest))

        def body(i: Any, state: Any) -> Any:
            return task.read(state, rest + i * window, window)

        def loop(state: Any) -> Any:
            return backend.repeat(0, chunks, body, state)

        state = backend.when(rest > 0, first, state)
        state = backend.when(chunks > 0, loop, state)
        return task.last(state, head, steps - head)

    def split_source(self, source: dict, mask: str) -> tuple[dict, dict]:
        """A source as what is read forward only, and its last window.

        A step of padding stands in front, so that there is always something to read.
        """
        padded = {
            key: ops.pad(v, ((0, 0), (1, 0), *[(0, 0)] * (len(v.shape) - 2)))
            for key, v in align_right(source, mask).items()
        }
        steps = ops.shape(padded[mask])[1]
        head = _at_least(1, steps - self.window)
        return _cut(padded, 0, head), _cut(padded, head, steps - head)


def _at_least(least: int, value: Any) -> Any:
    """The larger of both, a tensor only where `value` is one."""
    return max(least, value) if isinstance(value, int) else ops.maximum(value, least)


def _cut(values: Any, start: Any, length: Any) -> Any:
    """Steps `start` to `start + length - 1` of every tensor in `values`.

    By index, not by slice: XLA refuses a slice longer than the tensor even where it never runs.
    """
    steps = start + ops.arange(length, dtype="int32")
    return keras.tree.map_structure(lambda value: ops.take(value, steps, axis=1), values)


def truncation(window: Any, stride: Any = None, burn_in: Any = 0) -> Truncation:
    """A checked `Truncation`; ValueError for a window, stride or burn-in out of range."""
    window = _checks.positive_integer("window", window)
    stride = window if stride is None else _checks.positive_integer("stride", stride)
    if stride > window:
        raise ValueError(
            "stride (steps between updates) must be at most window (steps back-propagated "
            f"through), or steps between windows would be trained on nothing; "
            f"received window={window}, stride={stride}"
        )
    return Truncation(window, stride, _checks.integer("burn_in", burn_in, 0))
