"""`load_served`: streams over one loaded copy, each as if it were alone."""

import json

import keras
import numpy as np
import pytest

import rnnzoo

if keras.backend.backend() == "jax":
    pytest.skip("a served model is the same on both backends", allow_module_level=True)

FEATURES, TOKENS = 2, 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("saved_models")


def exported(folder, name, model):
    keras.utils.set_random_seed(1)
    for weight in model.trainable_weights:
        weight.assign(keras.random.normal(weight.shape, seed=len(weight.path)))
    return model, rnnzoo.load_served(model.export(folder / name / "1"))


@pytest.fixture(scope="module")
def sensor(folder):
    model = rnnzoo.one_to_one(
        features=FEATURES, units=[4, 3], outputs=2, cell="gru", learned_initial_state=True
    )
    return exported(folder, "sensor", model)


@pytest.fixture(scope="module")
def pair(folder):
    model = rnnzoo.encoder_decoder(
        source_vocabulary=TOKENS, target_vocabulary=TOKENS, units=4, attention="dot"
    )
    return exported(folder, "pair", model)


def alone(model, x):
    return np.array(model.step(x[None], model.initial_state(1))[0])[0]


def test_a_thousand_streams_taking_turns_at_random_are_as_if_alone(sensor):
    """1e-5 against each alone; bit for bit at the same place among other neighbours.

    How a matrix product sums up may depend on the row's place in it, not on the other rows.
    """
    model, served = sensor
    random = np.random.default_rng(0)
    count, batch, turns = 1000, 50, 80
    data = random.normal(size=(count, turns, FEATURES)).astype("float32")
    streams = served.new_streams(count)
    outputs, places = [[] for _ in range(count)], [[] for _ in range(count)]
    for _ in range(turns):
        chosen = random.permutation(count)[:batch]
        inputs = [data[i, streams[i].steps] for i in chosen]
        found = served.step([streams[i] for i in chosen], inputs)
        for place, (i, y) in enumerate(zip(chosen, found)):
            outputs[i].append(y)
            places[i].append(place)
    assert sum(map(len, outputs)) == batch * turns
    others = served.new_streams(batch - 1)
    for i in np.flatnonzero([len(y) > 5 for y in outputs])[:20]:
        got = np.stack(outputs[i])
        np.testing.assert_allclose(got, alone(model, data[i, : len(got)]), rtol=1e-5, atol=1e-5)
        again = served.new_stream()
        for step, place in enumerate(places[i]):
            noise = random.normal(size=(batch - 1, FEATURES)).astype("float32")
            together = [*others[:place], again, *others[place:]]
            inputs = [*noise[:place], data[i, step], *noise[place:]]
            np.testing.assert_array_equal(served.step(together, inputs)[place], got[step])


