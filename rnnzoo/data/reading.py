"""What users give as sequences, targets and weights, checked and brought into one form."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from rnnzoo import _checks
from rnnzoo._checks import shown
from rnnzoo.data.steps import Steps
from rnnzoo.data.tokens import below_one_another, encode_words
from rnnzoo.data.vocabularies import size_and_vocabulary

# Entries of a batch that the data sets make themselves.
_RESERVED = ("reset", "mask", "lengths")


def as_array(value: Any, name: str) -> np.ndarray:
    """`value` as a NumPy array; ValueError for a text, or for entries of different shapes."""
    return _checks.array(name, value)


def as_steps(value: Any, name: str, vocabulary: Any = None, column: bool = False) -> np.ndarray:
    """`value` as an array of steps: `(N,)` integer tokens or `(N, F)` features.

    The shape and the dtype say which, whatever holds them: a column of integers of a table of
    pandas is tokens, as an integer array is, and a table is features. A text is tokens too,
    where there is a `vocabulary` to encode it, and a list of words is a step for each word: one
    token, or with a vocabulary of less than words the characters of it, `(N, characters)`. What
    stands by its name as a `column` beside others may be numbers `(N,)`, one feature.

    Raises:
        ValueError: another rank, no step or no feature, tokens that are no integers,
            features that are no numbers, a text without a vocabulary or of other tokens.
    """
    array = as_array(encoded(value, name, vocabulary), name)
    if array.ndim not in (1, 2):
        raise ValueError(
            f"{name} must have shape (steps,) for tokens or (steps, features); "
            f"received shape {array.shape}"
        )
    if 0 in array.shape:
        raise ValueError(
            f"{name} must have at least one step and one feature; received shape {array.shape}"
        )
    if column and array.ndim == 1 and array.dtype.kind in "fb":
        return array[:, None]
    if array.ndim == 1 and array.dtype.kind not in "iu":
        raise ValueError(
            f"{name} of shape (steps,) must hold integer tokens; received dtype {array.dtype} "
            "(give one real-valued feature the shape (steps, 1))"
        )
    if array.dtype.kind not in "iufb":
        raise ValueError(f"features of {name} must be numbers; received dtype {array.dtype}")
    return array


def encoded(value: Any, name: str, vocabulary: Any) -> Any:
    """`value`, or the ids of a text or of a list of words; ValueError where they have none."""
    words = isinstance(value, (list, tuple)) and any(isinstance(one, str) for one in value)
    if not words and not isinstance(value, str):
        return value
    if vocabulary is None:
        raise ValueError(
            f"{name} must hold numbers; received the text {shown(value)}: give the "
            "rnnzoo.data.Vocabulary that encodes it"
        )
    if words and not all(isinstance(one, str) for one in value):
        raise ValueError(f"{name} must hold words only, or numbers; received {shown(value)}")
    try:
        return encode_words(vocabulary, value) if words else np.asarray(vocabulary.encode(value))
    except ValueError as error:
        raise ValueError(f"{name} must hold tokens of the vocabulary: {error}") from error


def listed(values: Any, name: str) -> list:
    """`values` as a list; ValueError for what is no list of things, as one table or a text."""
    if hasattr(values, "columns") and hasattr(values, "to_numpy"):
        raise ValueError(
            f"{name} must be a list (or any iterable) of arrays; received a table, which is one "
            "sequence: give a list of tables"
        )
    return _checks.items(name, values, "arrays")


def input_steps(
    given: Any,
    name: str,
    vocabulary: Any = None,
    check_finite: bool = False,
    *,
    alone: bool = False,
    static: Any = None,
) -> dict[str, Steps]:
    """The steps of each input by name; one that has no name is "inputs".

    Args:
        given: sequences, or a dict of them by the names of the inputs.
        name: what errors call them.
        vocabulary: None, a number of tokens or a vocabulary; or a dict of these.
        check_finite: whether NaN and infinity are errors.
        alone: whether `given` is one sequence (or a dict of them), not a list.
        static: the dict of static inputs, for whose names `vocabulary` may have entries too.
    """
    named = isinstance(given, Mapping)
    parts = {key: given[key] for key in check_names(name, given)} if named else {"inputs": given}
    fixed = [] if static is None else check_names("static", static, parts)
    known = vocabularies(vocabulary, [*parts, *fixed], name, named)
    made = {}
    for key, values in parts.items():
        place, argument = name, "vocabulary"
        if named:
            place, argument = f"{name}[{key!r}]", f"vocabulary[{key!r}]"
        options = {"alone": alone, "argument": argument, "column": named}
        made[key] = steps_of(values, place, known.get(key), check_finite, **options)
    first, *rest = made.values()
    for other in rest:
        if not np.array_equal(first.lengths, other.lengths):
            raise ValueError(
                f"all inputs of {name} must have the same numbers of steps; received "
                f"{shown(first.lengths.tolist())} for {first.name} and "
                f"{shown(other.lengths.tolist())} for {other.name}"
            )
    return made


def check_names(name: str, given: Any, taken: Iterable[str] = ()) -> list[str]:
    """The names of a dict of inputs; ValueError for none, or for one that cannot be a name."""
    if not isinstance(given, Mapping) or not given:
        raise ValueError(
            f"{name} must be a dict by names, with at least one; received {shown(given)}"
        )
    for key in given:
        if not isinstance(key, str) or not key or key in (*_RESERVED, *taken):
            raise ValueError(
                f"the names of {name} must be str, other than {', '.join((*_RESERVED, *taken))}; "
                f"received {shown(key)}"
            )
    return list(given)


def vocabularies(
    given: Any, names: list[str], place: str, named: bool, argument: str = "vocabulary"
) -> dict[str, Any]:
    """What an argument gave, by the names of the inputs of `place`, a dict where `named`."""
    if given is None:
        return {}
    if not named and not isinstance(given, Mapping):
        return {names[0]: given}
    if not isinstance(given, Mapping) or not given or set(given) - set(names):
        raise ValueError(
            f"{argument} must be a dict by names of inputs, {', '.join(names)}, where {place} is "
            f"one or {argument} is; received {shown(given)}"
        )
    return dict(given)


def steps_of(
    given: Any,
    name: str,
    vocabulary: Any,
    check_finite: bool,
    *,
    alone: bool = False,
    argument: str = "vocabulary",
    column: bool = False,
) -> Steps:
    """The checked steps of one input, all tokens or all of the same number of features.

    Where there is a vocabulary, integers `(steps, several)` are several tokens for each step, as
    the characters of a word, and -1 for none.

    Args:
        given: sequences, or one where `alone`.
        name, vocabulary, check_finite, alone: as for `input_steps`.
        argument: the argument that gave `vocabulary`.
        column: whether numbers `(steps,)` are one feature: they have a name beside others.
    """
    size, words = size_and_vocabulary(argument, vocabulary)
    values = [given] if alone else listed(given, name)
    places = [name] if alone else [f"{name}[{i}]" for i in range(len(values))]
    arrays = [as_steps(value, place, words, column) for value, place in zip(values, places)]
    if not arrays:
        raise ValueError(f"{name} must hold at least one sequence; received none")
    if size is not None and all(one.ndim == 2 and one.dtype.kind in "iu" for one in arrays):
        most = max(one.shape[1] for one in arrays)
        arrays = [one if one.shape[1] == most else below_one_another(one, most) for one in arrays]
        return Steps(name, arrays, "int32", size, check_finite, alone, argument)
    for array, place in zip(arrays, places):
        if array.shape[1:] != arrays[0].shape[1:]:
            raise ValueError(
                f"all {name} must be tokens of shape (steps,) or have the same number of "
                f"features; received shape {arrays[0].shape} for {places[0]} and "
                f"{array.shape} for {place}"
            )
    if size is not None and arrays[0].ndim == 2:
        raise ValueError(
            f"{argument} is for tokens, integers of shape (steps,); received {argument}={size} "
            f"with features of shape {arrays[0].shape} for {places[0]}"
        )
    dtype = "int32" if arrays[0].ndim == 1 else "float32"
    return Steps(name, arrays, dtype, size, check_finite, alone, argument)
