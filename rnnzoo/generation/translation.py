"""`generate` of an encoder-decoder: a target written for a source."""

from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops

from rnnzoo import _checks
from rnnzoo.generation.options import Generated, Options, as_numpy, compiled, room, texts
from rnnzoo.layers.recurrent import Tensor

# Lengths in each doubling that are compiled, where all steps of a length are run.
_PARTS = 4


def write_tokens(model: Any, source: Any, chosen: Options, batch_size: int) -> Generated:
    """The target tokens for `source`, written until the end token."""

    def build() -> Callable:
        def run(inputs: dict) -> dict:
            begun = begin_target(model, inputs, chosen.sampler.copies)
            return kept(chosen.decode(*begun, inputs["values"]))

        return run

    key = None if chosen.key is None else ("write", *chosen.key)
    run = compiled(model, key, build)
    found = _in_batches(model, source, batch_size, run, chosen.values)
    found["tokens"] = found["tokens"][..., : chosen.max_length]
    if "alignment" in found:
        found["alignment"] = found["alignment"][..., : chosen.max_length, :]
    text = texts(model.vocabularies["target"], found["tokens"], found["lengths"])
    return Generated(**found, text=text)


def write_values(model: Any, source: Any, steps: int, batch_size: int) -> np.ndarray:
    """`(batch, steps, features)`: what a real-valued decoder writes when fed its own outputs."""
    steps = _checks.positive_integer("steps", steps)

    def build() -> Callable:
        def run(inputs: dict) -> dict:
            return {"outputs": own_outputs(model, inputs, more)}

        return run

    more = room(steps, _PARTS)
    run = compiled(model, ("write", more), build)
    return _in_batches(model, source, batch_size, run, lambda rows: {})["outputs"][:, :steps]


def begin_target(model: Any, batch: dict, copies: int) -> tuple[Callable, dict, Tensor]:
    """Traced: step function, states and first tokens, with which decoding a target begins.

    Args:
        model: an encoder-decoder to tokens.
        batch: `source` and `source_mask`.
        copies: rows of the state for each row of the batch.
    """
    encoded = model.encode(batch)
    state = {key: encoded[key] for key in model.spec.states}
    tokens = ops.full((ops.shape(batch["source"])[0],), model.start, dtype="int32")
    return _decoder_step(model, encoded, copies), state, tokens


def own_outputs(model: Any, batch: dict, steps: Any) -> Tensor:
    """Traced: `steps` outputs of a real-valued decoder that is fed what it wrote."""
    encoded = model.encode(batch)
    rows = ops.shape(batch["source"])[0]
    fed = model.spec.inputs["inputs"]
    zeros = ops.zeros((rows, steps, *fed.shape), fed.dtype)
    own = {"inputs": zeros, "truth": ops.zeros((rows, steps), "bool")}
    return model.decode({**encoded, **own})["outputs"]


def kept(found: Any) -> dict[str, Tensor]:
    """What of a `Decoded` is shown to users, by name."""
    names = ("tokens", "lengths", "scores", "alignment")
    return {name: getattr(found, name) for name in names if getattr(found, name) is not None}


def _decoder_step(model: Any, encoded: dict[str, Tensor], copies: int) -> Callable:
    """One step of the decoder as decoding wants it, over the memory in `encoded`."""
    constants = {
        key: ops.repeat(encoded[key], copies, axis=0) if copies > 1 else encoded[key]
        for key in model.constants
    }
    # The decoder never writes the token that starts a target.
    keep = np.arange(model.spec.inputs["inputs"].vocabulary) != model.start

    def step(tokens: Tensor, state: dict) -> tuple:
        outputs = model.decoder({"inputs": tokens[:, None], **state, **constants}, training=False)
        logits = ops.where(keep, outputs["outputs"][:, 0], -1e9)
        result = (logits, {key: outputs[key] for key in state})
        return (*result, outputs["alignment"][:, 0]) if "alignment" in outputs else result

    return step


def _in_batches(
    model: Any, source: Any, batch_size: int, run: Callable, values: Callable
) -> dict[str, np.ndarray]:
    """The results of `run` for all rows of `source`, `batch_size` of them at a time.

    All batches have one shape, one of few, for which a function is compiled: the last is filled
    up with its own first row, and sources with padding.
    """
    batch_size = _checks.positive_integer("batch_size", batch_size)
    source, mask = _as_arrays(model, source)
    count, steps = mask.shape
    batch_size = min(batch_size, room(count))
    padding = [(0, 0), (0, room(steps, _PARTS) - steps)]
    mask = np.pad(mask, padding)
    source = np.pad(source, padding + [(0, 0)] * (source.ndim - 2))
    values = as_numpy(values(count))
    parts = []
    for first in range(0, count, batch_size):
        rows = np.arange(first, min(first + batch_size, count))
        filled = np.concatenate([rows, np.full(batch_size - len(rows), first)])
        part = {"source": source[filled], "source_mask": mask[filled]}
        part = {key: ops.convert_to_tensor(value) for key, value in part.items()}
        part["values"] = {k: ops.convert_to_tensor(v[filled]) for k, v in values.items()}
        found = as_numpy(dict(run(part)))
        if "alignment" in found:
            found["alignment"] = found["alignment"][..., :steps]
        parts.append({key: value[: len(rows)] for key, value in found.items()})
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def _as_arrays(model: Any, source: Any) -> tuple[np.ndarray, np.ndarray]:
    """Source and mask, checked, from whatever form `generate` takes."""
    given = dict(source) if isinstance(source, dict) else {"source": source}
    given.pop("target", None)
    model.reader.check(given, need_target=False)
    batch = model.reader.standard(given)
    return batch["source"], batch["source_mask"]
