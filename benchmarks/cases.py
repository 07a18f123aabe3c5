"""What the training benchmark compares: models, sizes, and the weights and data all begin with."""

from typing import NamedTuple

import numpy as np

RATE, CLIP = 1e-3, 1.0  # Adam's learning rate; gradients are scaled to this norm at most
BATCH = 8  # windows in a batch of rnnzoo
EARLIER = "BENCHMARKS_EARLIER"  # in the environment, the folder of another version of rnnzoo


class Case(NamedTuple):
    """A model and the way it is trained.

    Attributes:
        vocabulary: number of tokens, or None for `features` real values a step.
        features: values a step, 0 where there are tokens.
        embedding: width of the embedding, 0 where there is none.
        units: sizes of the LSTM layers.
        outputs: outputs a step: as many logits as tokens, or real values.
        lanes: sequences side by side.
        window: steps back-propagated through, and between updates.
        windows: updates that are timed.
    """

    vocabulary: int | None
    features: int
    embedding: int
    units: list[int]
    outputs: int
    lanes: int
    window: int
    windows: int


CASES = {
    "characters": Case(65, 0, 128, [512, 512], 65, 64, 50, 24),
    "words": Case(10_000, 0, 200, [200, 200], 10_000, 20, 35, 96),
    "sensor": Case(None, 8, 0, [128], 4, 32, 100, 640),
}


class Whole(NamedTuple):
    """A model of whole sequences and the way it is trained.

    Attributes:
        vocabulary: number of tokens of source and target, or None for labels of `features`.
        features: values a step, 0 where there are tokens.
        units: size of the one LSTM layer, of each side where there are two.
        outputs: classes; of tokens two more than there are, for start and end.
        rows: sequences of a batch.
        steps: of a sequence.
        target: steps of a target, without its end; 0 for labels.
        ragged: whether sequences have lengths, from half the steps on.
        batches: updates that are timed.
    """

    vocabulary: int | None
    features: int
    units: int
    outputs: int
    rows: int
    steps: int
    target: int
    ragged: bool
    batches: int


WHOLE = {
    "translation": Whole(40, 0, 320, 42, 128, 10, 9, False, 48),
    "labels": Whole(None, 12, 128, 9, 32, 100, 0, False, 160),
    "labels, lengths": Whole(None, 12, 128, 9, 32, 100, 0, True, 160),
}


class Weights:
    """Random weights and LSTM layers in Keras's layout, always the same."""

    def __init__(self):
        self.rng = np.random.default_rng(0)

    def random(self, *shape: int) -> np.ndarray:
        return (self.rng.uniform(-1, 1, shape) / np.sqrt(shape[0])).astype("float32")

    def lstm(self, width: int, units: int) -> list[np.ndarray]:
        bias = np.zeros(4 * units, "float32")
        bias[units : 2 * units] = 1.0
        return [self.random(width, 4 * units), self.random(units, 4 * units), bias]

    def dense(self, width: int, units: int) -> list[np.ndarray]:
        return [self.random(width, units), np.zeros(units, "float32")]


def weights(case: Case) -> list[np.ndarray]:
    """Weights in Keras's order and layout: embedding, LSTM layers, output layer."""
    made = Weights()
    found = [made.random(case.vocabulary, case.embedding)] if case.vocabulary else []
    width = case.embedding or case.features
    for units in case.units:
        found += made.lstm(width, units)
        width = units
    return [*found, *made.dense(width, case.outputs)]


def whole_weights(case: Whole) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Weights of encoder and decoder; of a model of labels in the second list, and none before."""
    made, units = Weights(), case.units
    if not case.vocabulary:
        return [], [*made.lstm(case.features, units), *made.dense(units, case.outputs)]
    encoder = [made.random(case.vocabulary, units), *made.lstm(units, units)]
    decoder = [made.random(case.outputs, units), *made.lstm(units, units)]
    return encoder, [*decoder, made.random(2 * units, units), *made.dense(units, case.outputs)]


def whole_data(case: Whole, batches: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sequences, targets (tokens without start and end, or labels), and lengths."""
    rng, rows = np.random.default_rng(1), batches * case.rows
    low = case.steps // 2 if case.ragged else case.steps
    lengths = rng.integers(low, case.steps + 1, rows, dtype="int32")
    if case.vocabulary:
        x = rng.integers(0, case.vocabulary, (rows, case.steps), dtype="int32")
        return x, rng.integers(0, case.vocabulary, (rows, case.target), dtype="int32"), lengths
    x = rng.normal(size=(rows, case.steps, case.features)).astype("float32")
    return x, rng.integers(0, case.outputs, rows, dtype="int32"), lengths


def data(case: Case, windows: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets, `(lanes, windows * window)`, with a last axis for real values."""
    rng = np.random.default_rng(1)
    steps = windows * case.window
    if case.vocabulary:
        tokens = rng.integers(0, case.vocabulary, (case.lanes, steps + 1), dtype="int32")
        return tokens[:, :-1], tokens[:, 1:]
    x = rng.normal(size=(case.lanes, steps, case.features)).astype("float32")
    return x, rng.normal(size=(case.lanes, steps, case.outputs)).astype("float32")
