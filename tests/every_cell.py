"""A model with a layer of every cell in the registry, each added to what is below it.

What holds for it holds for the weights and states of each: one compilation tests them all.
"""

import keras
import numpy as np

import rnnzoo
from rnnzoo.layers.stack import CELLS, check_cell

UNITS, OUTPUTS = 3, 2


def tower(features: int = 2) -> rnnzoo.RecurrentModel:
    """The model, its initial states and all other weights far from zero, always the same."""
    keras.utils.set_random_seed(4)
    rng = np.random.default_rng(4)
    x = keras.Input((None, features), name="inputs")
    h = keras.layers.Dense(UNITS, name="below")(x)
    for name in CELLS:
        layer = check_cell(name)(UNITS, learned_initial_state=True, name=name)
        h = keras.layers.Add()([h, layer(h)])
    model = rnnzoo.from_keras(keras.Model(x, keras.layers.Dense(OUTPUTS, name="output")(h)))
    for weight in model.core.trainable_weights:
        weight.assign(weight + 0.3 * rng.normal(size=weight.shape))
    return model
