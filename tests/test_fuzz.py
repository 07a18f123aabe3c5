"""Nonsense for every argument of every public name: refused by the argument's name, or right.

The arguments are those of each signature, the kind of each is known by its name, and the values
are `NONSENSE`. A value that is not of the kind must raise ValueError or TypeError with the
argument's name in the text, and leave all as it was. Where a call is cheap, values of the kind
are given too: the call succeeds or is refused by name, as also where two arguments change.
"""

import functools
import inspect
import os
import pathlib
import random
import re

import keras
import nonsense as of
import numpy as np
import pytest
from keras import ops
from nonsense import LETTERS, NONSENSE, TOKENS, either, items, never, optional
from reference import on_jax

import rnnzoo
from rnnzoo import curves, data, decoding, heads, metrics, serving
from rnnzoo.core import Input, Output, State

SAVED = pathlib.Path(__file__).resolve().parents[1] / "saved_models"
SEQUENCES = [[0, 1, 2], [2, 1], [1, 1, 0, 2]]
X = np.array(SEQUENCES[:1] * 2, "int32")
KEY = b"0123456789abcdef"


# What the calls need, made once.


@functools.cache
def model():
    keras.utils.set_random_seed(2)
    made = rnnzoo.one_to_one(vocabulary=LETTERS, units=2, cell="simple_rnn")
    made.compile("sgd", "sparse_categorical_crossentropy", jit_compile=on_jax())
    made.predict(X, verbose=0)
    return made


@functools.cache
def pair():
    made = rnnzoo.encoder_decoder(source_vocabulary=3, target_vocabulary=3, units=2)
    made.compile("sgd", "sparse_categorical_crossentropy", jit_compile=False)
    return made


@functools.cache
def series():
    made = rnnzoo.one_to_one(features=1, units=2, outputs=heads.Normal(), cell="simple_rnn")
    made.generate(NORMAL[..., :1], max_length=1, samples=1)
    return made


@functools.cache
def observed():
    forecaster = series().forecaster()
    forecaster.observe(NORMAL[..., :1])
    return forecaster


@functools.cache
def stock():
    return keras.Sequential([keras.Input((None, 2)), keras.layers.GRU(2)])


@functools.cache
def served():
    return rnnzoo.load_served(SAVED / "shakespeare" / "1")


@functools.cache
def batcher():
    return serving.Batcher(served())


def first_batch(function):
    return functools.wraps(function)(lambda **given: function(**given)[0])


def update(metric):
    call = functools.wraps(metric().update_state)
    return call(lambda **given: metric().update_state(**given))


def step(tokens, state):
    return ops.zeros((ops.shape(tokens)[0], 4)), state


def written(model, folder, storage="float32", overwrite=False, task="other", notes=None, year=None):
    """The arguments of `save_to_preset` that it takes by `**told`, or some of them."""
    more = {"storage": storage, "overwrite": overwrite, "task": task, "notes": notes, "year": year}
    return model.save_to_preset(folder, **more)


NORMAL = np.zeros((2, 3, 2), "float32")
PATH = SAVED / "shakespeare" / "1"

