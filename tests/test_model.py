"""The shell: the state rule, carries that never meet, steps, masks, and whole evaluations."""

import keras
import numpy as np
import pytest
from every_cell import tower
from hypothesis import given
from hypothesis import strategies as st
from keras import ops
from reference import close

import rnnzoo

pytestmark = pytest.mark.usefixtures("xla")


def one_to_one(**more):
    options = {"units": [4, 3], "outputs": 2, **more}
    model = rnnzoo.one_to_one(features=2, **options)
    model.compile(keras.optimizers.SGD(0.1), "mse")
    return model


@pytest.fixture(scope="module")
def towers():
    """Two models of all cells, with the same weights."""
    made = tower(), tower()
    made[1].set_weights(made[0].get_weights())
    for model in made:
        model.compile(keras.optimizers.SGD(0.01), "mse")  # at 0.1 some diverge
    return made, made[0].get_weights()


@pytest.fixture
def two(towers):
    """The same, as they were at first."""
    for model in towers[0]:
        model.set_weights(towers[1])
        model.reset_states()
    return towers[0]


@pytest.fixture
def every_cell(two):
    return two[0]


def data(rows=3, steps=12, seed=0):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(2, rows, steps, 2)).astype("float32")
    return x, y


def windows(x, size, reset=None):
    """A sequence per row, cut into windows: batch after batch, rows below one another."""
    reset = np.zeros(x.shape[:2], bool) if reset is None else reset
    parts = [slice(i, i + size) for i in range(0, x.shape[1], size)]
    return {key: np.concatenate([v[:, p] for p in parts]) for key, v in zip("xr", (x, reset))}


def as_stream(x, size, reset=None):
    cut = windows(x, size, reset)
    return {"inputs": cut["x"], "reset": cut["r"]}


@given(cuts=st.lists(st.integers(1, 11), max_size=3, unique=True), seed=st.integers(0, 99))
def test_steps_of_any_length_equal_the_whole(towers, cuts, seed):
    (every_cell, _), (x, _) = towers[0], data(seed=seed)
    whole = every_cell.predict(x, verbose=0)
    state, pieces = every_cell.initial_state(3), []
    edges = [0, *sorted(cuts), 12]
    for a, b in zip(edges, edges[1:]):
        outputs, state = every_cell.step(x[:, a:b], state)
        pieces.append(ops.convert_to_numpy(outputs))
    close(np.concatenate(pieces, axis=1), whole)


@pytest.mark.parametrize("size", [1, 4, 12])
def test_a_stream_is_predicted_as_whole_sequences_are(every_cell, size):
    x, _ = data()
    joined = every_cell.predict(as_stream(x, size), batch_size=3, verbose=0)
    close(joined, every_cell.predict(x, verbose=0))


def test_sequences_of_many_lengths_are_predicted_in_the_order_given():
    model = one_to_one(layer_norm=True)
    x, _ = data()
    parts = [x[0, :3], x[1], x[2, :5]]
    batches = rnnzoo.data.bucket(parts, batch_size=2, pad_to_multiple_of=1)
    found = model.predict(batches, verbose=0)
    assert found.shape[:2] == (3, 12)
    for outputs, part in zip(found, parts):
        close(outputs[: len(part)], model.predict(part[None], verbose=0)[0])


def test_a_reset_starts_a_row_afresh_and_no_other(every_cell):
    model = every_cell
    x, _ = data()
    reset = np.zeros((3, 12), bool)
    reset[1, 7] = True
    joined = model.predict(as_stream(x, 4, reset), batch_size=3, verbose=0)
    whole = model.predict(x, verbose=0)
    close(joined[[0, 2]], whole[[0, 2]])
    close(joined[1, :7], whole[1, :7])
    close(joined[1, 7:], model.predict(x[1:2, 7:], verbose=0)[0])


def test_batches_without_reset_neither_read_nor_move_the_carry(every_cell):
    model = every_cell
    x, y = data()
    model.fit(as_stream(x, 4), np.concatenate(np.split(y, 3, axis=1)), batch_size=3, verbose=0)
    before = model.states
    start = model.initial_state(3)
    assert all(np.abs(v - ops.convert_to_numpy(start[k])).max() > 0 for k, v in before.items())
    model.fit(x[:2], y[:2], batch_size=1, verbose=0)
    for key, value in model.states.items():
        np.testing.assert_array_equal(value, before[key])


