"""The SavedModel: pure, served by TensorFlow alone, equal to the model in memory."""

import importlib
import json
import pathlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
from every_cell import tower

import rnnzoo
from rnnzoo.export.saved_model import forget_gradients

# `rnnzoo.export` is the function; its module is wanted too.
writing = importlib.import_module("rnnzoo.export.export")

ROWS, STEPS = 3, 6
MODELS = {
    "tokens lstm": {"vocabulary": 7, "units": 4},
    "every cell": {"features": 3},
    "many gru": {"features": 3, "units": 4, "outputs": 2, "cell": "gru"},
    "deep lstm": {
        "features": 3,
        "units": [4, 4],
        "outputs": 2,
        "residual": True,
        "layer_norm": True,
        "dropout": 0.5,
        "learned_initial_state": True,
    },
}
if keras.backend.backend() == "jax":
    # Here an export takes a second process, and seconds.
    MODELS = {name: MODELS[name] for name in ("many gru", "every cell")}

# Runs where TensorFlow is all there is, and writes down what it saw.
SERVER = """
import sys
for name in ("keras", "rnnzoo", "tf_keras", "jax"):
    sys.modules[name] = None
import json, pathlib
import numpy as np
import tensorflow as tf

def serve(folder, given):
    loaded = tf.saved_model.load(str(folder))
    signatures = loaded.signatures
    call, step, start = (signatures[k] for k in ("serving_default", "step", "initial_state"))
    found, out = {}, {}
    for name, signature in signatures.items():
        inputs = {k: [v.dtype.name, v.shape.as_list()]
                  for k, v in signature.structured_input_signature[1].items()}
        outputs = {k: [v.dtype.name, v.shape.as_list()]
                   for k, v in signature.structured_outputs.items()}
        functions = signature.graph.as_graph_def().library.function
        ops = {n.op for n in signature.graph.as_graph_def().node}
        ops |= {n.op for f in functions for n in f.node_def}
        found[name] = {"inputs": inputs, "outputs": outputs, "ops": sorted(ops)}
    values = lambda: [v.numpy() for s in signatures.values() for v in s.variables]
    before = values()

    x, reset = tf.constant(given["x"]), np.zeros(given["x"].shape[:2], bool)
    rows, steps = reset.shape

    def stepped(x, reset, state):
        out = dict(step(inputs=x, reset=tf.constant(reset), **state))
        y = out.pop("outputs").numpy()
        return y, {k.removesuffix("_out"): v for k, v in out.items()}

    def fresh(rows):
        return dict(start(like=tf.zeros([rows], tf.int32)))

    lengths = {"lengths": tf.constant(given["lengths"])} if "lengths" in given else {}
    out["whole"] = call(inputs=x, **lengths)["outputs"].numpy()
    out["whole_one_row"] = call(inputs=x[:1], **{k: v[:1] for k, v in lengths.items()})[
        "outputs"].numpy()
    for k, v in fresh(rows).items():
        out["start_" + k] = v.numpy()
    state, ys = fresh(rows), []
    for t in range(steps):
        y, state = stepped(x[:, t : t + 1], reset[:, t : t + 1], state)
        ys.append(y)
    out["singly"] = np.stack(ys)
    for k, v in state.items():
        out["end_" + k] = v.numpy()
    state = fresh(rows)
    out["chunk_0"], state = stepped(x[:, :4], reset[:, :4], state)
    out["chunk_1"], state = stepped(x[:, 4:], reset[:, 4:], state)
    for k, v in state.items():
        out["chunks_" + k] = v.numpy()
    # Two clients, of another number of rows each, take turns on one loaded copy.
    states = [fresh(2), fresh(1)]
    parts = [[], []]
    for t in range(steps):
        for client, take in enumerate((slice(0, 2), slice(2, 3))):
            y, states[client] = stepped(
                x[take, t : t + 1], reset[take, t : t + 1], states[client])
            parts[client].append(y)
    out["clients"] = np.concatenate([np.stack(p) for p in parts], axis=1)
    out["reset"], state = stepped(x, given["reset"], fresh(rows))
    for k, v in state.items():
        out["reset_" + k] = v.numpy()
    found["moved"] = not all(np.array_equal(a, b) for a, b in zip(before, values()))
    found["variables"] = len(before)
    np.savez(folder.parent / "out.npz", **out)
    (folder.parent / "found.json").write_text(json.dumps(found))

for folder in sys.argv[1:]:
    folder = pathlib.Path(folder)
    serve(folder, dict(np.load(folder.parent / "given.npz")))
assert not [m for m in sys.modules if m.startswith(("keras.", "rnnzoo."))]
"""


