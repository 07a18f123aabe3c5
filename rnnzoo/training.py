"""`fit`, `evaluate` and `predict` of the shell: streams are read in order, carries made ready."""

import contextlib
import os
import pathlib
import threading
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from rnnzoo import backend, inputs
from rnnzoo.carry import Carry
from rnnzoo.compiling import Configured
from rnnzoo.feeding import Feed, refuse_shuffling, refuse_with_dataset
from rnnzoo.spreading import dividing, refuse_prediction, spread
from rnnzoo.streaming import predict_stream
from rnnzoo.windows import Cut


class SequenceTraining(Configured, backend.WindowedTraining, keras.Model):
    """A Keras model whose training methods know about lanes, windows and resets.

    A subclass has `form`, `initial_state`, `check_inputs(x, lanes)`, and the carries
    `training_carry` and `evaluation_carry`.
    """

    def __init__(self, **kwargs: Any):
        # Keras would cast states that come with a batch to half precision, under a mixed policy.
        super().__init__(**{"autocast": False, **kwargs})
        self._cuts = threading.local()  # replicas are traced in threads of their own
        self._only_shapes = False
        self.generators: dict = {}  # compiled functions of `generate`

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: Any = "auto",
        callbacks: Any = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool | None = None,
        class_weight: Any = None,
        sample_weight: Any = None,
        **kwargs: Any,
    ) -> keras.callbacks.History:
        """The history of training, as `keras.Model.fit`.

        `shuffle` is True by default for whole sequences, and never for batches that carry
        state.

        Raises:
            ValueError: a batch that does not fit the model or the carry; shuffled streams.
        """
        with self._configured(callbacks, trains=True):
            data = self._feed(x, y, sample_weight, batch_size, kwargs.get("steps_per_epoch"))
            refuse_with_dataset(data, class_weight=class_weight)
            if data.streaming:
                refuse_shuffling(shuffle, validation_split)
            if validation_data is not None:
                validation_data = self._validation(validation_data, batch_size, kwargs)
            if data.streaming or self.truncation is not None:
                self._prepare(self.training_carry, data.lanes)
            if self.truncation is not None or self.backup is not None or self.spread:
                # Loops over windows, backups and replicas need all metrics and optimizer slots.
                self._symbolic_build(data_batch=data.first)
            given = {
                "x": data.x,
                "y": y,
                "batch_size": batch_size,
                "epochs": epochs,
                "verbose": verbose,
                "callbacks": callbacks,
                "validation_split": validation_split,
                "validation_data": validation_data,
                "shuffle": not data.streaming if shuffle is None else shuffle,
                "class_weight": class_weight,
                "sample_weight": sample_weight,
                **kwargs,
            }
            if self.backup is not None:
                return self.backup.fit(self, super().fit, data, given)
            return super().fit(**given)

    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        verbose: Any = "auto",
        sample_weight: Any = None,
        steps: int | None = None,
        callbacks: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Loss and metrics, as `keras.Model.evaluate`, from the initial state on."""
        options = {"verbose": verbose, "steps": steps, "callbacks": callbacks, **kwargs}
        if kwargs.get("_use_cached_eval_dataset"):  # the validation of `fit`, prepared there
            self._restart(self.evaluation_carry)
            return super().evaluate(
                x, y, batch_size=batch_size, sample_weight=sample_weight, **options
            )
        with self._configured(callbacks):
            data = self._feed_evaluation(x, y, sample_weight, batch_size, steps)
            if self.spread:
                self._symbolic_build(data_batch=data.first)
            return super().evaluate(
                data.x, y, batch_size=batch_size, sample_weight=sample_weight, **options
            )

    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: Any = "auto",
        steps: int | None = None,
        callbacks: Any = None,
    ) -> np.ndarray:
        """Outputs as `keras.Model.predict`, from the initial state on.

        One-to-one outputs of batches that carry state are joined along time, lane by lane:
        `(lanes, all steps, outputs)`.
        """
        with self._configured(callbacks):
            data = self._feed_evaluation(x, None, None, batch_size, steps)
            refuse_prediction()
            if data.streaming and self.form == "one_to_one":
                given = inputs.callback_list(callbacks)
                return predict_stream(self, data, verbose, steps, given)
            return super().predict(
                data.x, batch_size=batch_size, verbose=verbose, steps=steps, callbacks=callbacks
            )

    def train_on_batch(self, x: Any, y: Any = None, **kwargs: Any) -> Any:
        """Metrics of one update on one batch, as `keras.Model.train_on_batch`."""
        with self._configured(None, trains=True):
            self._prepare_batch(self.training_carry, x)
            return super().train_on_batch(x, y, **kwargs)

    def test_on_batch(self, x: Any, y: Any = None, **kwargs: Any) -> Any:
        """Metrics of one batch, as `keras.Model.test_on_batch`."""
        with self._configured(None):
            self._prepare_batch(self.evaluation_carry, x)
            return super().test_on_batch(x, y, **kwargs)

    def predict_on_batch(self, x: Any) -> np.ndarray:
        """Outputs of one batch, as `keras.Model.predict_on_batch`."""
        refuse_prediction()
        self._prepare_batch(self.evaluation_carry, x)
        return super().predict_on_batch(x)

    def export(
        self,
        filepath: str | os.PathLike,
        format: str = "tf_saved_model",
        overwrite: bool = False,
        **options: Any,
    ) -> pathlib.Path:
        """The path of the folder written; see `rnnzoo.export`."""
        from rnnzoo.export import export  # which needs this module

        return export(self, filepath, format, overwrite, **options)

    def unpack(self, data: Any) -> Any:
        """The batch that a training step works on, made from the one that the user gives."""
        return data

    @contextlib.contextmanager
    def cutting(self, cut: Cut | None) -> Iterator[None]:
        """Inside, `call` runs its batch as the window `cut`."""
        before, self._cuts.now = self._cut, cut
        try:
            yield
        finally:
            self._cuts.now = before

    @property
    def _cut(self) -> Cut | None:
        return getattr(self._cuts, "now", None)

    def _symbolic_build(self, **kwargs: Any) -> None:
        # Keras builds metrics from an evaluation of the first training batch, which has other
        # lanes than the evaluation carry.
        self._only_shapes = True
        try:
            super()._symbolic_build(**kwargs)
        finally:
            self._only_shapes = False

    def _feed(self, x: Any, y: Any, weight: Any, batch_size: Any, steps: Any) -> Feed:
        return spread(x, y, weight, batch_size, self.reset_every, self.check_inputs, steps)

    def _feed_evaluation(self, x: Any, y: Any, weight: Any, batch_size: Any, steps: Any) -> Feed:
        data = self._feed(x, y, weight, batch_size, steps)
        if data.streaming:
            self._prepare(self.evaluation_carry, data.lanes)
        self._restart(self.evaluation_carry)
        return data

    def _validation(self, given: Any, batch_size: Any, options: dict) -> Any:
        batch_size = options.get("validation_batch_size") or batch_size
        steps = options.get("validation_steps")
        if not isinstance(given, (tuple, list)):
            return self._feed_evaluation(given, None, None, batch_size, steps).x
        x, y, weight = keras.utils.unpack_x_y_sample_weight(tuple(given))
        return self._feed_evaluation(x, y, weight, batch_size, steps).x, y, weight

    def _prepare(self, carry: Carry, lanes: int) -> None:
        lanes *= backend.share()[1]  # those that other processes feed
        if carry.prepare(lanes, self.initial_state(lanes)):
            # Compiled functions hold the variables of the old carry.
            self.train_function = self.test_function = self.predict_function = None

    def _prepare_batch(self, carry: Carry, x: Any) -> None:
        carries = inputs.carries_state(x)
        lanes = carry.lanes // backend.share()[1]
        dividing(self.check_inputs)(x, lanes if carries and lanes else None)
        if carries and not carry.lanes:
            self._prepare(carry, inputs.rows_of(x))

    def _restart(self, carry: Carry) -> None:
        if carry.lanes:
            carry.assign(self.initial_state(carry.lanes))
