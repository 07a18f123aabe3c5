"""Answers of a service as they leave it: JSON, or bytes that hold the numbers as they are."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from rnnzoo._checks import instance

# Below this many numbers an answer is a matter of microseconds.
SMALL = 512
# Numbers turned into text at a time: the JSON encoder lets no other thread run meanwhile, and a
# step of somebody else may have to wait for it at each of its turns.
_PIECE = 512


def as_json(answer: dict[str, Any]) -> str:
    """`answer` as JSON, its arrays as lists."""
    return json.dumps(as_lists(answer))


def as_bytes(answer: dict[str, Any]) -> bytes:
    """`answer` as a binary message, which `read_answer` reads.

    The length of a head in 4 bytes, little-endian; the head, JSON with `{"dtype", "shape"}` in
    the place of each array, filled up with spaces to a length that is 0 modulo 8 with the 4
    bytes; then the arrays one after the other in the head's order, little-endian, each filled up
    with zeros to a multiple of 8 bytes.
    """
    head, content = {}, []
    for name, value in answer.items():
        if isinstance(value, np.ndarray):
            value = np.ascontiguousarray(value, value.dtype.newbyteorder("<"))
            data = value.tobytes()
            content.append(data + bytes(-len(data) % 8))
            value = {"dtype": value.dtype.name, "shape": list(value.shape)}
        head[name] = value
    text = json.dumps(head).encode()
    text += b" " * (-(len(text) + 4) % 8)
    return b"".join([len(text).to_bytes(4, "little"), text, *content])


def read_answer(message: bytes) -> dict[str, Any]:
    """The answer that a binary message of the service holds, with NumPy arrays.

    Args:
        message: as `as_bytes` has it.

    Raises:
        ValueError: bytes that are no such message.

    >>> read_answer(as_bytes({"outputs": np.array([0.5, 2.0], "float32"), "steps": 3}))
    {'outputs': array([0.5, 2. ], dtype=float32), 'steps': 3}
    """
    instance("message", message, (bytes, bytearray), "bytes, an answer of the service")
    try:
        place = 4 + int.from_bytes(message[:4], "little")
        answer = json.loads(message[4:place])
        for name, value in answer.items():
            if isinstance(value, dict):
                dtype = np.dtype(value["dtype"]).newbyteorder("<")
                count = int(np.prod(value["shape"], dtype=int))
                array = np.frombuffer(message, dtype, count, place).reshape(value["shape"])
                answer[name] = array.astype(value["dtype"])
                place += array.nbytes + -array.nbytes % 8
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"message must be a binary answer of the service; received {len(message)} bytes that "
            f"are not ({error})"
        ) from error
    return answer


def as_lists(answer: dict[str, Any]) -> dict[str, Any]:
    """`answer` with its arrays as lists."""
    return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in answer.items()}


def numbers_in(answer: dict[str, Any]) -> int:
    """Numbers that the arrays of an answer hold."""
    return sum(value.size for value in answer.values() if isinstance(value, np.ndarray))


def best(count: int) -> Callable[[np.ndarray], np.ndarray]:
    """A function that keeps of the last axis the `count` highest, the highest first.

    It gives an array `(..., count)` with the fields "value" and "index"; of equals, the lower
    index comes first.
    """

    def take(outputs: np.ndarray) -> np.ndarray:
        index = _highest(outputs, count)
        kept = np.empty(index.shape, [("value", outputs.dtype), ("index", "int32")])
        kept["value"], kept["index"] = np.take_along_axis(outputs, index, -1), index
        return kept

    return take


def _highest(outputs: np.ndarray, count: int) -> np.ndarray:
    """The places of the `count` highest, the highest first; of equals, the lower place first."""
    # A full sort of 10,000 words takes far longer than their step.
    some = np.argpartition(-outputs, count - 1, axis=-1)[..., :count]
    some.sort(axis=-1)
    found = -np.take_along_axis(outputs, some, -1)
    if ((-outputs <= found.max(-1, keepdims=True)).sum(-1) != count).any():
        return np.argsort(-outputs, axis=-1, kind="stable")[..., :count]  # equals were left out
    return np.take_along_axis(some, np.argsort(found, axis=-1, kind="stable"), -1)


def json_parts(value: Any) -> Iterator[str]:
    """An answer as JSON, in parts of which each is a matter of a fraction of a millisecond."""
    if isinstance(value, dict):
        for i, (name, part) in enumerate(value.items()):
            yield f"{', ' if i else '{'}{json.dumps(name)}: "
            yield from json_parts(part)
        yield "}" if value else "{}"
    elif not isinstance(value, np.ndarray):
        yield json.dumps(value)
    elif value.size <= _PIECE or value.ndim == 0:
        yield json.dumps(value.tolist())
    else:
        rows = max(1, _PIECE // (value.size // len(value)))
        for first in range(0, len(value), rows):
            piece, before = value[first : first + rows], ", " if first else "["
            if piece.size > _PIECE:
                yield before
                yield from json_parts(piece[0])
            else:
                yield before + json.dumps(piece.tolist())[1:-1]
        yield "]"
