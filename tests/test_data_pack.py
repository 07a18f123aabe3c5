"""`rnnzoo.data.pack`: every sequence once and whole, whatever the order."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnnzoo.data import pack


def unpacked(batches):
    """(lane steps, weights, begins) of each lane with the batches joined in time."""
    items = list(batches)
    joined = [
        np.concatenate(parts, axis=1)
        for parts in zip(*((x["inputs"], y, x["reset"], weight) for x, y, weight in items))
    ]
    return [tuple(part[lane] for part in joined) for lane in range(batches.lanes)]


def pieces(batches):
    """The (inputs, targets) of each sequence: cut by reset, real steps by weight."""
    found = []
    for inputs, y, reset, weight in unpacked(batches):
        begins = np.flatnonzero(reset)
        assert begins[0] == 0
        for low, high in zip(begins, [*begins[1:], len(reset)]):
            real = int(weight[low:high].sum())
            assert np.all(weight[low : low + real] == 1) and np.all(weight[low + real : high] == 0)
            found.append((inputs[low : low + real], y[low : low + real], low, real, high))
    return found


lengths = st.lists(st.integers(2, 13), min_size=1, max_size=25)


@settings(max_examples=80, deadline=None)
@given(st.data(), lengths, st.booleans(), st.booleans(), st.booleans())
def test_every_sequence_once_with_its_targets(data, lengths, align, shuffle, given_targets):
    lanes = data.draw(st.integers(1, len(lengths)))
    window = data.draw(st.integers(1, max(lengths) if align else max(lengths) - 1))
    windows = data.draw(st.integers(1, 3))
    epoch = data.draw(st.integers(0, 3))
    sequences = [np.arange(n) + 100 * i + 1 for i, n in enumerate(lengths)]
    targets = [s * 10 for s in sequences] if given_targets else None
    options = dict(align=align, shuffle=shuffle, seed=3, windows_per_batch=windows)
    batches = pack(sequences, lanes, window, targets=targets, **options)
    count = len(batches)
    batches.epoch = epoch

    found = sorted(pieces(batches), key=lambda piece: piece[0][0])
    assert len(found) == len(sequences)
    for i, (inputs, y, begin, real, end) in enumerate(found):
        expected = sequences[i] if given_targets else sequences[i][:-1]
        np.testing.assert_array_equal(inputs, expected)
        np.testing.assert_array_equal(y, targets[i] if given_targets else sequences[i][1:])
        if align:
            assert begin % window == 0
    lane_ends = [len(lane[2]) for lane in unpacked(batches)]
    for _, _, begin, real, end in found:
        gap = end - begin - real
        assert gap == 0 or end in lane_ends or (align and gap < window)
    assert len(batches) == count
    # No window is padding in all lanes, in no epoch: it would be an optimizer step on nothing.
    weight = np.stack([lane[3] for lane in unpacked(batches)])
    for low in range(0, weight.shape[1], window):
        assert weight[:, low : low + window].any()


def test_readable_table():
    batches = pack([[1, 2, 3], [4, 5, 6, 7, 8], [9, 10, 11]], 2, 3)
    (x0, y0, w0), (x1, y1, w1) = batches
    assert x0["inputs"].tolist() == [[1, 2, 9], [4, 5, 6]]
    assert y0.tolist() == [[2, 3, 10], [5, 6, 7]]
    assert x0["reset"].tolist() == [[True, False, True], [True, False, False]]
    assert x1["inputs"].tolist() == [[10], [7]] and y1.tolist() == [[11], [8]]
    assert w0.all() and w1.all() and not x1["reset"].any()


def test_aligned_table():
    batches = pack([[1, 2, 3], [4, 5, 6, 7, 8], [9, 10, 11]], 1, 3, align=True)
    (lane,) = unpacked(batches)
    assert lane[0].tolist() == [1, 2, 0, 4, 5, 6, 7, 0, 0, 9, 10, 0]
    assert lane[3].tolist() == [1, 1, 0, 1, 1, 1, 1, 0, 0, 1, 1, 0]
    assert np.flatnonzero(lane[2]).tolist() == [0, 3, 9]


def order(batches):
    return [int(piece[0][0]) for piece in pieces(batches)]


def songs(count=60, seed=0):
    sizes = np.random.default_rng(seed).integers(5, 40, count)
    return [np.arange(n) + 1000 * i for i, n in enumerate(sizes)]


def test_seed_and_epoch_make_the_order():
    first, same = (pack(songs(), 4, 10, shuffle=True, seed=5) for _ in range(2))
    other = pack(songs(), 4, 10, shuffle=True, seed=6)
    orders = []
    for epoch in range(4):
        first.epoch = same.epoch = other.epoch = epoch
        assert order(first) == order(same) != order(other)
        orders.append(order(first))
    assert len({tuple(o) for o in orders}) == 4
    first.epoch = 1
    assert order(first) == orders[1]
    kept = order(pack(songs(), 4, 10))
    assert kept not in orders and kept[0] == 0


def test_shuffling_mixes_the_lanes_too():
    batches = pack(songs(), 4, 10, shuffle=True, seed=5)
    partitions = []
    for epoch in range(5):
        batches.epoch = epoch
        rows = [tuple(sorted(lane[0][lane[2]].tolist())) for lane in unpacked(batches)]
        partitions.append(frozenset(rows))
    assert len(set(partitions)) == 5


def test_seed_none_follows_the_global_seed():
    keras.utils.set_random_seed(11)
    a = pack(songs(), 4, 10, shuffle=True)
    keras.utils.set_random_seed(11)
    b = pack(songs(), 4, 10, shuffle=True)
    c = pack(songs(), 4, 10, shuffle=True)
    assert a.seed == b.seed != c.seed and order(a) == order(b)
    assert order(pack(songs(), 4, 10, shuffle=True, seed=a.seed)) == order(a)


def test_one_giant_keeps_the_count_constant():
    sequences = [np.arange(500), *(np.arange(5) for _ in range(40))]
    batches = pack(sequences, 3, 50, shuffle=True, seed=0)
    assert len(batches) == 10
    for epoch in range(6):
        batches.epoch = epoch
        assert sum(float(weight.sum()) for _, _, weight in batches) == 499 + 40 * 4
        assert batches[9][2].any()


def test_a_batch_depends_on_index_and_epoch_only():
    batches = pack(songs(), 4, 10, shuffle=True, seed=5)
    forward = [batches[i] for i in range(len(batches))]
    for i in reversed(range(len(batches))):
        np.testing.assert_array_equal(batches[i][1], forward[i][1])
    passing = iter(batches)
    head = next(passing)
    batches.epoch = 1
    again = [head, *passing]
    for got, expected in zip(again, forward, strict=True):
        np.testing.assert_array_equal(got[1], expected[1])


def test_epoch_moves_only_after_it_has_begun():
    batches = pack(songs(), 4, 10, shuffle=True, seed=5)
    batches.on_epoch_end()
    assert batches.epoch == 0
    batches.on_epoch_begin()
    batches.on_epoch_end()
    batches.on_epoch_end()
    assert batches.epoch == 1
    with pytest.raises(
        ValueError, match="epoch must be an integer of at least 0; received epoch=-"
    ):
        batches.epoch = -1


def is_traced(x):
    """Whether `x` is a JAX tracer, which has no values."""
    if keras.backend.backend() != "jax":
        return False
    import jax

    return isinstance(x, jax.core.Tracer)


class Recorder(keras.layers.Layer):
    """Notes every batch that it is called on."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def compute_output_spec(self, x):
        return keras.KerasTensor((*x["inputs"].shape, 1), "float32")

    def call(self, x):
        # On JAX, Keras first traces the layer to learn shapes.
        if not is_traced(x["inputs"]):
            self.seen.append(np.asarray(x["inputs"]))
        return keras.ops.cast(x["inputs"], "float32")[..., None]


