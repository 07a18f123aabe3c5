"""ONNX, LiteRT and Triton: each run by its own runtime, or checked by its schema."""

import importlib
import json

import keras
import numpy as np
import pytest

import rnnzoo
from rnnzoo.export.triton import config_of
from tests.clean_process import found_in, make_calls, save_calls

if keras.backend.backend() == "jax":
    pytest.skip("written by a process on TensorFlow, tested there", allow_module_level=True)

MODELS = {
    "tokens lstm": {"vocabulary": 7, "units": [5, 4], "residual": False},
    "values gru": {"features": 3, "outputs": 2, "units": [4, 4], "cell": "gru", "residual": True}
    | {"layer_norm": True, "learned_initial_state": True},
    "many simple_rnn": {"features": 3, "outputs": 2, "units": 4, "cell": "simple_rnn"},
}
ROWS, STEPS = 3, 5

# Runs where neither TensorFlow nor Keras nor rnnzoo is.
ONNX = """
import sys
for name in ("tensorflow", "keras", "rnnzoo"):
    sys.modules[name] = None
import pathlib
import numpy as np
import onnxruntime

for folder in map(pathlib.Path, sys.argv[1:]):
    for path in folder.glob("call.*.npz"):
        file = folder / "1" / (path.name.split(".")[2] + ".onnx")
        session = onnxruntime.InferenceSession(str(file))
        names = [output.name for output in session.get_outputs()]
        found = dict(zip(names, session.run(names, dict(np.load(path)))))
        np.savez(path.with_name("found" + path.name.removeprefix("call")), **found)
"""
LITERT = """
import sys
for name in ("tensorflow", "keras", "rnnzoo"):
    sys.modules[name] = None
import pathlib
import numpy as np
from ai_edge_litert.interpreter import Interpreter

for folder in map(pathlib.Path, sys.argv[1:]):
    interpreter = Interpreter(model_path=str(folder / "1" / "step.tflite"))
    ops = {op["op_name"] for op in interpreter._get_ops_details()}
    assert not [op for op in ops if op.startswith(("Flex", "CUSTOM", "WHILE"))], ops
    step = interpreter.get_signature_runner("step")
    for path in folder.glob("call.*.npz"):
        np.savez(path.with_name("found" + path.name.removeprefix("call")), **step(**np.load(path)))
"""


def made(name):
    keras.utils.set_random_seed(4)
    factory = rnnzoo.many_to_one if name.startswith("many") else rnnzoo.one_to_one
    model = factory(**MODELS[name])
    for weight in model.core.weights:
        if "initial_" in weight.path:
            weight.assign(keras.random.normal(weight.shape, seed=2))
    return model


def inputs_for(model, rows, steps):
    random = np.random.default_rng(1)
    if len(model.core.input["inputs"].shape) == 2:
        return random.integers(0, 7, (rows, steps)).astype("int32")
    return random.normal(size=(rows, steps, 3)).astype("float32")


def step_call(model, rows):
    """Inputs of one step; in row 1 a sequence begins, and its old state is no number."""
    random = np.random.default_rng(2)
    state = {
        key: random.normal(size=value.shape).astype("float32")
        for key, value in model.initial_state(rows).items()
    }
    reset = np.zeros((rows, 1), bool)
    if rows > 1:
        reset[1] = True
        for value in state.values():
            value[1] = np.nan
    return {"inputs": inputs_for(model, rows, 1), "reset": reset, **state}


def check_step(model, found, call):
    state = {key: call[key] for key in model.initial_state(1)}
    outputs, after = model.step(call["inputs"], state, call["reset"])
    np.testing.assert_allclose(found["outputs"], outputs, rtol=1e-5, atol=1e-5)
    assert found.keys() == {"outputs", *(f"{key}_out" for key in state)}
    for key, value in after.items():
        np.testing.assert_allclose(found[f"{key}_out"], value, rtol=1e-5, atol=1e-5)
    assert np.isfinite(found["outputs"]).all()


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """`written(format, program, calls)`: model, call and result of each call, by model."""

    def written(format, module, program, calls):
        pytest.importorskip(module)
        folder, models = tmp_path_factory.mktemp(format), {name: made(name) for name in MODELS}
        for name, model in models.items():
            (folder / name).mkdir()
            model.export(folder / name / "1", format)
            save_calls(folder / name, calls(model))
        make_calls([folder / name for name in models], program)
        return {
            name: (model, calls(model), found_in(folder / name)) for name, model in models.items()
        }

    return written


