"""The step function as the loops use it: with flat states, and its shapes known beforehand."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops, tree

from rnnzoo._checks import shown
from rnnzoo.backend.keras_internals import compute_output_spec
from rnnzoo.decoding.random import Tensor


class Stepper:
    """A step function made uniform: flat states in and out, float32 logits and alignment.

    What `step` returns is learnt from a trace of it, so that a compiled loop holds it once.

    Args:
        step: `(tokens, state) -> (logits, state)` or `(logits, state, alignment)`.
        tokens: `(rows,)` int32, the first to be fed.
        state: nest of tensors, rows first.
        alignment_steps: source steps of the alignment, if its static shape may not tell.

    Raises:
        ValueError: results that do not fit together or do not fit the state given.
    """

    def __init__(self, step: Callable, tokens: Tensor, state: Any, alignment_steps: Any):
        self._step, self._nest = step, state
        results = compute_output_spec(lambda: step(tokens, state))
        if not isinstance(results, (tuple, list)) or len(results) not in (2, 3):
            raise ValueError(
                "step must return (logits, state) or (logits, state, alignment); "
                f"received {shown(results)}"
            )
        shape = tuple(results[0].shape)
        if len(shape) != 2 or shape[1] is None:
            raise ValueError(
                "step must return logits (rows, vocabulary) of known vocabulary; "
                f"received logits of shape {shape}"
            )
        self.vocabulary: int = shape[1]
        self._check_state(state, results[1])
        self.aligns = len(results) == 3
        steps = results[2].shape[-1] if self.aligns else 0
        if isinstance(alignment_steps, int) and steps not in (None, alignment_steps):
            got = f"an alignment of {steps} steps" if self.aligns else "none"
            raise ValueError(
                "alignment_steps must be the steps of the alignment that step returns; received "
                f"alignment_steps={alignment_steps} and {got}"
            )
        self.alignment_steps = alignment_steps
        if self.aligns and alignment_steps is None:
            # Only where the shape is not static does this call need to run.
            self.alignment_steps = steps or ops.shape(step(tokens, state)[2])[-1]

    def __call__(self, tokens: Tensor, state: tuple) -> tuple[Tensor, tuple, Tensor | None]:
        """Logits `(rows, vocabulary)`, flat states, and alignment `(rows, S)` or None."""
        logits, state, *alignment = self._step(tokens, self.pack(state))
        alignment = ops.cast(alignment[0], "float32") if alignment else None
        # By their names: an OrderedDict has an order of its own, which may not be the one given.
        state = tree.map_structure(lambda _, new: new, self._nest, state)
        return ops.cast(logits, "float32"), tuple(tree.flatten(state)), alignment

    def pack(self, state: tuple) -> Any:
        """The nest of flat states."""
        return tree.pack_sequence_as(self._nest, list(state))

    def _check_state(self, given: Any, returned: Any) -> None:
        try:
            same = all(tree.flatten(tree.map_structure(_alike, given, returned)))
        except (TypeError, ValueError):
            same = False
        if not same:
            described = [tree.map_structure(_described, nest) for nest in (given, returned)]
            raise ValueError(
                "step must return the state in the structure, shapes and dtypes it was given; "
                f"given {described[0]}, received {described[1]}"
            )


def shaped_like(new: Any, old: Any) -> Any:
    """The nest `new` with the static shapes of `old`, which a loop in a graph insists on."""

    def shaped(new: Tensor, old: Tensor) -> Tensor:
        return new if tuple(new.shape) == tuple(old.shape) else ops.reshape(new, ops.shape(old))

    return tree.map_structure(shaped, new, old)


def by_rows(on: Tensor, new: Tensor, old: Any) -> Tensor:
    """`new` `(rows, ...)` in the rows that are `on`, `(rows,)` bool, else `old`."""
    return ops.where(ops.reshape(on, (-1,) + (1,) * (len(new.shape) - 1)), new, old)


def _described(tensor: Any) -> str:
    return f"{keras.backend.standardize_dtype(tensor.dtype)}{list(tensor.shape)}"


def _alike(given: Any, returned: Any) -> bool:
    sizes = len(given.shape) == len(returned.shape) and all(
        a is None or b is None or a == b for a, b in zip(given.shape, returned.shape)
    )
    dtypes = [keras.backend.standardize_dtype(t.dtype) for t in (given, returned)]
    return sizes and dtypes[0] == dtypes[1]
