"""Training that goes wrong is stopped, with the model as it was while all was well."""

import math
import warnings
from typing import Any

import keras
import numpy as np
from keras import ops

from rnnzoo import _checks, backend
from rnnzoo.training.backup.memory import Memory
from rnnzoo.training.callbacks import SequenceCallback

# Batches whose largest loss is what a loss is measured by.
_FIRST = 3


class StopOnDivergence(SequenceCallback, keras.callbacks.TerminateOnNaN):
    """A callback that stops training at the first bad batch, names it, and goes back before it.

    A batch is bad where its loss is not finite or explodes, or where weights or carried states
    are not finite after it. `keras.callbacks.TerminateOnNaN`, on which this is built, looks at
    the mean loss of the epoch, and leaves the model spoiled.

    Weights, optimizer, seeds and carried states go back to the last backup of
    `BackupAndResume`, from which the same script would go on, or else to a copy in memory. A
    backup or copy counts as good once the batch after it was: one made just before the bad
    batch may hold what made it bad, and gets the ending `.diverged`, if there is an older one.

    A warning names the batch and its epoch, both from 0, the reason and the place gone back
    to. A loss scale that falls (`mixed_float16`) is no divergence: the batch changes no weight.

    Args:
        factor: a loss explodes where it is more than `factor` times the largest of the first
            three batches, a number above 1; None looks for infinity and NaN only. Losses that
            are not above 0 never explode.
        every: batches from one copy in memory to the next; None takes as many as need no more
            than 2 % of the time. Without meaning where `BackupAndResume` is.
        raise_error: raise a RuntimeError instead of warning, after the model has gone back.

    Raises:
        ValueError: factor or every out of range; a model that is not of rnnzoo.

    Example:

    >>> import warnings, numpy as np, rnnzoo
    >>> model = rnnzoo.one_to_one(features=1, units=4, outputs=1)
    >>> model.compile("adam", "mse")
    >>> x = np.zeros((8, 20, 1), "float32")
    >>> x[6] = np.nan
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     history = model.fit(x, x, batch_size=2, shuffle=False, verbose=0,
    ...                         callbacks=[rnnzoo.StopOnDivergence()])
    >>> str(caught[-1].message)[:64]
    'training was stopped at batch 3 of epoch 0, whose loss is nan. W'
    """

    kept_in_backup = ("first", "seen")

    def __init__(
        self, factor: float | None = 10.0, every: int | None = None, raise_error: bool = False
    ):
        super().__init__()
        self.raise_error = _checks.flag("raise_error", raise_error)
        real = isinstance(factor, (int, float)) and not isinstance(factor, bool)
        if factor is not None and not (real and 1 < factor < math.inf):
            raise ValueError(
                f"factor must be a number above 1, or None; received factor={_checks.shown(factor)}"
            )
        self.factor = factor
        self.every = None if every is None else _checks.positive_integer("every", every)
        self.backup_run: Any = None  # of BackupAndResume, where it is in use
        self.memory: Memory | None = None

    def on_train_begin(self, logs: dict | None = None) -> None:
        self.backup_run = self.memory = None
        self.first: list[float] = []
        self.seen: list[list[float]] | None = None

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.epoch, self.seen = epoch, None

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        self.begun = batch
        if self.backup_run is None and self.memory is None:
            self.memory = Memory(self.model, self.every)

    def on_batch_end(self, batch: int, logs: dict | None = None) -> None:
        reason = self._reason(self._loss())
        if reason is None:
            if self.memory is not None:
                self.memory.note(self.model)
            return
        place = (self.backup_run or self.memory).go_back(self.model)
        several = f"one of batches {self.begun} to {batch}"
        which = f"batch {batch}" if self.begun == batch else several
        text = (
            f"training was stopped at {which} of epoch {self.epoch}, {reason}. Weights, optimizer "
            f"and states are {place}. Look at that batch, clip gradients (global_clipnorm) or "
            "lower the learning rate."
        )
        self.model.stop_training = True
        if self.raise_error:
            raise RuntimeError(text)
        warnings.warn(text, stacklevel=2)

    def _loss(self) -> float | None:
        """The loss of what was trained last: Keras tells the mean over the epoch so far."""
        tracker = self.model.loss_tracker
        sums = [
            np.sum(backend.values_of(v), axis=0, dtype="float64")
            for v in (tracker.totals, tracker.counts)
        ]
        before = self.seen or [np.zeros_like(part) for part in sums]
        self.seen = [part.tolist() for part in sums]
        totals, counts = (now - np.asarray(was) for now, was in zip(sums, before))
        return float(tracker.of(totals, counts)) if counts.any() else None

    def _reason(self, loss: float | None) -> str | None:
        """What is wrong with the batch; None for a good one, which is then counted."""
        if loss is not None and not math.isfinite(loss):
            return f"whose loss is {loss:g}"
        if loss is not None and len(self.first) == _FIRST and self.factor is not None:
            most = max(self.first)
            if most > 0 and loss > self.factor * most:
                return f"whose loss of {loss:.4g} is more than {self.factor:g} times {most:.4g}"
        for what, variables in (
            ("weights", self.model.trainable_variables),
            ("states", self.model.training_carry.variables),
        ):
            if variables and not _finite(variables):
                return f"after which {what} are not finite"
        if loss is not None and len(self.first) < _FIRST:
            self.first = [*self.first, loss]
        return None


def _finite(variables: list) -> bool:
    """Whether all float variables are finite; one answer is fetched from the device."""
    floats = [v for v in variables if "float" in keras.backend.standardize_dtype(v.dtype)]
    parts = [ops.all(ops.isfinite(ops.convert_to_tensor(v))) for v in floats]
    return bool(ops.convert_to_numpy(ops.all(ops.stack(parts)))) if parts else True
