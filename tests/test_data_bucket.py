"""`rnnzoo.data.bucket`: every sequence once, padded and masked, with its target."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnnzoo.data import bucket


@settings(max_examples=60, deadline=None)
@given(st.data(), st.lists(st.integers(1, 12), min_size=1, max_size=30), st.booleans())
def test_every_sequence_once_with_its_target(data, lengths, shuffle):
    size = data.draw(st.integers(1, 8))
    multiple = data.draw(st.sampled_from([1, 4]))
    sequences = [np.arange(n) + 100 * i + 1 for i, n in enumerate(lengths)]
    targets = np.arange(len(lengths)) * 7
    batches = bucket(sequences, targets, size, shuffle=shuffle, seed=1, pad_to_multiple_of=multiple)
    batches.epoch = data.draw(st.integers(0, 2))
    seen = []
    for x, y in batches:
        inputs, mask = x["inputs"], x["mask"]
        assert inputs.shape == mask.shape and mask.dtype == bool and len(y) == len(inputs)
        longest = mask.sum(axis=1).max()
        assert inputs.shape[1] == -(-longest // multiple) * multiple
        for row, real, target in zip(inputs, mask, y):
            count = int(real.sum())
            assert real[:count].all() and not row[count:].any()
            i = (row[0] - 1) // 100
            np.testing.assert_array_equal(row[:count], sequences[i])
            assert target == targets[i]
            seen.append(i)
    assert sorted(seen) == list(range(len(lengths)))
    assert seen == batches.order.tolist()
    sizes = [len(y) for _, y in batches]
    assert len(batches) == len(sizes) == -(-len(lengths) // size)
    assert sorted(sizes, reverse=True)[:-1] == [size] * (len(sizes) - 1)


def tokens(lengths):
    return [np.full(n, i + 1) for i, n in enumerate(lengths)]


def test_longest_come_first_and_the_short_batch_last():
    batches = bucket(tokens([3, 9, 5, 1, 7]), batch_size=2)
    assert batches.order.tolist() == [1, 4, 2, 0, 3]
    assert [x["inputs"].shape for (x,) in batches] == [(2, 9), (2, 5), (1, 1)]


def test_features_and_vector_targets():
    x, y = bucket([np.ones((2, 3)), np.ones((4, 3))], [[1.0, 0.0], [0.0, 1.0]], 2)[0]
    assert x["inputs"].shape == (2, 4, 3) and x["inputs"].dtype == np.float32
    assert x["mask"].tolist() == [[True] * 4, [True, True, False, False]]
    assert y.tolist() == [[0, 1], [1, 0]] and y.dtype == np.float32


def test_seed_and_epoch_make_the_order():
    lengths = np.random.default_rng(0).integers(3, 60, 101)
    first, same = (bucket(tokens(lengths), batch_size=8, shuffle=True, seed=4) for _ in range(2))
    orders = []
    for epoch in range(3):
        first.epoch = same.epoch = epoch
        assert first.order.tolist() == same.order.tolist()
        orders.append(tuple(first.order))
    assert len(set(orders)) == 3
    assert {len(x["inputs"]) for (x,) in list(first)[:-1]} == {8} and len(first[-1][0]["mask"]) == 5


def test_shuffling_stays_among_like_lengths_but_mixes():
    lengths = np.arange(1, 401)
    batches = bucket(tokens(lengths), batch_size=10, shuffle=True, seed=4)
    spans, partners, firsts = [], set(), []
    for epoch in range(5):
        batches.epoch = epoch
        for (x,) in batches:
            rows = x["mask"].sum(axis=1)
            spans.append(rows.max() - rows.min())
            if 200 in rows:
                partners |= set(rows.tolist())
        firsts.append(batches[0][0]["inputs"].shape[1])
    assert max(spans) <= 40 and len(partners) > 20 and len(set(firsts)) > 1


def test_the_short_batch_is_not_always_the_longest():
    batches = bucket(tokens(np.arange(1, 42)), batch_size=4, shuffle=True, seed=4)
    widths = set()
    for epoch in range(6):
        batches.epoch = epoch
        assert len(batches[-1][0]["mask"]) == 1
        widths.add(batches[-1][0]["mask"].shape[1])
    assert len(widths) > 3


def test_fit_takes_batches_of_all_shapes():
    lengths = [9] * 8 + [5] * 4 + [2] * 3
    batches = bucket(tokens(lengths), np.zeros((15, 1)), 4, shuffle=True, seed=0)
    # Keras's own adapter would take 9 steps for the shape of all batches.
    assert [x["inputs"].shape[1] for x, _ in batches][:2] == [9, 9]
    x = {
        "inputs": keras.Input((None,), dtype="int32", name="inputs"),
        "mask": keras.Input((None,), dtype="bool", name="mask"),
    }
    steps = keras.ops.cast(x["inputs"], "float32") * keras.ops.cast(x["mask"], "float32")
    pooled = keras.ops.sum(steps, axis=1, keepdims=True)
    model = keras.Model(x, keras.layers.Dense(1)(pooled))
    model.compile(keras.optimizers.SGD(0.0), "mse")
    model.fit(batches, epochs=2, verbose=0)
    assert batches.epoch == 2
    kernel = np.asarray(model.layers[-1].kernel)[0, 0]
    expected = np.mean([(kernel * n * (i + 1)) ** 2 for i, n in enumerate(lengths)])
    assert model.evaluate(batches, verbose=0) == pytest.approx(expected, rel=1e-4)
    again = bucket(tokens(lengths), batch_size=4)
    products = np.array([n * (i + 1) for i, n in enumerate(lengths)])[again.order]
    np.testing.assert_allclose(model.predict(again, verbose=0)[:, 0], kernel * products, rtol=1e-5)
    weights = np.arange(15.0)
    weighted = bucket(tokens(lengths), np.zeros((15, 1)), 15, sample_weight=weights)
    expected = np.mean(
        [w * (kernel * n * (i + 1)) ** 2 for i, (n, w) in enumerate(zip(lengths, weights))]
    )
    assert model.evaluate(weighted, verbose=0) == pytest.approx(expected, rel=1e-4)


two = [np.arange(5), np.arange(9)]
BAD = [
    (dict(sequences=[]), "at least one sequence; received none"),
    (dict(sequences=[[]]), r"sequences\[0\] must have at least one step"),
    (dict(sequences=[np.zeros((3, 2)), np.zeros((3, 1))]), r"\(3, 1\) for sequences\[1\]"),
    (dict(targets=[1]), r"for each sequence, that is 2; received shape \(1,\)"),
    (dict(targets=[[1], [2, 3]]), "entries of targets must all have the same shape"),
    (dict(targets=["a", "b"]), "targets must be numbers; received dtype <U1"),
    (dict(targets=[0.0, np.nan], check_finite=True), "targets must be finite; received nan at"),
    (dict(targets=[0, 1], sample_weight=[1]), r"sample_weight must have one entry for each seq"),
    (dict(sample_weight=[1, 1]), "sample_weight must come with targets; received targets=None"),
    (
        dict(targets=[0, 1], sample_weight=[[1], [1]]),
        r"each target; received shape \(2, 1\)",
    ),
    (dict(targets=[0, 1], sample_weight=[1, np.inf]), "sample_weight must be finite; received inf"),
    (dict(batch_size=0), "batch_size must be an integer of at least 1; received batch_size=0"),
    (dict(pad_to_multiple_of=0), "pad_to_multiple_of must be an integer of at least 1"),
    (dict(seed=1.5, shuffle=True), "seed must be an integer of at least 0; received seed=1.5"),
    (dict(vocabulary=8), r"sequences\[1\] must lie in \[0, 7\]; received 8 at step 8"),
    (
        dict(sequences=[np.ones((3, 1)), np.array([[1.0], [np.nan]])], check_finite=True),
        r"sequences\[1\] must be finite; received nan at step 1, feature 0",
    ),
]


@pytest.mark.parametrize("change, message", BAD, ids=range(len(BAD)))
def test_bad_input(change, message):
    with pytest.raises(ValueError, match=message):
        bucket(**{**dict(sequences=two, batch_size=2), **change})
