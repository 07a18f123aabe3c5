"""What exported models write, token models and encoder-decoders, equals `generate` in memory."""

import json
import warnings
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest

import rnnzoo
from rnnzoo.data import Vocabulary
from rnnzoo.decoding import Beam, Sample
from tests.clean_process import found_in, make_calls, save_calls

LETTERS = Vocabulary.from_text("abcdefgé\n")
SOUNDS = Vocabulary.from_text("AA B CC DD E \\n F", level="word", unknown=True)
MODELS = {
    "text": {"vocabulary": LETTERS, "units": [4, 5]},
    "words": {
        "source_vocabulary": LETTERS,
        "target_vocabulary": SOUNDS,
        "units": 6,
        "encoder_units": 3,
        "bidirectional": True,
        "attention": "dot",
    },
    "fed": {
        "source_features": 2,
        "target_vocabulary": 5,
        "units": 4,
        "cell": "gru",
        "attention": "additive",
        "input_feeding": True,
        "start": 0,
        "end": 1,
    },
    "values": {"source_vocabulary": 9, "target_features": 3, "units": 4, "cell": "simple_rnn"},
}
if keras.backend.backend() == "jax":
    MODELS = {"words": MODELS["words"]}
PROMPTS = ["ab", "c", "gé\nf", "a"]
SETTINGS = {
    "max_length": np.array([6, 3, 9, 1], "int32"),
    "temperature": np.array([0.0, 1.0, 0.7, 2.0], "float32"),
    "seed": np.array([3, 1, 4, 1], "int32"),
}
LENGTHS = np.array([3, 1, 4, 2], "int32")
STEPS = np.array([2, 5, 3, 5], "int32")
RANDOM = np.random.default_rng(2)
SOURCES = {
    "words": RANDOM.integers(0, 9, (4, 4)).astype("int32"),
    "fed": RANDOM.normal(size=(4, 4, 2)).astype("float32"),
    "values": RANDOM.integers(0, 9, (4, 4)).astype("int32"),
}
TARGETS = {
    "words": RANDOM.integers(0, 7, (4, 5)).astype("int32"),
    "fed": RANDOM.integers(2, 5, (4, 5)).astype("int32"),
    "values": RANDOM.normal(size=(4, 5, 3)).astype("float32"),
}
TARGET_LENGTHS = np.array([5, 2, 3, 4], "int32")


def made(name):
    keras.utils.set_random_seed(3)
    factory = rnnzoo.one_to_one if name == "text" else rnnzoo.encoder_decoder
    model = factory(**MODELS[name])
    for weight in model.trainable_weights:  # larger than a fresh model's: answers that differ
        weight.assign(weight * 3)
    return model


def encode(name, model):
    """What the decoder needs of the sources, made in memory."""
    source = {"source": SOURCES[name], "source_lengths": LENGTHS}
    encoded = model.encode(model.reader.standardize(source))
    return {key: value for key, value in encoded.items() if key in model.decoder.input}


