"""Callbacks that decide how a model is trained on sequences."""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from rnnzoo import _checks
from rnnzoo.training.settings import Settings
from rnnzoo.training.trainer import SequenceTrainer
from rnnzoo.training.windows import truncation


class SequenceCallback(keras.callbacks.Callback):
    """A callback that the shell asks for its settings before any data are read."""

    kept_in_backup: tuple = ()  # names of what it remembers from batch to batch

    def set_model(self, model: keras.Model) -> None:
        if not isinstance(model, SequenceTrainer):
            raise ValueError(
                f"{type(self).__name__} must be used with a model of rnnzoo (one_to_one, "
                f"many_to_one, encoder_decoder); received {type(model).__name__}"
            )
        super().set_model(model)

    def configure(self, model: SequenceTrainer, settings: Settings) -> Settings:
        """`settings` with what this callback wants; ValueError where `model` cannot have it."""
        return settings


class TruncatedBPTT(SequenceCallback):
    """A callback that trains by truncated back-propagation through time.

    Every `stride` steps the loss of the newest `stride` outputs is propagated back through at
    most `window` steps, and the optimizer takes one step (Williams & Peng, 1990; Sutskever,
    2013). All windows of a batch run in one compiled loop. The last window is trained too
    when it is short.

    * one-to-one: targets `(batch, time, ...)` are cut with the inputs. With `stride < window`
      the overlap is run again: more context for each output, `window / stride` times the work.
      Windows do not reach back into the batch before.
    * many-to-one: the last `window` valid steps of each row are trained; those before run
      forward only.

    With `burn_in`, the first steps of every batch have no loss and no gradient: they only run
    forward, so that the steps after them start from states as the present weights make them.
    It is for sequences that start from stored states, as an agent's replay memory has them
    (Kapturowski et al., 2019), or from nothing. Windows do not reach back into them, and history
    tells of the steps after them; validation and `evaluate` count all steps. A row of
    one-to-one that ends within them is trained on nothing.

    A batch without `reset` is a set of whole sequences. A batch with it goes on from the batch
    before (see `rnnzoo.data`). A window of at least all steps is full back-propagation.

    Each window is one step of the optimizer, so learning-rate schedules count windows. One
    whose steps all have weight 0 makes none. Loss and metrics are means over all steps of the
    epoch, or over their weights, as `evaluate` has them.

    Dropout masks are drawn anew for every window (with `stride < window`, for each of the two
    parts in which a window is run).

    Args:
        window: steps to propagate back through, an integer of at least 1.
        stride: steps between updates, 1 to `window`; `window` by default.
        burn_in: first steps of every batch that run forward only, an integer of at least 0.

    Raises:
        ValueError: window, stride or burn-in out of range; a model that is not of rnnzoo; a
            batch that is not longer than the burn-in, or of many-to-one has such a row; a
            burn-in of an encoder-decoder, whose source is what it reads beforehand.

    Example:

    >>> import numpy as np, rnnzoo
    >>> model = rnnzoo.one_to_one(features=1, units=4, outputs=1)
    >>> model.compile("adam", "mse")
    >>> x = np.zeros((2, 100, 1), "float32")
    >>> history = model.fit(x, x, verbose=0, callbacks=[rnnzoo.TruncatedBPTT(window=25)])
    >>> int(model.optimizer.iterations)     # one update for each window
    4
    """

    def __init__(self, window: int, stride: int | None = None, burn_in: int = 0):
        super().__init__()
        self.truncation = truncation(window, stride, burn_in)

    def configure(self, model: SequenceTrainer, settings: Settings) -> Settings:
        spec = model.spec
        spec.refuse_streams("TruncatedBPTT")
        if spec.uncut:
            raise ValueError(
                "TruncatedBPTT must be used with a model whose sequences may be cut; received one "
                f"of form {spec.form!r}: {spec.uncut}"
            )
        if model.decodes and self.truncation.burn_in:
            raise ValueError(
                "burn_in must be 0 for a model of encoder_decoder, whose source is what it reads "
                f"before it is trained; received burn_in={self.truncation.burn_in}"
            )
        if not (spec.per_step or spec.of_last_step):
            timed = [name for name, output in spec.outputs.items() if output.per_step]
            raise ValueError(
                "TruncatedBPTT needs outputs that all have time, or none of which has; received "
                f"{sorted(spec.outputs)}, of which {timed} have"
            )
        return dataclasses.replace(settings, truncation=self.truncation)