@pytest.mark.parametrize("steps_per_epoch", [None, 5])
def test_fit_serves_each_epoch_whole_and_in_order(steps_per_epoch):
    sequences = songs(30)
    targets = [np.zeros((len(song), 1)) for song in sequences]
    batches = pack(sequences, 3, 12, targets=targets, shuffle=True, seed=5)
    count = len(batches)
    recorder = Recorder()
    x = {
        "inputs": keras.Input((None,), dtype="int32", name="inputs"),
        "reset": keras.Input((None,), dtype="bool", name="reset"),
    }
    model = keras.Model(x, keras.layers.Dense(1)(recorder(x)))
    model.compile("sgd", "mse", run_eagerly=True)
    epochs = 3 if steps_per_epoch is None else 3 * count // 5 + 1
    model.fit(batches, epochs=epochs, steps_per_epoch=steps_per_epoch, verbose=0)
    seen = recorder.seen
    if steps_per_epoch is None:
        assert batches.epoch == 3 and len(seen) == 3 * count
    # A pass serves one epoch's order to its end, wherever Keras ends what it calls an epoch.
    orders = {}
    for epoch in range(epochs + 1):
        batches.epoch = epoch
        orders[epoch] = [x["inputs"] for x, _, _ in batches]
    served = []
    for low in range(0, 3 * count, count):
        got = seen[low : low + count]
        match = [e for e, o in orders.items() if all(map(np.array_equal, got, o))]
        assert len(match) == 1
        served += match
    assert served == sorted(set(served)) and served[0] == 0
    if steps_per_epoch is None:
        assert served == [0, 1, 2]


