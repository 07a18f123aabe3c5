"""States that come with a batch, and burn-in: against plain differentiation, and in every form."""

import keras
import numpy as np
import pytest
from keras import ops
from reference import close, gradients

import rnnzoo

pytestmark = pytest.mark.usefixtures("xla")

ROWS, STEPS, BURNED, RATE = 3, 9, 4, 0.3
rng = np.random.default_rng(0)
X = rng.normal(size=(ROWS, STEPS, 2)).astype("float32")
Y = rng.normal(size=(ROWS, STEPS, 3)).astype("float32")
STATE = {name: rng.normal(size=(ROWS, 4)).astype("float32") for name in ("h_0", "c_0")}
RESET = np.zeros((ROWS, STEPS), bool)
RESET[1, 2] = RESET[2, 6] = True
LENGTHS = np.array([9, 6, 7])
WEIGHT = rng.uniform(0.5, 2.0, size=(ROWS, STEPS)).astype("float32")
WEIGHT[0, 7] = 0


def build(form="one_to_one", rate=RATE, **more):
    keras.utils.set_random_seed(3)
    model = getattr(rnnzoo, form)(features=2, units=4, outputs=3, **more)
    loss = keras.losses.MeanSquaredError(reduction="mean_with_sample_weight")
    model.compile(keras.optimizers.SGD(rate), loss)
    return model


@pytest.fixture(scope="module")
def model():
    return build()


def reference(model, x, y, weight, burned):
    """Loss and gradients where the first steps are run with their state cut off by hand."""
    core, spec = model.core, model.spec
    fixed = [ops.convert_to_tensor(v) for v in core.non_trainable_variables]
    names, flags = list(spec.states), [k for k in ("reset", "mask") if k in core.input]

    def loss(*weights):
        state = {name: ops.convert_to_tensor(x[name]) for name in names}
        parts = []
        for part in (slice(burned), slice(burned, None)):
            given = {key: ops.convert_to_tensor(x[key][:, part]) for key in ("inputs", *flags)}
            found, _ = core.stateless_call(list(weights), fixed, {**given, **state})
            state = {name: ops.stop_gradient(found[name]) for name in names}
            parts.append(found["outputs"])
        target, w = (y[:, burned:], weight[:, burned:]) if spec.per_step else (y, weight)
        squares = ops.mean(ops.square(parts[-1] - target), axis=-1)
        return ops.sum(squares * w) / np.sum(w)

    arrays = [ops.convert_to_numpy(v) for v in core.trainable_variables]
    values = [ops.convert_to_tensor(a) for a in arrays]
    return float(loss(*values)), gradients(loss, arrays)


@pytest.mark.parametrize("form", ["one_to_one", "many_to_one"])
def test_a_burn_in_has_neither_loss_nor_gradient(form):
    """With stored states, resets within the rows, padding and weights, all at once."""
    model = build(form)
    y, weight = (Y, WEIGHT) if form == "one_to_one" else (Y[:, 0], WEIGHT[:, 0])
    real = np.arange(STEPS) < LENGTHS[:, None]
    given = {"inputs": X, "reset": RESET, **STATE, "mask": real}
    counted = weight * real if form == "one_to_one" else weight
    expected, wanted = reference(model, given, y, counted, BURNED)
    _, uncut = reference(model, given, y, counted, 0)
    before = [ops.convert_to_numpy(v) for v in model.core.trainable_variables]
    history = model.fit(
        {"inputs": X, "reset": RESET, "state": STATE, "lengths": LENGTHS},
        y,
        sample_weight=weight,
        shuffle=False,
        verbose=0,
        callbacks=[rnnzoo.TruncatedBPTT(window=STEPS, burn_in=BURNED)],
    )
    close(np.float32(history.history["loss"][0]), np.float32(expected))
    after = [ops.convert_to_numpy(v) for v in model.core.trainable_variables]
    for was, now, gradient in zip(before, after, wanted, strict=True):
        close(now, was - RATE * gradient)
    assert max(np.abs(a - b).max() for a, b in zip(wanted, uncut)) > 1e-3
    assert model.states["h_0"].shape[0] == 0  # no carry was made