@pytest.fixture(scope="module")
def onnx(written):
    pytest.importorskip("tf2onnx")

    def calls(model):
        x = inputs_for(model, ROWS, STEPS)
        lengths = {"lengths": np.array([5, 2, 4], "int32")} if model.form == "many_to_one" else {}
        return {
            "step": ("step", step_call(model, ROWS)),
            "whole": ("serving_default", {"inputs": x, **lengths}),
            "start": ("initial_state", {"like": np.zeros(ROWS, "int32")}),
        }

    return written("onnx", "onnxruntime", ONNX, calls)


@pytest.mark.parametrize("name", MODELS)
def test_onnx_equals_the_model(onnx, name):
    model, calls, found = onnx[name]
    check_step(model, found["step"], calls["step"][1])
    x = calls["whole"][1]
    expected = model.predict(x if "lengths" in x else x["inputs"], verbose=0)
    np.testing.assert_allclose(found["whole"]["outputs"], expected, rtol=1e-5, atol=1e-5)
    initial = model.initial_state(ROWS)
    assert found["start"].keys() == initial.keys()
    for key, value in initial.items():
        np.testing.assert_allclose(found["start"][key], value, rtol=1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_litert_equals_the_model(written, name, litert):
    model, calls, found = litert[name]
    check_step(model, found["step"], calls["step"][1])


@pytest.fixture(scope="module")
def litert(written):
    return written(
        "litert", "ai_edge_litert", LITERT, lambda model: {"step": ("step", step_call(model, 1))}
    )


def test_the_onnx_parts_of_a_pair_equal_the_model(tmp_path):
    pytest.importorskip("tf2onnx")
    pytest.importorskip("onnxruntime")
    model = rnnzoo.encoder_decoder(
        source_vocabulary=9,
        target_vocabulary=6,
        units=6,
        encoder_units=3,
        bidirectional=True,
        attention="additive",
    )
    source = {
        "source": np.array([[1, 2, 3], [4, 0, 0]], "int32"),
        "source_lengths": np.array([3, 1], "int32"),
    }
    target = {
        "target": np.array([[1, 2], [5, 0]], "int32"),
        "target_lengths": np.array([2, 1], "int32"),
    }
    encoded = model.encode(model.reader.standardize(source))
    encoded = {k: np.array(v) for k, v in encoded.items() if k in model.decoder.input}
    first = {"inputs": np.full((2, 1), model.start, "int32"), **encoded}
    path = model.export(tmp_path / "pair" / "1", "onnx")
    calls = {
        "encoded": ("encode", source),
        "step": ("decode_step", first),
        "whole": ("serving_default", source | target),
    }
    save_calls(path.parent, calls)
    make_calls([path.parent], ONNX)
    found = found_in(path.parent)
    for key, value in encoded.items():
        np.testing.assert_allclose(found["encoded"][key], value, rtol=1e-5, atol=1e-5)
    expected = model.predict(source | target, verbose=0)
    np.testing.assert_allclose(found["whole"]["outputs"], expected, rtol=1e-5, atol=1e-5)
    got = found["step"]["outputs"]
    np.testing.assert_allclose(got[:, 0], expected[:, 0], rtol=1e-5, atol=1e-5)


def test_the_triton_folder_fits_its_schema_and_its_model(tmp_path):
    pytest.importorskip("tf2onnx")
    schema = pytest.importorskip("tritonclient.grpc.model_config_pb2")
    text_format = importlib.import_module("google.protobuf.text_format")
    onnxruntime = pytest.importorskip("onnxruntime")
    model = made("values gru")
    path = model.export(tmp_path / "sensor" / "1", "triton")
    assert {p.name for p in path.parent.iterdir()} == {"1", "config.pbtxt"}
    config = schema.ModelConfig()
    text_format.Parse((path.parent / "config.pbtxt").read_text(), config)
    assert (config.name, config.backend) == ("sensor", "onnxruntime")
    session = onnxruntime.InferenceSession(str(path / config.default_model_filename))
    given = {i.name: i.shape[1:] for i in session.get_inputs()}
    gives = {o.name: o.shape[1:] for o in session.get_outputs()}
    batching = config.sequence_batching
    states = {state.input_name: state for state in batching.state}
    assert [control.name for control in batching.control_input] == ["reset"]
    kind = batching.control_input[0].control[0]
    assert kind.kind == kind.CONTROL_SEQUENCE_START
    assert list(kind.bool_false_true) == [False, True]
    assert {"inputs", "reset", *states} == set(given)
    assert {"outputs", *(state.output_name for state in states.values())} == set(gives)
    assert list(config.input[0].dims) == given["inputs"] == [1, 3]
    assert list(config.output[0].dims) == gives["outputs"] == [1, 2]
    for name, state in states.items():
        assert list(state.dims) == given[name] == gives[state.output_name]
        assert state.initial_state[0].zero_data
        assert list(state.initial_state[0].dims) == list(state.dims)


@pytest.mark.parametrize("format", ["litert", "triton"])
def test_what_a_pair_has_not_is_refused(tmp_path, format):
    model = rnnzoo.encoder_decoder(source_features=1, target_features=1, units=2)
    with pytest.raises(ValueError, match=f"format='{format}' writes the signature step of one"):
        model.export(tmp_path / "1", format)
    assert not list(tmp_path.iterdir())


def test_another_format_and_a_package_that_is_not_there(tmp_path, monkeypatch):
    model = rnnzoo.one_to_one(features=1, units=2, outputs=1)
    with pytest.raises(ValueError, match="format must be one of 'tf_saved_model', 'onnx'"):
        model.export(tmp_path / "1", "pickle")

    def missing(name, *args, **kwargs):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ImportError, match=r"package tf2onnx; received none \(pip install"):
        model.export(tmp_path / "1", "onnx")
    assert not list(tmp_path.iterdir())


