"""Nonsense for every argument of every public name: refused by the argument's name, or right.

A case is a function, good arguments, and for each argument the kind of its values. Each argument
in turn becomes each of `NONSENSE`. The call then either succeeds, with a value that its kind
allows, or raises ValueError or TypeError with the argument's name in the text (a path that can
be one may also raise OSError). Pairs of arguments are drawn by a seed.
"""

import math
import os
import pathlib
import re
from collections.abc import Iterable, Mapping

import keras
import numpy as np
import pytest
from keras import ops

from rnnzoo import data, decoding, metrics

ON_JAX = keras.backend.backend() == "jax"


class Broken:
    """An object that fails whatever is asked of it."""

    def _fail(self, *_):
        raise RuntimeError("broken")

    __repr__ = __str__ = __len__ = __iter__ = __array__ = __bool__ = __eq__ = __fspath__ = _fail
    __hash__ = None


def deep(depth=3000):
    value = []
    for _ in range(depth):
        value = [value]
    return value


def endless():
    value = []
    value.append(value)
    return value


# Made anew for each call, as some can be read once only.
NONSENSE = {
    repr(value)[:40]: (lambda value=value: value)
    for value in (
        *(None, True, False, 0, -1, 1, 2, 3.7, math.nan, math.inf, 10**30, -(10**30), 1j),
        *("", "abc", "/nonexistent/x", "a\0b", "\ud800", b"abc", pathlib.Path("/nonexistent/x")),
        *([], [1], ["a"], [[1], [2, 3]], [None], (), {}, {"a": 1}, {1: 2}, {1: "x"}, set(), {3}),
        *(range(0), object, int, len, Ellipsis, NotImplemented),
        *(np.float32(1.5), np.int64(1), np.bool_(True), np.str_("abc"), np.datetime64("2020")),
        *(np.zeros(0), np.zeros((2, 2)), np.array(3), np.array("x"), np.array([None, "a"])),
        *(np.ones(3, complex), np.full((1, 3), np.nan), np.ma.masked),
    )
} | {
    "object()": object,
    "broken": Broken,
    "deep": deep,
    "endless": endless,
    "generator": lambda: (i for i in range(2)),
    "symbolic": lambda: keras.KerasTensor((None, 3)),
    "tensor of strings": lambda: np.array(["a", "b"], object),
    "layer": lambda: keras.layers.Dense(1),
}


def is_integer(value):
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def count(value):
    return is_integer(value) and 1 <= value < 2**31


def natural(value):
    return is_integer(value) and 0 <= value < 2**31


def seed(value):
    return value is None or (is_integer(value) and value >= 0)


def flag(value):
    return isinstance(value, (bool, np.bool_))


def real(value):
    number = isinstance(value, (int, float, np.integer, np.floating))
    return number and not isinstance(value, bool) and math.isfinite(value)


def text(value):
    return isinstance(value, str)


def path(value):
    return isinstance(value, (str, pathlib.Path)) and bool(str(value)) and "\0" not in str(value)


def numbers(value):
    """Numbers, or nests of them, or a text, which is a sequence of tokens."""
    if isinstance(value, Mapping):
        return all(map(numbers, value.values()))
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "iufb"
    if isinstance(value, Iterable) and not isinstance(value, (str, bytes)):
        return all(map(numbers, value))
    return isinstance(value, (int, float, np.number, np.bool_)) and not isinstance(value, complex)


def optional(kind):
    return lambda value: value is None or kind(value)


def either(*kinds):
    return lambda value: any(kind(value) for kind in kinds)


def by_number(value):
    """A dict of numbers by classes."""
    return isinstance(value, dict) and all(map(natural, value)) and all(map(real, value.values()))


def one_of(*allowed):
    return lambda value: isinstance(value, str) and value in allowed


def never(value):
    return False


def user_function(value):
    return callable(value)


def dtype(value):
    return text(value) or isinstance(value, type)


def static(value):
    return isinstance(value, dict) and bool(value) and all(map(text, value)) and numbers(value)


LETTERS = data.Vocabulary("abc")
SEQUENCES = [[0, 1, 2], [2, 1], [1, 1, 0, 2]]
TOKENS = optional(count)


def first_batch(function):
    return lambda **given: function(**given)[0]


def step(tokens, state):
    return ops.zeros((ops.shape(tokens)[0], 4)), state


def update(metric):
    def call(**given):
        metric().update_state(**given)

    return call


