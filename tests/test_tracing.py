"""A training step in windows is compiled whole and once, with shapes that are all known."""

import keras
import numpy as np
import pytest

import rnnzoo


@pytest.mark.parametrize("stride", [8, 4])
def test_an_epoch_is_traced_once_with_known_shapes(stride):
    ids = np.arange(4 * 48 + 1) ** 2 % 7
    batches = rnnzoo.data.stream(ids, 4, 8, windows_per_batch=2)
    model = rnnzoo.one_to_one(vocabulary=7, units=4)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, jit_compile=True)
    train_step, standardize, traced, windows = model.train_step, model.standardize, [], []

    def step(*args):
        traced.append([tuple(part.shape) for part in keras.tree.flatten(args[-1])])
        return train_step(*args)

    def window(x):
        windows.extend(tuple(part.shape) for part in x.values())
        return standardize(x)

    model.train_step, model.standardize = step, window
    model.fit(batches, epochs=3, verbose=0, callbacks=[rnnzoo.TruncatedBPTT(8, stride)])
    assert len(batches) == 3
    assert traced == [[(4, 16)] * 4]
    assert {(4, 8), (4, 16)} <= set(windows) and all(None not in shape for shape in windows)
    updates = 3 * 3 * 16 // stride
    assert int(keras.ops.convert_to_numpy(model.optimizer.iterations)) == updates
