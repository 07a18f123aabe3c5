"""Copies of a model in training, kept in memory."""

import time

import keras

from rnnzoo import backend
from rnnzoo.training.backup.snapshot import variables_of

# Copies and backups made by the clock take at most this share of the time.
SHARE = 0.02


class Memory:
    """Copies of a model in training: a good one, and one that the next batch may prove good."""

    def __init__(self, model: keras.Model, every: int | None):
        self.every, self.batches, self.cost = every, 0, 0.0
        if not model.optimizer.built:  # else Keras may do so in the first batch only
            model.optimizer.build(model.trainable_variables)
        self.good = self._copy(model)
        self.newest = self.good

    def note(self, model: keras.Model) -> None:
        """Take notice of a good batch."""
        self.batches += 1
        self.good = self.newest
        due = time.monotonic() - self.last >= self.cost / SHARE
        if due if self.every is None else self.batches % self.every == 0:
            self.newest = self._copy(model)

    def go_back(self, model: keras.Model) -> str:
        """Set `model` to the good copy; the text says which that is."""
        batches, values = self.good
        for name, variable in _kept(model).items():
            backend.set_values(variable, values[name])
        if not batches:
            return "those with which training began"
        many = "batch" if batches == 1 else f"{batches} batches"
        return f"those after the first {many} of this run"

    def _copy(self, model: keras.Model) -> tuple[int, dict]:
        begin = time.monotonic()
        values = {name: backend.values_of(variable) for name, variable in _kept(model).items()}
        self.last = time.monotonic()
        self.cost = self.last - begin
        return self.batches, values


def _kept(model: keras.Model) -> dict[str, keras.Variable]:
    """The variables to go back to: all but metrics, which show what happened."""
    variables = variables_of(model)
    return {name: v for name, v in variables.items() if not name.startswith("metrics/")}
