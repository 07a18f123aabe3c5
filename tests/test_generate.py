"""`generate`: equal to loops over steps, row by row, strings, and going on from a state."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import ops

import rnnzoo
from rnnzoo.decoding import Beam, Sample
from rnnzoo.generation import options as generation
from tests import pairs
from tests.reference import close, on_jax


def one_to_one(**options):
    model = rnnzoo.one_to_one(**{"vocabulary": 7, "units": [6, 5], **options})
    pairs.randomize(model)
    return model


def log_softmax(logits):
    logits = np.asarray(ops.convert_to_numpy(logits), "float64")
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def greedy_loop(model, prompt, count):
    """Tokens and score by calls of `model.step`, for one row."""
    y, state = model.step(np.array([prompt]), model.initial_state(1))
    tokens, score = [], 0.0
    for _ in range(count):
        logs = log_softmax(y)[0, -1]
        tokens.append(int(logs.argmax()))
        score += logs[tokens[-1]]
        y, state = model.step(np.array([tokens[-1:]]), state)
    return tokens, score


@pytest.mark.parametrize("options", [{}, {"cell": "gru", "activation": "softmax"}])
def test_greedy_equals_a_loop_over_step(options):
    model = one_to_one(**options)
    linear = one_to_one(cell=options.get("cell", "lstm"))
    prompts = [[1, 2, 3], [4], [5, 0]]
    found = model.generate(prompts, max_length=6)
    for row, prompt in enumerate(prompts):
        tokens, score = greedy_loop(linear, prompt, 6)
        assert found.tokens[row].tolist() == tokens
        assert found.scores[row] == pytest.approx(score, rel=1e-4)


def test_going_on_from_the_state_equals_one_call():
    model = one_to_one()
    prompts = np.array([[1, 2], [3, 4]])
    whole = model.generate(prompts, max_length=7)
    first = model.generate(prompts, max_length=3)
    rest = model.generate(state=first.state, max_length=4)
    np.testing.assert_array_equal(np.hstack([first.tokens, rest.tokens]), whole.tokens)
    talked = model.generate([[5], [6, 1]], max_length=2, state=first.state)
    expected = greedy_loop(model, [3, 4, *first.tokens[1], 6, 1], 2)[0]
    assert talked.tokens[1].tolist() == expected


def test_a_state_is_taken_in_any_dtype_and_without_new_tokens_and_refused_by_name():
    model = one_to_one()
    first = model.generate([[1, 2], [3, 4]], 3)
    alone = model.generate(None, 4, state=first.state)
    given = {name: np.asarray(ops.convert_to_numpy(v)) for name, v in first.state.items()}
    given = {name: v.astype("float64") if v.ndim > 1 else v for name, v in given.items()}
    talked = model.generate([[], [5]], 4, state=given)  # row 0 has nothing to read
    np.testing.assert_array_equal(talked.tokens[0], alone.tokens[0])
    assert talked.tokens[1].tolist() == greedy_loop(model, [3, 4, *first.tokens[1], 5], 4)[0]
    for changed, said in (
        ({"h_0": given["h_0"][:1]}, r"state 'h_0' must be an array of shape .* \(2, 6\)"),
        ({"h_1": [[0.0] * 5] * 2}, "state 'h_1' must be an array .* received list"),
        ({"c_9": given["c_1"]}, "state must be a dict with the names"),
        ({"last token": np.array([0.5, 1.0])}, r"state\['last token'\] must be .*float64 \(2,\)"),
    ):
        with pytest.raises(ValueError, match=said):
            model.generate(None, 4, state=given | changed)


def test_strings_in_and_out():
    vocabulary = rnnzoo.data.Vocabulary("abcdefg")
    model = one_to_one(vocabulary=vocabulary)
    texts = model.generate(["ab", "c"], max_length=4).text
    ids = model.generate([[0, 1], [2]], max_length=4).tokens
    assert texts == [vocabulary.decode(row) for row in ids]
    assert model.generate("ab", max_length=4, sampler=Sample(seed=5)).text != [texts[0]]


def test_a_sampled_row_depends_on_its_seed_alone():
    model = one_to_one()
    together = model.generate([[1], [2], [2]], 9, Sample(seed=[3, 4, 5], temperature=2.0))
    alone = model.generate([[2]], 9, Sample(seed=4, temperature=2.0))
    np.testing.assert_array_equal(together.tokens[1], alone.tokens[0])
    assert (together.tokens[1] != together.tokens[2]).any()


class Always(rnnzoo.decoding.Sampler):
    """A user's sampler, which says nothing of its key."""

    def __init__(self, token):
        self.token = token

    def choose(self, logits, index):
        token = self.token() if callable(self.token) else self.token
        return ops.full(ops.shape(logits)[:1], token, dtype="int32")


