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
    steps = {t.shape[1] for t in _symbols((args, kwargs)) if id(t) in timed} - {None}
    steps = steps.pop() if len(steps) == 1 else STEPS
    symbols = keras.tree.flatten(like)
    fitting = [len(y.shape) > 1 and y.shape[1] in (None, steps) for y in symbols]
    rng = np.random.default_rng(0)
    values = {id(t): _random(rng, t, steps, layer) for t in _symbols((args, kwargs))}

    _shake(layer, rng)

    def run(part: slice) -> list[np.ndarray]:
        def value(x: Any) -> Any:
            if not isinstance(x, keras.KerasTensor):
                return x
            return values[id(x)][:, part] if id(x) in timed else values[id(x)]

        own_args, own_kwargs = keras.tree.map_structure(value, (args, kwargs))
        outputs = keras.tree.flatten(layer(*own_args, **own_kwargs))
        return [ops.convert_to_numpy(y).astype("float64") for y in outputs]

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
