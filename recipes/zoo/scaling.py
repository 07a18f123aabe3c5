"""The scaling of numbers, put into the weights: the model takes what was measured."""

import numpy as np


def scale_into(model, mean, deviation):
    """Changes the first layer, trained on (x - mean) / deviation, into one that takes x.

    W (x - m) / s + b is (W / s) x + (b - W m / s). The bias of a GRU has a row for the inputs
    and one for the state; it is the first that changes.
    """
    layer = next(layer for layer in model.core.layers if hasattr(layer, "state_names"))
    kernel, recurrent, bias = layer.get_weights()
    scaled = kernel / np.asarray(deviation)[:, None]
    bias = bias.copy()
    bias[(0,) if bias.ndim == 2 else ...] -= np.asarray(mean) @ scaled
    layer.set_weights([scaled, recurrent, bias])