def test_windows_begin_after_the_burn_in():
    """As if the first steps had been run beforehand, and their states had come with the batch."""
    cut, whole = build(), build()
    _, state = whole.step(X[:, :BURNED], STATE)
    options = {"shuffle": False, "verbose": 0}
    first = cut.fit(
        {"inputs": X, "state": STATE},
        Y,
        sample_weight=WEIGHT,
        callbacks=[rnnzoo.TruncatedBPTT(3, 2, burn_in=BURNED)],
        **options,
    )
    second = whole.fit(
        {"inputs": X[:, BURNED:], "state": {k: ops.convert_to_numpy(v) for k, v in state.items()}},
        Y[:, BURNED:],
        sample_weight=WEIGHT[:, BURNED:],
        callbacks=[rnnzoo.TruncatedBPTT(3, 2)],
        **options,
    )
    assert int(cut.optimizer.iterations) == 3
    close(np.float32(first.history["loss"]), np.float32(second.history["loss"]))
    for a, b in zip(cut.get_weights(), whole.get_weights(), strict=True):
        close(a, b)


def test_a_stream_goes_on_over_its_burn_in():
    """The state moves on over all steps; history tells of those that were trained."""
    model = build(rate=0.0)
    batches = [
        ({"inputs": X[:, p], "reset": RESET[:, p]}, Y[:, p], WEIGHT[:, p])
        for p in (slice(6), slice(6, 9))
    ]
    callback = rnnzoo.TruncatedBPTT(2, burn_in=2)
    told = model.fit(batches, verbose=0, callbacks=[callback]).history["loss"][0]
    counted = WEIGHT.copy()
    counted[:, :2] = counted[:, 6:8] = 0
    expected = model.evaluate({"inputs": X, "reset": RESET}, Y, sample_weight=counted, verbose=0)
    close(np.float32(told), np.float32(expected))
    _, state = model.step(X, model.initial_state(ROWS), RESET)
    for name, lanes in model.states.items():
        close(lanes, state[name])


class Rows(keras.utils.PyDataset):
    """One row in a batch."""

    def __len__(self):
        return ROWS

    def __getitem__(self, i):
        return one_row(i)


def one_row(i):
    state = {name: values[i : i + 1] for name, values in STATE.items()}
    x = {"inputs": X[i : i + 1], "reset": RESET[i : i + 1], "state": state}
    return x, Y[i : i + 1]


def tensorflow_set():
    import tensorflow as tf

    given = {"inputs": X, "reset": RESET, "state": STATE}
    return tf.data.Dataset.from_tensor_slices((given, Y)).batch(1)


FORMS = {
    "arrays": lambda: ({"inputs": X, "reset": RESET, "state": STATE}, Y),
    "a list of batches": lambda: ([one_row(i) for i in range(ROWS)], None),
    "a generator": lambda: ((one_row(i) for i in range(ROWS)), None),
    "a PyDataset": lambda: (Rows(), None),
    "tf.data": lambda: (tensorflow_set(), None),
}


@pytest.mark.parametrize("form", FORMS)
def test_rows_begin_with_their_own_states_in_every_form_of_data(model, form):
    expected, _ = model.step(X, STATE, RESET)
    x, y = FORMS[form]()
    options = {"batch_size": 1} if y is not None else {"steps": ROWS}
    told = model.evaluate(x, y, verbose=0, **options)
    close(np.float32(told), np.mean(np.square(ops.convert_to_numpy(expected) - Y)))
    x, _ = FORMS[form]()
    close(model.predict(x, verbose=0, **options), expected)
    assert model.evaluation_carry.lanes == 0


def test_sequences_of_any_length_begin_with_their_own_states(model):
    rows = [X[i, :length] for i, length in enumerate(LENGTHS)]
    begun = {name: list(values) for name, values in STATE.items()}
    data = rnnzoo.data.bucket(rows, batch_size=2, pad_to_multiple_of=STEPS, state=begun)
    expected = ops.convert_to_numpy(model.step(X, STATE)[0])
    found = model.predict(data, verbose=0)
    for i, length in enumerate(LENGTHS):
        close(found[i, :length], expected[i, :length])
    with pytest.raises(ValueError, match=r"state\['h_0'\] must have one entry for each sequence"):
        rnnzoo.data.bucket(rows, state={"h_0": STATE["h_0"][:2]})


def test_single_batches_and_calls_take_states(model):
    given = {"inputs": X, "reset": RESET, "state": STATE}
    expected, _ = model.step(X, STATE, RESET)
    close(model(given), expected)
    close(model.predict_on_batch(given), expected)
    close(
        np.float32(model.test_on_batch(given, Y)),
        np.mean(np.square(ops.convert_to_numpy(expected) - Y)),
    )


