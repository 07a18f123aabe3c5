"""`rnnzoo.data.stream`: every step once, lanes that go on, nothing read that is not asked for."""

import resource
import time

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnnzoo.data import stream


def gathered(batches):
    """Inputs, targets and resets of each lane, cut by weight; checks the shapes on the way."""
    lanes = [([], [], []) for _ in range(batches.lanes)]
    for x, y, weight in batches:
        assert x["inputs"].shape[:2] == x["reset"].shape == weight.shape == y.shape[:2]
        assert x["reset"].dtype == bool and weight.dtype == np.float32
        for lane, parts in enumerate(lanes):
            real = weight[lane] == 1
            assert np.all(weight[lane][~real] == 0)
            assert not np.any(x["inputs"][lane][~real]) and not np.any(y[lane][~real])
            for part, values in zip(parts, (x["inputs"], y, x["reset"])):
                part.append(values[lane][real])
    return [[np.concatenate(part) for part in parts] for parts in lanes]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_lanes_joined_are_the_array_once(data):
    count = data.draw(st.integers(2, 70))
    features = data.draw(st.sampled_from([None, 1, 3]))
    shift = data.draw(st.booleans())
    steps = count - shift
    lanes = data.draw(st.integers(1, steps))
    longest = -(-steps // lanes)
    window = data.draw(st.integers(1, longest))
    windows = data.draw(st.integers(1, 3))
    if features is None:
        array = np.arange(1, count + 1)
    else:
        array = np.random.default_rng(count).normal(size=(count, features)).astype("float32")
    targets = None if shift else np.arange(1, count + 1) * 10
    batches = stream(array, lanes, window, targets=targets, windows_per_batch=windows)

    parts = gathered(batches)
    np.testing.assert_array_equal(np.concatenate([p[0] for p in parts]), array[:steps])
    expected = array[1:] if shift else targets
    np.testing.assert_array_equal(np.concatenate([p[1] for p in parts]), expected)
    lengths = [len(p[0]) for p in parts]
    assert max(lengths) - min(lengths) <= 1
    for _, _, reset in parts:
        assert reset[0] and not reset[1:].any()
    widths = [x["inputs"].shape[1] for x, _, _ in batches]
    assert widths[:-1] == [window * windows] * (len(batches) - 1)
    assert sum(widths) == longest
    assert len(batches) == len(widths) == batches.num_batches


def test_readable_table():
    batches = stream([10, 11, 12, 13, 14, 15], 2, 2)
    (x0, y0, w0), (x1, y1, w1) = batches
    assert x0["inputs"].tolist() == [[10, 11], [13, 14]] and y0.tolist() == [[11, 12], [14, 15]]
    assert x1["inputs"].tolist() == [[12], [0]] and y1.tolist() == [[13], [0]]
    assert w0.tolist() == [[1, 1], [1, 1]] and w1.tolist() == [[1], [0]]
    assert x0["reset"].tolist() == [[True, False], [True, False]]
    assert not x1["reset"].any()
    assert (batches.lanes, batches.window, batches.steps) == (2, 2, 3)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint32", "int64"])
def test_tokens_come_back_as_int32(dtype):
    x, y, _ = stream(np.arange(9, dtype=dtype), 2, 2)[0]
    assert x["inputs"].dtype == y.dtype == np.int32


def test_targets_keep_their_shape_and_kind():
    array = np.zeros((8, 2))
    _, y, _ = stream(array, 2, 4, targets=np.ones((8, 3)))[0]
    assert y.shape == (2, 4, 3) and y.dtype == np.float32
    _, y, _ = stream(array, 2, 4, targets=np.ones(8, np.int64))[0]
    assert y.shape == (2, 4) and y.dtype == np.int32


def test_index_from_the_end_and_past_it():
    batches = stream(np.arange(21), 2, 4)
    np.testing.assert_array_equal(batches[-1][1], batches[len(batches) - 1][1])
    with pytest.raises(IndexError, match=r"\[0, 3\); received index=3"):
        batches[3]


def test_memmap_of_ten_gigabytes_is_not_read(tmp_path):
    path = tmp_path / "sparse.bin"
    count = 10 * 2**30
    with open(path, "wb") as file:
        file.truncate(count)
        file.seek(count // 2)
        file.write(bytes([7, 8, 9]))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.monotonic()
    array = np.memmap(path, np.uint8, "r")
    batches = stream(array, 4, 100, vocabulary=10, check_finite=True)
    first, _, last = batches[0], batches[len(batches) // 2], batches[-1]
    assert time.monotonic() - start < 10
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**10
    assert grown < 100, f"resident memory grew by {grown} MB"
    # The second half begins one step before lane 2, as one step has no target.
    assert first[0]["inputs"][2, :3].tolist() == [7, 8, 9]
    assert last[2].sum() == count - 1 - (len(batches) - 1) * 400


def test_memmap_is_checked_as_it_is_read(tmp_path):
    array = np.memmap(tmp_path / "tokens.bin", np.int16, "w+", shape=(41,))
    array[27] = 9
    batches = stream(array, 2, 5, vocabulary=9)
    batches[0]
    with pytest.raises(ValueError, match=r"array \(lane 1\) must lie in \[0, 8\]; received 9 at"):
        batches[1]


def is_traced(x):
    """Whether `x` is a JAX tracer, which has no values."""
    if keras.backend.backend() != "jax":
        return False
    import jax

    return isinstance(x, jax.core.Tracer)


class Recorder(keras.layers.Layer):
    """Notes the first row of every batch that it is called on."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def compute_output_spec(self, x):
        return keras.KerasTensor((*x["inputs"].shape, 1), "float32")

    def call(self, x):
        # On JAX, Keras first traces the layer to learn shapes.
        if not is_traced(x["inputs"]):
            self.seen.append(np.asarray(x["inputs"])[0].tolist())
        return keras.ops.cast(x["inputs"], "float32")[..., None]


def test_fit_and_evaluate_keep_the_order_and_take_a_short_last_batch():
    batches = stream(np.arange(1, 2 * 17 + 1), 2, 4, targets=np.zeros((34, 1)))
    assert len(batches) == 5
    recorder = Recorder()
    x = {
        "inputs": keras.Input((None,), dtype="int32", name="inputs"),
        "reset": keras.Input((None,), dtype="bool", name="reset"),
    }
    model = keras.Model(x, keras.layers.Dense(1)(recorder(x)))
    model.compile("sgd", "mse", run_eagerly=True)
    model.fit(batches, epochs=2, verbose=0, shuffle=True)
    epoch = [list(range(1, 18))[i : i + 4] for i in range(0, 17, 4)]
    assert recorder.seen == epoch * 2
    recorder.seen.clear()
    model.evaluate(batches, verbose=0)
    assert recorder.seen == epoch


def test_loss_reduction_named_in_the_docstring_ignores_padding():
    _, y, weight = stream(np.arange(1, 7), 2, 3)[0]
    assert weight.sum() == 5
    loss = keras.losses.MeanSquaredError(reduction="mean_with_sample_weight")
    prediction = (y + np.where(weight > 0, 2.0, 100.0))[..., None]
    assert float(loss(y[..., None], prediction, sample_weight=weight)) == pytest.approx(4.0)


tokens = np.arange(20)
BAD = [
    (dict(array=[]), r"at least one step and one feature; received shape \(0,\)"),
    (dict(array=np.zeros((5, 0))), r"at least one step and one feature; received shape \(5, 0\)"),
    (dict(array=np.zeros((2, 3, 4))), r"received shape \(2, 3, 4\)"),
    (dict(array=3), r"\(steps,\) for tokens or \(steps, features\); received shape \(\)"),
    (dict(array=[[1, 2], [3]]), r"must all have the same shape; received \[\[1, 2\], \[3\]\]"),
    (dict(array=np.linspace(0, 1, 20)), "must hold integer tokens; received dtype float64"),
    (dict(array=["a", "b"]), "must hold numbers; received the text .*: give the rnnzoo"),
    (dict(array="abc"), "must hold numbers; received the text 'abc'"),
    (dict(array=np.array([[None]])), "must be numbers; received dtype object"),
    (
        dict(array=np.array([1, 2**40] * 10)),
        r"must lie in \[-2147483648, 2147483647\]; received 1099",
    ),
    (dict(window=0), "window must be an integer of at least 1; received window=0"),
    (dict(window=-4), "received window=-4"),
    (dict(window=2.0), "received window=2.0"),
    (dict(window=11), "longest lane, 10 with batch_size=2; received window=11"),
    (dict(batch_size=0), "batch_size must be an integer of at least 1; received batch_size=0"),
    (dict(batch_size=20, window=1), "that have a target, 19; received batch_size=20"),
    (dict(array=[1], batch_size=1), "that have a target, 0; received batch_size=1"),
    (dict(windows_per_batch=0), "windows_per_batch must be an integer of at least 1"),
    (dict(targets=np.arange(19)), r"for each step, that is 20; received shape \(19,\)"),
    (dict(targets=list("abc")), "targets must be numbers; received dtype <U1"),
    (
        dict(vocabulary=0),
        "an integer of at least 1, or a .*; received vocabulary=0",
    ),
    (dict(vocabulary="text"), "a rnnzoo.data.Vocabulary, or a tok.*; received vocabulary='text'"),
    (dict(vocabulary=19), r"array \(lane 1\) must lie in \[0, 18\]; received 19 at step 19"),
    (dict(array=-tokens, vocabulary=9), r"\(lane 0\) must lie in \[0, 8\]; received -1 at step 1"),
    (dict(array=np.zeros((20, 2)), vocabulary=3), r"with features of shape \(20, 2\)"),
]


@pytest.mark.parametrize("change, message", BAD, ids=range(len(BAD)))
def test_bad_input(change, message):
    with pytest.raises(ValueError, match=message):
        stream(**{**dict(array=tokens, batch_size=2, window=3), **change})


@pytest.mark.parametrize("value, shown", [(np.nan, "nan"), (-np.inf, "-inf")])
def test_not_finite_is_named_by_lane_and_step_when_asked(value, shown):
    array = np.zeros((20, 3))
    array[13, 2] = value
    message = rf"array \(lane 1\) must be finite; received {shown} at step 13, feature 2"
    with pytest.raises(ValueError, match=message):
        stream(array, 2, 3, check_finite=True)
    with pytest.raises(ValueError, match=rf"targets \(lane 1\) must be finite; received {shown}"):
        stream(np.zeros((20, 3)), 2, 3, targets=array, check_finite=True)
    stream(array, 2, 3)


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="JAX reads the batches themselves")
def test_tensorflow_reads_without_a_generator_and_passes_do_not_mix(monkeypatch):
    import tensorflow as tf

    # It would slow every allocation of the process.
    monkeypatch.delattr(tf.data.Dataset, "from_generator")
    batches = stream(np.arange(200), 2, 5)
    made, wanted = batches.get_tf_dataset(), [x["inputs"] for x, *_ in batches]

    def read(some):
        return np.array([x["inputs"] for x, *_ in some])

    assert int(made.cardinality()) == len(batches)
    broken = iter(made)  # and reads ahead
    first = next(broken)[0]["inputs"]
    for _ in range(2):
        np.testing.assert_array_equal(read(made), wanted)
    np.testing.assert_array_equal([first, *read(broken)], wanted)