# Every public function, class and method that takes arguments: what is called, and good values of
# those arguments that have none by default, or whose default says nothing.
CASES = {
    "one_to_one": lambda: (rnnzoo.one_to_one, {"vocabulary": 3, "units": 2}),
    "one_to_one, numbers": lambda: (rnnzoo.one_to_one, {"features": 3, "units": 2, "outputs": 1}),
    "one_to_one, by name": lambda: (
        rnnzoo.one_to_one,
        {"inputs": {"a": 1}, "static": {"b": 1}, "units": 2, "outputs": 1},
    ),
    "many_to_one": lambda: (rnnzoo.many_to_one, {"features": 3, "units": 2, "outputs": 1}),
    "encoder_decoder": lambda: (
        rnnzoo.encoder_decoder,
        {"source_vocabulary": 3, "target_vocabulary": 3, "units": 2},
    ),
    "encoder_decoder, numbers": lambda: (
        rnnzoo.encoder_decoder,
        {"source_features": 3, "target_features": 3, "units": 2},
    ),
    "RecurrentModel": lambda: (
        rnnzoo.RecurrentModel,
        {"core": model().core, "spec": model().spec, "name": "a"},
    ),
    "EncoderDecoder": lambda: (
        rnnzoo.EncoderDecoder,
        {"blueprint": pair().blueprint, "name": "a"},
    ),
    "CoreSpec": lambda: (
        rnnzoo.CoreSpec,
        {
            "form": "mine",
            "inputs": {"x": Input((2,))},
            "outputs": {"y": Output((2,))},
            "states": {"h": State((2,))},
        },
    ),
    "core.Input": lambda: (Input, {}),
    "core.Output": lambda: (Output, {"shape": (2,)}),
    "core.State": lambda: (State, {"shape": (2,)}),
    "Tokens": lambda: (rnnzoo.Tokens, {"vocabulary": 3}),
    "Characters": lambda: (rnnzoo.Characters, {"vocabulary": 3, "units": 2}),
    "Scaling": lambda: (rnnzoo.Scaling, {"kind": "mean"}),
    "RecurrentModel.generate, numbers": lambda: (
        series().generate,
        {"prompt": NORMAL[..., :1], "max_length": 1},
    ),
    "RecurrentModel.forecaster": lambda: (series().forecaster, {}),
    "Forecaster": lambda: (rnnzoo.Forecaster, {"model": series()}),
    "Forecaster.observe": lambda: (observed().observe, {"x": NORMAL[..., :1]}),
    "Forecaster.reset": lambda: (series().forecaster().reset, {}),
    "Forecaster.forecast": lambda: (observed().forecast, {"horizon": 1, "samples": 2}),
    "Forecast.quantile": lambda: (observed().forecast(1, 2, seed=0).quantile, {"p": 0.5}),
    "backtest": lambda: (
        rnnzoo.backtest,
        {"model": series(), "series": [np.arange(9.0)] * 2, "horizon": 1, "samples": 2},
    ),
    "from_keras": lambda: (rnnzoo.from_keras, {"model": stock()}),
    "from_preset": lambda: (rnnzoo.from_preset, {"preset": SAVED / "speaker.vowels"}),
    "export": lambda: (rnnzoo.export, {"model": model(), "path": "out/1"}),
    "load_model": lambda: (rnnzoo.load_model, {"path": SAVED / "speaker.vowels" / "model.keras"}),
    "load_served": lambda: (rnnzoo.load_served, {"path": PATH}),
    "BackupAndResume": lambda: (rnnzoo.BackupAndResume, {"folder": "backups"}),
    "ResetStates": lambda: (rnnzoo.ResetStates, {"every": 2}),
    "ScheduledSampling": lambda: (rnnzoo.ScheduledSampling, {}),
    "StopOnDivergence": lambda: (rnnzoo.StopOnDivergence, {}),
    "TruncatedBPTT": lambda: (rnnzoo.TruncatedBPTT, {"window": 4}),
    "RecurrentModel.compile": lambda: (model().compile, {}),
    "RecurrentModel.fit": lambda: (model().fit, {"x": X, "y": X, "verbose": 0}),
    "RecurrentModel.evaluate": lambda: (model().evaluate, {"x": X, "y": X, "verbose": 0}),
    "RecurrentModel.predict": lambda: (model().predict, {"x": X, "verbose": 0}),
    "RecurrentModel.train_on_batch": lambda: (model().train_on_batch, {"x": X, "y": X}),
    "RecurrentModel.test_on_batch": lambda: (model().test_on_batch, {"x": X, "y": X}),
    "RecurrentModel.predict_on_batch": lambda: (model().predict_on_batch, {"x": X}),
    "RecurrentModel.initial_state": lambda: (model().initial_state, {"batch_size": 2}),
    "RecurrentModel.step": lambda: (
        model().step,
        {"x": X, "state": model().initial_state(2)},
    ),
    "RecurrentModel.generate": lambda: (model().generate, {"prompt": "ab", "max_length": 1}),
    "RecurrentModel.reset_states": lambda: (model().reset_states, {}),
    "RecurrentModel.export": lambda: (model().export, {"filepath": "out/1"}),
    "RecurrentModel.save_to_preset": lambda: (
        functools.partial(written, model()),
        {"folder": "preset"},
    ),
    "RecurrentModel.save": lambda: (model().save, {"filepath": "a.keras"}),
    "RecurrentModel.save_weights": lambda: (model().save_weights, {"filepath": "a.weights.h5"}),
    "RecurrentModel.load_weights": lambda: (model().load_weights, {"filepath": "a.weights.h5"}),
    "RecurrentModel.set_weights": lambda: (
        model().set_weights,
        {"weights": model().get_weights()},
    ),
    "EncoderDecoder.fit": lambda: (
        pair().fit,
        {"x": {"source": X, "target": X}, "verbose": 0},
    ),
    "EncoderDecoder.evaluate": lambda: (
        pair().evaluate,
        {"x": {"source": X, "target": X}, "verbose": 0},
    ),
    "EncoderDecoder.predict": lambda: (
        pair().predict,
        {"x": {"source": X, "target": X}, "verbose": 0},
    ),
    "EncoderDecoder.generate": lambda: (pair().generate, {"source": X, "max_length": 2}),
    "EncoderDecoder.initial_state": lambda: (pair().initial_state, {"batch_size": 2}),
    "EncoderDecoder.export": lambda: (pair().export, {"filepath": "out/1"}),
    "EncoderDecoder.save_to_preset": lambda: (
        functools.partial(written, pair()),
        {"folder": "preset"},
    ),
    **{
        f"cells.{name}": lambda name=name: (getattr(rnnzoo.cells, name), {"units": 2})
        for name in ("Cell", "LinearCell", "LRUCell", "MinGRUCell", "MinLSTMCell")
        + ("RGLRUCell", "SLSTMCell")
    },
    "cells.LSTNetCell": lambda: (rnnzoo.cells.LSTNetCell, {"units": 26}),
    **{
        f"layers.{name}": lambda name=name: (getattr(rnnzoo.layers, name), {"units": 2})
        for name in ("LSTM", "GRU", "SimpleRNN")
    },
    "layers.RNN": lambda: (rnnzoo.layers.RNN, {"cell": rnnzoo.cells.MinGRUCell(2)}),
    **{
        f"heads.{name}": lambda name=name: (getattr(heads, name), {"size": 1})
        for name in ("Linear", "Bernoulli", "Normal", "StudentT", "NegativeBinomial")
    },
    **{
        f"heads.{name}": lambda name=name: (getattr(heads, name), {"classes": 3})
        for name in ("Logits", "CRF", "CTC", "CRFPotentials")
    },
    "heads.Mixture": lambda: (heads.Mixture, {"components": 2}),
    "heads.Quantiles": lambda: (heads.Quantiles, {}),
    "heads.HeadLoss": lambda: (heads.HeadLoss, {"head": heads.Normal()}),
    "heads.Normal.layer": lambda: (heads.Normal().layer, {}),
    "heads.Normal.log_prob": lambda: (
        heads.Normal().log_prob,
        {"parameters": NORMAL, "targets": NORMAL[..., :1]},
    ),
    "heads.Normal.mean": lambda: (heads.Normal().mean, {"parameters": NORMAL}),
    "heads.Normal.mode": lambda: (heads.Normal().mode, {"parameters": NORMAL}),
    "heads.Normal.point": lambda: (heads.Normal().point, {"parameters": NORMAL}),
    "heads.Normal.sample": lambda: (heads.Normal().sample, {"parameters": NORMAL}),
    "heads.Normal.quantile": lambda: (
        heads.Normal().quantile,
        {"parameters": NORMAL, "p": 0.5},
    ),
    "heads.Normal.check_targets": lambda: (heads.Normal().check_targets, {"targets": [[1.0]]}),
    "heads.CTC.beam_search": lambda: (
        heads.CTC(2).beam_search,
        {"parameters": NORMAL},
    ),
    "data.stream": lambda: (
        first_batch(data.stream),
        {"array": list(range(3)) * 3, "batch_size": 2, "window": 2, "vocabulary": 3},
    ),
    "data.pack": lambda: (
        first_batch(data.pack),
        {"sequences": SEQUENCES, "batch_size": 2, "window": 2, "vocabulary": 3},
    ),
    "data.bucket": lambda: (
        first_batch(data.bucket),
        {"sequences": SEQUENCES, "targets": [0, 1, 1], "class_weight": {0: 1.0}, "vocabulary": 3},
    ),
    "data.pairs": lambda: (
        first_batch(data.pairs),
        {"sources": SEQUENCES, "targets": SEQUENCES, "source_vocabulary": 3},
    ),
    "data.bucket.shard": lambda: (
        data.bucket(SEQUENCES[:2], batch_size=2).shard,
        {"index": 0, "count": 2},
    ),
    "data.bucket.as_given": lambda: (
        data.bucket(SEQUENCES).as_given,
        {"served": np.zeros((3, 2))},
    ),
    "data.Vocabulary": lambda: (data.Vocabulary, {"tokens": ["a", "b"], "level": "word"}),
    "data.Vocabulary.from_text": lambda: (data.Vocabulary.from_text, {"text": "abca"}),
    "data.Vocabulary.from_config": lambda: (
        data.Vocabulary.from_config,
        {"config": LETTERS.get_config()},
    ),
    "data.Vocabulary.encode": lambda: (LETTERS.encode, {"text": "ab"}),
    "data.Vocabulary.decode": lambda: (LETTERS.decode, {"ids": [0]}),
    "data.Vocabulary.save": lambda: (LETTERS.save, {"path": "v.json"}),
    "data.Vocabulary.load": lambda: (data.Vocabulary.load, {"path": "v.json"}),
    "data.Tokenizer": lambda: (data.Tokenizer, {"source": LETTERS}),
    "data.Tokenizer.encode": lambda: (data.Tokenizer(LETTERS).encode, {"text": "ab"}),
    "data.Tokenizer.decode": lambda: (data.Tokenizer(LETTERS).decode, {"ids": [0]}),
    "data.LogMel": lambda: (data.LogMel, {}),
    "data.LogMel.read": lambda: (data.LogMel().read, {"path": "table.csv"}),
    "data.read_tagged": lambda: (data.read_tagged, {"path": "table.csv"}),
    "data.read_text": lambda: (data.read_text, {"path": "table.csv"}),
    "data.read_pairs": lambda: (data.read_pairs, {"path": "pairs.tsv"}),
    "data.read_csv": lambda: (data.read_csv, {"path": "table.csv"}),
    "decoding.decode": lambda: (
        decoding.decode,
        {
            "step": step,
            "state": np.zeros((2, 1), "float32"),
            "tokens": [0, 1],
            "sampler": "greedy",
            "max_length": 2,
            "end": 3,
            "min_length": 1,
        },
    ),
    "decoding.get": lambda: (decoding.get, {"sampler": "greedy"}),
    "decoding.Sample": lambda: (decoding.Sample, {"seed": 0}),
    "decoding.Beam": lambda: (decoding.Beam, {"width": 2}),
    "metrics.Perplexity": lambda: (metrics.Perplexity, {}),
    "metrics.BitsPerSymbol": lambda: (metrics.BitsPerSymbol, {}),
    "metrics.SequenceAccuracy": lambda: (metrics.SequenceAccuracy, {}),
    "metrics.Perplexity.update_state": lambda: (
        update(metrics.Perplexity),
        {"y_true": np.zeros((2, 3), int), "y_pred": np.zeros((2, 3, 4), "float32")},
    ),
    "metrics.SequenceAccuracy.update_state": lambda: (
        update(metrics.SequenceAccuracy),
        {"y_true": np.zeros((2, 3), int), "y_pred": np.zeros((2, 3, 4), "float32")},
    ),
    "metrics.edit_distance": lambda: (metrics.edit_distance, {"first": "abc", "second": [1, 2]}),
    "metrics.smape": lambda: (metrics.smape, {"truth": [1.0], "forecast": [2.0]}),
    "metrics.mase": lambda: (
        metrics.mase,
        {"truth": [1.0], "forecast": [2.0], "history": [1.0, 2.0, 4.0]},
    ),
    "metrics.crps": lambda: (metrics.crps, {"truth": [1.0], "samples": [[2.0]]}),
    "metrics.coverage": lambda: (
        metrics.coverage,
        {"truth": [1.0], "low": [0.0], "high": [2.0]},
    ),
    "curves.learning_curve": lambda: (
        curves.learning_curve,
        {"curves": {"a": [1.0]}, "path": "a.png", "ylabel": "nats"},
    ),
    "curves.attention_map": lambda: (
        curves.attention_map,
        {
            "alignments": [np.ones((1, 1))],
            "sources": [["a"]],
            "targets": [["b"]],
            "path": "a.png",
        },
    ),
    "curves.picture": lambda: (curves.picture, {"draw": lambda figure: None, "path": "a.png"}),
    "zoo.build": lambda: (rnnzoo.zoo.build, {"name": "zaremba.small"}),
    "zoo.card": lambda: (rnnzoo.zoo.card, {"name": "zaremba.small"}),
    "zoo.list": lambda: (rnnzoo.zoo.list, {}),
    "zoo.save": lambda: (rnnzoo.zoo.save, {"model": model(), "folder": "preset"}),
    "zoo.upload": lambda: (
        rnnzoo.zoo.upload,
        {"folder": SAVED / "speaker.vowels", "address": "hf://user/name"},
    ),
    "zoo.Card.compile": lambda: (
        rnnzoo.zoo.card("zaremba.small").compile,
        {"model": model(), "epochs": 1, "updates": 1},
    ),
    "serving.Batcher": lambda: (serving.Batcher, {"served": served()}),
    "serving.Conversation": lambda: (serving.Conversation, {"batcher": batcher(), "key": KEY}),
    "serving.Conversations": lambda: (serving.Conversations, {"batcher": batcher(), "key": KEY}),
    "serving.Keys": lambda: (serving.Keys, {"key": KEY}),
    "serving.Limits": lambda: (serving.Limits, {}),
    "serving.SpentSeals": lambda: (serving.SpentSeals, {}),
    "serving.Served": lambda: (serving.Served, {"path": PATH}),
    "serving.Served.new_stream": lambda: (served().new_stream, {}),
    "serving.Served.new_streams": lambda: (served().new_streams, {"count": 1}),
    "serving.Served.step": lambda: (
        served().step,
        {"streams": [served().new_stream()], "inputs": [1]},
    ),
    "serving.Served.check": lambda: (served().check, {"inputs": 1}),
    "serving.Served.check_stream": lambda: (
        served().check_stream,
        {"stream": served().new_stream()},
    ),
    "serving.Served.call": lambda: (served().call, {"signature": "step"}),
    "serving.Stream": lambda: (
        serving.Stream,
        {"served": served(), "state": served().new_stream().state},
    ),
    "serving.Stream.step": lambda: (served().new_stream().step, {"inputs": 1}),
    "serving.read_answer": lambda: (serving.read_answer, {"message": b""}),
    "serving.seal": lambda: (serving.seal, {"stream": served().new_stream(), "key": KEY}),
    "serving.unseal": lambda: (
        serving.unseal,
        {"served": served(), "text": serving.seal(served().new_stream(), KEY), "key": KEY},
    ),
}

