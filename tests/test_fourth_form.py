"""A fourth form, made here from outside: two inputs per step, one per sequence, two outputs.

Nothing in the package knows of it. It must train, carry, step, save and export as the three do.
"""

import json

import keras
import numpy as np
import pytest
from keras import ops
from reference import close, on_jax

import rnnzoo
from rnnzoo.core import CoreSpec, Input, Output, State

pytestmark = pytest.mark.usefixtures("xla")

LOAD, TOKENS, STORES, UNITS = 2, 5, 3, 4
KEPT = {"memory_h": State((UNITS,)), "memory_c": State((UNITS,))}


def two_headed(name="two_headed"):
    """A model that reads a load and an hour at each step, knows its store, and says two things."""
    load = keras.Input((None, LOAD), name="load")
    hour = keras.Input((None,), dtype="int32", name="hour")
    store = keras.Input((), dtype="int32", name="store")
    reset = keras.Input((None,), dtype="bool", name="reset")
    states = {key: keras.Input((UNITS,), name=key) for key in ("memory_h", "memory_c")}
    known = keras.layers.Embedding(TOKENS, 3, name="hours")(hour)
    start = keras.layers.Embedding(STORES, 3, name="stores")(store)
    joined = keras.layers.Concatenate(name="joined")([load, known])
    layer = rnnzoo.layers.LSTM(UNITS, name="memory", learned_initial_state=True)
    hidden, after = layer(joined, {"h": states["memory_h"], "c": states["memory_c"]}, reset=reset)
    shifted = keras.layers.Dense(UNITS, name="shift")(start)
    hidden = keras.layers.Add(name="mixed")([hidden, keras.layers.Reshape((1, UNITS))(shifted)])
    value = rnnzoo.layers.per_step.PerStepDense(1, name="value_layer")(hidden)
    policy = rnnzoo.layers.per_step.PerStepDense(3, name="policy_layer")(hidden)
    outputs = {"value": value, "policy": policy}
    core = keras.Model(
        {"load": load, "hour": hour, "store": store, "reset": reset, **states},
        {**outputs, "memory_h": after["h"], "memory_c": after["c"]},
    )
    spec = CoreSpec(
        form="two_headed",
        inputs={
            "load": Input((LOAD,)),
            "hour": Input((), "int32", TOKENS),
            "store": Input((), "int32", STORES, per_step=False),
        },
        outputs={"value": Output((1,)), "policy": Output((3,), layer="policy_layer")},
        states={
            "memory_h": State((UNITS,), start=("memory", "h")),
            "memory_c": State((UNITS,), start=("memory", "c")),
        },
    )
    return rnnzoo.RecurrentModel(core, spec, name=name)


LOSSES = {"value": "mse", "policy": "sparse_categorical_crossentropy"}


def compiled(rate=0.2):
    keras.utils.set_random_seed(3)
    model = two_headed()
    model.compile(keras.optimizers.SGD(rate), LOSSES, metrics={"policy": ["accuracy"]})
    return model


def batch(rows=4, steps=12, seed=0):
    rng = np.random.default_rng(seed)
    x = {
        "load": rng.normal(size=(rows, steps, LOAD)).astype("float32"),
        "hour": rng.integers(0, TOKENS, (rows, steps)),
        "store": rng.integers(0, STORES, rows),
    }
    y = {
        "value": rng.normal(size=(rows, steps)).astype("float32"),
        "policy": rng.integers(0, 3, (rows, steps)),
    }
    return x, y


@pytest.fixture(scope="module")
def model():
    return compiled()


def test_steps_equal_the_whole(model):
    x, _ = batch()
    whole = model.predict(x, verbose=0)
    assert set(whole) == {"value", "policy"}
    state, parts = model.initial_state(4), []
    for t in range(12):
        now = {
            "load": x["load"][:, t : t + 1],
            "hour": x["hour"][:, t : t + 1],
            "store": x["store"],
        }
        outputs, state = model.step(now, state)
        parts.append(ops.convert_to_numpy(outputs["value"]))
    close(np.concatenate(parts, axis=1), whole["value"])


def test_windows_equal_windows_cut_by_hand():
    x, y = batch()
    looped, by_hand = compiled(), compiled()
    by_hand.core.set_weights(looped.core.get_weights())
    for one in (looped, by_hand):  # frequencies are no matter here
        one.core.get_layer("policy_layer").bias.assign([0.1, 0.2, 0.3])
    callback = rnnzoo.TruncatedBPTT(5)
    looped.fit(x, y, batch_size=4, shuffle=False, verbose=0, callbacks=[callback])
    for start in range(0, 12, 5):
        part = slice(start, start + 5)
        cut = {"load": x["load"][:, part], "hour": x["hour"][:, part], "store": x["store"]}
        reset = np.zeros(cut["hour"].shape, bool)
        reset[:, 0] = start == 0
        by_hand.train_on_batch({**cut, "reset": reset}, {k: v[:, part] for k, v in y.items()})
    assert int(looped.optimizer.iterations) == 3
    for got, wanted in zip(looped.core.get_weights(), by_hand.core.get_weights()):
        close(got, wanted)
    assert looped.states["memory_h"].shape == (0, UNITS)  # whole sequences leave no stream


