"""`rnnzoo.data.bucket`: every sequence once, padded and masked, with its target."""

import itertools

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnnzoo.data import bucket
from rnnzoo.data import padding as padding_module
from rnnzoo.data.padding import padded_lengths


@settings(max_examples=60, deadline=None)
@given(st.data(), st.lists(st.integers(1, 12), min_size=1, max_size=30), st.booleans())
def test_every_sequence_once_with_its_target(data, lengths, shuffle):
    size = data.draw(st.integers(1, 8))
    multiple = data.draw(st.sampled_from([1, 4, None]))
    sequences = [np.arange(n) + 100 * i + 1 for i, n in enumerate(lengths)]
    targets = np.arange(len(lengths)) * 7
    batches = bucket(sequences, targets, size, shuffle=shuffle, seed=1, pad_to_multiple_of=multiple)
    batches.epoch = data.draw(st.integers(0, 2))
    seen = []
    for x, y in batches:
        inputs, mask = x["inputs"], x["mask"]
        assert inputs.shape == mask.shape and mask.dtype == bool and len(y) == len(inputs)
        longest = mask.sum(axis=1).max()
        if multiple is None:
            assert longest <= inputs.shape[1] <= max(lengths)
        else:
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


@pytest.mark.parametrize("shuffle", [False, True])
def test_results_go_back_to_the_order_given(shuffle):
    data = bucket(tokens([3, 9, 5, 1, 7]), batch_size=2, shuffle=shuffle, seed=1)
    data.epoch = 3
    served = np.concatenate([x["inputs"][:, :1] for (x,) in data])
    found = data.as_given({"first": served, "both": [served, served[:, 0]]})
    assert found["first"].tolist() == [[1], [2], [3], [4], [5]]
    assert found["both"][1].tolist() == [1, 2, 3, 4, 5]
    with pytest.raises(ValueError, match=r"each of the 5 sequences; received shape \(4, 1\)"):
        data.as_given(served[1:])


def padding(lengths, padded):
    return sum(min(p for p in padded if p >= n) - n for n in lengths.tolist())


@pytest.mark.parametrize("seed", range(6))
def test_the_padded_lengths_leave_the_least_padding(monkeypatch, seed):
    monkeypatch.setattr(padding_module, "_FEW", 3)
    monkeypatch.setattr(padding_module, "_MOST", 4)
    lengths = np.random.default_rng(seed).geometric([0.3, 0.1][seed % 2], 40)
    found = padded_lengths(lengths, None)
    ends, best = sorted(set(lengths.tolist())), {}
    for count in (3, 4):
        rest = itertools.combinations(ends[:-1], count - 1)
        best[count] = min((padding(lengths, [*some, ends[-1]]) for some in rest), default=0)
    assert len(found) == (3 if best[3] <= 0.1 * lengths.sum() else 4)
    assert padding(lengths, found.tolist()) == best[len(found)]


@pytest.mark.parametrize("kind", ["uniform", "lognormal", "two sizes"])
def test_few_shapes_and_little_padding(kind):
    random = np.random.default_rng(0)
    lengths = {
        "uniform": random.integers(1, 1000, 3000),
        "lognormal": np.ceil(random.lognormal(3.5, 0.7, 3000)).astype(int),
        "two sizes": np.where(random.random(3000) < 0.5, 20, 700) + random.integers(0, 9, 3000),
    }[kind]
    data = bucket(tokens(lengths), batch_size=16, shuffle=True, seed=0)
    shapes = {x["inputs"].shape[1] for (x,) in data}
    exact = bucket(tokens(lengths), batch_size=16, shuffle=True, seed=0, pad_to_multiple_of=1)
    steps, fewest = (sum(x["mask"].size for (x,) in some) for some in (data, exact))
    assert len(shapes) <= 16 < len({x["inputs"].shape[1] for (x,) in exact})
    assert steps < 1.11 * fewest


def test_targets_and_weights_of_every_step():
    ids = [[1, 2, 3], [4, 5]]
    x, y, weight = bucket(ids, ids, per_step=True)[0]
    assert y.tolist() == x["inputs"].tolist() == [[1, 2, 3], [4, 5, 0]]
    assert weight.tolist() == [[1, 1, 1], [1, 1, 0]] and weight.dtype == np.float32
    options = {"per_step": True, "sample_weight": [[1, 2, 3], 4], "class_weight": {2: 10, 4: 0}}
    assert bucket(ids, ids, **options)[0][2].tolist() == [[1, 20, 3], [0, 4, 0]]
    vectors = [np.ones((3, 2)), np.zeros((2, 2))]
    assert bucket(ids, vectors, per_step=True)[0][1].shape == (2, 3, 2)


# Keras on JAX 0.12 warns of int64.
@pytest.mark.parametrize(
    "targets", [np.int32([2, 0, 1, 0]), np.eye(3)[[2, 0, 1, 0]], np.array([[2.0], [0], [1], [0]])]
)
def test_class_weights_are_those_of_keras(targets):
    x = np.arange(8, dtype="int32").reshape(4, 2)
    one_hot = targets.shape[1:] == (3,)
    kind = "Categorical" if one_hot else "SparseCategorical"
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, activation="softmax")])
    model.compile(keras.optimizers.SGD(0.0), getattr(keras.losses, f"{kind}Crossentropy")())
    weights = {0: 3.0, 2: 5.0}
    data = bucket(list(x), targets, 4, class_weight=weights)
    _, y, weight = data[0]
    expected = model.fit(x, targets, class_weight=weights, verbose=0).history["loss"][0]
    found = model.evaluate(x[data.order], y, sample_weight=weight, verbose=0)
    assert weight.tolist() == [5, 3, 1, 3] and found == pytest.approx(expected, rel=1e-5)
    doubled = bucket(list(x), targets, 4, class_weight=weights, sample_weight=[1, 2, 3, 4])
    assert doubled[0][2].tolist() == [5, 6, 3, 12]


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
    (
        dict(targets=[0, 1], sample_weight=[1, -2]),
        "sample_weight must be at least 0; received -2 at sequence 1",
    ),
    (
        dict(targets=[[0] * 5, [1] * 9], per_step=True, sample_weight=[1, -2]),
        r"sample_weight\[1\] must be at least 0; received -2 at step 0",
    ),
    (
        dict(targets=[0, 1e39], check_finite=True),
        "targets must be finite; received 1e.39 .*float32",
    ),
    (dict(class_weight={0: 1}), "class_weight must come with targets; received targets=None"),
    (dict(per_step=True), "per_step=True must come with targets; received targets=None"),
    (dict(targets=[0, 1], class_weight=[1, 2]), r"class_weight must be a dict .*=\[1, 2\]"),
    (dict(targets=[0, 1], class_weight={"a": 1}), "a class of class_weight must be an integer"),
    (dict(targets=[0, 1], class_weight={0: -1}), r"class_weight\[0\] must be a number of at least"),
    (
        dict(targets=[0.5, 1], class_weight={0: 1}),
        "class_weight must come with targets that are cl",
    ),
    (dict(targets=[0, 1], per_step=True), r"for each step of sequences\[0\], as per_step=True"),
    (dict(shuffle="/x"), "shuffle must be True or False; received shuffle='/x'"),
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