# Calls that are as cheap where nothing is refused.
CHEAP = [name for name in CASES if name.startswith(("data.", "decoding.", "metrics."))]

# The kind of each argument by its name, and where it has another in one call.
KINDS = {
    **dict.fromkeys(["features", "vocabulary", "source_features", "target_features"], TOKENS),
    **dict.fromkeys(["source_vocabulary", "target_vocabulary", "embedding"], TOKENS),
    "inputs": optional(of.by_name(of.count)),
    "static": optional(either(of.empty_dict, of.by_name(of.count))),
    "target_inputs": optional(either(of.empty_dict, of.by_name(of.count))),
    "scaling": optional(
        either(of.one_of("mean", "standard", "change"), lambda v: isinstance(v, dict))
    ),
    "padding": optional(of.natural),
    "burn_in": of.natural,
    "samples": optional(of.count),
    "feed": optional(of.text),
    "future": optional(of.empty_dict),
    "horizon": of.count,
    "season": of.count,
    "windows": of.count,
    "series": never,
    "kind": of.one_of("mean", "standard", "change"),
    "lag": of.count,
    **dict.fromkeys(["truth", "forecast", "history", "low", "high"], of.numbers),
    # sounds
    **dict.fromkeys(["rate", "frame", "hop", "spectrum", "bands"], of.count),
    **dict.fromkeys(["lowest", "floor", "shortest", "longest"], of.real),
    "units": of.sizes,
    "encoder_units": optional(of.sizes),
    "outputs": optional(either(of.count, of.by_name(of.count))),
    "cell": of.function,
    **dict.fromkeys(["dropout", "recurrent_dropout"], of.rate),
    **dict.fromkeys(["bidirectional", "residual", "layer_norm", "tied", "shared"], of.flag),
    **dict.fromkeys(["input_feeding", "learned_initial_state", "go_backwards"], of.flag),
    **dict.fromkeys(["shuffle", "align", "per_step", "check_finite", "unknown"], of.flag),
    **dict.fromkeys(["from_logits", "overwrite", "warm_up", "private", "load_weights"], of.flag),
    **dict.fromkeys(["raise_error", "return_dict"], of.flag),
    "activation": optional(of.function),
    "attention": optional(of.one_of("dot", "additive")),
    **dict.fromkeys(["start", "end"], optional(of.natural)),
    "name": optional(of.label),
    **dict.fromkeys(["core", "spec", "blueprint", "model", "served", "batcher"], never),
    **dict.fromkeys(["folder", "path", "filepath", "preset"], of.path),
    "freeze_until": optional(of.text),
    "format": never,
    "beam": optional(never),
    "metrics": optional(either(of.empty_dict, of.by_name(either(of.real, of.text)))),
    "every": of.count,
    "window": of.count,
    "stride": optional(of.count),
    "probability": either(of.probability, of.function),
    "validation": of.probability,
    "factor": optional(lambda value: of.real(value) and value > 1),
    # fit and its kin
    **dict.fromkeys(["x", "y"], never),
    "batch_size": optional(of.count),
    **dict.fromkeys(["steps_per_epoch", "validation_steps", "steps"], optional(of.count)),
    "validation_batch_size": optional(of.count),
    **dict.fromkeys(["epochs", "initial_epoch"], of.natural),
    "verbose": of.verbose,
    "callbacks": of.callbacks,
    "validation_split": optional(of.rate),
    "validation_data": optional(never),
    "validation_freq": either(of.count, items(of.count)),
    "class_weight": optional(of.by_number),
    "sample_weight": optional(never),
    # step and generate
    "state": optional(never),
    "reset": optional(never),
    "prompt": optional(either(of.numbers, of.text, items(of.text))),
    "source": of.numbers,
    "max_length": of.count,
    "min_length": of.natural,
    "sampler": of.one_of("greedy", "sample"),
    "forbidden": items(of.natural),
    "rows": optional(items(of.natural)),
    "weights": never,
    # presets
    "storage": of.one_of("float32", "float16"),
    "task": optional(of.text),
    "notes": optional(of.text),
    "year": optional(lambda value: of.integer(value) and value >= 1900),
    "address": never,
    # cells and heads
    "heads": of.count,
    "min_radius": of.rate,
    "max_radius": lambda value: of.real(value) and 0 < value <= 1,
    "max_phase": of.real,
    **dict.fromkeys(["size", "classes", "components"], of.count),
    "levels": never,
    "head": never,
    "reduction": optional(of.one_of("sum", "none", "mean")),
    "dtype": optional(of.dtype),
    **dict.fromkeys(["parameters", "targets"], either(of.symbolic, of.numbers)),
    "p": never,
    "mask": optional(either(of.symbolic, of.numbers)),
    "beam_width": of.count,
    "top_paths": of.count,
    # data
    **dict.fromkeys(["array", "sequences", "sources", "ids", "y_true", "y_pred"], of.numbers),
    "windows_per_batch": of.count,
    "pad_to_multiple_of": optional(of.count),
    "seed": of.seed,
    "index": of.natural,
    "count": of.count,
    "tokens": either(of.text, items(of.text)),
    "level": of.one_of("character", "word"),
    "text": of.text,
    "max_size": optional(of.count),
    "config": never,
    "label": of.flag,
    "allowed": optional(of.numbers),
    # decoding
    "step": of.function,
    "limits": optional(of.numbers),
    "alignment_steps": optional(of.count),
    "temperature": of.numbers,
    "top_k": optional(of.count),
    "top_p": optional(of.real),
    "width": of.count,
    "length_penalty": of.real,
    "n_best": of.count,
    "ignore_class": optional(of.integer),
    **dict.fromkeys(["first", "second"], of.anything),
    # pictures
    "curves": of.by_name(items(of.real)),
    "alignments": never,
    "ylabel": of.text,
    "draw": of.function,
    "trained": optional(of.flag),
    "form": optional(of.text),
    # serving
    "delay": lambda value: of.seconds(value) or value == 0,
    **dict.fromkeys(["max_batch", "max_waiting", "slice_steps", "max_numbers"], of.count),
    **dict.fromkeys(["limit", "max_steps", "bytes", "connections"], of.count),
    "connections_per_client": of.count,
    "unsent": of.count,
    "limit_per_client": optional(of.count),
    **dict.fromkeys(["idle", "request", "send", "grace"], of.seconds),
    "key": never,
    "old": lambda value: items(of.anything)(value) and not list(value),
    "until": optional(either(of.real, of.seconds)),
    "lifetime": optional(of.seconds),
    "spent": optional(never),
    "token": optional(of.text),
    "signature": of.text,
    **dict.fromkeys(["stream", "streams", "message"], never),
    "updates": optional(of.count),
    "custom_objects": optional(either(of.empty_dict, of.named)),
    "compile": of.flag,
    # compile
    "optimizer": optional(never),
    "loss": of.nest_of(of.function, empty=False),
    "weighted_metrics": of.nest_of(of.function, empty=True),
    "loss_weights": optional(of.weights),
    **dict.fromkeys(["jit_compile", "run_eagerly", "auto_scale_loss"], of.flag),
    "steps_per_execution": of.count,
}
OTHERS = {
    ("cells.LSTNetCell", "units"): lambda value: of.count(value) and value > 24,
    ("cells.LSTNetCell", "ahead"): lambda value: of.count(value) and value < 26,
    ("cells.LSTNetCell", "history"): lambda value: of.count(value) and value >= 24,
    ("cells.LSTNetCell", "period"): lambda value: of.count(value) and value <= 336,
    ("RecurrentModel.generate, numbers", "prompt"): optional(of.numbers),
    ("Characters", "units"): of.count,
    ("Characters", "vocabulary"): of.count,
    ("Forecaster.observe", "x"): of.numbers,
    ("backtest", "level"): optional(lambda value: of.real(value) and 0 < value < 1),
    ("backtest", "history"): optional(of.count),
    ("Forecast.quantile", "p"): either(of.probability, items(of.probability)),
    ("Scaling", "shared"): of.flag,
    ("metrics.crps", "samples"): of.numbers,
    ("data.Tokenizer", "source"): never,
    ("CoreSpec", "form"): of.text,
    **{("CoreSpec", name): never for name in ("inputs", "outputs")},
    **{("CoreSpec", name): lambda v: isinstance(v, dict) and not v for name in ("states",)},
    ("CoreSpec", "whole_only"): lambda v: isinstance(v, dict) and all(map(of.text, v)),
    **{("CoreSpec", name): optional(of.text) for name in ("reset", "mask")},
    **{(f"core.{name}", "shape"): of.shape for name in ("Input", "Output", "State")},
    **{(f"core.{name}", "dtype"): never for name in ("Input", "Output", "State")},
    ("core.Input", "padding"): optional(lambda value: of.integer(value) and value == -1),
    ("core.State", "start"): optional(never),
    ("core.Output", "activation"): of.text,
    ("core.Output", "layer"): optional(of.text),
    ("core.Output", "head"): optional(never),
    **{(f"data.{name}", "batch_size"): of.count for name in ("stream", "pack", "bucket", "pairs")},
    **{(f"data.{name}", "targets"): optional(of.numbers) for name in ("stream", "pack", "bucket")},
    **{
        (f"data.{name}", "sample_weight"): optional(of.numbers)
        for name in ("stream", "pack", "bucket")
    },
    **{
        (f"data.{name}", "static"): lambda v: (
            v is None or isinstance(v, dict) and v and all(map(of.text, v)) and of.numbers(v)
        )
        for name in ("stream", "pack", "bucket")
    },
    ("data.bucket.as_given", "served"): lambda v: isinstance(v, np.ndarray) or not v,
    ("decoding.decode", "state"): of.anything,
    ("decoding.decode", "forbidden"): of.numbers,
    ("decoding.Sample", "seed"): either(of.seed, of.numbers),
    **{
        (f"metrics.{name}.update_state", "sample_weight"): optional(of.numbers)
        for name in ("Perplexity", "SequenceAccuracy")
    },
    ("metrics.edit_distance", "first"): of.of(str, bytes, list, tuple, range, np.ndarray),
    ("metrics.edit_distance", "second"): of.of(str, bytes, list, tuple, range, np.ndarray),
    **{
        (f"{name}.initial_state", "batch_size"): of.natural
        for name in ("RecurrentModel", "EncoderDecoder")
    },
    ("EncoderDecoder.generate", "batch_size"): of.count,
    ("EncoderDecoder.generate", "source"): either(of.numbers, of.text),
    **{(f"EncoderDecoder.{name}", "y"): optional(never) for name in ("fit", "evaluate")},
    **{
        (f"{name}.fit", "shuffle"): optional(of.flag)
        for name in ("RecurrentModel", "EncoderDecoder")
    },
    ("StopOnDivergence", "every"): optional(of.count),
    ("RecurrentModel.compile", "metrics"): of.nest_of(of.function, empty=True),
    ("serving.Served.new_streams", "count"): of.natural,
    ("heads.Normal.log_prob", "targets"): either(of.symbolic, of.numbers),
    ("heads.Normal.sample", "seed"): optional(of.integer),
    ("heads.Normal.check_targets", "sample_weight"): optional(of.numbers),
    ("layers.RNN", "cell"): never,
    **{(f"zoo.{name}", "name"): never for name in ("build", "card")},
    **{("zoo.list", name): optional(never) for name in ("task", "cell", "form")},
    ("zoo.Card.compile", "epochs"): optional(of.count),
    ("curves.attention_map", "sources"): items(of.text),
    ("curves.attention_map", "targets"): items(of.text),
    ("curves.picture", "size"): never,
    ("serving.Conversation", "vocabulary"): optional(never),
    ("serving.Served.new_stream", "source"): optional(never),
    ("serving.Served.new_streams", "sources"): optional(never),
    **{(f"serving.{name}", "inputs"): of.numbers for name in ("Served.check", "Stream.step")},
    ("serving.Served.step", "inputs"): items(of.natural),
    ("serving.Stream", "state"): never,
    ("serving.unseal", "text"): never,
    ("serving.SpentSeals", "path"): of.path,
}

