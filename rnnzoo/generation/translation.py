"""`generate` of an encoder-decoder: a target written for a source, tokens or numbers."""

from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops

from rnnzoo import _checks
from rnnzoo.decoding.random import seeds_of_rows
from rnnzoo.generation.forecasts import Forecast, checked_paths, forecast_of
from rnnzoo.generation.options import Generated, Options, as_numpy, compiled, room, texts
from rnnzoo.generation.paths import Feed, Paths
from rnnzoo.heads.linear import Linear
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
    batch, known = _as_arrays(model, source)
    if known is not None and chosen.max_length > known + 1:
        raise ValueError(
            "max_length must be at most one more than the steps of the target_inputs, for the end "
            f"token; received max_length={chosen.max_length} and {known} steps"
        )
    found = _in_batches(model, batch, batch_size, run, chosen.values)
    found["tokens"] = found["tokens"][..., : chosen.max_length]
    if "alignment" in found:
        found["alignment"] = found["alignment"][..., : chosen.max_length, :]
    text = texts(model.vocabularies["target"], found["tokens"], found["lengths"])
    return Generated(**found, text=text)


def write_values(
    model: Any,
    source: Any,
    steps: int | None,
    samples: int | None,
    seed: int | None,
    batch_size: int,
) -> Forecast:
    """What a decoder of numbers writes when it is fed what it said: means, or `samples` paths."""
    how = fed_numbers(model)
    given = steps is not None
    if given or samples is not None or seed is not None:  # the last two are worth a look at once
        steps, samples, seed = checked_paths(
            how.head, steps if given else 1, samples, seed, "steps"
        )
    batch, known = _as_arrays(model, source)
    steps = _checks.positive_integer("steps", steps if given else known)
    if known is not None and steps != known:
        raise ValueError(
            "steps must be those of the target_inputs, or be left out; received "
            f"steps={steps} and {known} steps"
        )
    more = room(steps, _PARTS)

    def build() -> Callable:
        return lambda inputs: target_paths(model, inputs, more, samples, **inputs["values"])

    def values(rows: int) -> dict[str, Tensor]:
        return {"steps": ops.full((rows,), steps, "int32"), "seeds": seeds_of_rows(seed, rows)}

    run = compiled(model, ("write", more, samples), build)
    found = _in_batches(model, batch, batch_size, run, values)
    return forecast_of(found, steps, how.head, None)


def fed_numbers(model: Any) -> Feed:
    """How a decoder of numbers is fed what it said; ValueError where that is no number."""
    head = model.head or Linear(*model.spec.inputs["inputs"].shape)
    if not head.says("point"):
        raise ValueError(f"a decoder is fed a mean or median; received a model with {head}")
    return Feed("inputs", head, model.reader.beside, model.constants)


def target_paths(
    model: Any, batch: dict, room: Any, samples: Any, steps: Tensor, seeds: Tensor
) -> dict[str, Tensor]:
    """Traced: what `Paths` gives of a decoder of numbers, for a source that is encoded once.

    Args:
        model: an encoder-decoder to numbers.
        batch: the source, `source_mask`, and what else is read but the target.
        room, samples: as `Paths` has them.
        steps: `(rows,)` int32, of which the most are run for all.
        seeds: `(rows, 2)` int32, the words of each row.
    """
    encoded, spec = model.encode(batch), model.decoder_spec
    how = fed_numbers(model)
    state = {key: encoded[key] for key in spec.states}
    still = {key: encoded[key] for key in how.still}
    known = {name: batch[name] for name in how.others}
    fed = spec.inputs["inputs"]
    begin = ops.zeros((ops.shape(batch["source_mask"])[0], 1, *fed.shape), fed.dtype)
    first = {"inputs": begin, **{name: value[:, :1] for name, value in known.items()}}
    outputs, state = spec.split(model.decoder({**first, **still, **state}, training=False))
    given = {
        "said": outputs["outputs"][:, 0],
        "state": state,
        "still": still,
        "planned": {name: value[:, 1:] for name, value in known.items()},
        "steps": ops.max(steps),
        "seeds": seeds,
    }
    return Paths(model.decoder, spec, how, room, samples, given).run()


def begin_target(model: Any, batch: dict, copies: int) -> tuple[Callable, dict, Tensor]:
    """Traced: step function, states and first tokens, with which decoding a target begins.

    Args:
        model: an encoder-decoder to tokens.
        batch: the source, `source_mask`, and what else is read but the target.
        copies: rows of the state for each row of the batch.
    """
    encoded = model.encode(batch)
    state = {key: encoded[key] for key in model.spec.states}
    rows = ops.shape(batch["source_mask"])[0]
    known = {name: batch[name] for name in model.reader.beside}
    if known:
        state["place"] = ops.zeros((rows,), "int32")
    tokens = ops.full((rows,), model.start, dtype="int32")
    return _decoder_step(model, encoded, known, copies), state, tokens


