"""`generate` of a one-to-one model on tokens: a prompt continued."""

from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops

from rnnzoo import _checks
from rnnzoo.decoding.stepper import by_rows
from rnnzoo.feed.source_target import as_rows
from rnnzoo.generation.options import Generated, Options, as_numpy, compiled, texts
from rnnzoo.generation.read_steps import read_steps
from rnnzoo.heads.discrete import Logits
from rnnzoo.layers.recurrent import State, Tensor

_ACTIVATIONS = ("linear", "softmax")

# The name under which a state holds the token that was chosen but not fed yet; no state of a core
# is called so.
LAST = "last token"


def continue_prompt(model: Any, prompt: Any, state: State | None, chosen: Options) -> Generated:
    """What a one-to-one model on tokens writes after `prompt`, from `state` or a fresh one."""
    step = token_step(model)
    if state is not None:
        state = dict(_checks.instance("state", state, dict, "None or a dict of arrays by name"))
    last = None if state is None else state.pop(LAST, None)
    rows = _prompts(model, prompt, last)
    count = len(rows)
    state = model.initial_state(count) if state is None else model.reader.states(state, count)
    lengths = np.array([len(row) - 1 for row in rows])
    before = np.zeros((count, lengths.max()), "int32")
    for place, row in zip(before, rows):
        place[: len(row) - 1] = row[:-1]
    _, state = read_steps(model, {model.spec.leading: before}, lengths, {}, state)

    def build() -> Callable:
        def run(inputs: dict) -> dict:
            found = chosen.decode(step, inputs["state"], inputs["tokens"], inputs["values"])
            return found._asdict()

        return run

    inputs = {
        "state": state,
        "tokens": ops.convert_to_tensor(np.array([row[-1] for row in rows], "int32")),
        "values": chosen.values(count),
    }
    key = None if chosen.key is None else ("continue", *chosen.key)
    found = compiled(model, key, build)(inputs)
    state = found["state"] if found["state"] is None else {**found["state"], LAST: found["last"]}
    tokens, lengths, scores = (as_numpy(found[key]) for key in ("tokens", "lengths", "scores"))
    tokens = tokens[..., : chosen.max_length]
    return Generated(tokens, lengths, scores, texts(model.vocabulary, tokens, lengths), state=state)


def continues(model: Any) -> bool:
    """Whether `model` writes tokens: its outputs are the logits of the next of its own tokens."""
    spec = model.spec
    if len(spec.inputs) > 1 or len(spec.outputs) > 1 or not spec.per_step:
        return False
    if spec.mask or spec.uncut:  # what comes later would change what was said before
        return False
    (given,), (output,) = spec.inputs.values(), spec.outputs.values()
    same = given.vocabulary is not None and output.shape == (given.vocabulary,)
    # Another head may have as many parameters as there are tokens.
    logits = output.head is None or isinstance(output.head, Logits)
    return same and logits and output.activation in _ACTIVATIONS


def token_step(model: Any) -> Callable:
    """One step of `model`, which `continues`, as decoding wants it."""
    core, spec = model.core, model.spec
    name, output = next(iter(spec.outputs.items()))

    def step(tokens: Tensor, state: State) -> tuple[Tensor, State]:
        tokens = tokens[:, None]
        values = {spec.leading: tokens, **state}
        if spec.reset:
            values[spec.reset] = ops.zeros_like(tokens, dtype="bool")
        outputs, state = spec.split(core(values, training=False))
        logits = outputs[name][:, 0]
        if output.activation == "softmax":
            logits = ops.log(ops.maximum(ops.cast(logits, "float32"), 1e-35))
        return logits, state

    return step


def read_prompt(step: Callable, tokens: Tensor, lengths: Tensor, state: State) -> tuple:
    """Traced: each row's last token, and the state after it has read those before.

    Args:
        step: as `token_step` gives it.
        tokens: `(batch, time)`, of which `lengths` `(batch,)`, at least 1, are real.
        state: where the rows go on from.
    """
    before = lengths - 1

    def turn(index: Tensor, state: State) -> tuple:
        new = step(ops.take(tokens, index, axis=1), state)[1]
        return index + 1, {k: by_rows(index < before, new[k], old) for k, old in state.items()}

    start = ops.convert_to_tensor(0, "int32")
    _, state = ops.while_loop(lambda index, _: index < ops.max(before), turn, (start, state))
    return ops.take_along_axis(tokens, before[:, None], axis=1)[:, 0], state


def _prompts(model: Any, prompt: Any, last: Any) -> list[np.ndarray]:
    """One array of at least one token for each row: the pending one, then the prompt's."""
    if prompt is None and last is None:
        raise ValueError(
            "prompt must be given, or a state that an earlier generate returned; received "
            "prompt=None and no such state"
        )
    pending = np.zeros((0,), "int32") if last is None else _checks.array(f"state[{LAST!r}]", last)
    if pending.ndim != 1 or pending.dtype.kind not in "iu":
        raise ValueError(
            f"state[{LAST!r}] must be (batch,) token ids, as an earlier generate left them; "
            f"received {pending.dtype} {pending.shape}"
        )
    rows = [pending[:0]] * len(pending)
    if prompt is not None:
        rows = as_rows("prompt", prompt, model.vocabulary)
    if last is not None and len(pending) != len(rows):
        raise ValueError(
            f"prompt must have one row for each row of the state, {len(pending)}; "
            f"received {len(rows)}"
        )
    if not rows:
        raise ValueError("prompt must have at least one row; received none")
    size = model.spec.inputs[model.spec.leading].vocabulary
    return [_prompt(i, row, pending[i : i + 1], size) for i, row in enumerate(rows)]


def _prompt(i: int, row: np.ndarray, pending: np.ndarray, size: int) -> np.ndarray:
    """The token that is `pending`, if any, and those of row `i`, all below `size`."""
    tokens = row.ndim == 1 and (row.dtype.kind in "iu" or not len(row))
    if not tokens or not len(row) + len(pending):
        raise ValueError(
            "every row of prompt must be a string or token ids, at least one; received "
            f"{row.dtype} {row.shape} in row {i}"
        )
    whole = np.concatenate([pending, row]) if len(row) else pending
    if whole.min() < 0 or whole.max() >= size:
        raise ValueError(
            f"token ids must be in 0 to {size - 1}; received {_checks.shown(whole.tolist())} "
            f"in row {i} of prompt"
        )
    return whole