# What Keras calls, and what those who add a model, a cell, a head or a sampler define or use.
HOOKS = {name for kind in (keras.Model, keras.layers.LSTM) for name in dir(kind)}
HOOKS |= {name for kind in (keras.callbacks.Callback, keras.losses.Loss) for name in dir(kind)}
HOOKS |= {"run", "train_batch", "output_masks", "output_specs", "make_carries", "set_carry"}
HOOKS |= {"call_with_values", "evaluated", "set_loss_tracker", "start_of", "configure"}
HOOKS |= {
    "build_from_batch",
    "lend",
    "take_values",
    "in_units",
    "says",
    "bare",
    "split",
    "learns_start",
    "refuse_streams",
}
HOOKS |= {"fresh_state", "restored_state", "state_spec", "product", "project", "read"}
HOOKS |= {"natural", "summaries", "sequence_log_prob", "choose", "values", "with_values"}
# The parts of a service, which check what clients send them.
HOOKS |= {"turn", "advance", "write", "lock_of", "beside", "answers", "replies", "open", "close"}
HOOKS |= {"stop", "take", "spend", "sign", "numbers_of", "blank_steps", "as_steps", "check_names"}
HOOKS |= {"as_static", "blank_static", "all_beside"}
# Results and errors, which rnnzoo makes; what is made without arguments; a card's plain words.
MADE = {"Generated", "Decoded", "Overloaded", "UnknownStream", "Greedy", "Sampler", "Head"}
MADE |= {"Card", "CTCLogits", "Forecast", "Backtest"}
# Keras flattens the arguments of layers and models before it calls them: not what has no end.
FLATTENED = ("heads.CRFPotentials", "RecurrentModel", "EncoderDecoder")