def test_history_is_the_mean_over_all_steps():
    model = compiled(rate=0.0)
    model.core.get_layer("policy_layer").bias.assign([0.1, 0.2, 0.3])
    x, y = batch()
    rng = np.random.default_rng(2)
    weight = {"value": rng.uniform(0.5, 2, (4, 12)), "policy": rng.uniform(0.5, 2, 4)}
    options = {"sample_weight": weight, "batch_size": 4, "verbose": 0}
    history = model.fit(x, y, **options, callbacks=[rnnzoo.TruncatedBPTT(5)]).history
    outputs = model.predict(x, verbose=0)
    value = (weight["value"] * np.square(outputs["value"][..., 0] - y["value"])).mean()
    logits = outputs["policy"] - outputs["policy"].max(-1, keepdims=True)
    logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    nats = -np.take_along_axis(logs, y["policy"][..., None], -1)[..., 0]
    policy = (weight["policy"][:, None] * nats).mean()
    np.testing.assert_allclose(history["loss"], [value + policy], rtol=1e-5)
    right = (outputs["policy"].argmax(-1) == y["policy"]).mean()
    np.testing.assert_allclose(history["policy_accuracy"], [right], rtol=1e-5)


def test_it_is_saved_and_loaded(model, tmp_path):
    x, _ = batch()
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.spec == model.spec
    assert loaded.form == "two_headed"
    close(loaded.predict(x, verbose=0)["policy"], model.predict(x, verbose=0)["policy"])


@pytest.mark.skipif(on_jax(), reason="the export is written by TensorFlow, and read there")
def test_it_is_exported(model, tmp_path):
    import tensorflow as tf

    x, _ = batch(rows=2, steps=1)
    path = model.export(tmp_path / "two_headed" / "1")
    manifest = json.loads((path / "assets.extra" / "rnnzoo.json").read_text())
    assert manifest["form"] == "two_headed"
    assert manifest["state"]["memory_h"]["initial"] == "initial_state"
    served = tf.saved_model.load(str(path))
    state = served.signatures["initial_state"](like=tf.zeros([2], tf.int32))
    given = {key: tf.constant(v, "int32") if v.dtype.kind == "i" else v for key, v in x.items()}
    answer = served.signatures["step"](**given, reset=tf.zeros([2, 1], tf.bool), **state)
    outputs, after = model.step(x, model.initial_state(2))
    close(answer["value"], outputs["value"])
    close(answer["memory_c_out"], after["memory_c"])
    loaded = rnnzoo.load_served(path)
    streams = loaded.new_streams(2, static={name: x[name] for name in loaded.static})
    steps = [{name: x[name][row] for name in loaded.inputs} for row in range(2)]
    for row, found in enumerate(loaded.step(streams, steps)):
        assert set(found) == {"policy", "value"}
        close(found["value"], ops.convert_to_numpy(outputs["value"])[row])
    with pytest.raises(ValueError, match="of one output; received one of .'policy', 'value'"):
        rnnzoo.serving.Batcher(loaded)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"inputs": {"load": Input((LOAD,))}}, "inputs are a dict with the names"),
        ({"outputs": {"value": Output((1,))}}, "outputs are a dict with the names"),
        ({"mask": "mask"}, "inputs are a dict with the names"),
        ({"reset": "load"}, "must have different names"),
        ({"outputs": {}}, "at least one input per step and one output"),
        ({"states": {**KEPT, "memory_h": State((UNITS,), "int32")}}, "says, 'int32'; received one"),
        ({"states": {**KEPT, "memory_h": State((UNITS,), start=("none", "h"))}}, "'none', 'h'"),
        ({"states": {**KEPT, "memory_h": State((UNITS,), start=("joined", "h"))}}, "'joined', 'h'"),
        ({"outputs": {"value": Output((1,), layer="no"), "policy": Output((3,))}}, "layer='no'"),
        ({"form": "many_to_one"}, r"received form='many_to_one', of outputs per_step=\[True, True"),
        (
            {"form": "encoder_decoder"},
            "form must be 'one_to_one' of a core with an output",
        ),
    ],
)
def test_a_spec_that_is_not_that_of_the_core_is_refused(model, change, said):
    import dataclasses

    with pytest.raises(ValueError, match=said):
        rnnzoo.RecurrentModel(model.core, dataclasses.replace(model.spec, **change))


def test_a_start_that_its_layer_does_not_give_is_refused(model):
    import dataclasses

    states = {**KEPT, "memory_h": State((UNITS,), start=("memory", "x"))}
    other = rnnzoo.RecurrentModel(model.core, dataclasses.replace(model.spec, states=states))
    with pytest.raises(ValueError, match="'memory_h' must be .* received start=.'memory', 'x'"):
        other.predict(batch(2, 3)[0], verbose=0)


