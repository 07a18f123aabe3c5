"""Every private name of Keras that rnnzoo uses, so that a new Keras breaks this file alone.

Beside each stands the public way that would replace it. All were run with Keras 3.15.1 and with
keras-nightly 3.16.0.dev2026102704 (`make test-next`). Each is imported from the module that
defines it: what `keras.src.backend` hands on differs between the two.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras

# Calls the step function on symbols. `keras.Operation.compute_output_spec` is public, but puts
# another text in the place of what the caller's function raises.
from keras.src.backend import compute_output_spec

# A mask that a tensor brings along for the loss and the metrics. Publicly only a layer's
# `compute_mask` sets one, and only in a Functional model.
from keras.src.backend.common.masking import get_keras_mask, set_keras_mask

# Reads weights in full precision under a mixed policy. Publicly `add_weight(autocast=False)`,
# which the stock layers' cells do not pass on.
from keras.src.backend.common.variables import AutocastScope

# A data set of this class is read as it is. Publicly a `PyDataset`, whose batches Keras shuffles
# and expects to be as long as the first two.
from keras.src.trainers.data_adapters.data_adapter import DataAdapter

__all__ = [
    "TrainerState",
    "apply_summed",
    "compiled_losses",
    "compiled_metrics",
    "AutocastScope",
    "DataAdapter",
    "compute_output_spec",
    "dropout_masks_of",
    "every_layer",
    "get_keras_mask",
    "grouped",
    "run_graph",
    "set_keras_mask",
]


def every_layer(model: keras.Model) -> Iterator[Any]:
    """The layers in `model` at any depth. Publicly `model.layers`, which are the outermost."""
    return model._flatten_layers()


def run_graph(model: keras.Model, inputs: list, call: Callable) -> Any:
    """The outputs of a Functional `model` for `inputs`, each of its layers called by `call`.

    Args:
        model: the model.
        inputs: what takes the places of `model.inputs`, in their order.
        call: `(layer, *args, **kwargs) -> outputs`, one for each place in the graph.

    Publicly `keras.models.clone_model(call_function=)`, whose result may have no inputs more.
    """
    return model._run_through_graph(inputs, call_fn=call)


def compiled_losses(compile_loss: Any, y: Any, y_pred: Any) -> list:
    """`(path, loss, weight, name)` of every loss of `compile`.

    Publicly a `compute_loss` of one's own, which cannot know what `compile` was given.
    """
    if not compile_loss.built:
        compile_loss.build(y, y_pred)
    return list(compile_loss._flat_losses)


def compiled_metrics(compile_metrics: Any, y: Any, y_pred: Any) -> Iterator[tuple]:
    """`(metric, y, y_pred, place, weighted)` of every metric of `compile`, `place` its output's.

    Publicly `CompileMetrics.update_state`, which takes steps of one row for one sample.
    """
    if not compile_metrics.built:
        compile_metrics.build(y, y_pred)
    flat = compile_metrics._flatten_y(y), compile_metrics._flatten_y(y_pred)
    groups = compile_metrics._flat_metrics, compile_metrics._flat_weighted_metrics
    for weighted, group in enumerate(groups):
        for place, (found, one_y, one_pred) in enumerate(zip(group, *flat)):
            for metric in found.metrics if found else ():
                yield metric, one_y, one_pred, place, bool(weighted)


class TrainerState:
    """What Keras's `Trainer` keeps for itself and a model of rnnzoo looks at or sets.

    A mix-in for `keras.Model`. Publicly there is `metrics`, in which the loss comes first.
    """

    def compiled_parts(self) -> tuple[Any, Any]:
        """The losses and the metrics of `compile`, each None where none were given."""
        return self._compile_loss, self._compile_metrics

    def set_loss_tracker(self, tracker: keras.metrics.Metric) -> None:
        """Let `tracker` tell the loss, in logs and history."""
        vars(self)["_loss_tracker"] = tracker  # as an attribute it would be told twice

    @property
    def loss_tracker(self) -> keras.metrics.Metric:
        """What tells the loss."""
        return self._loss_tracker


def apply_summed(optimizer: Any, gradients: list, variables: list) -> None:
    """`optimizer.apply` with gradients that all replicas have summed already (TensorFlow).

    Keras sums last, so that each replica would clip its own part. Publicly none: the sum cannot
    be left out. For the time of the call it is the identity.
    """
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    inner._all_reduce_sum_gradients = list
    try:
        optimizer.apply(gradients, variables)
    finally:
        vars(inner).pop("_all_reduce_sum_gradients", None)  # replicas are traced in turns


# Where Keras's cells keep the masks that they have drawn. Publicly only to be drawn and dropped
# (`get_dropout_mask`, `reset_dropout_mask`), not to be set again, where a loop's gradient runs a
# step once more.
_MASKS = ("_dropout_mask", "_recurrent_dropout_mask")


@contextlib.contextmanager
def dropout_masks_of(masks: Sequence[tuple[Any, tuple]]) -> Iterator[Callable[[], list]]:
    """Inside, these cells have these dropout masks; what is handed over reads those they have."""
    for cell, own in masks:
        for name, mask in zip(_MASKS, own or (None, None)):
            setattr(cell, name, mask)
    try:
        yield lambda: [(cell, tuple(getattr(cell, name) for name in _MASKS)) for cell, _ in masks]
    finally:
        for cell, _ in masks:
            cell.reset_dropout_mask()
            cell.reset_recurrent_dropout_mask()


def grouped(batches: Iterator[tuple], steps: int | None) -> Iterator:
    """`batches` as Keras 3.16 reads them on JAX, `steps` stacked at a time; 3.15 gives no number.

    Publicly a `PyDataset`, as above.
    """
    if not steps:
        return batches
    from keras.src.trainers.data_adapters.data_adapter_utils import super_batch_iterator

    return super_batch_iterator(batches, steps)