def test_single_steps_and_many_steps(sensor):
    model, served = sensor
    x = np.random.default_rng(1).normal(size=(7, FEATURES)).astype("float32")
    stream, other = served.new_stream(), served.new_stream()
    parts = [stream.step(x[0])[None], stream.step(x[1:5]), stream.step(x[5:])]
    np.testing.assert_allclose(np.concatenate(parts), alone(model, x), rtol=1e-5, atol=1e-6)
    assert (stream.steps, other.steps) == (7, 0)
    # Streams that take another number of steps may come in one call.
    short, long = served.step([served.new_stream(), other], [x[0], x])
    np.testing.assert_allclose(short, alone(model, x)[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(long, alone(model, x), rtol=1e-5, atol=1e-6)


def test_a_model_with_one_answer_gives_it_after_any_steps(folder):
    model = rnnzoo.many_to_one(features=FEATURES, units=3, outputs=2, cell="simple_rnn")
    model, served = exported(folder, "many", model)
    x = np.random.default_rng(3).normal(size=(5, FEATURES)).astype("float32")
    stream = served.new_stream()
    assert stream.step(x[0]).shape == stream.step(x[1:4]).shape == (2,)
    np.testing.assert_allclose(stream.step(x[4]), alone(model, x), rtol=1e-5, atol=1e-6)


def test_a_state_can_be_taken_away_and_brought_back(sensor):
    model, served = sensor
    x = np.random.default_rng(2).normal(size=(6, FEATURES)).astype("float32")
    stream = served.new_stream()
    stream.step(x[:3])
    kept = {key: value.tolist() for key, value in stream.state.items()}
    gone_on = stream.step(x[3:])
    back = rnnzoo.load_served(served.path).new_stream(state=json.loads(json.dumps(kept)))
    np.testing.assert_array_equal(back.step(x[3:]), gone_on)


def test_the_decoder_of_a_pair_is_stepped_over_its_own_source(pair):
    model, served = pair
    sources = [[1, 2, 3], [4], [0, 5, 5]]
    target = np.array([model.start, 2, 0, 3])
    streams = served.new_streams(3, sources)
    together = [served.step(streams, [token] * 3) for token in target]
    for row, source in enumerate(sources):
        x = {"source": np.array([source]), "target": target[None, 1:]}
        expected = model.predict(x, verbose=0)[0]
        got = np.stack([outputs[row] for outputs in together])
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(served.new_stream(source).step(target), expected, atol=1e-5)


def test_any_signature_can_be_called(pair):
    model, served = pair
    source = np.array([[1, 2, 3], [4, 0, 0]])
    lengths = np.array([3, 1])
    found = served.call("beam", source=source, source_lengths=lengths, max_length=[4, 4])
    expected = model.generate(
        {"source": source, "source_lengths": lengths}, 4, rnnzoo.decoding.Beam(5, n_best=5)
    )
    np.testing.assert_array_equal(found["tokens"], expected.tokens)
    assert "beam" in served.signatures


BAD_STEPS = {
    "features": (np.zeros(3), r"inputs must have shape \(any, any, 2\)"),
    "rank": (np.zeros((1, 1, 2)), "received shape"),
    "no step": (np.zeros((0, 2)), "at least one of rank 2"),
    "text": (np.array(["a", "b"]), "received shape"),
    "nothing": (None, "received shape"),
    "nan": (np.array([0.0, np.nan]), "inputs must be finite float32; received nan"),
    "infinite": (np.array([np.inf, 0.0]), "inputs must be finite float32; received inf"),
}


@pytest.mark.parametrize("case", BAD_STEPS)
def test_bad_steps_move_no_stream(sensor, case):
    value, message = BAD_STEPS[case]
    _, served = sensor
    streams = served.new_streams(2)
    before = [dict(stream.state) for stream in streams]
    with pytest.raises(ValueError, match=message):
        served.step(streams, [np.zeros(2), value])
    for stream, state in zip(streams, before):
        assert stream.steps == 0
        assert all(stream.state[key] is state[key] for key in state)


def test_bad_calls(sensor, pair, tmp_path):
    (_, served), (_, other) = sensor, pair
    stream, x = served.new_stream(), np.zeros(FEATURES)
    for streams, inputs, message in (
        ([stream], [x, x], "one entry for each of the 1 streams; received 2"),
        ([stream, stream], [x, x], "every stream must come once"),
        ([other.new_stream([1])], [x], "streams must be of this model"),
    ):
        with pytest.raises(ValueError, match=message):
            served.step(streams, inputs)
    for call, message in (
        (lambda: served.new_stream(source=[1]), "source must be given for an encoder-decoder"),
        (lambda: other.new_stream(), "received none for a model of encoder_decoder"),
        (lambda: other.new_stream([]), "source must have at least one step"),
        (lambda: other.new_stream([TOKENS]), "source must be token ids in 0 to 5; received 6"),
        (lambda: other.new_stream([1]).step(TOKENS + 2), "token ids in 0 to 7; received 8"),
        (lambda: other.new_stream([1]).step(0.5), "dtype int32; received"),
        (lambda: served.new_stream(state={"h": x}), "state must have the names"),
        (lambda: served.new_stream(state={"h_0": x, "h_1": x}), "h_0 must have shape"),
        (lambda: served.call("best"), "signature must be one of generate, initial_state"),
        (lambda: served.call("step", inputs=x), "step takes the inputs"),
        (
            lambda: other.call("encode", source=[[1], [2]], source_lengths=[1]),
            "all inputs must have the same batch",
        ),
        (lambda: rnnzoo.load_served(tmp_path), "path must be a folder that rnnzoo.export wrote"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    (tmp_path / "assets.extra").mkdir()
    (tmp_path / "assets.extra" / "rnnzoo.json").write_text('{"format": "other"}')
    with pytest.raises(ValueError, match="format 'other'"):
        rnnzoo.load_served(tmp_path)


def test_bad_exports(tmp_path):
    model = rnnzoo.one_to_one(features=1, units=2, outputs=1)
    for options, message in (
        ({"beam": 5}, "beam must be a rnnzoo.decoding.Beam"),
        ({"metrics": {"nats": object()}}, "metrics must be a dict that JSON can hold"),
        ({"metrics": {"nats": float("nan")}}, "metrics must be a dict that JSON can hold"),
    ):
        with pytest.raises(ValueError, match=message):
            model.export(tmp_path / "1", **options)
    assert not list(tmp_path.iterdir())
