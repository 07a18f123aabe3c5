"""`from_keras`: any Functional or Sequential model as a model of rnnzoo."""

from typing import Any

import keras

from rnnzoo import _checks
from rnnzoo.backend.keras_internals import every_layer
from rnnzoo.core.converted import converted
from rnnzoo.core.graph import is_graph, is_recurrent, layers_of
from rnnzoo.core.walked import STOCK, input_names
from rnnzoo.layers.recurrent import RecurrentLayer
from rnnzoo.models.recurrent_model import RecurrentModel

_RESERVED = {"reset", "mask", "lengths"}


def from_keras(model: keras.Model, *, name: str | None = None) -> RecurrentModel:
    """A `RecurrentModel` with the layers and weights of a Functional or Sequential Keras model.

    `LSTM`, `GRU`, `SimpleRNN` and `RNN(cell)` become their namesakes of `rnnzoo.layers`, every
    other layer is copied, shared layers stay shared, and outputs are the same. The result is
    fitted by truncated BPTT, carries state, is reset, stepped, backed up and exported as any
    model of rnnzoo. `model` stays as it is. The result is not compiled.

    * One input is called "inputs", one output "outputs"; several have their names in Keras, as
      batches have them: dicts by name. An input with the time axis of the outputs is per step;
      any other, an encoder's source too, is per sequence. Sizes of batch and time are opened.
    * `return_sequences=False` is many-to-one: `mask` or `lengths` come with the data, beside
      those that `Masking` and `Embedding(mask_zero=True)` find, which losses leave out as well.
    * `stateful` and `unroll` are left out: state is carried where batches bring a reset.
    * What cannot stop at a step and go on (`Bidirectional`, pooling, attention or convolution
      over time, `Flatten`, `go_backwards`, a decoder that starts from an encoder's state) is
      found by running each layer whole and cut in two, on random data. Such a model is trained
      on whole sequences; a reset, `step`, `ResetStates`, `TruncatedBPTT` and `generate` are
      refused with the names of those layers, which `spec.whole_only` has.

    Args:
        model: the Keras model, built.
        name: name of the result; that of `model` by default.

    Raises:
        ValueError: a subclassed model or one that is not built; no recurrent layer, or one
            whose cell has no copy here (`ConvLSTM2D`, a subclass of `LSTM`); a layer that
            cannot be copied, or whose copy gives other outputs; inputs of texts, or named
            "reset", "mask" or "lengths".

    Example:

    >>> import keras, numpy as np, rnnzoo
    >>> stock = keras.Sequential([
    ...     keras.Input((None, 3)), keras.layers.GRU(4, return_sequences=True),
    ...     keras.layers.Dense(2)])
    >>> model = rnnzoo.from_keras(stock)
    >>> y, state = model.step(np.zeros((5, 1, 3)), model.initial_state(5))
    >>> tuple(y.shape), sorted(name[-1] for name in state)
    ((5, 1, 2), ['h'])
    """
    _checks.label("name", name)
    _check(model)
    core, spec = converted(model)
    return RecurrentModel(core, spec, name=model.name if name is None else name)


def _check(model: Any) -> None:
    """ValueError unless `model` can be converted, as far as its layers say."""
    if not is_graph(model):
        kind = "a class" if isinstance(model, type) else f"{type(model).__name__}"
        raise ValueError(
            "from_keras takes a Functional or Sequential Keras model, whose layers and calls are "
            f"known; received {kind}. Of a subclassed model convert the parts that are such, or "
            "write a core of your own for rnnzoo.RecurrentModel."
        )
    if not model.built or not getattr(model, "inputs", None):
        raise ValueError(
            "from_keras takes a model that has its weights; received the Sequential "
            f"{model.name!r}, which is not built. Give it a keras.Input first, or call it once."
        )
    layers = list(layers_of(model))
    for layer in layers:
        _check_layer(layer)
    if not any(map(is_recurrent, every_layer(model))):
        raise ValueError(
            "from_keras takes a model with a recurrent layer (LSTM, GRU, SimpleRNN, RNN); "
            f"received {model.name!r} with {sorted({type(one).__name__ for one in layers})}"
        )
    names = input_names(model)
    for name, tensor in zip(names, model.inputs):
        if tensor.dtype == "string":
            raise ValueError(
                f"inputs must be numbers or tokens; received the input {name!r} of texts. Encode "
                "them before, as rnnzoo.data does, and leave their layer out"
            )
    if taken := sorted(_RESERVED & set(names)):
        raise ValueError(
            f"inputs must not be named {sorted(_RESERVED)}, which come beside them in a batch; "
            f"received {taken}"
        )
    if len(set(names)) < len(names):
        raise ValueError(f"inputs must have different names; received {names}")


def _check_layer(layer: Any) -> None:
    parts = list(every_layer(layer)) if isinstance(layer, keras.Layer) else []
    for part in parts:
        known = type(part) in STOCK or isinstance(part, RecurrentLayer)
        if isinstance(part, keras.layers.RNN) and not known:
            raise ValueError(
                "recurrent layers that have a namesake in rnnzoo are "
                f"{', '.join(kind.__name__ for kind in STOCK)}; received {part.name!r} of class "
                f"{type(part).__name__}. Write its cell by Keras's cell contract, for "
                "keras.layers.RNN(cell)."
            )
    if is_recurrent(layer) and getattr(layer, "zero_output_for_mask", False):
        raise ValueError(
            "zero_output_for_mask=True is not kept: padding gives the output of the step before "
            f"it; received it for {layer.name!r}. Leave it out, or multiply by the mask."
        )
    if isinstance(layer, keras.Model) and not is_graph(layer) and any(map(is_recurrent, parts)):
        raise ValueError(
            f"the layers of the subclassed model {layer.name!r} ({type(layer).__name__}) are not "
            "known, and there are recurrent ones among them; make it a Functional model (one of "
            "rnnzoo by its to_keras())"
        )
