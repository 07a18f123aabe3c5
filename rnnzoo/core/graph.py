"""A Keras model as a graph of layer calls: walked with other layers in the places of its own."""

import inspect
import tempfile
from collections.abc import Callable, Container, Iterable, Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from rnnzoo.backend.keras_internals import every_layer, run_graph
from rnnzoo.layers.recurrent import RecurrentLayer

_OWN = ("call", "train_step", "test_step", "predict_step", "compute_loss", "compute_metrics")

# What a call of a stock recurrent layer may have beside its sequence, in order.
_ARGUMENTS = ("initial_state", "mask", "training")


def is_graph(model: Any) -> bool:
    """Whether `model` is its layers and how they are called: Functional or Sequential.

    A subclass that calls them or is trained in a way of its own is more than that.
    """
    if not isinstance(model, (keras.Sequential, keras.Function)):
        return False
    methods = (getattr(type(model), name, None) for name in _OWN)
    return all(one is None or one.__module__.split(".")[0] == "keras" for one in methods)


def is_recurrent(layer: Any) -> bool:
    """Whether a layer runs a cell over time."""
    return isinstance(layer, (keras.layers.RNN, RecurrentLayer))


def opened(layer: Any) -> bool:
    """Whether a walk goes into `layer`: a model in which there are recurrent layers."""
    return is_graph(layer) and any(map(is_recurrent, every_layer(layer)))


def walk(model: keras.Model, inputs: list, call: Callable, path: tuple = ()) -> Any:
    """The outputs of `model` for `inputs`, each of its layers called by `call`.

    Models within it that have recurrent layers are walked through as well.

    Args:
        model: a model of which `is_graph` is true.
        inputs: what takes the places of `model.inputs`, in their order.
        call: `(path, layer, *args, **kwargs) -> outputs`, `path` the names of the models in
            which the layer is.
    """

    def called(layer: Any, *args: Any, **kwargs: Any) -> Any:
        if not opened(layer):
            return call(path, layer, *args, **kwargs)
        given, training = _named(layer, args, kwargs)
        return walk(layer, given, _while(training, call), (*path, layer.name))

    if not isinstance(model, keras.Sequential):
        return run_graph(model, inputs, called)
    (x,) = inputs
    for layer in model.layers:
        x = called(layer, x)
    return x


def layers_of(model: keras.Model) -> Iterator[Any]:
    """The layers and operations that a walk of `model` calls, each as often as it is met."""
    parts = model.layers if isinstance(model, keras.Sequential) else model.operations
    for layer in parts:
        if opened(layer):
            yield from layers_of(layer)
        elif not isinstance(layer, keras.layers.InputLayer):
            yield layer


def _named(model: keras.Model, args: tuple, kwargs: dict) -> tuple[list, Any]:
    """The inputs of a call of a model in the order of `model.inputs`, and its `training`."""
    given = args[0] if args else kwargs["inputs"]
    training = kwargs.get("training", args[1] if len(args) > 1 else None)
    if isinstance(given, dict) and not isinstance(model.input, dict):
        return [given[tensor.name] for tensor in model.inputs], training
    return keras.tree.flatten(given), training


def _while(training: Any, call: Callable) -> Callable:
    """`call`, in which layers that were not told otherwise are told `training`."""
    if training is None:
        return call

    def told(path: tuple, layer: Any, *args: Any, **kwargs: Any) -> Any:
        takes = "training" in inspect.signature(layer.call).parameters
        if takes and kwargs.get("training") is None:
            kwargs["training"] = training
        return call(path, layer, *args, **kwargs)

    return told


def recurrent_arguments(args: tuple, kwargs: dict) -> tuple[Any, dict[str, Any]]:
    """The sequence of a stock recurrent layer's call, and the rest of its arguments by name."""
    named = dict(zip(("sequences", *_ARGUMENTS), args)) | kwargs
    sequence = named.pop("sequences" if "sequences" in named else "sequence")
    return sequence, {name: named.get(name) for name in _ARGUMENTS}


