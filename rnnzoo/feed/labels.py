"""Targets and weights of a batch: checked, and brought into one form on the host.

A target for an output per step is `(batch, time, ...)`, a weight for it `(batch, time)`; for an
output without time they are `(batch, ...)` and `(batch,)`. Weights that come by row, `(batch,)`
or `(batch, 1)`, are spread over the steps of their row, never over rows.
"""

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

from rnnzoo import _checks
from rnnzoo.core.spec import Output
from rnnzoo.data.classes import class_weights
from rnnzoo.data.steps import Steps
from rnnzoo.feed.checks import check_rows, finite_where, from_lists, plain, zeroed
from rnnzoo.heads.discrete import Bernoulli


def arrays(names: list[str], values: Any, argument: str) -> Any:
    """Targets or weights of the outputs `names`, lists of numbers and tables as arrays.

    A list of as many as there are outputs, where these are several, is one for each.
    """
    if isinstance(values, (list, tuple)) and len(values) == len(names) > 1:
        values = dict(zip(names, values))
    if isinstance(values, Mapping):
        return {k: from_lists(plain(v, f"{argument}[{k!r}]")) for k, v in values.items()}
    return from_lists(plain(values, argument))


def standard_targets(outputs: dict[str, Output], y: Any, rows: int) -> Any:
    """`y` as arrays: one where there is one output, else a dict by the outputs' names.

    Raises:
        ValueError: names that are not those of the outputs, another number of rows.
    """
    if y is None:
        return None
    y = plain(y, "y")
    by_name = isinstance(y, Mapping)
    if by_name and set(y) - set(outputs):
        raise ValueError(
            f"targets must be named as the outputs, {', '.join(map(repr, outputs))}; "
            f"received {sorted(y)}"
        )
    if len(outputs) == 1:
        (name,) = outputs
        if by_name and not y:
            raise ValueError(f"y must hold the targets of {name!r}; received y={{}}")
        return _array(y[name] if by_name else y, rows, "y")
    if isinstance(y, (list, tuple)) and len(y) == len(outputs):
        y = dict(zip(outputs, y))
    if not isinstance(y, Mapping):
        raise ValueError(
            f"targets of several outputs must be a dict with {', '.join(map(repr, outputs))}; "
            f"received {type(y).__name__}"
        )
    return {name: _array(value, rows, f"y[{name!r}]") for name, value in y.items()}


def _array(value: Any, rows: int, name: str) -> np.ndarray:
    array = _checks.array(name, value)
    if not _checks.holds_numbers(array):
        raise ValueError(f"{name} must be numbers; received dtype {array.dtype}")
    check_rows(rows, **{"y": array} if name == "y" else {name: array})
    if array.dtype.kind in "iu":
        # JAX would wrap around what int32 cannot hold.
        return Steps(name, [array], "int32", alone=True, unit="row").check_all().read(0, 0, rows)
    if array.dtype == np.float64:
        return array.astype(keras.config.floatx())
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def check_classes(classes: dict[str, tuple], y: Any, weight: Any) -> Any:
    """`y`, with zeros where a target of weight 0 is no class.

    On JAX, and with XLA, a loss of a class that is not there is some number, or none.

    Args:
        classes: by the name of an output the number of classes, and the one passed over or None.
        y, weight: targets and weights in their one form.

    Raises:
        ValueError: a target of another weight that is no class.
    """
    for name, (size, passed) in classes.items():
        target, own = (v.get(name) if isinstance(v, dict) else v for v in (y, weight))
        if target is None:
            continue
        wrong = ~((target >= 0) & (target < size))
        if target.dtype.kind == "f":
            wrong |= target != np.floor(target)
        if passed is not None:
            wrong &= target != passed
        if wrong.any() and own is not None:
            idle = wrong & (own == 0).reshape(own.shape + (1,) * (target.ndim - own.ndim))
            target, wrong = np.where(idle, np.zeros((), target.dtype), target), wrong & ~idle
            y = y | {name: target} if isinstance(y, dict) else target
        if wrong.any():
            place = tuple(np.argwhere(wrong)[0].tolist())
            where = ", ".join(f"{axis} {i}" for axis, i in zip(("row", "step"), place))
            raise ValueError(
                f"targets of {name!r} must be classes, 0 to {size - 1}, as its loss has it; "
                f"received {target[place]} at {where}. What is no target needs a weight of 0."
            )
    return y


def standard_weights(outputs: dict[str, Output], y: Any, weight: Any, rows: int, steps: int) -> Any:
    """`weight` as float32 arrays of the shape of each output's losses; None where it is None.

    Raises:
        ValueError: weights of another shape, that are negative or no numbers; none to weigh.
    """
    if weight is None:
        return None
    if y is None:
        raise ValueError("sample_weight must come with the targets y; received y=None")
    weight = plain(weight, "sample_weight")
    if len(outputs) == 1:
        (name,) = outputs
        weight = weight[name] if isinstance(weight, Mapping) and set(weight) == {name} else weight
        return _weight(weight, outputs[name], y, rows, steps, "sample_weight")
    if isinstance(weight, (list, tuple)) and len(weight) == len(outputs):
        weight = dict(zip(outputs, weight))
    if not isinstance(weight, Mapping):
        weight = dict.fromkeys(outputs, weight)
    if set(weight) - set(outputs):
        raise ValueError(
            f"sample_weight must be named as the outputs, {', '.join(map(repr, outputs))}; "
            f"received {sorted(weight)}"
        )
    ones = np.ones(rows, "float32")
    return {
        name: _weight(weight.get(name, ones), one, y[name], rows, steps, f"sample_weight[{name!r}]")
        for name, one in outputs.items()
        if name in y
    }