def made(name):
    keras.utils.set_random_seed(5)
    kind = name.split()[0]
    factory = {"many": rnnzoo.many_to_one, "every": tower}.get(kind, rnnzoo.one_to_one)
    model = factory(**MODELS[name])
    for weight in model.core.weights:
        if "initial_" in weight.path:  # zeros would not show that these are exported
            weight.assign(keras.random.normal(weight.shape, seed=2))
    return model


def given_for(name):
    random = np.random.default_rng(0)
    x = random.normal(size=(ROWS, STEPS, 3)).astype("float32")
    if name.startswith("tokens"):
        x = random.integers(0, 7, (ROWS, STEPS)).astype("int32")
    reset = np.zeros((ROWS, STEPS), bool)
    reset[1, 2] = reset[2, 5] = reset[2, 0] = True
    given = {"x": x, "reset": reset}
    return given | ({"lengths": np.array([6, 2, 4], "int32")} if name.startswith("many") else {})


class Served:
    """A model, what it was given, and what its SavedModel made of that."""

    def __init__(self, name, folder):
        self.name, self.folder, self.model = name, folder / name, made(name)
        self.given = given_for(name)
        self.folder.mkdir()
        np.savez(self.folder / "given.npz", **self.given)

    def export(self):
        path = self.folder / "1"
        assert self.model.export(str(path)) == path
        assert [p.name for p in self.folder.iterdir() if p.suffix != ".npz"] == ["1"]

    def read(self):
        self.out = dict(np.load(self.folder / "out.npz"))
        self.found = json.loads((self.folder / "found.json").read_text())

    def states(self, prefix):
        return {k.removeprefix(prefix): v for k, v in self.out.items() if k.startswith(prefix)}


