"""Every private name of Keras that rnnzoo uses, so that a new Keras breaks this file alone.

Beside each stands the public way that would replace it. All were run with Keras 3.15.1 and with
keras-nightly 3.16.0.dev2026102704 (`make test-next`). Each is imported from the module that
defines it: what `keras.src.backend` hands on differs between the two.
"""

from collections.abc import Iterator
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

# The weights that a loss with a mask divides by. Publicly own arithmetic of the same rule.
from keras.src.losses.loss import apply_mask

# A data set of this class is read as it is. Publicly a `PyDataset`, whose batches Keras shuffles
# and expects to be as long as the first two.
from keras.src.trainers.data_adapters.data_adapter import DataAdapter

# The weight of each row by its class. Publicly a look-up by the targets.
from keras.src.trainers.data_adapters.data_adapter_utils import class_weight_to_sample_weights

__all__ = [
    "AutocastScope",
    "DataAdapter",
    "apply_mask",
    "class_weight_to_sample_weights",
    "compute_output_spec",
    "every_layer",
    "get_keras_mask",
    "grouped",
    "set_keras_mask",
]


def every_layer(model: keras.Model) -> Iterator[Any]:
    """The layers in `model` at any depth. Publicly `model.layers`, which are the outermost."""
    return model._flatten_layers()


def grouped(batches: Iterator[tuple], steps: int | None) -> Iterator:
    """`batches` as Keras 3.16 reads them on JAX, `steps` stacked at a time; 3.15 gives no number.

    Publicly a `PyDataset`, as above.
    """
    if not steps:
        return batches
    from keras.src.trainers.data_adapters.data_adapter_utils import super_batch_iterator

    return super_batch_iterator(batches, steps)
