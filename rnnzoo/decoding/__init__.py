"""Greedy decoding, sampling and beam search over a step function.

Nothing here knows a model: `step(tokens, state) -> (logits, state)` is all it takes. All of it
is `keras.ops`, so that it traces inside a compiled function.
"""

from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from rnnzoo import _checks
from rnnzoo._checks import one_of, positive_integer, shown
from rnnzoo.decoding.beam import decode_beams
from rnnzoo.decoding.decoded import Decoded
from rnnzoo.decoding.random import Tensor
from rnnzoo.decoding.rows import decode_rows
from rnnzoo.decoding.rules import Rules, length_rules, token_rules
from rnnzoo.decoding.sample import Sample
from rnnzoo.decoding.samplers import Beam, Greedy, Sampler
from rnnzoo.decoding.stepper import Stepper

__all__ = ["Beam", "Decoded", "Greedy", "Sample", "Sampler", "decode", "get"]

_NAMED = {"greedy": Greedy, "sample": Sample}


def decode(
    step: Callable,
    state: Any,
    tokens: Any,
    sampler: str | Sampler,
    *,
    max_length: Any,
    end: int | None = None,
    min_length: int = 0,
    forbidden: Iterable[int] = (),
    limits: Any = None,
    alignment_steps: Any = None,
) -> Decoded:
    """The tokens that follow `tokens`, with their scores and the states after them.

    One loop runs `step` once for each token, until all rows have ended. What a row gets does
    not depend on the others.

    Args:
        step: `(tokens (rows,) int32, state) -> (logits (rows, vocabulary), state)`, or with
            `alignment (rows, source steps)` as a third result. There are `sampler.copies` rows
            for each row of the batch, next to each other. It is traced once more than it runs.
        state: nest of tensors `(batch, ...)`; `()` for none.
        tokens: `(batch,)` integers, the first to be fed; they are not part of the result.
        sampler: 'greedy', 'sample', `Greedy()`, `Sample(...)` or `Beam(...)`.
        max_length: tokens at most, the end token included; an int, or in a TensorFlow graph an
            int32 scalar.
        end: the token that ends a row; None lets rows run on to `max_length`.
        min_length: tokens before `end` may come.
        forbidden: tokens that never come.
        limits: None or `(batch,)` integers, a `max_length` for each row, at most that of all.
        alignment_steps: source steps of the alignment. Needed only where its static shape does
            not tell, and without it `step` runs once more there.

    Raises:
        ValueError: an argument out of its range; a step function or a state that does not fit.

    >>> import numpy as np
    >>> logits = np.log([[0.1, 0.8, 0.1], [0.2, 0.2, 0.6], [0.7, 0.2, 0.1]]).astype("float32")
    >>> step = lambda tokens, state: (ops.take(logits, tokens, axis=0), state)
    >>> found = decode(step, (), [0, 1], "greedy", max_length=4, end=0)
    >>> np.array(found.tokens).tolist(), np.array(found.lengths).tolist()
    ([[1, 2, 0, 0], [2, 0, 0, 0]], [2, 1])
    """
    sampler = get(sampler)
    if not callable(step):
        raise _checks.refuse("step", "a function of (tokens, state)", step)
    if _is_scalar_tensor(max_length):
        max_length = ops.cast(max_length, "int32")
        min_length = _checks.integer("min_length", min_length, 0)
    else:
        max_length, min_length = length_rules(max_length, min_length)
    end, forbidden = token_rules(end, forbidden)
    if alignment_steps is not None and not _is_scalar_tensor(alignment_steps):
        alignment_steps = positive_integer("alignment_steps", alignment_steps)
    tokens = _integers("tokens", tokens)
    batch = ops.shape(tokens)[0]
    limits = None if limits is None else _limits(limits, max_length, tokens)
    state = _tensors(state)
    _check_rows(state, tokens)
    rows, state = _copied((tokens, state), batch, sampler.copies)
    stepper = Stepper(step, rows, state, alignment_steps)
    rules = Rules(
        stepper.vocabulary,
        max_length=max_length,
        limits=limits,
        batch=batch,
        end=end,
        min_length=min_length,
        forbidden=forbidden,
    )
    state = tuple(tree.flatten(state))
    if isinstance(sampler, Beam):
        return decode_beams(stepper, rules, sampler, tokens, state)
    sampler = sampler.with_values(sampler.values(batch))
    return decode_rows(stepper, rules, sampler, tokens, state)