# Batches have other names within than `fit` gives them; the path of an export is one to Keras.
ALSO = {"x": "inputs", "y": "targets", "filepath": "path", "ids": "id", "inputs": "step inputs"}

# Values of each argument that are given; RNNZOO_FUZZ=all gives all, 28,000 calls.
DRAWN = None if os.environ.get("RNNZOO_FUZZ") == "all" else 8


def kinds_of(name, function):
    """The kind of each argument that a function takes."""
    return {
        argument: OTHERS.get((name, argument))
        or OTHERS.get((name.split(",")[0], argument))
        or KINDS[argument]
        for argument, one in inspect.signature(function).parameters.items()
        if one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL) and argument != "model_"
    }


def fits(kind, value):
    try:
        return bool(kind(value))
    except Exception:  # of a value that fails whatever is asked of it
        return False


def changes(name, kinds):
    """The calls of a case, each as the argument that changes, and to which nonsense."""
    drawn = np.random.default_rng(list(os.fsencode(name)))
    for argument, kind in kinds.items():
        keys = [key for key in NONSENSE if name in CHEAP or not fits(kind, NONSENSE[key]())]
        if name in FLATTENED or name.startswith(("cells.", "layers.")):
            keys = [key for key in keys if key not in ("deep", "endless")]
        count = len(keys) if DRAWN is None else min(DRAWN, len(keys))
        yield from ({argument: str(key)} for key in drawn.choice(keys, count, replace=False))