def test_each_sampler_of_a_user_has_results_of_its_own():
    model = one_to_one()
    changed = Always(2)
    for sampler, token in [(Always(1), 1), (Always(5), 5), (changed, 2), (Always(lambda: 3), 3)]:
        assert model.generate([[1]], 2, sampler).tokens.tolist() == [[token] * 2]
    changed.token = 4
    assert model.generate([[1]], 2, changed).tokens.tolist() == [[4, 4]]
    assert model.generate([[1]], 2, Always(lambda: 6)).tokens.tolist() == [[6, 6]]
    assert len(model.generators) == 4  # those whose settings are known


def test_few_functions_are_compiled_for_all_lengths(monkeypatch):
    model, read = one_to_one(), set()
    step = model.step
    monkeypatch.setattr(model, "step", lambda x, state: read.add(x.shape) or step(x, state))
    whole = model.generate([[1, 2]], 8)
    for length in (5, 6, 7):
        found = model.generate([[1, 2]], length)
        assert found.tokens.tolist() == whole.tokens[:, :length].tolist()
    assert len(model.generators) == 1
    for count in range(1, 18):
        model.generate([np.arange(count) % 7, [3]], 1)
    assert {shape for shape in read if shape[0] == 2} == {(2, n) for n in (1, 2, 4, 8, 16)}
    assert len(model.generators) == 2


def test_the_functions_used_last_are_kept_and_none_that_failed(monkeypatch):
    monkeypatch.setattr(generation, "_KEPT", 2)
    model, made = one_to_one(), []
    compile_call = generation.backend.compile_call
    monkeypatch.setattr(
        generation.backend, "compile_call", lambda *a, **k: made.append(1) or compile_call(*a, **k)
    )
    for end in (1, 2, 1, 3):
        model.generate([[1]], 1, end=end)
    assert len(made) == 3 and len(model.generators) == 2
    with pytest.raises(ValueError, match=r"end must be integers in \[0, 7\)"):
        model.generate([[1]], 1, end=7)
    model.generate([[1]], 1, end=1)
    model.generate([[1]], 1, end=3)
    assert len(made) == 4  # that which failed; the others were there


def test_one_hypothesis_gives_strings_and_several_give_lists():
    model = one_to_one(vocabulary=rnnzoo.data.Vocabulary("abcdefg"))
    one = model.generate(["ab", "c"], 4, Beam(3)).text
    several = model.generate(["ab", "c"], 4, Beam(3, n_best=2)).text
    assert [len(text) for text in one] == [4, 4] and one == [texts[0] for texts in several]


def pair_loop(model, one, count):
    """Greedy tokens and score of an encoder-decoder, by calls of its parts, for one row."""
    batch = model.reader.standardize({"source": one})
    encoded = model.encode(batch)
    state = {key: encoded[key] for key in model.spec.states}
    constants = {key: encoded[key] for key in ("memory", "source_mask") if "memory" in encoded}
    tokens, score, token = [], 0.0, model.start
    for _ in range(count):
        values = {"inputs": np.array([[token]]), **state, **constants}
        outputs = model.decode({k: ops.convert_to_tensor(v) for k, v in values.items()})
        state = {key: outputs[key] for key in state}
        logits = np.array(outputs["outputs"])[0, 0]
        if model.start != model.end:
            logits[model.start] = -1e9
        logs = log_softmax(logits)
        token = int(logs.argmax())
        score += logs[token]
        if token == model.end:
            break
        tokens.append(token)
    return tokens, score


FED = {"attention": "additive", "input_feeding": True}


@pytest.mark.parametrize("options", [{"start": 0, "end": 0}, FED], ids=["one token", "fed"])
def test_targets_equal_a_loop_alone_and_in_any_batch(options):
    model, x = pairs.model(**options), pairs.batch(rows=5)
    given = {key: x[key] for key in ("source", "source_lengths")}
    found = model.generate(given, max_length=6, batch_size=2)
    for row in range(5):
        tokens, score = pair_loop(model, pairs.row_of(x, row)["source"], 6)
        assert found.tokens[row, : found.lengths[row]].tolist() == tokens
        assert found.scores[row] == pytest.approx(score, rel=1e-4)
    if options != FED:
        assert found.lengths.min() < 6
    else:
        wider = {**given, "source": np.pad(given["source"], ((0, 0), (0, 3)))}
        padded, steps = model.generate(wider, max_length=6), given["source"].shape[1]
        np.testing.assert_array_equal(padded.tokens, found.tokens)
        close(padded.alignment, np.pad(found.alignment, ((0, 0), (0, 0), (0, 3))))
        assert found.alignment.shape[1:] == (6, steps)
        written = np.arange(6) < np.minimum(found.lengths + 1, 6)[:, None]
        close(found.alignment.sum(axis=-1), written.astype("float32"))


