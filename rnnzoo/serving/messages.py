"""Messages of a service's clients as they come: an object of JSON, with keys that are known."""

import hashlib
import json
from typing import Any

from rnnzoo._checks import shown

# What may stand beside each kind of message.
TAKES = {
    "inputs": ("step", "top", "as"),
    "write": ("step", "prompt", "temperature", "seed"),
    "begin": ("step",),
    "save": (),
    "load": (),
}


def parsed(message: str | bytes, most: float) -> tuple[str, dict]:
    """The kind of a message, and the object of JSON that it is, of so many values at most."""
    given = _read(message, most)
    if not isinstance(given, dict):
        raise ValueError(f"a message must be an object of JSON; received {shown(given)}")
    kinds = [kind for kind in TAKES if kind in given]
    if len(kinds) != 1:
        raise ValueError(
            "a message must have one of the keys inputs, write, begin, save and load, or be "
            f'{{"stop": true}}; received {shown(given)}'
        )
    (kind,) = kinds
    if len(given) > 1 and not given.keys() <= {kind, *TAKES[kind]}:
        raise ValueError(f"{kind} takes no {shown(sorted(set(given) - {kind, *TAKES[kind]}))}")
    return kind, given


def _read(message: str | bytes, most: float) -> Any:
    # Nothing else runs while values are made, so too many are refused before: each has a bracket
    # of its own, or a comma beside it.
    found = sum(map(message.count, "[{," if isinstance(message, str) else b"[{,"))
    if found > most:
        raise ValueError(
            f"a message must be JSON of at most {most} values; received {found} brackets and commas"
        )
    try:
        return _DECODER.decode(message if isinstance(message, str) else message.decode())
    except (RecursionError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"a message must be JSON; {type(error).__name__}: {error}") from None


def _refuse(name: str) -> None:
    raise ValueError(f"numbers must be finite; received {name}")


_DECODER = json.JSONDecoder(parse_constant=_refuse)


def opening(body: bytes) -> str | None:
    """The token of a body that opens a stream, `{"load": token}`; None where it is empty."""
    if not body.strip():
        return None
    given = _read(body, 64)
    if not isinstance(given, dict) or list(given) != ["load"] or not isinstance(given["load"], str):
        raise ValueError(
            'the body that opens a stream must be empty or {"load": token}; '
            f"received {shown(given)}"
        )
    return given["load"]


def is_stop(message: str | bytes) -> bool:
    """Whether a message is `{"stop": true}`."""
    word = '"stop"' if isinstance(message, str) else b'"stop"'
    if len(message) > 64 or word not in message:
        return False
    try:
        given = json.loads(message)
    except (ValueError, RecursionError):
        return False
    return isinstance(given, dict) and list(given) == ["stop"] and given["stop"] is True


def digest_of(message: str | bytes) -> bytes:
    """A hash of a message, to know it when it comes again."""
    content = message.encode() if isinstance(message, str) else bytes(message)
    return hashlib.sha256(content).digest()


def number(
    given: dict, name: str, default: Any, low: float, high: float, whole: bool = False
) -> Any:
    """The number called `name` in a message; ValueError unless it is from `low` to `high`."""
    value = given.get(name, default)
    kinds = int if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
        kind = "an integer" if whole else "a number"
        raise ValueError(
            f"{name} must be {kind} from {low} to {high}; received {name}={shown(value)}"
        )
    return value
