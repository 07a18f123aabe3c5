"""`generate` of a one-to-one model on numbers: a series continued, by its means or by many paths.

The prompt is read once. What it left, the states and what the model says of the next step, is
repeated for all paths, which then run in one compiled loop.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from keras import ops

from rnnzoo import _checks
from rnnzoo.core.spec import CoreSpec, Output
from rnnzoo.decoding.random import seeds_of_rows
from rnnzoo.generation.options import as_numpy, compiled, room
from rnnzoo.generation.paths import Feed, Paths
from rnnzoo.generation.read_steps import read_steps
from rnnzoo.heads.head import Head, levels_of
from rnnzoo.heads.linear import Linear
from rnnzoo.layers.recurrent import State, Tensor

# The name under which a state holds what the model says of the step after it; no state and no
# input of a core is called so.
NEXT = "next step"


@dataclasses.dataclass(frozen=True, eq=False)
class Forecast:
    """What a model says of the steps to come, as NumPy arrays in the units of its data.

    Attributes:
        mean: `(batch, steps, size)`: with samples their mean; without, each step's mean given the
            means before it.
        samples: `(batch, samples, steps, size)`, paths drawn at random; None without.
        parameters: `(batch, steps, parameters)` of the head, without samples; else None.
        state: what the prompt left, the forecast not read: give it to the next `generate` with
            what came since, or alone to forecast again. None of an encoder-decoder.
        head: the head that said it.
    """

    mean: np.ndarray
    samples: np.ndarray | None
    parameters: np.ndarray | None
    state: State | None
    head: Head

    def quantile(self, p: float | Sequence[float]) -> np.ndarray:
        """The quantiles of each step, `(batch, steps, size)`.

        With samples, those of the samples. Without, those of the head for each step as if the
        steps before it were exactly as forecast: from the second step on too narrow.

        Args:
            p: a number between 0 and 1, or several, which become the last axis.

        Raises:
            ValueError: no samples, and a head without quantiles.
        """
        levels = levels_of(p)
        if self.samples is not None:
            found = np.quantile(self.samples, levels, axis=1)
            return np.moveaxis(found, 0, -1) if levels.ndim else found
        if not self.head.says("quantile"):
            raise ValueError(
                f"quantiles need a head that knows them, as rnnzoo.heads.StudentT(); this model "
                f"ends with {self.head}, which says a mean and nothing more"
            )
        return ops.convert_to_numpy(self.head.quantile(self.parameters, p))


def feed_of(model: Any, feed: str | None, what: str) -> Feed:
    """How `model` is fed; ValueError where it cannot be, or where `feed` does not say by what.

    Args:
        model: a model of one core.
        feed: the name of an input, or None where there is only one that can be.
        what: the method that needs it, for errors.
    """
    if not hasattr(model, "forecaster"):
        raise _checks.refuse("model", "a model of rnnzoo.one_to_one", model)
    _checks.optional_text("feed", feed)
    spec = model.spec
    spec.refuse_streams(what)
    name, output = next(iter(spec.outputs.items()))
    head = _head_of(output)
    if not head.says("point"):
        raise ValueError(f"{what} feeds a mean or median; received a model with {head}")
    fits = fed_inputs(spec)
    if not fits:
        tokens = (
            "made with vocabulary, whose outputs are the next token's logits (activation None) or "
            "probabilities ('softmax'), or on one "
        )
        raise ValueError(
            f"{what} must be called on a one_to_one model {tokens if what == 'generate' else ''}"
            "whose one output is numbers of the size of an input per step, to which they are fed "
            f"back; received a {model.form} model of "
            f"{'tokens' if spec.inputs[spec.leading].vocabulary else 'real values'}, of inputs "
            f"{ {key: value.shape for key, value in spec.inputs.items()} } and outputs "
            f"{ {key: value.shape for key, value in spec.outputs.items()} }, "
            f"activation={output.activation!r}, head={output.head}"
        )
    if feed is None and len(fits) > 1 or feed is not None and feed not in fits:
        raise ValueError(
            f"feed must name the input that the output {name!r} is the next value of, one of "
            f"{fits}; received feed={_checks.shown(feed)}"
        )
    chosen = fits[0] if feed is None else feed
    others = [key for key in spec.step_inputs if key != chosen]
    still = [key for key, value in spec.inputs.items() if not value.per_step]
    return Feed(chosen, head, others, still)


def fed_inputs(spec: CoreSpec) -> list[str]:
    """The inputs whose next value the one output of a core may be; none where nothing is fed."""
    output = next(iter(spec.outputs.values()))
    one = len(spec.outputs) == 1 and spec.states and not spec.uncut and output.judged_per_step
    if not one or not output.shape:
        return []
    head = _head_of(output)
    return [
        key
        for key in (spec.step_inputs if head.says("point") else ())
        if spec.inputs[key].vocabulary is None
        and spec.inputs[key].shape == (head.outputs,) == head.target_shape
    ]


def _head_of(output: Output) -> Head:
    return Linear((output.shape or (1,))[-1] or 1) if output.head is None else output.head


def continue_series(
    model: Any,
    prompt: Any,
    horizon: Any,
    *,
    state: State | None,
    samples: int | None,
    seed: int | None,
    feed: str | None,
    future: Mapping[str, Any] | None,
) -> Forecast:
    """What a one-to-one model on numbers says after `prompt`, as `model.generate` tells."""
    how = feed_of(model, feed, "generate")
    horizon, samples, seed = checked_paths(how.head, horizon, samples, seed, "max_length")
    given = _checks.by_name("state", state)
    if prompt is None and NEXT not in given:
        raise ValueError(
            "prompt must be given, or a state that an earlier generate returned; received "
            f"prompt=None and {'no state' if state is None else 'a state of step'}"
        )
    still = {key: given.pop(key) for key in how.still if key in given}
    said = given.pop(NEXT, None)
    if prompt is None:
        said, rows = _said(model, how, said, still)
    else:
        values, lengths, still = series_of(model, prompt, still, "prompt")
        rows = len(lengths)
    planned = planned_steps(model, how, future, horizon, rows)
    given = model.initial_state(rows) if state is None else model.reader.states(given, rows)
    if prompt is not None:
        said, given = read_steps(model, values, lengths, still, given)
    return forecast_from(model, how, said, given, still, planned, horizon, samples, seed)


def _said(model: Any, how: Feed, said: Any, still: dict) -> tuple[Tensor, int]:
    """What a state holds of the step after it, and of how many rows; all but states checked."""
    spec, name = model.spec, f"state[{NEXT!r}]"
    said = _checks.tensor(name, said)
    wanted = next(iter(spec.outputs.values())).shape
    if len(said.shape) != 2 or tuple(said.shape[1:]) != wanted:
        raise ValueError(
            f"{name} must be (batch, {wanted[0]}), as an earlier generate left it; received shape "
            f"{tuple(said.shape)}"
        )
    if sorted(still) != sorted(how.still):
        raise ValueError(
            f"state must have the inputs per sequence, {how.still}, as an earlier generate left "
            f"them; received {sorted(still)}"
        )
    rows = int(said.shape[0])
    if still:
        model.reader.check(_blank(spec, rows, 1) | still)
    return said, rows


def _blank(spec: CoreSpec, rows: int, steps: int) -> dict[str, np.ndarray]:
    """A batch of zeros for a core, beside parts of which can be checked."""
    return {
        name: np.zeros(
            (rows, *[steps] * one.per_step, *(1 if size is None else size for size in one.shape)),
            one.dtype,
        )
        for name, one in spec.inputs.items()
    }


def checked_paths(head: Head, horizon: Any, samples: Any, seed: Any, name: str) -> tuple:
    """`(horizon, samples, seed)`; ValueError for what is none, or a head that draws no samples.

    Args:
        head: what is said.
        horizon, samples, seed: as they were given.
        name: of the first.
    """
    horizon = _checks.positive_integer(name, horizon)
    samples = _checks.optional_count("samples", samples)
    if samples is None and seed is not None:
        raise ValueError(f"seed is for samples=n; received seed={_checks.shown(seed)} without")
    seed = None if seed is None else _checks.integer("seed", seed, 0, _checks.LARGEST)
    if samples is not None and not head.says("sample"):
        raise ValueError(
            f"samples need a head that draws them, as rnnzoo.heads.StudentT(); received "
            f"samples={samples} for a model that ends with {head}"
        )
    return horizon, samples, seed


def series_of(model: Any, prompt: Any, still: dict, name: str) -> tuple[dict, np.ndarray, dict]:
    """What stands at each step, how many steps each row has, and what stands still; all checked.

    Args:
        model: the model.
        prompt: as `fit` takes it, with `lengths` or `mask` where rows are shorter than others.
        still: inputs per sequence that were given before.
        name: of the argument, for errors.
    """
    reader, spec = model.reader, model.spec
    try:
        given = reader.as_dict({**still, **prompt} if isinstance(prompt, Mapping) else prompt)
        more = sorted(set(given) - {*spec.inputs, reader.mask, "lengths"})
        if not more:
            reader.check(given)
            found = reader.standard(given)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{name} must be as fit takes it: {error}") from error
    if more:
        raise ValueError(
            f"{name} is whole sequences, or goes on from state=, an argument of its own: it has "
            f"inputs, and mask or lengths, and no {more}"
        )
    mask = found.pop(reader.mask, None) if reader.mask not in spec.inputs else None
    rows, steps = found[spec.leading].shape[:2]
    lengths = np.full(rows, steps) if mask is None else mask.sum(axis=1)
    if not rows or not steps or not lengths.all():
        raise ValueError(
            f"every row of {name} must have at least one step; received {rows} rows of {steps} "
            f"steps{'' if mask is None else f', of lengths {lengths.tolist()}'}"
        )
    if mask is not None and (mask != (np.arange(steps) < lengths[:, None])).any():
        raise ValueError(f"the mask of {name} must be False on padding at its end alone")
    still = {key: value for key, value in found.items() if key not in spec.step_inputs}
    return {key: found[key] for key in spec.step_inputs}, lengths, still


def planned_steps(
    model: Any, how: Feed, future: Mapping | None, horizon: int, rows: int
) -> dict[str, np.ndarray]:
    """The other inputs of the steps that are fed, `(rows, steps, ...)` by name, checked."""
    future = None if future is None else _checks.by_name("future", future)
    if sorted(future or {}) != sorted(how.others if future is not None or horizon > 1 else []):
        raise ValueError(
            f"future must be a dict with the inputs per step that are known ahead, {how.others}, "
            f"at the steps to come; received {None if future is None else sorted(future)}"
        )
    blank = _blank(model.spec, rows, horizon - 1)
    found = {name: blank[name] for name in how.others}
    for name in future or ():
        array = _checks.array(f"future[{name!r}]", future[name])
        steps = array.shape[1] if array.ndim > 1 else None
        if array.shape[:1] != (rows,) or steps not in (horizon - 1, horizon):
            raise ValueError(
                f"future[{name!r}] must have {rows} rows and, for the {horizon} steps to come, "
                f"{horizon - 1} steps, those at which a forecast is fed, or {horizon}, of which "
                f"the last is not fed; received shape {array.shape}"
            )
        if horizon > 1:
            found[name] = array[:, : horizon - 1]
    if future and horizon > 1:
        model.reader.check(blank | found)
    return {key: np.asarray(value, blank[key].dtype) for key, value in found.items()}


def forecast_from(
    model: Any,
    how: Feed,
    said: Tensor,
    state: State,
    still: dict,
    planned: dict[str, np.ndarray],
    horizon: int,
    samples: int | None,
    seed: int | None,
) -> Forecast:
    """The `horizon` steps after `state`, of the first of which the model has `said` what it knows.

    Everything must have been checked.
    """
    more = room(horizon)
    pad = {name: [(0, 0), (0, more - value.shape[1])] for name, value in planned.items()}
    inputs = {
        "said": ops.convert_to_tensor(said),
        "state": {key: ops.convert_to_tensor(value) for key, value in state.items()},
        "still": {key: ops.convert_to_tensor(value) for key, value in still.items()},
        "planned": {
            name: ops.convert_to_tensor(np.pad(value, pad[name] + [(0, 0)] * (value.ndim - 2)))
            for name, value in planned.items()
        },
        "steps": ops.convert_to_tensor(horizon, "int32"),
        "seeds": ops.convert_to_tensor(seeds_of_rows(seed, len(said))),
    }
    found = as_numpy(
        compiled(
            model,
            ("series", how.name, more, samples),
            lambda: lambda given: Paths(model.core, model.spec, how, more, samples, given).run(),
        )(inputs)
    )
    return forecast_of(found, horizon, how.head, {**state, NEXT: said, **still})


def forecast_of(
    found: dict[str, np.ndarray], horizon: int, head: Head, state: State | None
) -> Forecast:
    """The `Forecast` of what `Paths` found, of which `horizon` steps were asked for."""
    values = found["values"][..., :horizon, :]
    if "parameters" in found:
        return Forecast(values, None, found["parameters"][:, :horizon], state, head)
    return Forecast(values.mean(axis=1), values, None, state, head)