@pytest.fixture(scope="module")
def all_served(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved_models")
    served = {name: Served(name, folder) for name in MODELS}
    workers = 2 if keras.backend.backend() == "jax" else 1
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(Served.export, served.values()))
    paths = [str(one.folder / "1") for one in served.values()]
    done = subprocess.run(
        [sys.executable, "-c", SERVER, *paths], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "WARNING:absl" not in done.stderr  # of a gradient that was not saved, for one
    for one in served.values():
        one.read()
    return served


@pytest.fixture(params=MODELS)
def served(request, all_served):
    return all_served[request.param]


def close(got, expected):
    np.testing.assert_allclose(got, np.array(expected), rtol=1e-5, atol=1e-5)


def close_states(got, expected):
    assert got.keys() == expected.keys()
    for key, value in expected.items():
        close(got[key], value)


def whole(model, given):
    x = {"inputs": given["x"]}
    return model(x | ({"lengths": given["lengths"]} if "lengths" in given else {}))


def test_whole_sequences(served):
    expected = whole(served.model, served.given)
    close(served.out["whole"], expected)
    close(served.out["whole_one_row"], expected[:1])


def test_initial_state(served):
    initial = {k: np.array(v) for k, v in served.model.initial_state(ROWS).items()}
    close_states(served.states("start_"), initial)
    learned = served.name.startswith(("deep", "every"))
    assert any(np.any(v) for v in initial.values()) == learned


def test_step_by_step_and_in_chunks(served):
    x, model = served.given["x"], served.model
    outputs, state = model.step(x, model.initial_state(ROWS))
    close_states(served.states("end_"), state)
    close_states(served.states("chunks_"), state)
    if model.spec.per_step:
        close(served.out["singly"][:, :, 0].transpose(1, 0, 2), outputs)
        close(served.out["whole"], outputs)
        close(np.concatenate([served.out["chunk_0"], served.out["chunk_1"]], axis=1), outputs)
    else:
        close(served.out["singly"][-1], outputs)
        close(served.out["chunk_1"], outputs)
        early, _ = model.step(x[:, :4], model.initial_state(ROWS))
        close(served.out["singly"][3], early)
        close(served.out["chunk_0"], early)


def test_clients_of_one_loaded_copy_never_meet(served):
    np.testing.assert_allclose(served.out["clients"], served.out["singly"], rtol=1e-5, atol=1e-6)


def test_reset_inside_a_chunk(served):
    model, given = served.model, served.given
    outputs, state = model.step(given["x"], model.initial_state(ROWS), given["reset"])
    close(served.out["reset"], outputs)
    close_states(served.states("reset_"), state)
    # Row 1 begins anew at step 2: what follows is that part alone. Row 0 has no reset.
    alone, _ = model.step(given["x"][1:2, 2:], model.initial_state(1))
    got, plain = served.out["reset"], served.out["whole"]
    if model.spec.per_step:
        close(got[1:2, 2:], alone)
        close(got[0], plain[0])
        assert np.abs(got[1, 2:] - plain[1, 2:]).max() > 1e-3
    else:
        close(got[1:2], alone)


def test_signatures_are_those_documented(served):
    model, signatures = served.model, served.found
    spec = model.core.input["inputs"]
    inputs = {"inputs": [spec.dtype, [None, None, *spec.shape[2:]]]}
    lengths = {"lengths": ["int32", [None]]} if model.form == "many_to_one" else {}
    states = {key: [one.dtype, [None, *one.shape]] for key, one in model.spec.states.items()}
    reset = {"reset": ["bool", [None, None]]}

    assert signatures["serving_default"]["inputs"] == inputs | lengths
    assert signatures["step"]["inputs"] == inputs | reset | states
    assert signatures["initial_state"]["inputs"] == {"like": ["int32", [None]]}
    assert list(signatures["serving_default"]["outputs"]) == ["outputs"]
    assert set(signatures["step"]["outputs"]) == {"outputs", *(f"{key}_out" for key in states)}
    assert signatures["initial_state"]["outputs"].keys() == states.keys()
    for signature in ("serving_default", "step"):
        dtype, shape = signatures[signature]["outputs"]["outputs"]
        assert (dtype, shape[-1]) == ("float32", 7 if served.name.startswith("tokens") else 2)


def test_the_graph_is_pure_and_portable(served):
    assert not served.found["moved"]
    assert served.found["variables"] > 0
    for name in ("serving_default", "step", "initial_state"):
        ops = served.found[name]["ops"]
        assert len(ops) > 2
        assert not [op for op in ops if "Cudnn" in op or "Assign" in op or "PyFunc" in op]


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="written by a second process")
def test_gradients_that_are_not_saved_leave_no_trace(tmp_path, caplog):
    """Those of TensorFlow and Keras too, as a user's own layers may bring them along."""
    import tensorflow as tf

    module = tf.Module()
    module.call = tf.function(tf.nn.silu, input_signature=[tf.TensorSpec([None])])
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    tf.saved_model.save(module, str(tmp_path), options=options)
    fingerprint = tf.saved_model.experimental.read_fingerprint(str(tmp_path))
    tf.saved_model.load(str(tmp_path))
    assert "unsaved custom gradients" in caplog.text
    caplog.clear()
    forget_gradients(tmp_path)
    loaded = tf.saved_model.load(str(tmp_path))
    assert not caplog.records
    x = tf.constant([-2.0, 0.0, 3.0])
    close(loaded.call(x), tf.nn.silu(x))
    after = tf.saved_model.experimental.read_fingerprint(str(tmp_path))
    assert after.saved_model_checksum != fingerprint.saved_model_checksum
    assert after.graph_def_program_hash == fingerprint.graph_def_program_hash


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="written by a second process")
def test_an_export_from_a_gpu_machine_does_not_take_the_stock_path(monkeypatch, tmp_path):
    stock_layer = importlib.import_module("rnnzoo.layers.stock")
    model = made("deep lstm")
    model(np.zeros((1, 2, 3)))
    monkeypatch.setattr(stock_layer.backend, "gpu_available", lambda: True)

    def stock(*_):
        raise AssertionError("cuDNN would be traced")

    monkeypatch.setattr(stock_layer.StockLayer, "_stock_or_scan", stock)
    with pytest.raises(AssertionError, match="cuDNN"):
        model.step(np.zeros((1, 2, 3)), model.initial_state(1))
    rnnzoo.export(model, tmp_path / "1")