class ResetStates(SequenceCallback):
    """A callback for batches that you cut yourself: state is carried, and reset where you say.

    Each row of a batch goes on where the same row of the batch before stopped. The state is
    reset at the start of every epoch, and after every `every` batches. Holds for training,
    for validation data, and for `evaluate` and `predict` to which it is given. Batches must
    not be shuffled, and `fit` does not.

    Args:
        every: number of batches in a sequence, at least 1, or "epoch": one sequence per epoch.

    Raises:
        ValueError: another value of `every`; batches that bring their own `reset`.

    Example: sequences of 60 steps, cut into 3 windows of 20.

    >>> import numpy as np, rnnzoo
    >>> model = rnnzoo.one_to_one(features=1, units=4, outputs=1)
    >>> model.compile("adam", "mse")
    >>> x = np.zeros((4, 60, 1), "float32")
    >>> windows = np.concatenate(np.split(x, 3, axis=1))     # rows of batch 0, 1, 2
    >>> history = model.fit(windows, windows, batch_size=4, verbose=0,
    ...                     callbacks=[rnnzoo.ResetStates(every=3)])
    """

    def __init__(self, every: int | str):
        super().__init__()
        whole = isinstance(every, (int, np.integer)) and not isinstance(every, bool)
        if not (whole and 1 <= every <= _checks.LARGEST) and not (
            isinstance(every, str) and every == "epoch"
        ):
            raise _checks.refuse("every", "an integer of at least 1 or 'epoch'", every)
        self.every = int(every) if whole else "epoch"

    def configure(self, model: SequenceTrainer, settings: Settings) -> Settings:
        model.spec.refuse_streams("ResetStates")
        if not model.carries_state:
            raise ValueError(
                "ResetStates must be used with a model that carries state from batch to batch; "
                f"received one of form {model.form!r}, which reads whole sequences"
                f"{f': {model.spec.uncut}' if model.spec.uncut else ''}"
            )
        return dataclasses.replace(settings, reset_every=self.every)


class ScheduledSampling(SequenceCallback):
    """A callback that trains a decoder on its own outputs, with some probability.

    At each step the decoder is fed its own output of the step before instead of the true one
    (of tokens the most probable), with a probability that may grow from epoch to epoch
    (Bengio et al., 2015). With probability 1 a real-valued decoder is trained as
    `generate` runs it. The steps run one by one, which is slower. The first step of each
    window of `TruncatedBPTT` is fed the true one.

    Args:
        probability: in [0, 1], or a function from the epoch (from 0) to it.
        validation: the probability in validation and evaluation; 0 by default.

    Raises:
        ValueError: a probability out of range; a model without decoder.

    Example:

    >>> import rnnzoo
    >>> callback = rnnzoo.ScheduledSampling(lambda epoch: min(0.5, 0.1 * epoch))
    """

    def __init__(self, probability: float | Callable[[int], float] = 0.5, validation: float = 0.0):
        super().__init__()
        self.probability = probability if callable(probability) else _probability(probability)
        self.validation = _probability(validation, "validation")

    def configure(self, model: SequenceTrainer, settings: Settings) -> Settings:
        if not model.decodes:
            raise ValueError(
                "ScheduledSampling must be used with a model of encoder_decoder, whose decoder "
                f"is fed targets; received one of {model.form}"
            )
        return dataclasses.replace(settings, sampling=self)

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        value = self.probability
        value = _probability(value(epoch)) if callable(value) else value
        self.model.sampling_probability.assign(value)


def _probability(value: Any, name: str = "probability") -> float:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not 0 <= value <= 1:
        raise ValueError(f"{name} must be in [0, 1]; received {name}={_checks.shown(value)}")
    return float(value)