BATCH = {
    "y_true": (np.zeros((2, 3), int), numbers),
    "y_pred": (np.zeros((2, 3, 4), "float32"), numbers),
    "sample_weight": (None, optional(numbers)),
}
METRIC = {"name": ("m", optional(text)), "dtype": (None, optional(dtype))}
LIKELIHOOD = METRIC | {"from_logits": (True, flag), "ignore_class": (None, optional(is_integer))}
LANES = {
    "batch_size": (2, count),
    "window": (2, count),
    "windows_per_batch": (1, count),
    "vocabulary": (3, TOKENS),
    "check_finite": (True, flag),
    "sample_weight": (None, optional(numbers)),
    "static": (None, optional(static)),
}
PADDED = {
    "batch_size": (2, count),
    "shuffle": (True, flag),
    "seed": (0, seed),
    "pad_to_multiple_of": (None, optional(count)),
    "check_finite": (False, flag),
}
# Name: function of keyword arguments, and of each a good value and the kind of its values.
CASES = {
    "data.stream": (
        first_batch(data.stream),
        {"array": (list(range(3)) * 3, numbers), "targets": (None, optional(numbers)), **LANES},
    ),
    "data.pack": (
        first_batch(data.pack),
        {
            "sequences": (SEQUENCES, numbers),
            "targets": (None, optional(numbers)),
            "align": (False, flag),
            "shuffle": (True, flag),
            "seed": (0, seed),
            **LANES,
        },
    ),
    "data.bucket": (
        first_batch(data.bucket),
        {
            "sequences": (SEQUENCES, numbers),
            "targets": ([0, 1, 1], numbers),
            "sample_weight": ([1, 2, 3], optional(numbers)),
            "class_weight": ({0: 1.0}, optional(by_number)),
            "per_step": (False, flag),
            "vocabulary": (3, TOKENS),
            "static": (None, optional(static)),
            **PADDED,
        },
    ),
    "data.pairs": (
        first_batch(data.pairs),
        {
            "sources": (SEQUENCES, numbers),
            "targets": (SEQUENCES, numbers),
            "source_vocabulary": (3, TOKENS),
            "target_vocabulary": (None, TOKENS),
            **PADDED,
        },
    ),
    "data.bucket.shard": (
        lambda **given: data.bucket(SEQUENCES[:2], batch_size=2).shard(**given)[0],
        {"index": (0, natural), "count": (2, count)},
    ),
    "data.bucket.as_given": (
        data.bucket(SEQUENCES).as_given,
        {"served": (np.zeros((3, 2)), lambda v: isinstance(v, np.ndarray) or not v)},
    ),
    "data.Vocabulary": (
        data.Vocabulary,
        {
            "tokens": (["a", "b"], either(text, lambda v: all(map(text, v)))),
            "level": ("word", one_of("character", "word")),
            "unknown": (False, flag),
        },
    ),
    "data.Vocabulary.from_text": (
        data.Vocabulary.from_text,
        {
            "text": ("abca", text),
            "level": ("character", one_of("character", "word")),
            "max_size": (None, optional(count)),
            "unknown": (True, flag),
        },
    ),
    "data.Vocabulary.from_config": (data.Vocabulary.from_config, {"config": (None, never)}),
    "data.Vocabulary.encode": (LETTERS.encode, {"text": ("ab", text)}),
    "data.Vocabulary.decode": (LETTERS.decode, {"ids": ([0], numbers)}),
    "data.Vocabulary.save": (LETTERS.save, {"path": (None, path)}),
    "data.Vocabulary.load": (data.Vocabulary.load, {"path": (None, path)}),
    "data.read_text": (data.read_text, {"path": (None, path)}),
    "data.read_pairs": (data.read_pairs, {"path": (None, path)}),
    "data.read_csv": (
        data.read_csv,
        {"path": ("table.csv", path), "label": (False, flag), "allowed": (None, optional(numbers))},
    ),
    "decoding.decode": (
        decoding.decode,
        {
            "step": (step, user_function),
            "state": (np.zeros((2, 1), "float32"), lambda value: True),
            "tokens": ([0, 1], numbers),
            "sampler": ("greedy", one_of("greedy", "sample")),
            "max_length": (2, count),
            "end": (3, optional(natural)),
            "min_length": (1, natural),
            "forbidden": ((), numbers),
            "limits": (None, optional(numbers)),
            "alignment_steps": (None, optional(count)),
        },
    ),
    "decoding.get": (decoding.get, {"sampler": ("greedy", one_of("greedy", "sample"))}),
    "decoding.Sample": (
        decoding.Sample,
        {
            "temperature": (1.0, numbers),
            "top_k": (None, optional(count)),
            "top_p": (None, optional(real)),
            "seed": (0, either(seed, numbers)),
        },
    ),
    "decoding.Beam": (
        decoding.Beam,
        {"width": (2, count), "length_penalty": (0.0, real), "n_best": (1, count)},
    ),
    "metrics.Perplexity": (metrics.Perplexity, LIKELIHOOD),
    "metrics.BitsPerSymbol": (metrics.BitsPerSymbol, LIKELIHOOD),
    "metrics.SequenceAccuracy": (metrics.SequenceAccuracy, METRIC),
    "metrics.Perplexity.update_state": (update(metrics.Perplexity), BATCH),
    "metrics.SequenceAccuracy.update_state": (update(metrics.SequenceAccuracy), BATCH),
    "metrics.edit_distance": (
        metrics.edit_distance,
        {"first": ("abc", lambda v: isinstance(v, (str, bytes, list, tuple, range, np.ndarray)))}
        | {"second": ([1, 2], lambda v: True)},
    ),
}