def calls_for(name, model):
    text = {"text": np.array([p.encode() for p in PROMPTS])} | SETTINGS
    if name == "text":
        ids = [LETTERS.encode(prompt) for prompt in PROMPTS]
        prompt = np.zeros((4, 4), "int32")
        for row, one in zip(prompt, ids):
            row[: len(one)] = one
        lengths = np.array([len(one) for one in ids], "int32")
        state = {key: np.array(value) + 0.1 for key, value in model.initial_state(4).items()}
        given = {"prompt": prompt, "prompt_lengths": lengths, **state, **SETTINGS}
        return {"tokens": ("generate", given), "text": ("generate_text", text)}
    source = {"source": SOURCES[name], "source_lengths": LENGTHS}
    target = {"target": TARGETS[name], "target_lengths": TARGET_LENGTHS}
    calls = {"whole": ("serving_default", source | target), "encoded": ("encode", source)}
    fed = model.reader.standardize(source | target)["inputs"]
    encoded = {key: np.array(value) for key, value in encode(name, model).items()}
    for steps in (1, 4):
        given = {"inputs": np.array(fed)[:, :steps], **encoded}
        calls[f"steps{steps}"] = ("decode_step", given)
    if name == "values":
        return calls | {"written": ("generate", source | {"steps": STEPS})}
    calls["tokens"] = ("generate", source | SETTINGS)
    calls["beam"] = ("beam", source | {"max_length": SETTINGS["max_length"]})
    return calls | ({"text": ("generate_text", text)} if name == "words" else {})


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """For each name: the model, the export's folder, and what its calls gave."""
    folder = tmp_path_factory.mktemp("saved_models")
    models = {name: made(name) for name in MODELS}

    def export(name):
        (folder / name).mkdir()
        options = {"beam": Beam(3, 0.5, n_best=2)} if name == "words" else {}
        models[name].export(folder / name / "1", metrics={"nats": 1.5}, warm_up=True, **options)

    with ThreadPoolExecutor(2 if keras.backend.backend() == "jax" else 1) as pool:
        list(pool.map(export, models))
    folders = [folder / name for name in models]
    for name, model in models.items():
        save_calls(folder / name, calls_for(name, model))
    make_calls(folders)
    return {name: (models[name], folder / name / "1", found_in(folder / name)) for name in models}


pairs = pytest.mark.parametrize("name", [name for name in MODELS if name != "text"])
token_pairs = pytest.mark.parametrize("name", [n for n in MODELS if n in ("words", "fed")])


def close(got, expected):
    np.testing.assert_allclose(got, np.array(expected), rtol=1e-5, atol=1e-5)


def check_written(found, row, expected):
    """Row `row` of what a signature wrote is what `generate` wrote for it alone."""
    length, limit = int(expected.lengths[0]), SETTINGS["max_length"][row]
    assert found["lengths"][row] == length
    np.testing.assert_array_equal(found["tokens"][row, :limit], expected.tokens[0])
    close(found["scores"][row], expected.scores[0])


def sampler_of(row):
    temperature, seed = float(SETTINGS["temperature"][row]), int(SETTINGS["seed"][row])
    return Sample(temperature, seed=seed) if temperature else "greedy"


@pytest.mark.skipif("text" not in MODELS, reason="each export takes seconds on JAX")
def test_prompts_of_many_lengths_are_continued(served):
    model, _, found = served["text"]
    given = calls_for("text", model)["tokens"][1]
    for row, prompt in enumerate(PROMPTS):
        state = {key: given[key][row : row + 1] for key in model.initial_state(1)}
        options = (int(SETTINGS["max_length"][row]), sampler_of(row))
        alone = model.generate(prompt, *options, state=state)
        check_written(found["tokens"], row, alone)
        for key in state:
            close(found["tokens"][f"{key}_out"][row : row + 1], alone.state[key])
        assert found["tokens"]["last"][row] == alone.state["last token"][0]
        fresh = model.generate(prompt, *options)
        assert found["text"]["text"][row].decode() == fresh.text[0]
        close(found["text"]["scores"][row], fresh.scores[0])


@pairs
def test_whole_pairs_and_steps(served, name):
    model, _, found = served[name]
    x = calls_for(name, model)["whole"][1]
    expected = model.predict(x, verbose=0)
    close(found["whole"]["outputs"], expected)
    encoded = encode(name, model)
    assert found["encoded"].keys() == encoded.keys()
    for key, value in encoded.items():
        close(found["encoded"][key], value)
    for steps in (1, 4):
        shorter = min(steps, TARGET_LENGTHS.min())  # beyond, some targets have ended
        close(found[f"steps{steps}"]["outputs"][:, :shorter], expected[:, :shorter])
        outputs = {"outputs", *(f"{key}_out" for key in model.spec.states)}
        assert found[f"steps{steps}"].keys() - {"alignment"} == outputs