def state():
    """All that a refused call might change."""
    weights = [np.array(v) for made in (model(), pair()) for v in made.variables]
    seeds = np.random.get_state()[2], hash(random.getstate()), keras.config.dtype_policy().name
    settings = [
        (one.settings, one.jit_compile, one.optimizer, one.loss) for one in (model(), pair())
    ]
    return weights, (seeds, settings, sorted(os.listdir()))


def same(now, before):
    return now[1] == before[1] and all(map(np.array_equal, now[0], before[0]))


def fault(function, good, kinds, changed):
    """What is wrong with the answer to `changed` arguments, or None."""
    values = {name: NONSENSE[kind]() for name, kind in changed.items()}
    if any(kinds[name] is of.function and callable(values[name]) for name in changed):
        return None  # whatever a user's function raises is the user's to see
    try:
        function(**good | values)
    except (ValueError, TypeError) as error:
        # "each sequence" names `sequences` well enough.
        names = [*changed, *(ALSO[name] for name in changed if name in ALSO)]
        names = [re.escape(name.removesuffix("s")) for name in names]
        named = any(re.search(rf"\b{name}s?\b", str(error)) for name in names)
        return None if named else f"{type(error).__name__} names no argument: {error}"
    except OSError as error:
        fine = any(kinds[name] is of.path and of.path(value) for name, value in values.items())
        return None if fine else f"{type(error).__name__}: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    values = {name: NONSENSE[kind]() for name, kind in changed.items()}
    wrong = [name for name, value in values.items() if not fits(kinds[name], value)]
    return f"accepted {', '.join(wrong)}" if wrong else None


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    """What writes a file writes it there."""
    monkeypatch.chdir(tmp_path)
    pathlib.Path("table.csv").write_text("sequence,step,x\na,0,1\na,1,2\n")