def test_the_token_that_only_starts_a_target_is_never_written():
    model, source = pairs.model(), [[1, 2], [3]]
    found = model.generate(source, 1, Beam(7, n_best=7))
    assert np.isfinite(found.scores[:, :6]).all() and (found.scores[:, 6] == -np.inf).all()
    with pytest.raises(ValueError, match="forbidden must leave a token of the 7 to choose"):
        model.generate(source, 1, forbidden=range(5), min_length=1)


def test_what_reads_whole_sequences_writes_nothing_even_after_one_token():
    layers = keras.layers
    inner = [layers.Conv1D(4, 3, padding="same"), layers.LSTM(4, return_sequences=True)]
    first = [keras.Input((None,), dtype="int32"), layers.Embedding(5, 4)]
    model = rnnzoo.from_keras(keras.Sequential([*first, *inner, layers.Dense(5)]))
    with pytest.raises(ValueError, match="generate needs a model that can stop at any step"):
        model.generate([[1]], 3)


def test_a_beam_over_a_pair_holds_true_scores():
    model, x = pairs.model(attention="dot"), pairs.batch()
    given = {key: x[key] for key in ("source", "source_lengths")}
    found = model.generate(given, 5, Beam(6, n_best=3))
    assert found.tokens.shape == (4, 3, 5)
    assert (np.diff(found.scores, axis=1) <= 0).all()
    greedy = model.generate(given, 5)
    np.testing.assert_array_equal(model.generate(given, 5, Beam(1)).tokens[:, 0], greedy.tokens)
    assert (found.scores[:, 0] >= greedy.scores - 1e-5).all()
    for row, best in np.ndindex(4, 3):
        length = found.lengths[row, best]
        target = found.tokens[row, best, :length]
        source = pairs.row_of(x, row)["source"]
        target_in = np.append(target, 0)[None].astype("int32")
        outputs = np.array(pairs.forward(model, {"source": source, "target": target_in}))[0]
        outputs[:, model.start] = -1e9
        scored = np.append(target, [model.end] if length < 5 else [])
        logs = log_softmax(outputs)[np.arange(len(scored)), scored.astype(int)]
        assert found.scores[row, best] == pytest.approx(logs.sum(), rel=1e-4)


def test_real_values_are_fed_back():
    rng = np.random.default_rng(0)
    model = rnnzoo.encoder_decoder(
        source_features=3, target_features=2, units=5, attention="dot", activation="tanh"
    )
    pairs.randomize(model)
    source = rng.normal(size=(3, 9, 3)).astype("float32")
    found = model.generate(source, steps=9, batch_size=2)
    target = np.zeros((3, 9, 2), "float32")
    for t in range(9):  # what comes out at step t, given all before it
        target[:, t] = pairs.forward(model, {"source": source, "target": target})[:, t]
    close(found, target)


def test_generate_sees_later_training():
    model = one_to_one()
    before = model.generate([[1]], max_length=5)
    pairs.randomize(model, seed=9)
    after = model.generate([[1]], max_length=5)
    assert after.tokens[0].tolist() == greedy_loop(model, [1], 5)[0]
    assert (before.tokens != after.tokens).any()


_OTHER_BACKEND = """
import sys
import keras
import os
import subprocess
import sys

import numpy as np
import rnnzoo
from rnnzoo.decoding import Beam
model = keras.models.load_model(sys.argv[1], compile=False)
given = dict(np.load(sys.argv[2]))
for name, sampler in (("greedy", "greedy"), ("beam", Beam(4, length_penalty=0.6, n_best=2))):
    found = model.generate(given, 6, sampler)
    np.savez(sys.argv[3] + name, **{k: v for k, v in found._asdict().items() if v is not None})
"""


@pytest.mark.skipif(on_jax(), reason="the run on TensorFlow starts the one on JAX")
def test_both_backends_write_the_same(tmp_path):
    model, x = pairs.model(attention="additive", bidirectional=True, cell="gru"), pairs.batch()
    given = {key: x[key] for key in ("source", "source_lengths")}
    model.save(tmp_path / "model.keras")
    np.savez(tmp_path / "given.npz", **given)
    paths = [str(tmp_path / name) for name in ("model.keras", "given.npz", "")]
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    command = [sys.executable, "-c", _OTHER_BACKEND, paths[0], paths[1], paths[2] + "/"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    samplers = {"greedy": "greedy", "beam": Beam(4, length_penalty=0.6, n_best=2)}
    for name, sampler in samplers.items():
        here, there = model.generate(given, 6, sampler), np.load(tmp_path / f"{name}.npz")
        np.testing.assert_array_equal(here.tokens, there["tokens"])
        np.testing.assert_array_equal(here.lengths, there["lengths"])
        close(here.scores, there["scores"])
        close(here.alignment, there["alignment"])