@token_pairs
def test_targets_are_written(served, name):
    model, _, found = served[name]
    for row in range(4):
        source = {"source": SOURCES[name][row : row + 1, : LENGTHS[row]]}
        limit = int(SETTINGS["max_length"][row])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Keras, about a source of one step
            alone = model.generate(source, limit, sampler_of(row))
            best = Beam(3, 0.5, n_best=2) if name == "words" else Beam(5, n_best=5)
            hypotheses = model.generate(source, limit, best)
        check_written(found["tokens"], row, alone)
        aligned = found["tokens"]["alignment"][row, :limit, : LENGTHS[row]]
        close(aligned, alone.alignment[0])
        np.testing.assert_array_equal(found["beam"]["tokens"][row, :, :limit], hypotheses.tokens[0])
        close(found["beam"]["scores"][row], hypotheses.scores[0])


def test_strings_become_strings(served):
    model, _, found = served["words"]
    for row, prompt in enumerate(PROMPTS):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            alone = model.generate([prompt], int(SETTINGS["max_length"][row]), sampler_of(row))
        assert found["text"]["text"][row].decode() == alone.text[0]
        close(found["text"]["scores"][row], alone.scores[0])
    assert len(set(found["text"]["text"])) > 2


@pytest.mark.skipif("values" not in MODELS, reason="each export takes seconds on JAX")
def test_real_values_are_written_for_as_long_as_asked(served):
    model, _, found = served["values"]
    expected = model.generate({"source": SOURCES["values"], "source_lengths": LENGTHS}, steps=5)
    for row, steps in enumerate(STEPS):
        close(found["written"]["outputs"][row, :steps], expected[row, :steps])
        assert not found["written"]["outputs"][row, steps:].any()


@pytest.mark.parametrize("name", MODELS)
def test_the_manifest_tells_what_there_is(served, name):
    model, path, found = served[name]
    manifest = json.loads((path / "assets.extra" / "rnnzoo.json").read_text())
    assert manifest["form"] == model.form
    assert manifest["metrics"] == {"nats": 1.5}
    assert manifest["parameters"] == model.count_params() - (name != "text")
    calls = calls_for(name, model)
    assert manifest["signatures"].keys() >= {signature for signature, _ in calls.values()}
    for call, (signature, inputs) in calls.items():
        described = manifest["signatures"][signature]
        assert described["inputs"].keys() == inputs.keys()
        assert described["outputs"].keys() == found[call].keys()
        assert all(spec["shape"][0] is None for spec in described["outputs"].values())
    kept = {side: entry["tokens"] for side, entry in manifest["vocabularies"].items()}
    sizes = {"text": {"prompt": 9}, "words": {"source": 9, "target": 8}}
    assert kept == sizes.get(name, {})
    for side, entry in manifest["vocabularies"].items():
        loaded = Vocabulary.load(path / "assets.extra" / entry["file"])
        wanted = SOUNDS if side == "target" else LETTERS
        assert loaded.get_config() == wanted.get_config()
    if name == "text":
        states = {key: value["shape"] for key, value in manifest["state"].items()}
        assert states == {"h_0": [4], "c_0": [4], "h_1": [5], "c_1": [5]}
        assert {value["initial"] for value in manifest["state"].values()} == {"zeros"}


def test_every_warm_up_request_is_answered(served):
    """TensorFlow Serving, which sends them, wants a request of each signature that works."""
    import tensorflow as tf
    from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

    for name, (_, path, _) in served.items():
        signatures = tf.saved_model.load(str(path)).signatures
        file = path / "assets.extra" / "tf_serving_warmup_requests"
        logs = [PredictionLog.FromString(r.numpy()) for r in tf.data.TFRecordDataset(str(file))]
        requests = [log.predict_log.request for log in logs]
        assert {r.model_spec.signature_name for r in requests} == set(signatures)
        for request in requests:
            assert request.model_spec.name == name
            inputs = {k: tf.constant(tf.make_ndarray(v)) for k, v in request.inputs.items()}
            found = signatures[request.model_spec.signature_name](**inputs)
            assert all(value.shape[0] == 1 for value in found.values())


def test_the_export_is_small(served):
    for model, path, _ in served.values():
        size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        assert size < 1.5 * 4 * model.count_params() + 2e6
        values = (path / "variables" / "variables.data-00000-of-00001").stat().st_size
        assert values < 4 * model.count_params() + 10_000  # once, with the graph of objects