def test_a_batch_with_states_neither_reads_nor_moves_the_carry():
    model = build()
    model.train_on_batch({"inputs": X, "reset": RESET}, Y)
    before = model.states
    told = model.test_on_batch({"inputs": X, "reset": RESET, "state": STATE}, Y)
    assert model.train_on_batch({"inputs": X, "reset": RESET, "state": STATE}, Y) == pytest.approx(
        told, rel=1e-5
    )
    for name, lanes in model.states.items():
        np.testing.assert_array_equal(lanes, before[name])


def with_state(**more):
    return {"inputs": X, "state": STATE | more}


def burned(steps, x=X, y=Y, form="one_to_one"):
    model = build(form)
    model.fit(x, y, shuffle=False, verbose=0, callbacks=[rnnzoo.TruncatedBPTT(3, burn_in=steps)])


def translator(burn_in):
    model = rnnzoo.encoder_decoder(source_vocabulary=3, target_vocabulary=3, units=2)
    model.compile("sgd", "sparse_categorical_crossentropy")
    pairs = {"source": [[1, 2]], "target": [[1, 2]]}
    model.fit(pairs, verbose=0, callbacks=[rnnzoo.TruncatedBPTT(2, burn_in=burn_in)])


def marked(model):
    model.fit(with_state(), Y, verbose=0, callbacks=[rnnzoo.ResetStates(2)])


BAD = {
    "a state that is missing": (
        lambda m: m.fit({"inputs": X, "state": {"h_0": STATE["h_0"]}}, Y),
        ["state must be a dict with the names ['h_0', 'c_0']", "received ['h_0']"],
    ),
    "a state too many": (
        lambda m: m.predict(with_state(h_1=STATE["h_0"])),
        ["names ['h_0', 'c_0']", "received ['c_0', 'h_0', 'h_1']"],
    ),
    "states without names": (
        lambda m: m.fit({"inputs": X, "state": STATE["h_0"]}, Y),
        ["state must be a dict", "received ndarray"],
    ),
    "states beside the inputs": (
        lambda m: m.fit({"inputs": X, **STATE}, Y),
        ["any of ['reset', 'mask', 'lengths'], or 'state'", "'c_0'"],
    ),
    "a state of other units": (
        lambda m: m.fit(with_state(c_0=STATE["c_0"][:, :2]), Y),
        ["state 'c_0' must be", "(3, 4)", "received shape (3, 2)"],
    ),
    "a state of other rows": (
        lambda m: m.evaluate(with_state(c_0=STATE["c_0"][:2]), Y),
        ["state 'c_0' must be", "received shape (2, 4)"],
    ),
    "a state of words": (
        lambda m: m.fit(with_state(c_0=STATE["c_0"].astype(str)), Y),
        ["state 'c_0' must hold numbers", "<U32"],
    ),
    "a state and ResetStates": (marked, ["ResetStates marks the resets itself", "'state'"]),
    "a state in a call": (
        lambda m: m(with_state(c_0=STATE["c_0"][:, :2])),
        ["state 'c_0' must be", "received shape (3, 2)"],
    ),
    "a state of a model that has none": (
        lambda m: build(bidirectional=True).predict(with_state()),
        ["must come without 'state'", "no state to go on from"],
    ),
    "a negative burn-in": (
        lambda m: rnnzoo.TruncatedBPTT(3, burn_in=-1),
        ["burn_in must be an integer of at least 0", "received burn_in=-1"],
    ),
    "a burn-in of half steps": (
        lambda m: rnnzoo.TruncatedBPTT(3, burn_in=1.5),
        ["burn_in must be an integer of at least 0", "received burn_in=1.5"],
    ),
    "a burn-in of all steps": (
        lambda m: burned(9),
        ["burn_in must be less than the steps", "burn_in=9", "a batch of 9 steps"],
    ),
    "a burn-in of all steps of a row": (
        lambda m: burned(6, {"inputs": X, "lengths": LENGTHS}, Y[:, 0], "many_to_one"),
        ["burn_in must be less than the steps of every row", "burn_in=6", "row 1"],
    ),
    "a burn-in of a decoder": (
        lambda m: translator(1),
        ["burn_in must be 0 for a model of encoder_decoder", "received burn_in=1"],
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_is_refused_by_name(model, case):
    call, words = BAD[case]
    before = model.get_weights()
    with pytest.raises(ValueError) as found:
        call(model)
    for word in words:
        assert word in str(found.value)
    for a, b in zip(model.get_weights(), before):
        np.testing.assert_array_equal(a, b)


def test_batches_all_bring_states_or_none(model):
    batches = [(with_state(), Y), ({"inputs": X}, Y)]
    with pytest.raises(Exception, match="with 'state' and another without 'state'"):
        model.evaluate(batches, verbose=0)