def test_single_steps_of_any_number_of_rows_see_later_training():
    model = one_to_one()
    x, y = data(rows=12)
    for _ in range(2):
        outputs = model.predict(x, verbose=0)
        for rows in range(1, 13):
            state, found = model.initial_state(rows), []
            for i in range(3):
                step, state = model.step(x[:rows, i : i + 1], state)
                found.append(step)
            close(ops.concatenate(found, axis=1), outputs[:rows, :3], 1e-5)
        model.fit(x, y, verbose=0)


def test_validation_predict_and_step_never_move_the_training_state(two):
    x, y = data()
    stacked = np.concatenate(np.split(y, 3, axis=1))
    val = (as_stream(*data(rows=2, seed=5)[:1], 4), np.concatenate(np.split(y[:2], 3, axis=1)))
    plain, checked = two
    options = {"batch_size": 3, "epochs": 2, "verbose": 0}
    plain.fit(as_stream(x, 4), stacked, **options)
    options |= {"validation_data": val, "validation_batch_size": 2}
    checked.fit(as_stream(x, 4), stacked, **options)
    state = checked.states
    checked.predict(as_stream(x, 4), batch_size=3, verbose=0)
    checked.evaluate(val[0], val[1], batch_size=2, verbose=0)
    checked.step(x, checked.initial_state(3))
    for key, value in checked.states.items():
        np.testing.assert_array_equal(value, state[key])
        close(value, plain.states[key])
    for got, wanted in zip(checked.core.get_weights(), plain.core.get_weights()):
        close(got, wanted)


def test_every_evaluation_starts_from_the_initial_state(every_cell):
    model = every_cell
    x, y = data()
    stacked = np.concatenate(np.split(y, 3, axis=1))
    first, second = (
        model.evaluate(as_stream(x, 4), stacked, batch_size=3, verbose=0) for _ in range(2)
    )
    assert first == second
    close(first, np.mean((model.predict(x, verbose=0) - y) ** 2))


def test_the_carry_survives_from_fit_to_fit(two):
    x, y = data()
    stacked = np.concatenate(np.split(y, 3, axis=1))
    at_once, in_parts = two
    at_once.fit(as_stream(x, 4), stacked, batch_size=3, verbose=0)
    for start in range(0, 9, 3):
        part = {k: v[start : start + 3] for k, v in as_stream(x, 4).items()}
        in_parts.fit(part, stacked[start : start + 3], batch_size=3, verbose=0)
    for got, wanted in zip(in_parts.core.get_weights(), at_once.core.get_weights()):
        close(got, wanted)
    for key, value in in_parts.states.items():
        close(value, at_once.states[key])


@pytest.mark.parametrize("steps_per_execution", [1, 3])
@pytest.mark.parametrize("every", [2, "epoch"])
def test_reset_states_equals_reset_masks(every, steps_per_execution):
    x, y = data(rows=2)
    cut, targets = np.concatenate(np.split(x, 3, axis=1)), np.concatenate(np.split(y, 3, axis=1))
    reset = np.zeros(cut.shape[:2], bool)
    for batch in range(3):
        reset[2 * batch : 2 * batch + 2, 0] = batch == 0 or (every == 2 and batch == 2)
    masked, called = one_to_one(), one_to_one()
    called.set_weights(masked.get_weights())
    for model in (masked, called):
        model.compile(keras.optimizers.SGD(0.1), "mse", steps_per_execution=steps_per_execution)
    masked.fit({"inputs": cut, "reset": reset}, targets, batch_size=2, epochs=2, verbose=0)
    called.fit(
        cut, targets, batch_size=2, epochs=2, verbose=0, callbacks=[rnnzoo.ResetStates(every)]
    )
    for got, wanted in zip(called.core.get_weights(), masked.core.get_weights()):
        close(got, wanted)
    with pytest.raises(AssertionError):  # and it matters where the resets are
        plain = one_to_one()
        plain.set_weights(called.get_weights()[: len(plain.get_weights())])
        close(
            plain.predict(cut, verbose=0),
            called.predict(
                cut, batch_size=2, verbose=0, callbacks=[rnnzoo.ResetStates("epoch")]
            ).reshape(cut.shape),
        )