def marker(text):
    """A writer that stands in for the real one and writes `text`."""

    def write(model, path, *_, **__):
        path.mkdir()
        (path / "saved_model.pb").write_text(text)

    return write


def broken(model, path, *_, **__):
    marker("half")(model, path)
    raise RuntimeError("disk full")


@pytest.fixture
def written_by(monkeypatch):
    def replace(writer):
        for name in ("write", "_write_elsewhere"):
            monkeypatch.setattr(writing, name, writer)

    return replace


@pytest.fixture(scope="module")
def model():
    return rnnzoo.one_to_one(features=1, units=2, outputs=1)


def tree(folder):
    return {
        str(p.relative_to(folder)): p.read_text() if p.is_file() else None
        for p in folder.rglob("*")
    }


def test_a_version_is_replaced_only_when_told(model, written_by, tmp_path):
    written_by(marker("old"))
    rnnzoo.export(model, tmp_path / "model" / "1")
    rnnzoo.export(model, tmp_path / "model" / "2")
    before = tree(tmp_path)
    written_by(marker("new"))
    with pytest.raises(FileExistsError, match="overwrite=False"):
        rnnzoo.export(model, tmp_path / "model" / "1")
    assert tree(tmp_path) == before
    rnnzoo.export(model, tmp_path / "model" / "1", overwrite=True)
    assert tree(tmp_path) == before | {"model/1/saved_model.pb": "new"}
    rnnzoo.export(model, tmp_path / "model" / "3", overwrite=True)
    assert tree(tmp_path)["model/3/saved_model.pb"] == "new"


def test_a_writer_that_fails_leaves_all_as_it_was(model, written_by, tmp_path):
    written_by(marker("old"))
    rnnzoo.export(model, tmp_path / "model" / "1")
    before = tree(tmp_path)
    written_by(broken)
    for path in ("model/1", "model/2", "new/3"):
        with pytest.raises(RuntimeError, match="disk full"):
            rnnzoo.export(model, tmp_path / path, overwrite=True)
        assert tree(tmp_path) == before


def test_a_rename_that_fails_brings_the_old_version_back(model, written_by, tmp_path, monkeypatch):
    written_by(marker("old"))
    rnnzoo.export(model, tmp_path / "model" / "1")
    before = tree(tmp_path)
    rename = pathlib.Path.rename

    def failing(source, target):
        if (source / "saved_model.pb").read_text() == "new":
            raise PermissionError("not now")
        return rename(source, target)

    written_by(marker("new"))
    monkeypatch.setattr(pathlib.Path, "rename", failing)
    with pytest.raises(PermissionError, match="not now"):
        rnnzoo.export(model, tmp_path / "model" / "1", overwrite=True)
    assert tree(tmp_path) == before


def test_a_second_process_that_fails_says_why(model, tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "_PROGRAM", "import sys; sys.exit('no TensorFlow here')")
    with pytest.raises(RuntimeError, match="second process, which failed:\nno TensorFlow here"):
        writing._write_elsewhere(model, tmp_path / "model", {})


@pytest.mark.parametrize("kind", [ValueError, ImportError])
def test_what_a_second_process_refuses_is_refused_as_here(model, tmp_path, monkeypatch, kind):
    told = json.dumps([kind.__name__, "format is of another form"])
    monkeypatch.setattr(writing, "_PROGRAM", f"import sys; print({told!r}); sys.exit(3)")
    with pytest.raises(kind, match="format is of another form"):
        writing._write_elsewhere(model, tmp_path / "model", {})