def kept(found: Any) -> dict[str, Tensor]:
    """What of a `Decoded` is shown to users, by name."""
    names = ("tokens", "lengths", "scores", "alignment")
    return {name: getattr(found, name) for name in names if getattr(found, name) is not None}


def _decoder_step(
    model: Any, encoded: dict[str, Tensor], known: dict[str, Tensor], copies: int
) -> Callable:
    """One step of the decoder as decoding wants it, over the memory in `encoded`.

    What is `known` of the target's steps is read at the `place` of its state.
    """

    def copied(values: Tensor) -> Tensor:
        return ops.repeat(values, copies, axis=0) if copies > 1 else values

    constants = {key: copied(encoded[key]) for key in model.constants}
    known = {key: copied(values) for key, values in known.items()}
    # What never comes has no part of the probability either.
    keep = ~np.isin(np.arange(model.spec.inputs["inputs"].vocabulary), model.never)

    def step(tokens: Tensor, state: dict) -> tuple:
        state = dict(state)
        place = state.pop("place", None)
        given = {"inputs": tokens[:, None], **state, **constants}
        given |= {key: _at(values, place) for key, values in known.items()}
        outputs = model.decoder(given, training=False)
        logits = ops.where(keep, outputs["outputs"][:, 0], -1e9)
        after = {key: outputs[key] for key in state}
        result = (logits, after | ({} if place is None else {"place": place + 1}))
        return (*result, outputs["alignment"][:, 0]) if "alignment" in outputs else result

    return step


def _at(values: Tensor, place: Tensor) -> Tensor:
    """`(rows, 1, ...)`: for each row its step `place`, or the last where there are fewer."""
    place = ops.minimum(place, ops.shape(values)[1] - 1)
    place = ops.reshape(place, (-1, 1, *[1] * (len(values.shape) - 2)))
    return ops.take_along_axis(values, place, axis=1)


def _in_batches(
    model: Any, batch: dict[str, np.ndarray], batch_size: int, run: Callable, values: Callable
) -> dict[str, np.ndarray]:
    """The results of `run` for all rows of a batch, `batch_size` of them at a time.

    All batches have one shape, one of few, for which a function is compiled: the last is filled
    up with its own first row, and sources with padding.
    """
    batch_size = _checks.positive_integer("batch_size", batch_size)
    count, steps = batch["source_mask"].shape
    batch_size = min(batch_size, room(count))
    batch = {k: v if k in model.reader.static else _roomy(v) for k, v in batch.items()}
    values = as_numpy(values(count))
    parts = []
    for first in range(0, count, batch_size):
        rows = np.arange(first, min(first + batch_size, count))
        filled = np.concatenate([rows, np.full(batch_size - len(rows), first)])
        part = {key: ops.convert_to_tensor(value[filled]) for key, value in batch.items()}
        part["values"] = {k: ops.convert_to_tensor(v[filled]) for k, v in values.items()}
        found = as_numpy(dict(run(part)))
        if "alignment" in found:
            found["alignment"] = found["alignment"][..., :steps]
        parts.append({key: value[: len(rows)] for key, value in found.items()})
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def _roomy(values: np.ndarray) -> np.ndarray:
    """`values` with padding, so that there are one of few numbers of steps."""
    steps = values.shape[1]
    padding = [(0, 0), (0, room(steps, _PARTS) - steps)] + [(0, 0)] * (values.ndim - 2)
    return np.pad(values, padding)


def _as_arrays(model: Any, source: Any) -> tuple[dict[str, np.ndarray], int | None]:
    """A batch without target, checked, from whatever form `generate` takes.

    Beside it how many steps of the target something is known of; None where nothing ever is.
    """
    given = dict(source) if isinstance(source, dict) else {"source": source}
    given.pop("target", None)
    model.reader.check(given, need_target=False)
    beside = model.reader.beside
    if set(beside) - set(given):
        raise ValueError(
            "generate must be given what is known of the target's steps, "
            f"{', '.join(map(repr, beside))}; received keys {sorted(given)}"
        )
    if beside and {"target_mask", "target_lengths"} & set(given):
        raise ValueError(
            "target_inputs of generate must have the same steps in every row, without target_mask "
            f"and target_lengths; received keys {sorted(given)}"
        )
    given = model.reader.as_dict(given, need_target=False)
    known = int(given[beside[0]].shape[1]) if beside else None
    return model.reader.standard(given), known