def has_time(target: Any, output: Output, steps: int) -> bool:
    """Whether a target is per step: labels of a whole sequence (as for CTC) are not."""
    return output.judged_per_step and target.ndim > 1 and target.shape[1] == steps


def _weight(given: Any, output: Output, y: Any, rows: int, steps: int, name: str) -> np.ndarray:
    array = _checks.array(name, given)
    if not _checks.holds_numbers(array):
        raise ValueError(f"{name} must be numbers; received dtype {array.dtype}")
    check_rows(rows, **({"sample_weight": array} if name == "sample_weight" else {name: array}))
    array = array.astype("float32")
    if array.size and not (array >= 0).all():
        raise ValueError(f"{name} must be at least 0; received {array[~(array >= 0)][0]}")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    per_step = has_time(y, output, steps)
    if array.ndim == 1 or array.shape == (rows, 1):
        array = array.reshape(rows, 1)
        return np.repeat(array, steps, axis=1) if per_step else array[:, 0]
    if array.shape == (rows, steps) and per_step:
        return array
    allowed = f"(batch,) = ({rows},), (batch, 1)"
    if output.judged_per_step:
        allowed += f" or (batch, time) = ({rows}, {steps})"
    raise ValueError(f"{name} must have shape {allowed}; received shape {array.shape}")


def weights_of_classes(class_weight: Any, y: Any, weight: Any, outputs: dict[str, Output]) -> Any:
    """The weight of each target by its class, shape of the target's losses.

    Raises:
        ValueError: several outputs, no targets, sample weights beside it, no dict of numbers by
            class, a class that the output has not, targets or a head whose targets are no classes.
    """
    if weight is not None:
        raise ValueError("class_weight and sample_weight must not be given together; received both")
    if len(outputs) > 1 or y is None:
        raise ValueError(
            "class_weight is for models with one output and their targets; received "
            f"{'no targets' if y is None else f'outputs {list(outputs)}'}"
        )
    (output,) = outputs.values()
    if output.head is not None and output.head.target_shape and output.head != Bernoulli():
        raise ValueError(
            "class_weight is for outputs with one class for each target; received class_weight="
            f"{_checks.shown(class_weight)} for targets of {output.head}"
        )
    leading = y.shape[: 1 + output.judged_per_step]
    rest = y.shape[len(leading) :] or (1,)
    weights = class_weights(class_weight, y.reshape(-1, *rest)).reshape(leading)
    classes = getattr(output.head, "classes", None if output.head else (output.shape or [None])[-1])
    if classes is not None and 1 < classes <= max(class_weight, default=0):
        raise ValueError(
            f"class_weight must be of classes that the output has, 0 to {classes - 1}; received "
            f"class_weight={_checks.shown(class_weight)}"
        )
    return weights


def check_heads(outputs: dict[str, Output], y: Any, weight: Any, rows: int, steps: int) -> None:
    """ValueError where a target is not what the head of its output is about.

    Args:
        outputs: those of the model.
        y, weight: targets and weights in their one form; what has weight 0 may be anything.
        rows, steps: of the batch.
    """
    for name, output in outputs.items():
        head = output.head
        target, own = (v.get(name) if isinstance(v, dict) else v for v in (y, weight))
        if head is None or target is None:
            continue
        leading = (rows, steps) if output.judged_per_step else (rows,)
        if target.shape[: len(leading)] != leading:
            wanted = ", ".join(
                map(str, (*leading, *("any" if s is None else s for s in head.target_shape)))
            )
            raise ValueError(
                f"targets of {head} must have shape ({wanted}); received shape {target.shape}"
            )
        head.check_targets(target, own)


def without_padding(outputs: dict[str, Output], y: Any, padding: np.ndarray) -> Any:
    """`y` with zeros in the steps where `padding` `(rows, steps)` is True.

    What stands there is no target, and may be no number: that times a weight of 0 is no loss.
    """
    if y is None or not padding.any():
        return y
    named = y if isinstance(y, dict) else dict.fromkeys(outputs, y)
    steps = padding.shape[1]
    cleared = {
        name: zeroed(one, padding) if has_time(one, outputs[name], steps) else one
        for name, one in named.items()
    }
    return cleared if isinstance(y, dict) else next(iter(cleared.values()))


def without_weightless(
    x: dict, y: Any, weight: Any, steps: int, clear: Callable
) -> tuple[dict, Any]:
    """`x` and `y` with zeros in rows or steps of weight 0, where what stands there is not finite.

    Args:
        x, y, weight: a batch in its one form.
        steps: of the batch.
        clear: `(x, padding) -> x`, which puts the zeros into the inputs.
    """
    if weight is None:
        return x, y
    named = isinstance(weight, dict)
    idle = {name: one == 0 for name, one in (weight if named else {"": weight}).items()}
    if not any(one.any() for one in idle.values()):
        return x, y
    targets = y if named else {"": y}
    cleared = {name: finite_where(one, idle[name]) for name, one in targets.items()}
    if not all(np.isfinite(v).all() for v in x.values() if v.dtype.kind == "f"):
        rows = [one.reshape(len(one), -1) for one in idle.values()]
        padding = np.logical_and.reduce([np.broadcast_to(r, (len(r), steps)) for r in rows])
        x = clear(x, padding)
    return x, cleared if named else cleared[""]
