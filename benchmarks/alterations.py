"""Alterations of files: bytes, JSON values, entries of a zip file; and what a watch must see."""

import io
import json
import zipfile
from typing import Any

import numpy as np

# Where loaded, this module tells that code of a file was run.
CANARY = "benchmarks_canary"
_CODE = "4wAAAAAAAAAAAAAAAAEAAAADAAAA8w4AAACXAGQAZAFsAFoAZAFTAA=="
PLANTED = [
    {"class_name": "system", "config": "id", "module": "os", "registered_name": None},
    {"class_name": "function", "config": "system", "module": "os", "registered_name": "system"},
    {"class_name": "function", "config": "run", "module": CANARY, "registered_name": "run"},
    {"class_name": "Run", "config": {}, "module": CANARY, "registered_name": f"{CANARY}>Run"},
    {"class_name": "__lambda__", "config": {"value": [_CODE, None, None]}},
    {
        "class_name": "Lambda",
        "config": {"name": "a", "function": {"class_name": "__lambda__", "config": {}}},
        "module": "keras.layers",
        "registered_name": None,
    },
    {"class_name": "load_model", "config": {}, "module": "keras.models", "registered_name": None},
]
_VALUES = [None, True, False, 0, -1, 3, 10**30, -1.5, 1e308, float("nan"), float("inf"), "", "x"]
_VALUES += [[], {}, [[[]]], [None], {"": 0}, "x" * 5000, CANARY, "../secret.json", "/etc/passwd"]
_VALUES += ["float16", "bfloat16", "complex64", "object", "|O8", *PLANTED]


def of_bytes(content: bytes, rng: np.random.Generator) -> bytes:
    """`content` with bytes altered, cut out, put in or cut off."""
    data = bytearray(content)
    place = int(rng.integers(len(data) + 1))
    end = min(len(data), place + int(rng.integers(1, 65)))
    kind = rng.integers(5)
    if kind == 0:
        for at in rng.integers(len(data), size=rng.integers(1, 9)) if data else ():
            data[at] ^= 1 << int(rng.integers(8))
    elif kind == 1:
        del data[place:]
    elif kind == 2:
        del data[place:end]
    elif kind == 3:
        data[place:place] = rng.bytes(end - place)
    else:
        data[place:end] = bytes(end - place)
    return bytes(data)


def of_json(content: bytes, rng: np.random.Generator) -> bytes:
    """`content` with up to three of its values removed, replaced or renamed."""
    tree = [json.loads(content)]
    for _ in range(rng.integers(1, 4)):
        holders = list(_holders(tree))
        holder, key = holders[rng.integers(len(holders))]
        kind = rng.integers(4)
        if kind == 0 and holder is not tree:
            del holder[key]
        elif kind == 1 and isinstance(holder, dict):
            holder[str(_any(rng, ["name", "config", "class_name", "x"]))] = holder.pop(key)
        elif kind == 2:
            other, at = holders[rng.integers(len(holders))]
            holder[key] = json.loads(json.dumps(other[at]))
        else:
            holder[key] = json.loads(json.dumps(_any(rng, _VALUES)))
    return json.dumps(tree[0]).encode()


def of_zip(content: bytes, rng: np.random.Generator) -> bytes:
    """`content` with one of its entries altered and all checksums of the zip file right."""
    with zipfile.ZipFile(io.BytesIO(content)) as entries:
        parts = {name: entries.read(name) for name in entries.namelist()}
    name = _any(rng, list(parts))
    alter = of_json if name.endswith(".json") and rng.random() < 0.8 else of_bytes
    return _zipped({**parts, name: alter(parts[name], rng)})


def with_json(content: bytes, name: str, path: list[str], value: Any) -> bytes:
    """The zip file `content` with `value` at `path` in its JSON entry `name`."""
    with zipfile.ZipFile(io.BytesIO(content)) as entries:
        parts = {entry.filename: entries.read(entry) for entry in entries.infolist()}
    tree = holder = json.loads(parts[name])
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = value
    return _zipped({**parts, name: json.dumps(tree).encode()})


def _zipped(parts: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as entries:
        for name, part in parts.items():
            entries.writestr(name, part)
    return made.getvalue()


def _holders(value: Any) -> Any:
    """Each place in a tree of lists and dicts, as `(holder, key)`."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in list(pairs):
        yield value, key
        if isinstance(inner, (dict, list)):
            yield from _holders(inner)


def _any(rng: np.random.Generator, values: list) -> Any:
    return values[rng.integers(len(values))]
