"""Models trained apart, put side by side as one whose output is the mean of theirs."""

import numpy as np


def together(build, models):
    """One model of the weights of `models`: their layers side by side, and nothing between them.

    It is a model as they are, only wider: between the units of two of them the weights are 0.
    Its outputs, before any softmax, are the mean of theirs.

    Args:
        build: a function of `units` and, of models of tokens, `embedding`, that builds it.
        models: models of `many_to_one` of one architecture.
    """
    count, layers = len(models), [layer for layer in models[0].core.layers if layer.weights]
    sizes = {"units": [count * ways(layer)[0].units for layer in layers if ways(layer)]}
    sizes |= {"embedding": count * one.output_dim for one in layers if one.name == "embedding"}
    wide, apart, directions = build(**sizes), False, 1
    for layer in layers:
        like = [model.core.get_layer(layer.name) for model in [wide, *models]]
        if ways(layer):
            for whole, *parts in zip(*map(ways, like)):
                weights = zip(*(part.get_weights() for part in parts))
                kernel, recurrent, *bias = (gates(one, parts[0].units) for one in weights)
                kernel = blocks(kernel, directions) if apart else beside(kernel)
                whole.set_weights([kernel, blocks(recurrent), *map(beside, bias)])
            apart, directions = True, len(ways(layer))
        elif layer.name == "embedding":
            tables = [one.get_weights()[0] for one in like[1:]]
            like[0].set_weights([np.concatenate(tables, axis=1)])
            apart = True
        else:
            kernels, biases = zip(*(one.get_weights() for one in like[1:]))
            kernels = [np.split(kernel / count, directions) for kernel in kernels]
            kernel = np.concatenate([np.concatenate(part) for part in zip(*kernels)])
            like[0].set_weights([kernel, np.mean(biases, axis=0)])
    return wide


def ways(layer):
    """The recurrent layers in a layer: one, or one for each direction; none in any other."""
    if hasattr(layer, "forward"):
        return [layer.forward, layer.backward]
    return [layer] if hasattr(layer, "state_names") else []


def gates(parts, units):
    """Weights `(..., gates * units)` of several layers as `(..., gates, units)`."""
    return [part.reshape(*part.shape[:-1], -1, units) for part in parts]


def beside(parts):
    """The weights of one layer for what all of them read: gate by gate, theirs side by side."""
    return np.concatenate(parts, axis=-1).reshape(*parts[0].shape[:-2], -1)


def blocks(parts, directions=1):
    """The same where each reads the units of its own, of each direction, and 0 of the others'."""
    found = []
    for rows in zip(*(np.split(part, directions) for part in parts)):
        for i, row in enumerate(rows):
            alone = [row if i == j else 0 * row for j in range(len(rows))]
            found.append(beside(alone))
    return np.concatenate(found)