@pytest.mark.parametrize("name", CASES)
def test_nonsense_is_refused_by_name_and_changes_nothing(name):
    function, good = CASES[name]()
    kinds, before, faults = kinds_of(name, function), state(), []
    for changed in changes(name, kinds):
        found = fault(function, good, kinds, changed)
        if found:
            faults.append(f"{changed}: {found[:200]}")
        if name not in CHEAP and not same(state(), before):
            faults.append(f"{changed}: what was refused has changed something")
            before = state()
    assert not faults, "\n".join([f"{len(faults)} faults", *faults])


@pytest.mark.parametrize("name", [name for name in CHEAP])
def test_two_arguments_at_a_time(name):
    function, good = CASES[name]()
    kinds = kinds_of(name, function)
    if len(kinds) < 2:
        pytest.skip("one argument")
    drawn = np.random.default_rng(list(os.fsencode(name)))
    faults = []
    for _ in range(20 if DRAWN else 40):
        both = drawn.choice(list(kinds), 2, replace=False).tolist()
        changed = dict(zip(both, drawn.choice(list(NONSENSE), 2).tolist()))
        found = fault(function, good, kinds, changed)
        if found:
            faults.append(f"{changed}: {found[:200]}")
    assert not faults, "\n".join([f"{len(faults)} faults", *faults])