def fault(function, arguments, changed):
    """What is wrong with the answer to `changed` arguments, or None."""
    given = {name: good for name, (good, _) in arguments.items()}
    kinds = {name: arguments[name][1] for name in changed}
    values = {name: NONSENSE[kind]() for name, kind in changed.items()}
    if any(kinds[name] is user_function and callable(values[name]) for name in changed):
        return None  # whatever a user's function raises is the user's to see
    try:
        function(**given | values)
    except (ValueError, TypeError) as error:
        # "each sequence" names `sequences` well enough.
        names = [re.escape(name.removesuffix("s")) for name in changed]
        named = any(re.search(rf"\b{name}s?\b", str(error)) for name in names)
        return None if named else f"{type(error).__name__} names no argument: {error}"
    except OSError as error:
        fine = any(kinds[name] is path and path(value) for name, value in values.items())
        return None if fine else f"{type(error).__name__}: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    values = {name: NONSENSE[kind]() for name, kind in changed.items()}
    wrong = [name for name, value in values.items() if not kinds[name](value)]
    return f"accepted {', '.join(wrong)}" if wrong else None


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    """What writes a file writes it there."""
    monkeypatch.chdir(tmp_path)
    pathlib.Path("table.csv").write_text("sequence,step,x\na,0,1\na,1,2\n")


@pytest.mark.parametrize("name", CASES)
def test_nonsense_is_refused_by_name(name):
    function, arguments = CASES[name]
    faults = []
    for argument in arguments:
        for kind in NONSENSE:
            found = fault(function, arguments, {argument: kind})
            if found:
                faults.append(f"{argument}={kind}: {found[:200]}")
    assert not faults, "\n".join([f"{len(faults)} faults", *faults])


@pytest.mark.parametrize("name", [name for name, (_, given) in CASES.items() if len(given) > 1])
def test_nonsense_for_two_arguments_at_once(name):
    function, arguments = CASES[name]
    random = np.random.default_rng(list(os.fsencode(name)))
    faults = []
    for _ in range(40):
        both = random.choice(list(arguments), 2, replace=False).tolist()
        changed = dict(zip(both, random.choice(list(NONSENSE), 2).tolist()))
        found = fault(function, arguments, changed)
        if found:
            faults.append(f"{changed}: {found[:200]}")
    assert not faults, "\n".join([f"{len(faults)} faults", *faults])


def test_what_is_refused_draws_no_seed():
    calls = [
        lambda: data.bucket(SEQUENCES, shuffle=True, vocabulary=1),
        lambda: data.pack(SEQUENCES, 2, 99, shuffle=True),
        lambda: data.pack(SEQUENCES, 2, 1, shuffle=True, windows_per_batch=0),
        lambda: data.pairs(SEQUENCES, SEQUENCES, shuffle=True, pad_to_multiple_of=0),
        lambda: decoding.Sample(top_k=0),
    ]
    np.random.seed(3)
    expected = np.random.randint(2**31)
    np.random.seed(3)
    for call in calls:
        with pytest.raises(ValueError):
            call()
    assert np.random.randint(2**31) == expected


def test_the_good_arguments_are_good():
    for name, (function, arguments) in CASES.items():
        given = {argument: good for argument, (good, _) in arguments.items()}
        if set(arguments) not in ({"path"}, {"config"}):
            function(**given)


def test_a_fault_would_be_seen():
    def careless(shuffle, size):
        return [0] * size if shuffle else 1 // 0

    arguments = {"shuffle": (True, flag), "size": (1, count)}
    assert fault(careless, arguments, {"size": "1"}) is None
    assert fault(careless, arguments, {"shuffle": "'abc'"}) == "accepted shuffle"
    assert fault(careless, arguments, {"shuffle": "False"}).startswith("ZeroDivisionError")
    assert fault(careless, arguments, {"size": "'abc'"}).startswith("TypeError names no argument")
