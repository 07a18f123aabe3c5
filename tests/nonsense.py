"""Values of every wrong kind, and what kinds of values an argument may have."""

import datetime
import math
import pathlib
from collections.abc import Iterable, Mapping

import keras
import numpy as np

import rnnzoo


class Broken:
    """An object that fails whatever is asked of it."""

    def _fail(self, *_):
        raise RuntimeError("broken")

    __repr__ = __str__ = __len__ = __iter__ = __array__ = __bool__ = __eq__ = __fspath__ = _fail
    __hash__ = None


class Lying:
    """An object that says it is as long as need be, and equal to all."""

    def __len__(self):
        return 3

    def __eq__(self, other):
        return True

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
        *("", "abc", "1", "/nonexistent/x", "a\0b", "\ud800", b"abc"),
        *(pathlib.Path("/nonexistent/x"), datetime.timedelta(-1)),
        *([], [1], ["a"], [[1], [2, 3]], [None], (), {}, {"a": 1}, {1: 2}, {1: "x"}, set(), {3}),
        *(range(0), object, int, len, Ellipsis, NotImplemented),
        *(np.float32(1.5), np.int64(1), np.bool_(True), np.str_("abc"), np.datetime64("2020")),
        *(np.zeros(0), np.zeros((2, 2)), np.array(3), np.array("x"), np.array([None, "a"])),
        *(np.ones(3, complex), np.full((1, 3), np.nan), np.ma.masked),
    )
} | {
    "object()": object,
    "broken": Broken,
    "lying": Lying,
    "deep": deep,
    "endless": endless,
    "generator": lambda: (i for i in range(2)),
    "symbolic": lambda: keras.KerasTensor((None, 3)),
    "tensor of strings": lambda: np.array(["a", "b"], object),
    "layer": lambda layer=keras.layers.Dense(1): layer,
}


def never(value):
    return False


def anything(value):
    return True


def optional(kind):
    return lambda value: value is None or kind(value)


def either(*kinds):
    return lambda value: any(kind(value) for kind in kinds)


def integer(value):
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def count(value):
    return integer(value) and 1 <= value < 2**31


def natural(value):
    return integer(value) and 0 <= value < 2**31


def seed(value):
    return value is None or (integer(value) and value >= 0)


def flag(value):
    return isinstance(value, (bool, np.bool_))


def real(value):
    number = isinstance(value, (int, float, np.integer, np.floating))
    return number and not isinstance(value, bool) and math.isfinite(value)


def rate(value):
    return real(value) and 0 <= value < 1


def probability(value):
    return real(value) and 0 <= value <= 1


def seconds(value):
    """More than none; for ever, too."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and value > 0


def text(value):
    return isinstance(value, str)


def label(value):
    return text(value) and bool(value) and "/" not in value and value.isprintable()


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


def items(kind):
    """A list, or other collection but a text or dict, of values of a kind."""

    def fits(value):
        try:
            return not isinstance(value, (str, bytes, Mapping)) and all(map(kind, value))
        except Exception:
            return False

    return fits


def sizes(value):
    """A size, or one for each layer."""
    return count(value) or (isinstance(value, (list, tuple)) and value and all(map(count, value)))


def shape(value):
    return isinstance(value, tuple) and all(one is None or natural(one) for one in value)


def by_number(value):
    """A dict of numbers by classes."""
    return isinstance(value, dict) and all(map(natural, value)) and all(map(real, value.values()))


def by_name(kind):
    """A dict by names, of values of a kind."""
    return lambda value: (
        isinstance(value, dict)
        and bool(value)
        and all(text(key) and key.isidentifier() for key in value)
        and all(map(kind, value.values()))
    )


def empty_dict(value):
    return isinstance(value, dict) and not value


def named(value):
    return isinstance(value, dict) and all(map(text, value))


def weights(value):
    """A number, or a list or dict of them."""
    if isinstance(value, dict):
        return bool(value) and all(map(text, value)) and all(map(real, value.values()))
    return real(value) or isinstance(value, (list, tuple)) and bool(value) and all(map(real, value))


def nest_of(kind, empty):
    """None, what is of a kind, or lists and dicts of it, which may be `empty`."""

    def fits(value):
        if isinstance(value, (list, tuple, dict)):
            parts = value.values() if isinstance(value, dict) else value
            return (empty or bool(value)) and all(map(fits, parts))
        return value is None or kind(value)

    return fits


def symbolic(value):
    return isinstance(value, keras.KerasTensor)


def one_of(*allowed):
    return lambda value: isinstance(value, str) and value in allowed


def function(value):
    return callable(value)


def dtype(value):
    return text(value) or isinstance(value, type)


def callbacks(value):
    """None, a callback, or a nest of them."""
    return value is None or isinstance(value, (list, tuple, dict)) and not value


def verbose(value):
    return flag(value) or (value in ("auto", 0, 1, 2) if isinstance(value, (str, int)) else False)


def of(*classes):
    return lambda value: isinstance(value, classes)


TOKENS = optional(count)
LETTERS = rnnzoo.data.Vocabulary("abc")
