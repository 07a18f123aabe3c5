"""What the training benchmark compares: models, sizes, and the weights and data all begin with."""

from typing import NamedTuple

import numpy as np

RATE, CLIP = 1e-3, 1.0  # Adam's learning rate; gradients are scaled to this norm at most
BATCH = 8  # windows in a batch of rnnzoo


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


def weights(case: Case) -> list[np.ndarray]:
    """Weights in Keras's order and layout: embedding, LSTM layers, output layer."""
    rng = np.random.default_rng(0)

    def random(*shape: int) -> np.ndarray:
        return (rng.uniform(-1, 1, shape) / np.sqrt(shape[0])).astype("float32")

    found = [random(case.vocabulary, case.embedding)] if case.vocabulary else []
    width = case.embedding or case.features
    for units in case.units:
        bias = np.zeros(4 * units, "float32")
        bias[units : 2 * units] = 1.0
        found += [random(width, 4 * units), random(units, 4 * units), bias]
        width = units
    return [*found, random(width, case.outputs), np.zeros(case.outputs, "float32")]


def data(case: Case, windows: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets, `(lanes, windows * window)`, with a last axis for real values."""
    rng = np.random.default_rng(1)
    steps = windows * case.window
    if case.vocabulary:
        tokens = rng.integers(0, case.vocabulary, (case.lanes, steps + 1), dtype="int32")
        return tokens[:, :-1], tokens[:, 1:]
    x = rng.normal(size=(case.lanes, steps, case.features)).astype("float32")
    return x, rng.normal(size=(case.lanes, steps, case.outputs)).astype("float32")
