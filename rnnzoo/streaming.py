"""Prediction over a stream, whose batches follow one another in time."""

from typing import Any

import keras
import numpy as np

from rnnzoo.feeding import Feed, batches_of


def predict_stream(
    model: keras.Model, data: Feed, verbose: Any, steps: int | None, callbacks: list
) -> np.ndarray:
    """The outputs of all batches joined along time, `(lanes, all steps, outputs)`.

    `keras.Model.predict` would put the batches below one another, and fail on a shorter last.
    """
    progress = keras.callbacks.CallbackList(
        callbacks,
        add_progbar=verbose != 0,
        verbose=1 if verbose == "auto" else verbose,
        epochs=1,
        steps=steps or data.batches,
        model=model,
    )
    progress.on_predict_begin()
    outputs = []
    for index, x in enumerate(batches_of(data, steps)):
        progress.on_predict_batch_begin(index)
        outputs.append(model.predict_on_batch(x))
        progress.on_predict_batch_end(index, {"outputs": outputs[-1]})
    progress.on_predict_end()
    return np.concatenate(outputs, axis=1)