def test_all_batches_count_with_several_steps_per_execution():
    x, y = data(rows=5)
    many, one = one_to_one(), one_to_one()
    many.set_weights(one.get_weights())
    for model, steps in ((many, 2), (one, 1)):
        model.compile(keras.optimizers.SGD(0.1), "mse", steps_per_execution=steps)
        model.fit(x, y, batch_size=1, shuffle=False, verbose=0)
        assert int(model.optimizer.iterations) == 5
        model.train_on_batch(x, y)
        assert int(model.optimizer.iterations) == 6
    close(many.test_on_batch(x, y), one.test_on_batch(x, y))
    close(many.predict_on_batch(x), one.predict_on_batch(x))


@pytest.mark.parametrize("as_mask", [True, False])
def test_many_to_one_takes_the_last_valid_step(as_mask):
    model = rnnzoo.many_to_one(features=2, units=[4, 4], outputs=3, residual=True)
    x, _ = data()
    lengths = np.array([12, 5, 1])
    padding = {"mask": np.arange(12)[None] < lengths[:, None]} if as_mask else {"lengths": lengths}
    padded = model.predict({"inputs": x, **padding}, verbose=0)
    for row, length in enumerate(lengths):
        close(padded[row], model.predict(x[row : row + 1, :length], verbose=0)[0])


def test_many_to_one_without_outputs_is_the_last_hidden_state():
    model = rnnzoo.many_to_one(features=2, units=[5, 4])
    x, _ = data()
    outputs, state = model.step(x, model.initial_state(3))
    close(model.predict(x, verbose=0), outputs)
    close(outputs, state["h_1"])


def test_reset_states_of_some_rows():
    model = one_to_one()
    x, y = data()
    model.fit(as_stream(x, 12), y, batch_size=3, verbose=0)
    before = model.states
    model.reset_states(rows=[0, 2])
    for key, value in model.states.items():
        assert not value[[0, 2]].any()
        np.testing.assert_array_equal(value[1], before[key][1])
        assert before[key][0].any()  # what was handed out is a copy
    model.reset_states()
    assert not any(value.any() for value in model.states.values())


def test_the_tied_output_uses_the_embedding():
    model = rnnzoo.one_to_one(vocabulary=7, units=4, embedding=4, tied=True)
    plain = rnnzoo.one_to_one(vocabulary=7, units=4, embedding=4)
    ids = np.arange(12).reshape(2, 6) % 7
    table = model.core.get_layer("embedding").get_weights()[0]
    # As far from 0 as those of an output layer, or its logits let no gradient through.
    begun = plain.core.get_layer("output_layer").get_weights()[0]
    assert 0.5 < table.std() / begun.std() < 2
    plain.core.get_layer("embedding").set_weights([table])
    plain.core.get_layer("lstm_0").set_weights(model.core.get_layer("lstm_0").get_weights())
    plain.core.get_layer("output_layer").set_weights([table.T, np.zeros(7)])
    close(model.predict(ids, verbose=0), plain.predict(ids, verbose=0))
    assert model.core.count_params() == plain.core.count_params() - 4 * 7 - 7


def test_perplexity_depends_neither_on_windows_nor_lanes_nor_padding():
    rng = np.random.default_rng(3)
    documents = [rng.integers(0, 9, size=n) for n in (30, 7, 19, 12, 25)]
    model = rnnzoo.one_to_one(vocabulary=9, units=6)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(loss=loss, weighted_metrics=[rnnzoo.metrics.Perplexity()])
    layouts = [
        rnnzoo.data.pack(documents, lanes, window)
        for lanes, window in [(1, 8), (2, 8), (3, 5), (5, 6)]
    ]
    inputs, targets = ([d[part] for d in documents] for part in (slice(-1), slice(1, None)))
    layouts.append(rnnzoo.data.bucket(inputs, targets, 2, per_step=True))
    found = [model.evaluate(one, verbose=0, return_dict=True)["perplexity"] for one in layouts]
    sums = []
    for document in documents:
        logits = model.predict(document[None, :-1], verbose=0)[0]
        log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        sums.append(-log_p[np.arange(len(document) - 1), document[1:]])
    np.testing.assert_allclose(found, np.exp(np.concatenate(sums).mean()), rtol=1e-5)