def get(sampler: str | Sampler) -> Sampler:
    """The sampler that a name stands for, or `sampler` itself.

    Args:
        sampler: 'greedy', 'sample' or a `Sampler`, as `Sample(temperature=0.7)` or `Beam(4)`.

    Raises:
        ValueError: another name, or what is no sampler.
    """
    if isinstance(sampler, Sampler):
        return sampler
    if isinstance(sampler, str):
        return _NAMED[one_of("sampler", sampler, _NAMED)]()
    raise ValueError(
        "sampler must be 'greedy', 'sample' or a sampler, as Beam(4); "
        f"received sampler={shown(sampler)}"
    )


def _copied(nest: Any, batch: Any, copies: int) -> Any:
    """`nest` with each row `copies` times, next to each other."""
    if copies == 1:
        return nest
    rows = ops.arange(batch * copies, dtype="int32") // copies
    return tree.map_structure(lambda part: ops.take(part, rows, axis=0), nest)


def _is_scalar_tensor(value: Any) -> bool:
    return ops.is_tensor(value) and len(value.shape) == 0 and _is_whole(value)


def _is_whole(tensor: Tensor) -> bool:
    return "int" in keras.backend.standardize_dtype(tensor.dtype)


def _integers(name: str, values: Any) -> Tensor:
    """`values` as a `(batch,)` int32 tensor."""
    if ops.is_tensor(values):
        whole = _is_whole(values)
    else:
        values = _checks.array(name, values)
        whole = values.dtype.kind in "iu" and bool(
            np.all((values >= 0) & (values <= _checks.LARGEST))
        )
    if not whole:
        raise ValueError(
            f"{name} must be (batch,) integers of at least 0; received {shown(values)}"
        )
    if len(values.shape) != 1:
        raise ValueError(f"{name} must be (batch,) integers; received shape {tuple(values.shape)}")
    return ops.cast(ops.convert_to_tensor(values), "int32")


def _limits(limits: Any, max_length: Any, tokens: Tensor) -> Tensor:
    made = _integers("limits", limits)
    known = not ops.is_tensor(limits) and not ops.is_tensor(max_length)
    if known and np.any(np.asarray(limits) > max_length):
        raise ValueError(
            f"limits must be in [0, max_length={max_length}]; received limits={shown(limits)}"
        )
    if not _same(made.shape[0], tokens.shape[0]):
        raise ValueError(
            f"limits must be ({tokens.shape[0]},), one per row; received shape {made.shape}"
        )
    return made


def _tensors(state: Any) -> Any:
    try:
        if any(isinstance(part, keras.KerasTensor) for part in tree.flatten(state)):
            raise TypeError("a symbolic tensor has no values")
        return tree.map_structure(ops.convert_to_tensor, state)
    except Exception as error:  # of the backend, which differ
        raise ValueError(
            f"state must be a nest of tensors (batch, ...); received {shown(state)}"
        ) from error


def _check_rows(state: Any, tokens: Tensor) -> None:
    for part in tree.flatten(state):
        if len(part.shape) == 0 or not _same(part.shape[0], tokens.shape[0]):
            raise ValueError(
                f"state must have the rows of tokens, ({tokens.shape[0]}, ...); "
                f"received a tensor of shape {tuple(part.shape)}"
            )


def _same(left: int | None, right: int | None) -> bool:
    return left is None or right is None or left == right
