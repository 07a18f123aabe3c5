"""One `fit` that may be stopped at any moment: where it stands, and what happens on the way."""

import time
import warnings
from collections.abc import Callable
from typing import Any

import keras

from rnnzoo import backend
from rnnzoo.training.backup import folders, record, snapshot
from rnnzoo.training.backup.memory import SHARE
from rnnzoo.training.backup.record import Position
from rnnzoo.training.backup.remembered import Remembered, files_kept
from rnnzoo.training.backup.sources import Source


class Run(keras.callbacks.CallbackList):
    """The callbacks of a `fit` that goes on from a backup and makes new ones.

    A list, so that a backup is made after all callbacks have had their turn, and the batches of
    a begun epoch keep their numbers. Keras can begin no epoch in its middle: what is left of
    one is a `fit` of its own, and its begin and end are kept from the callbacks.

    Args:
        folder: where backups go.
        every: batches (int) or time (`datetime.timedelta`) from one to the next.
        source: the data.
        saved: the backup to go on from, None to begin.
        callbacks: those that `fit` was given.
        **params: as `keras.callbacks.CallbackList`.
    """

    def __init__(
        self, folder: Any, every: Any, source: Source, saved: Any, callbacks: list, **params: Any
    ):
        super().__init__(callbacks, True, params["verbose"] != 0, **params)
        self.folder, self.every, self.source = folder, every, source
        self.remembered = Remembered(self.callbacks)
        self.position = Position()
        self.to_put: tuple | None = None  # (arrays, rest) that training must start with
        self.finished = self.begun = self.cut = self.diverged = False
        self.untrained: tuple | None = None  # to go back to where there is no backup yet
        self.at_end: tuple | None = None
        self.end_logs: dict | None = None
        self.last, self.cost, self.last_trained = time.monotonic(), 0.0, 0
        self.rate, self.new_rate = _learning_rate(self._model), False
        if saved is not None:
            snapshot.check(self._model, saved.arrays, saved.rest, saved.path)
            self.position = record.go_to(saved, source)
            self.to_put = saved.arrays, saved.rest
            self.finished = saved.rest["finished"]
            self.last_trained = self.position.trained
            self._look_at_rate(saved.rest["learning_rate"])

    def train(self, fit: Callable, given: dict) -> keras.callbacks.History:
        """What `fit(**given)` returns, from the position on."""
        epochs = given["epochs"]
        first = epochs if self.finished else min(self.position.epoch, epochs)
        given = {**given, "x": self.source.data, "callbacks": self}
        if self.position.batch and first < epochs:
            self.source.first = self.position.batch
            fit(**given | {"initial_epoch": first, "epochs": first + 1})
            self.source.first, first = 0, first + 1
            # At its end `fit` may put the averages that an optimizer keeps into the weights.
            self.to_put = self.at_end
        if not (self.begun and self._model.stop_training):
            fit(**given | {"initial_epoch": first})
        super().on_train_end(self.end_logs)
        return self._model.history

    def on_train_begin(self, logs: dict | None = None) -> None:
        if not self.begun:
            with files_kept(self.callbacks, None if self.to_put is None else self.position.epoch):
                super().on_train_begin(logs)
            self.remembered.begin()
            self._watch()
        self.begun = True
        self._put()

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        begun = self.source.first > 0
        if not begun:
            self.source.open(epoch)
        super().on_epoch_begin(epoch, logs)
        if begun:  # Keras has emptied the metrics; callbacks have had their turn before
            self._put()
        self.position = self.position._replace(epoch=epoch, batch=self.source.first)
        self.to_put = None

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        super().on_train_batch_begin(batch + self.source.first, logs)

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        batch = min(batch + self.source.first, self.source.batches - 1)
        super().on_train_batch_end(batch, logs)
        if self.diverged:
            return
        epoch, before, trained = self.position
        self.position = Position(epoch, batch + 1, trained + batch + 1 - before)
        if batch + 1 == self.source.batches:
            return  # the end of the epoch comes first
        self.cut = self._model.stop_training
        if self.cut or self._due():
            self._save()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        super().on_epoch_end(epoch, logs)
        if self.cut:
            return
        self.source.close()
        self.position = self.position._replace(epoch=epoch + 1, batch=0)
        stopped = [getattr(callback, "stopped_epoch", 0) for callback in self.callbacks]
        self.finished = any(stopped)
        last = epoch + 1 == self.params["epochs"] or self._model.stop_training
        if self.source.first:
            self.at_end = snapshot.take(self.model, self.remembered)
        if last or self._due():
            self._save()

    def on_train_end(self, logs: dict | None = None) -> None:
        self.end_logs = logs

    def go_back(self, model: keras.Model) -> str:
        """Set `model` to the last backup that is known to be good; the text says which that is.

        Nothing is backed up any more: the next run goes on from there.
        """
        self.cut = self.diverged = True
        folders.set_aside(self.folder, self.position.trained)
        saved = folders.newest(self.folder)
        if saved is None:
            snapshot.put(model, self.remembered, *self.untrained)
            return "those with which training began, as there is no backup yet"
        snapshot.put(model, self.remembered, saved.arrays, saved.rest)
        done = f"{saved.rest['batch']} batches of epoch {saved.rest['epoch']}"
        return f"those of the backup {str(saved.path)!r}, after {done}"

    def _watch(self) -> None:
        """Be at hand for callbacks that may want to go back."""
        watching = [callback for callback in self.callbacks if hasattr(callback, "backup_run")]
        for callback in watching:
            callback.backup_run = self
        if watching and self.to_put is None:
            self.untrained = snapshot.take(self._model, self.remembered)

    def _look_at_rate(self, before: float | None) -> None:
        """A learning rate that the script gives anew is meant; all else comes from the backup."""
        if self.rate is not None and self.rate != before:
            self.new_rate = True
            warnings.warn(
                f"training goes on with a learning rate of {self.rate:.6g}; the run that made the "
                f"backup began with {_shown(before)}",
                stacklevel=2,
            )

    def _put(self) -> None:
        if self.to_put is None:
            return
        arrays, rest = self.to_put
        snapshot.put(self.model, self.remembered, arrays, rest)
        if self.new_rate:
            _optimizer(self.model).learning_rate = self.rate

    def _due(self) -> bool:
        if isinstance(self.every, int):
            return self.position.trained - self.last_trained >= self.every
        passed = time.monotonic() - self.last
        return passed >= max(self.every.total_seconds(), self.cost / SHARE)

    def _save(self) -> None:
        """Make a backup; where that cannot be, say so and go on."""
        begin = time.monotonic()
        arrays, rest = snapshot.take(self.model, self.remembered)
        rest |= record.written(self.position, self.source, self.rate, self.finished)
        arrays["checksums"] = self.source.checksums(self.position.batch or self.source.batches)
        if not snapshot.finite(arrays, rest):
            _warn("weights or states are not finite", self.folder)
        else:
            try:
                if not backend.share()[0]:  # one process writes what all of them hold
                    folders.write(self.folder, self.position.trained, arrays, rest)
            except OSError as error:
                _warn(f"writing failed ({error.strerror or error})", self.folder)
        self.last, self.last_trained = time.monotonic(), self.position.trained
        self.cost = self.last - begin


def _warn(reason: str, folder: Any) -> None:
    warnings.warn(
        f"no backup was made in {str(folder)!r}: {reason}. Training goes on; those made before "
        "are as they were.",
        stacklevel=2,
    )


def _shown(rate: float | None) -> str:
    return "a schedule" if rate is None else f"{rate:.6g}"


def _optimizer(model: keras.Model) -> keras.optimizers.Optimizer:
    return getattr(model.optimizer, "inner_optimizer", model.optimizer)


def _learning_rate(model: keras.Model) -> float | None:
    """The learning rate that the optimizer was given; None for a schedule."""
    rate = _optimizer(model).get_config()["learning_rate"]
    return None if isinstance(rate, dict) else float(rate)