class Copies:
    """Copies of layers, one for each layer however often it is called, with its weights.

    Args:
        make: `(layer, name) -> copy`, without weights; None for a copy by its configuration.
        names: those that copies must not have.

    Raises:
        ValueError: a layer that cannot be copied, or that does not take its weights.
    """

    def __init__(self, make: Callable[[Any, str], Any], names: Iterable[str] = ()):
        self.make = make
        self.made: dict[int, tuple[Any, Any]] = {}
        self.names: set[str] = set(names)
        self.filled: set[int] = set()

    def of(self, layer: Any, path: tuple) -> Any:
        """The copy of `layer`, which has its name, after those of `path` where that is taken."""
        if id(layer) not in self.made:
            name = layer.name
            if name in self.names:
                name = free_name("_".join((*path, name)), self.names)
            self.names.add(name)
            self.made[id(layer)] = layer, self._made(layer, name)
        return self.made[id(layer)][1]

    def fill(self, layer: Any) -> None:
        """Move the weights of `layer` to its copy, which has been called."""
        if id(layer) in self.filled or not isinstance(layer, keras.Layer):
            return
        self.filled.add(id(layer))
        weights, copy = layer.get_weights(), self.made[id(layer)][1]
        try:
            copy.set_weights(weights)
            for part, own in zip(every_layer(layer), every_layer(copy)):
                if type(part) is type(own):
                    _move_more(part, own)
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"the layer {layer.name!r} cannot be converted: its copy does not take its "
                f"weights ({error})"
            ) from error

    def _made(self, layer: Any, name: str) -> Any:
        try:
            made = self.make(layer, name)
            return _by_config(layer, name) if made is None else made
        except (NotImplementedError, TypeError) as error:
            raise ValueError(
                f"the layer {layer.name!r} ({type(layer).__name__}) cannot be copied, for which "
                f"it needs get_config and from_config: {error}"
            ) from error


def _move_more(layer: Any, copy: Any) -> None:
    """Move what `layer` has beside weights, as a vocabulary, in the way that Keras saves it."""
    if type(layer).load_own_variables is not keras.Layer.load_own_variables:
        store: dict[str, Any] = {}
        layer.save_own_variables(store)
        # Two variables of one array would lose it together, where JAX writes over it.
        copy.load_own_variables(
            {key: np.array(ops.convert_to_numpy(value)) for key, value in store.items()}
        )
    if hasattr(layer, "save_assets") and hasattr(layer, "load_assets"):
        with tempfile.TemporaryDirectory() as folder:
            layer.save_assets(folder)
            copy.load_assets(folder)


def _by_config(layer: Any, name: str) -> Any:
    """A copy of a layer or an operation, of the same class and configuration."""
    if is_graph(layer):
        return keras.models.clone_model(layer)
    config = {**layer.get_config(), "name": name}
    if type(layer) is keras.layers.Lambda:  # its function has no need of being written down
        if isinstance(config.get("output_shape"), dict):
            raise ValueError(
                f"the layer {layer.name!r} has a function for its output_shape, which cannot be "
                "copied; give the shape itself"
            )
        config |= {"function": layer.function, "arguments": layer.arguments}
        return keras.layers.Lambda(**config)
    return built_like(layer, type(layer).from_config(config))


def built_like(layer: Any, copy: Any) -> Any:
    """`copy` with weights of the shapes that `layer` has, where it can be known before a call."""
    if isinstance(layer, keras.Layer) and layer.built:
        config = layer.get_build_config()
        if config:
            copy.build_from_config(config)
    return copy


def free_name(name: str, taken: Container[str]) -> str:
    """`name`, with a number where it is taken."""
    found, count = name, 0
    while found in taken:
        count += 1
        found = f"{name}_{count}"
    return found


def copied_cell(cell: Any) -> Any:
    """A cell of the same class and configuration, without its weights."""
    if isinstance(cell, keras.layers.StackedRNNCells):
        return [copied_cell(part) for part in cell.cells]
    return type(cell).from_config(cell.get_config())