def test_iterables_features_and_memmaps(tmp_path):
    mapped = np.memmap(tmp_path / "x.bin", np.float32, "w+", shape=(30, 2))
    mapped[:] = np.arange(60).reshape(30, 2)
    cuts = [(0, 7), (7, 19), (19, 30)]
    batches = pack((mapped[a:b] for a, b in cuts), 2, 4)
    found = sorted(pieces(batches), key=lambda piece: piece[0][0, 0])
    for (a, b), (inputs, y, *_) in zip(cuts, found, strict=True):
        np.testing.assert_array_equal(inputs, mapped[a : b - 1])
        np.testing.assert_array_equal(y, mapped[a + 1 : b])


two = [np.arange(5), np.arange(9)]
BAD = [
    (dict(sequences=[]), "at least one sequence; received none"),
    (dict(sequences=7), r"any iterable\) of arrays; received sequences=7"),
    (dict(sequences="abc"), "of arrays; received sequences='abc'"),
    (dict(sequences=np.arange(9)), r"sequences\[0\] must have shape .* received shape \(\)"),
    (dict(sequences=[np.arange(5), []]), r"sequences\[1\] must have at least one step"),
    (dict(sequences=[np.arange(5), [3]]), r"at least 2 steps.* the first is sequences\[1\]"),
    (dict(sequences=[np.zeros(5)]), r"sequences\[0\] .* integer tokens; received dtype float64"),
    (dict(sequences=[np.zeros((5, 2)), np.zeros((5, 3))]), r"\(5, 3\) for sequences\[1\]"),
    (dict(sequences=[np.zeros((5, 2)), np.arange(5)]), r"\(5,\) for sequences\[1\]"),
    (dict(sequences=[[[1, 2], [3]]]), r"entries of sequences\[0\] must all have the same shape"),
    (
        dict(batch_size=3),
        "number of sequences, as a lane holds whole ones, 2; received batch_size=3",
    ),
    (dict(batch_size=0), "received batch_size=0"),
    (dict(window=0), "window must be an integer of at least 1; received window=0"),
    (dict(window=0, align=True), "window must be an integer of at least 1; received window=0"),
    (dict(window=9), "longest lane, 8 with batch_size=2; received window=9"),
    (dict(windows_per_batch=-1), "received windows_per_batch=-1"),
    (dict(seed=-1, shuffle=True), "seed must be an integer of at least 0; received seed=-1"),
    (dict(targets=[np.arange(5)]), "each of the 2 sequences; received 1"),
    (dict(targets=[np.arange(5), np.arange(8)]), r"targets\[1\].* is 9; received shape \(8,\)"),
    (dict(targets=[np.zeros((5, 2)), np.zeros((9, 3))]), r"float32 \(3,\) for targets\[1\]"),
    (dict(vocabulary=8), r"sequences\[1\] must lie in \[0, 7\]; received 8 at step 8"),
]


@pytest.mark.parametrize("change, message", BAD, ids=range(len(BAD)))
def test_bad_input(change, message):
    with pytest.raises(ValueError, match=message):
        pack(**{**dict(sequences=two, batch_size=2, window=3), **change})


def test_one_step_suffices_where_targets_are_given():
    batches = pack([[3], [4, 5]], 2, 1, targets=[[1], [2, 3]])
    assert sorted(piece[1].tolist() for piece in pieces(batches)) == [[1], [2, 3]]


def test_not_finite_is_named_by_sequence_and_step():
    sequences = [np.zeros((6, 2)), np.zeros((6, 2))]
    sequences[1][4, 1] = np.inf
    message = r"sequences\[1\] must be finite; received inf at step 4, feature 1"
    with pytest.raises(ValueError, match=message):
        pack(sequences, 1, 3, check_finite=True)
    pack(sequences, 1, 3)