@keras.saving.register_keras_serializable("tests")
class Count(keras.layers.Layer):
    """The steps of a sequence, counted from 5 in integers, and whether any was above 0."""

    def initial_state(self, rows):
        return {"count": ops.full((rows,), 5, "int32")}

    def call(self, values):
        x, reset, count, above = values
        place = ops.broadcast_to(ops.arange(1, ops.shape(x)[1] + 1, dtype="int32"), ops.shape(x))
        before = ops.expand_dims(place, 2) >= ops.expand_dims(place, 1)

        def latest(values):
            """The number of the last step so far where `values`, 0 for none."""
            found = ops.where(values, place, 0)
            return ops.max(ops.where(before, found[:, None], 0), axis=2)

        begun = latest(reset)
        fresh = begun > 0
        counts = ops.where(fresh, 6 + place - begun, count[:, None] + place)
        found = latest(x > 0)
        seen = ops.where(fresh, found >= begun, ops.logical_or(found > 0, above))
        # What has no steps has the state that went in.
        counts = ops.concatenate([count[:, None], counts], axis=1)
        seen = ops.concatenate([above, seen], axis=1)
        numbers = ops.stack([ops.cast(v, "float32") for v in (counts, seen)], axis=-1)
        return numbers[:, 1:], counts[:, -1], seen[:, -1:]

    def compute_output_spec(self, values):
        x, _, count, above = values
        numbers = keras.KerasTensor((*x.shape, 2))
        return (numbers, *(keras.KerasTensor(v.shape, v.dtype) for v in (count, above)))


def test_states_of_integers_and_flags_start_where_ones_own_layer_says(tmp_path):
    x = keras.Input((None,), name="x")
    reset = keras.Input((None,), dtype="bool", name="reset")
    count = keras.Input((), dtype="int32", name="count")
    above = keras.Input((1,), dtype="bool", name="above")
    numbers, *after = Count(name="counted")([x, reset, count, above])
    value = ops.squeeze(keras.layers.Dense(1, kernel_initializer="ones")(numbers), -1)
    core = keras.Model(
        {"x": x, "reset": reset, "count": count, "above": above},
        {"value": value, **dict(zip(("count", "above"), after))},
    )
    states = {"count": State((), "int32", ("counted", "count")), "above": State((1,), "bool")}
    # One number at each step, without an axis of its own.
    spec = CoreSpec("one_to_one", {"x": Input()}, {"value": Output(())}, states)
    model = rnnzoo.RecurrentModel(core, spec)
    values = np.float32([[-1, 2, -3, -4], [-1, -2, 3, -4]])
    wanted = np.float32([[6, 8, 9, 10], [6, 7, 9, 10]])
    close(model.predict(values, verbose=0), wanted)

    state = model.initial_state(2)
    assert ops.convert_to_numpy(state["count"]).tolist() == [5, 5]
    first, state = model.step(values[:, :1], state)
    rest, state = model.step(values[:, 1:], state)
    close(ops.concatenate([first, rest], axis=1), wanted)
    assert ops.convert_to_numpy(state["count"]).tolist() == [9, 9]

    model.compile(keras.optimizers.SGD(1e-3), "mse")
    new = np.array([[True, False, False], [False, False, True]])
    batches = [({"x": values[:, :3], "reset": new}, wanted[:, :3])]
    model.fit(batches, verbose=0, callbacks=[rnnzoo.TruncatedBPTT(2)])
    assert {key: v.dtype.name for key, v in model.states.items()} == {
        "count": "int32",
        "above": "bool",
    }
    assert model.states["count"].tolist() == [8, 6] and model.states["above"].all()
    model.reset_states([1])
    assert model.states["count"].tolist() == [8, 5]
    assert model.states["above"].tolist() == [[True], [False]]
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.states["count"].tolist() == [8, 5] and loaded.spec == spec
    if on_jax():
        return
    manifest = json.loads((model.export(tmp_path / "1") / "assets.extra/rnnzoo.json").read_text())
    kept = {name: (one["dtype"], one["initial"]) for name, one in manifest["state"].items()}
    assert kept == {"count": ("int32", "initial_state"), "above": ("bool", "zeros")}
    loaded = rnnzoo.load_served(tmp_path / "1")
    (stream,) = loaded.new_streams(1)
    for at, told in enumerate(model.predict(values[:1], verbose=0)[0]):
        close(loaded.step([stream], [{"x": values[0, at]}])[0], told)


@pytest.mark.parametrize(
    ("x", "y", "said"),
    [
        ({"load": np.zeros((2, 3, LOAD))}, None, "'hour', 'store'"),
        ({**batch(2, 3)[0], "wind": np.zeros((2, 3))}, None, "wind"),
        ({**batch(2, 3)[0], "store": np.zeros((2, 3), int)}, None, "store must have shape"),
        ({**batch(2, 3)[0], "hour": np.full((2, 3), 9)}, None, "hour token ids"),
        (
            batch(2, 3)[0],
            {"policy": np.zeros((2, 3), int), "price": np.zeros(2)},
            "named as the outputs",
        ),
        (batch(2, 3)[0], np.zeros((2, 3)), "must be a dict with"),
    ],
)
def test_other_names_are_refused(model, x, y, said):
    with pytest.raises(ValueError, match=said):
        model.evaluate(x, batch(2, 3)[1] if y is None else y, verbose=0)
