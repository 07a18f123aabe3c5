"""Whether a layer can stop at any step and go on: its outputs whole against those cut in two.

Asked of one layer at a time, on random data, so that the layer can be named which cannot.
"""

from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

STEPS, AT, ROWS, SIZE = 7, 3, 2, 5  # odd, so that no pooling comes out even


class Found(NamedTuple):
    """What a layer does with time.

    Attributes:
        streams: whether its outputs cut in two are those of the whole.
        timed: for each output whether it has the steps of the inputs.
    """

    streams: bool
    timed: list[bool]


def cut_against_whole(layer: Any, args: tuple, kwargs: dict, timed: set[int], like: Any) -> Found:
    """What `layer` does with time, called on random data of such shapes.

    Its weights are others afterwards: of a kernel of zeros nothing could be seen.

    Args:
        layer: a layer or operation, built.
        args, kwargs: those of its call, with symbols for tensors.
        timed: the ids of the symbols whose second axis is time.
        like: its outputs for them, symbols.
    """
    rng = np.random.default_rng(0)
    steps, values = _drawn(rng, layer, args, kwargs, timed)
    symbols = keras.tree.flatten(like)
    fitting = [len(y.shape) > 1 and y.shape[1] in (None, steps) for y in symbols]

    _shake(layer, rng)

    def run(part: slice) -> list[np.ndarray]:
        cut = {key: v[:, part] if key in timed else v for key, v in values.items()}
        return _run(layer, args, kwargs, cut)

    try:
        whole = run(slice(None))
        if kwargs.get("training") and not all(map(_same, run(slice(None)), whole)):
            kwargs = {**kwargs, "training": False}  # as of a dropout that is always on
            whole = run(slice(None))
    except Exception:  # whatever a layer of another raises for random data
        return Found(False, fitting)
    own = [fits and y.shape[1] == steps for fits, y in zip(fitting, whole)]
    if steps < 2:
        return Found(True, own)
    at = min(AT, steps - 1)
    try:
        first, second = run(slice(at)), run(slice(at, None))
    except Exception:
        return Found(False, own)
    joined = [
        np.concatenate([a, b], axis=1) if has_time and a.ndim == b.ndim > 1 else b
        for a, b, has_time in zip(first, second, own)
    ]
    return Found(all(map(_same, joined, whole)), own)


def gives_the_same(layer: Any, copy: Any, args: tuple, kwargs: dict, timed: set[int]) -> bool:
    """Whether a copy of `layer` gives what it gives itself; True where it draws, or fails itself.

    Args:
        layer: a layer or operation, built, which stays as it is.
        copy: another with its weights.
        args, kwargs, timed: as for `cut_against_whole`.
    """
    _, values = _drawn(np.random.default_rng(0), copy, args, kwargs, timed)
    held = getattr(layer, "non_trainable_variables", ())
    before = [ops.copy(variable.value) for variable in held]
    try:
        wanted, again = (_run(layer, args, kwargs, values) for _ in range(2))
    except Exception:  # whatever a layer of another raises for random data
        return True
    finally:
        for variable, value in zip(held, before):
            variable.assign(value)
    if not all(map(np.array_equal, again, wanted)):
        return True
    try:
        return all(map(_same, _run(copy, args, kwargs, values), wanted))
    except Exception:
        return False


def _drawn(
    rng: np.random.Generator, layer: Any, args: tuple, kwargs: dict, timed: set[int]
) -> tuple[int, dict[int, Any]]:
    """How many steps there are, and random tensors for the symbols of a call by their ids."""
    steps = {t.shape[1] for t in _symbols((args, kwargs)) if id(t) in timed} - {None}
    steps = steps.pop() if len(steps) == 1 else STEPS
    return steps, {id(t): _random(rng, t, steps, layer) for t in _symbols((args, kwargs))}


def _run(layer: Any, args: tuple, kwargs: dict, values: dict[int, Any]) -> list[np.ndarray]:
    """The outputs of `layer`, flat, called with `values` in the places of the symbols."""
    given = keras.tree.map_structure(
        lambda x: values[id(x)] if isinstance(x, keras.KerasTensor) else x, (args, kwargs)
    )
    outputs = keras.tree.flatten(layer(*given[0], **given[1]))
    return [ops.convert_to_numpy(y).astype("float64") for y in outputs]


def _shake(layer: Any, rng: np.random.Generator) -> None:
    for weight in getattr(layer, "weights", ()):
        if "float" in weight.dtype:
            weight.assign(weight + rng.uniform(0.0, 0.2, weight.shape))


def _symbols(values: Any) -> list[keras.KerasTensor]:
    return [t for t in keras.tree.flatten(values) if isinstance(t, keras.KerasTensor)]


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two arrays agree as well as half precision would."""
    scale = max(1.0, float(np.max(np.abs(b), initial=0.0, where=np.isfinite(b))))
    return a.shape == b.shape and np.allclose(a, b, rtol=1e-2, atol=5e-3 * scale, equal_nan=True)


def _random(rng: np.random.Generator, symbol: Any, steps: int, layer: Any) -> Any:
    """A tensor of the shape and kind of `symbol`."""
    sizes = [SIZE if size is None else size for size in symbol.shape[1:]]
    if sizes and symbol.shape[1] is None:
        sizes[0] = steps
    shape = (ROWS, *sizes)
    if symbol.dtype == "bool":
        values = rng.random(shape) < 0.7
    elif isinstance(layer, keras.layers.Embedding):
        values = rng.integers(0, layer.input_dim, shape)
    elif "int" in symbol.dtype:
        values = rng.integers(0, 2, shape)
    else:
        values = rng.normal(size=shape)
    return ops.convert_to_tensor(values, dtype=symbol.dtype)
