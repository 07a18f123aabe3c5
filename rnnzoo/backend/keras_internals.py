"""Every private name of Keras that rnnzoo uses, so that a new Keras breaks this file alone.

Beside each stands the public way that would replace it. All were run with Keras 3.15.1 and with
keras-nightly 3.16.0.dev2026102704 (`make test-next`). Each is imported from the module that
defines it: what `keras.src.backend` hands on differs between the two.
"""

import contextlib
import functools
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

# Lets a tokenizer of keras-hub read the files that were saved with a model, as it may in an archive
# of its own. Publicly `keras.config.enable_unsafe_deserialization`, which cannot be undone.
from keras.src.saving.serialization_lib import SafeModeScope

# A data set of this class is read as it is. Publicly a `PyDataset`, whose batches Keras shuffles
# and expects to be as long as the first two.
from keras.src.trainers.data_adapters import data_adapter_utils
from keras.src.trainers.data_adapters.data_adapter import DataAdapter
from keras.src.trainers.trainer import model_supports_jit

__all__ = [
    "LentState",
    "TrainerState",
    "apply_summed",
    "as_only_batch",
    "compiled_losses",
    "compiled_metrics",
    "AutocastScope",
    "DataAdapter",
    "SafeModeScope",
    "compute_output_spec",
    "dropout_masks_of",
    "every_layer",
    "get_keras_mask",
    "grouped",
    "run_graph",
    "set_keras_mask",
    "supports_xla",
    "taken_at_once",
    "untrack",
]


def every_layer(model: keras.Model) -> Iterator[Any]:
    """The layers in `model` at any depth. Publicly `model.layers`, which are the outermost."""
    return model._flatten_layers()


def supports_xla(model: keras.Model) -> bool:
    """Whether no layer of `model` and no setting of TensorFlow forbids XLA.

    Publicly `jit_compile`, set to True, which warns where it cannot be.
    """
    return model_supports_jit(model)


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

    @property
    def own_strategy(self) -> Any:
        """The `tf.distribute` strategy that the model was made under, or None.

        Publicly `distribute_strategy`, which is the strategy of now where it was made under none.
        """
        return self._distribute_strategy

    def build_from_batch(self, build: Callable, **data: Any) -> None:
        """Call `build(**data)`, which builds what is not built from the first batch of a `fit`."""
        build(**data)

    def _maybe_symbolic_build(self, **data: Any) -> None:
        self.build_from_batch(super()._maybe_symbolic_build, **data)


class LentState:
    """The values that Keras has taken out of the variables for the time of a pass (JAX).

    A mix-in for `keras.Model`. Publicly only `jax_state_sync`, which puts them back.
    """

    _jax_state: dict | None = None

    @property
    def lent(self) -> dict:
        """Values by kind, `trainable_variables` and so on; empty where all are in place."""
        return {} if self._jax_state is None or self._jax_state_synced else self._jax_state

    def lend(self, values: dict) -> None:
        """Say what the values, by kind, are now."""
        # As attributes, Keras would wrap each list anew to track it, at every batch.
        vars(self).update(_jax_state=values, _jax_state_synced=False)

    def take_values(self, take: Callable, kinds: list, emptied: bool) -> tuple:
        """`take()`, which reads the values of `kinds`, and leaves none behind if `emptied`."""
        return take()

    def _get_jax_state(self, purge_model_variables: bool = False, **wanted: bool) -> tuple:
        take = functools.partial(
            super()._get_jax_state, purge_model_variables=purge_model_variables, **wanted
        )
        kinds = [kind for kind, is_wanted in wanted.items() if is_wanted]
        return self.take_values(take, kinds, purge_model_variables)


def untrack(layer: Any, variable: keras.Variable) -> None:
    """Let `layer` forget `variable`, its weight. Publicly none: what a layer made is its own."""
    layer._untrack_variable(variable)


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
    return batches if not steps else data_adapter_utils.super_batch_iterator(batches, steps)


def as_only_batch(model: keras.Model, batch: tuple) -> Any:
    """`batch` as a compiled step of `model` on JAX reads one that is alone.

    Where `steps_per_execution` is above 1, Keras 3.16 would take its rows for batches. Publicly
    `train_on_batch` and its like, in which that is so.
    """
    alone = getattr(data_adapter_utils, "PartialBatchList", None)
    return batch if alone is None or model.steps_per_execution == 1 else alone([batch])


def taken_at_once(model: keras.Model) -> int:
    """How often a compiled step of `model` on JAX asks its iterator: 3.16 stacks the batches."""
    stacked = hasattr(data_adapter_utils, "super_batch_iterator")
    return 1 if stacked else model.steps_per_execution
