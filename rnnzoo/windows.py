"""Truncated back-propagation through time: one batch cut into windows, one update each.

The plan of `Truncation` for one-to-one, over T steps with `window` w and `stride` s, has
ceil(T / s) updates. Update u owns the outputs of steps u*s to (u+1)*s - 1, the last one what is
left; it runs from step max(0, (u+1)*s - w) on, and hands on the state in front of the first
step of update u + 1. So the first ceil(w / s) - 1 updates grow, all others but the last are
alike and run in one compiled loop, and the last may be short (Williams & Peng, 1990).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import keras
from keras import ops

from rnnzoo import _checks, backend
from rnnzoo.layers.recurrent import State, Tensor


class Cut(NamedTuple):
    """How a window is run: `advance` steps to the state handed on, `newest` outputs trained."""

    newest: int | Tensor
    advance: int | Tensor | None  # None: the whole window


def run_core(core: keras.Model, batch: dict, state: State, cut: Cut | None, training: bool):
    """The outputs of one window and the state to hand on, `(outputs, state)`."""
    if cut is None or cut.advance is None:
        outputs = dict(core({**batch, **state}, training=training))
        y, handed_on = outputs.pop("outputs"), outputs
    elif isinstance(cut.advance, int) and cut.advance == 0:
        y, handed_on = run_core(core, batch, state, None, training)[0], state
    else:
        parts = [{key: v[:, : cut.advance] for key, v in batch.items()}]
        parts += [{key: v[:, cut.advance :] for key, v in batch.items()}]
        first, handed_on = run_core(core, parts[0], state, None, training)
        rest, _ = run_core(core, parts[1], handed_on, None, training)
        y = ops.concatenate([first, rest], axis=1)
    if cut is not None:
        y = y[:, ops.shape(y)[1] - cut.newest :]
    return y, handed_on


def align_right(batch: dict, mask: str = "mask") -> dict:
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


@dataclass(frozen=True)
class Truncation:
    """Runs a training step window by window.

    Attributes:
        window: steps to propagate back through, at least 1.
        stride: steps between updates, 1 to `window`.
    """

    window: int
    stride: int

    def run(self, model: Any, step: Callable, forward: Callable, state: Any, data: Any) -> Any:
        """The training state after all windows of one batch.

        Args:
            model: the shell.
            step: `(state, data) -> state`, one update on one window.
            forward: `(state, x) -> (state, outputs)`, a run forward without gradient.
            state: what `step` carries along (a tuple; empty on TensorFlow).
            data: the batch, `(x, y, sample_weight)` or shorter.
        """
        x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
        x = model.standardize(x)
        if "reset" not in x and model.form != "encoder_decoder":
            x["reset"] = model.first_step(x["inputs"])
        if model.form == "many_to_one":
            return self._last_window(step, forward, state, align_right(x), y, weight)
        source = None
        if model.form == "encoder_decoder":
            state, source = self._read_source(model, forward, state, x)
            x = {key: x[key] for key in ("inputs", "mask")}
        plan = _Plan(model, step, x, y, weight, source)
        steps = ops.shape(x["inputs"])[1]
        run = self._whole_windows if self.stride == self.window else self._overlapping
        return run(plan, state, steps)

    def _whole_windows(self, plan: "_Plan", state: Any, steps: Any) -> Any:
        window = self.window
        full = steps // window
        rest = steps - full * window

        def body(u: Any, state: Any) -> Any:
            return plan.update(state, u * window, window, None)

        def loop(state: Any) -> Any:
            return backend.repeat(0, full, body, state)

        # XLA also compiles a branch that never runs, and it cannot scan no steps: at least 1.
        def short(state: Any) -> Any:
            length = _at_least(1, rest)
            return plan.update(state, steps - length, length, None)

        state = backend.when(full > 0, loop, state)
        return backend.when(rest > 0, short, state)

    def _overlapping(self, plan: "_Plan", state: Any, steps: Any) -> Any:
        window, stride = self.window, self.stride
        last = (steps + stride - 1) // stride - 1
        growing = (window - 1) // stride

        def start(u: int) -> int:
            return max(0, (u + 1) * stride - window)

        for u in range(growing):
            cut = Cut(stride, start(u + 1) - start(u))
            length = (u + 1) * stride - start(u)
            state = backend.when(
                u < last,
                lambda state, u=u, n=length, c=cut: plan.update(state, start(u), n, c),
                state,
            )

        def body(u: Any, state: Any) -> Any:
            first = (u + 1) * stride - window
            return plan.update(state, first, window, Cut(stride, stride))

        def loop(state: Any) -> Any:
            return backend.repeat(growing, last, body, state)

        state = backend.when(last > growing, loop, state)
        first = _at_least(0, (last + 1) * stride - window)
        return plan.update(state, first, steps - first, Cut(steps - last * stride, None))

    def _read_source(self, model: Any, forward: Callable, state: Any, x: dict) -> tuple[Any, dict]:
        """Encoder-decoder: all of the source but its last window, read forward only.

        Returns the training state, and what every update reads of the source: its last window
        and what the encoder made of the steps before it.
        """
        source = {key: x[key] for key in ("source", "source_mask")}
        if not model.reads_on:
            return state, source
        # A step of padding in front: there is always something to read.
        source = {
            key: ops.pad(v, ((0, 0), (1, 0), *[(0, 0)] * (len(v.shape) - 2)))
            for key, v in align_right(source, "source_mask").items()
        }
        steps = ops.shape(source["source"])[1]
        head = _at_least(1, steps - self.window)
        state, before = forward(state, _cut(source, 0, head))
        return state, {**_cut(source, head, steps - head), "before": before}

    def _last_window(
        self, step: Callable, forward: Callable, state: Any, x: dict, y: Any, weight: Any
    ) -> Any:
        """Many-to-one: the steps before the last window run forward only."""
        window, steps = self.window, ops.shape(x["inputs"])[1]
        head = _at_least(0, steps - window)
        chunks = head // window
        rest = head - chunks * window

        def first(state: Any) -> Any:
            return forward(state, _cut(x, 0, _at_least(1, rest)))[0]

        def body(i: Any, state: Any) -> Any:
            return forward(state, _cut(x, rest + i * window, window))[0]

        def loop(state: Any) -> Any:
            return backend.repeat(0, chunks, body, state)

        state = backend.when(rest > 0, first, state)
        state = backend.when(chunks > 0, loop, state)
        return step(state, (_cut(x, head, steps - head), y, weight))


class _Plan:
    """One batch, of which `update` trains one window."""

    def __init__(
        self, model: Any, step: Callable, x: dict, y: Any, weight: Any, source: dict | None
    ):
        self.model, self.step, self.x, self.y, self.weight = model, step, x, y, weight
        self.source = source

    def update(self, state: Any, start: Any, length: Any, cut: Cut | None) -> Any:
        newest = length if cut is None else cut.newest
        first = start + length - newest
        y = _cut(self.y, first, newest)
        weight = self.weight
        if weight is not None:
            weight = keras.tree.map_structure(
                lambda w: _cut(w, first, newest) if len(w.shape) > 1 else w, weight
            )
        x = _cut(self.x, start, length)
        if self.source is not None:
            # One for each row, as Keras takes the first of all inputs to count the rows.
            first = ops.zeros((ops.shape(x["mask"])[0], 1), "int32") + start
            x |= {**self.source, "first": ops.equal(first, 0)}
        with self.model.cutting(cut):
            return self.step(state, (x, y, weight))


def _at_least(least: int, value: Any) -> Any:
    """The larger of both, a tensor only where `value` is one."""
    return max(least, value) if isinstance(value, int) else ops.maximum(value, least)


def _cut(values: Any, start: Any, length: Any) -> Any:
    """Steps `start` to `start + length - 1` of every tensor in `values`.

    By index, not by slice: XLA refuses a slice longer than the tensor even where it never runs.
    """
    steps = start + ops.arange(length, dtype="int32")
    return keras.tree.map_structure(lambda value: ops.take(value, steps, axis=1), values)


def truncation(window: Any, stride: Any = None) -> Truncation:
    """A checked `Truncation`; ValueError for a window or stride out of range."""
    window = _checks.positive_integer("window", window)
    stride = window if stride is None else _checks.positive_integer("stride", stride)
    if stride > window:
        raise ValueError(
            "stride (steps between updates) must be at most window (steps back-propagated "
            f"through), or steps between windows would be trained on nothing; "
            f"received window={window}, stride={stride}"
        )
    return Truncation(window, stride)