def test_load_served_wants_a_saved_model(tmp_path):
    pytest.importorskip("ai_edge_litert")
    path = rnnzoo.one_to_one(features=1, units=2, outputs=1).export(tmp_path / "1", "litert")
    assert json.loads((path / "assets.extra" / "rnnzoo.json").read_text())["written_as"] == "litert"
    with pytest.raises(ValueError, match="received one of format 'litert'"):
        rnnzoo.load_served(path)


STEP = {
    "inputs": {
        "inputs": {"dtype": "float32", "shape": [None, 1, 3]},
        'h"0': {"dtype": "float32", "shape": [None, 4]},
    },
    "outputs": {
        "outputs": {"dtype": "float32", "shape": [None, 1, 2]},
        'h"0_out': {"dtype": "float32", "shape": [None, 4]},
    },
}


@pytest.mark.parametrize(
    "name", ["sensor", 'a "b"', "a\\b", 'x"\nbackend: "python', "wörter", "{x}"]
)
def test_names_in_the_triton_configuration_are_texts_and_nothing_else(name):
    text_format = importlib.import_module("google.protobuf.text_format")
    text_encoding = importlib.import_module("google.protobuf.text_encoding")
    text = config_of(name, STEP)
    found = {}
    tokens = text_format.Tokenizer(text.splitlines(), skip_comments=True)
    while not tokens.AtEnd():
        token = tokens.token
        tokens.NextToken()
        if token in ("name", "backend", "input_name") and tokens.token == ":":
            tokens.NextToken()
            content = text_encoding.CUnescape(tokens.token[1:-1]).decode()
            found.setdefault(token, []).append(content)
    assert found["name"][0] == name
    assert found["backend"] == ["onnxruntime"]
    assert found["input_name"] == ['h"0']


def test_a_triton_configuration_of_other_versions_is_kept(tmp_path):
    pytest.importorskip("tf2onnx")
    config = tmp_path / "sensor" / "config.pbtxt"
    rnnzoo.one_to_one(features=3, units=4, outputs=2).export(config.parent / "1", "triton")
    before = config.read_bytes()
    other = rnnzoo.one_to_one(features=3, units=5, outputs=2)
    with pytest.raises(FileExistsError, match="must have the same config.pbtxt; received a model"):
        other.export(config.parent / "2", "triton")
    assert config.read_bytes() == before
    assert {path.name for path in config.parent.iterdir()} == {"1", "config.pbtxt"}
    assert [path.name for path in tmp_path.iterdir()] == ["sensor"]
    other.export(config.parent / "2", "triton", overwrite=True)
    assert config.read_bytes() != before
