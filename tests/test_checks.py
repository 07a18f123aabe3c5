"""Checks of arguments that are used all over the package: what each lets through and refuses."""

import pathlib

import keras
import numpy as np
import pytest

from rnnzoo import _checks

CALLBACK = keras.callbacks.Callback()


def shown(value):
    """An id that is the same in every process: none with an address in it."""
    return getattr(value, "__name__", None) or (repr(value) if "0x" not in repr(value) else None)


@pytest.mark.parametrize(
    ("check", "given", "expected"),
    [
        (_checks.flag, np.bool_(True), True),
        (_checks.positive_integer, np.int64(3), 3),
        (_checks.fraction, np.float32(0.5), 0.5),
        (_checks.seed, 10**30, 10**30),
        (_checks.seed, None, None),
        (_checks.label, "dev", "dev"),
        (_checks.path, "a/b", pathlib.Path("a/b")),
        (_checks.path, pathlib.Path("a"), pathlib.Path("a")),
        (_checks.dtype, "mixed_float16", "mixed_float16"),
        (_checks.dtype, np.float32, np.float32),
        (_checks.callbacks, None, []),
        (_checks.callbacks, CALLBACK, [CALLBACK]),
        (_checks.callbacks, [CALLBACK, [CALLBACK]], [CALLBACK, CALLBACK]),
        (_checks.callbacks, keras.callbacks.CallbackList([CALLBACK]), [CALLBACK]),
    ],
    ids=shown,
)
def test_what_is_right_comes_back(check, given, expected):
    found = check("it", given)
    assert found == expected and type(found) is type(expected)


@pytest.mark.parametrize(
    ("check", "given"),
    [
        (_checks.flag, 1),
        (_checks.positive_integer, True),
        (_checks.positive_integer, 2**31),
        (_checks.fraction, 10**400),
        (_checks.fraction, np.nan),
        (_checks.seed, -1),
        (_checks.label, "a/b"),
        (_checks.path, b"a"),
        (_checks.path, "a\0"),
        (_checks.dtype, "float33"),
        (_checks.callbacks, "abc"),
        (_checks.callbacks, [CALLBACK, 5]),
        (lambda name, value: _checks.one_of(name, value, ("a", "b")), np.array(["a", "b"])),
        (lambda name, value: _checks.one_of(name, value, (1, 2)), True),
    ],
    ids=shown,
)
def test_what_is_wrong_is_named(check, given):
    with pytest.raises(ValueError, match="^it must be .*; received it="):
        check("it", given)


def test_masked_entries_are_not_read():
    array = np.ma.array([1, 2, 3], mask=[False, True, False])
    with pytest.raises(ValueError, match="it must have no masked entries"):
        _checks.array("it", array)
    assert _checks.array("it", array[:1]).tolist() == [1]