def test_the_calls_are_many():
    counts = {}
    for name in CASES:
        kinds = kinds_of(name, CASES[name]()[0])
        bad = [c for c in changes(name, kinds) for a in c if not fits(kinds[a], NONSENSE[c[a]]())]
        counts[name.split(".")[0]] = counts.get(name.split(".")[0], 0) + len(bad)
    print(f"{sum(counts.values())} bad calls of {len(CASES)} public names: {counts}")
    assert sum(counts.values()) >= 2000


def public_names():
    """All that `__all__` of rnnzoo and of its public folders have, by its name in them."""
    for name in rnnzoo.__all__:
        one = getattr(rnnzoo, name)
        if inspect.ismodule(one):
            yield from ((f"{name}.{inner}", getattr(one, inner)) for inner in one.__all__)
        else:
            yield name, one


def test_every_public_name_is_called():
    called = {name.split(",")[0].split(".")[-1] for name in CASES}
    lacking = []
    for name, one in public_names():
        if not callable(one) or name.split(".")[-1] in MADE:
            continue
        if name.split(".")[-1] not in called:
            lacking.append(name)
        for method, function in inspect.getmembers(one, callable):
            ours = (getattr(function, "__module__", "") or "").startswith("rnnzoo")
            known = method.startswith("_") or method in called | HOOKS
            if ours and not known and len(inspect.signature(function).parameters) > 1:
                lacking.append(f"{name}.{method}")
    assert not lacking


def test_what_is_refused_draws_no_seed():
    calls = [
        lambda: data.bucket(SEQUENCES, shuffle=True, vocabulary=1),
        lambda: data.pack(SEQUENCES, 2, 99, shuffle=True),
        lambda: data.pack(SEQUENCES, 2, 1, shuffle=True, windows_per_batch=0),
        lambda: data.pairs(SEQUENCES, SEQUENCES, shuffle=True, pad_to_multiple_of=0),
        lambda: decoding.Sample(top_k=0),
        lambda: model().fit(X, X[:, :1], verbose=0),
        lambda: model().fit(X, X, validation_data=(X, X[:1]), verbose=0),
    ]
    np.random.seed(3)
    expected = np.random.randint(2**31)
    np.random.seed(3)
    for call in calls:
        with pytest.raises(ValueError):
            call()
    assert np.random.randint(2**31) == expected


def test_the_good_arguments_are_good():
    for name in CHEAP:
        function, good = CASES[name]()
        if "path" not in good:
            function(**good)


def test_a_fault_would_be_seen():
    def careless(shuffle, size):
        return [0] * size if shuffle else 1 // 0

    good, kinds = {"shuffle": True, "size": 1}, {"shuffle": of.flag, "size": of.count}
    assert fault(careless, good, kinds, {"size": "1"}) is None
    assert fault(careless, good, kinds, {"shuffle": "'abc'"}) == "accepted shuffle"
    assert fault(careless, good, kinds, {"shuffle": "False"}).startswith("ZeroDivisionError")
    found = fault(careless, good, kinds, {"size": "'abc'"})
    assert found.startswith("TypeError names no argument")
