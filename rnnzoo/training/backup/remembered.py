"""What callbacks remember from batch to batch, as a backup keeps it."""

import contextlib
import json
import pathlib
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from rnnzoo import _checks

# What `CallbackList` adds of its own: a backup keeps the history beside them.
_OF_THE_LIST = (keras.callbacks.History, keras.callbacks.ProgbarLogger)
# What every callback has, and no callback remembers.
_OF_ALL = ("params", "_model")
# What callbacks of Keras with a `monitor_op` change once, when they set that.
_SET_ANEW = ("min_delta",)
# What a callback may hold that does not change, or is not its own.
_TOOLS = (type, pathlib.PurePath, keras.Model, keras.layers.Layer, keras.Variable)


class Unkept(ValueError):
    """A value that no backup can keep."""


class Remembered:
    """The plain state of the callbacks of a run: all that training changes in them.

    Kept is what differs from when training began; the settings of a callback are those of the
    script that goes on. A callback that says `kept_in_backup = ("name", ...)` is taken at its
    word.

    Args:
        callbacks: those of the run.

    Raises:
        ValueError: a user's callback with an attribute that cannot be kept.
    """

    def __init__(self, callbacks: list):
        self.callbacks = [c for c in callbacks if not isinstance(c, _OF_THE_LIST)]
        self.begun: list[dict] = [{} for _ in self.callbacks]
        self._check()

    def begin(self) -> None:
        """Take notice of how the callbacks are when training begins."""
        self._check()
        self.begun = [_state_of(callback) for callback in self.callbacks]

    def take(self, arrays: dict[str, np.ndarray]) -> list[dict]:
        """What each callback remembers, for JSON; arrays in it are put into `arrays`."""
        found = []
        for place, (callback, begun) in enumerate(zip(self.callbacks, self.begun)):
            state = {
                name: value
                for name, value in _state_of(callback).items()
                if name not in begun or not _equal(value, begun[name])
            }
            packed = {k: pack(v, f"callbacks/{place}/{k}", arrays) for k, v in state.items()}
            found.append({"class": type(callback).__name__, "state": packed})
        return found

    def put(self, kept: list[dict], arrays: dict[str, np.ndarray]) -> None:
        """Set the callbacks to what `take` gave, those that are there still."""
        for callback, begun, one in zip(self.callbacks, self.begun, kept):
            if one.get("class") != type(callback).__name__:
                continue  # it was not there when the backup was made
            state = {name: unpack(value, arrays) for name, value in one["state"].items()}
            back = {k: v for k, v in begun.items() if _is_plain(getattr(callback, k, None))}
            for name, value in {**back, **state}.items():
                setattr(callback, name, _copied(value))

    def _check(self) -> None:
        for callback in self.callbacks:
            names = getattr(callback, "kept_in_backup", None)
            if names is not None or type(callback).__module__.split(".")[0] == "keras":
                continue
            for name, value in vars(callback).items():
                tool = callable(value) or isinstance(value, _TOOLS)
                if name not in _OF_ALL and not tool and not _is_plain(value):
                    kind = type(callback).__name__
                    raise ValueError(
                        "callbacks beside BackupAndResume must remember numbers, texts, None, "
                        "arrays, or lists and dicts of them, which a backup can keep; received "
                        f"{kind}.{name}={_checks.shown(value)}. Say what is to be kept in the "
                        f'class, kept_in_backup = ("name", ...), or () for nothing.'
                    )


@contextlib.contextmanager
def files_kept(callbacks: list, epoch: int | None) -> Iterator[None]:
    """Inside, each `CSVLogger` that begins goes on with its file, and not with an empty one.

    Its lines of `epoch`, in which the run goes on, and of later ones are to be written again.
    An `epoch` of None is a run from the start.
    """
    loggers = [one for one in callbacks if isinstance(one, keras.callbacks.CSVLogger)]
    before = [one.append for one in loggers]
    for one in loggers if epoch is not None else ():
        one.append, path = True, pathlib.Path(one.filename)
        lines = path.read_bytes().splitlines(keepends=True) if path.is_file() else []
        kept, end = list(lines), one.sep.encode()
        while kept and (first := kept[-1].split(end)[0]).isdigit() and int(first) >= epoch:
            kept.pop()
        if kept != lines:
            path.write_bytes(b"".join(kept))
    try:
        yield
    finally:
        for one, append in zip(loggers, before):
            one.append = append


def pack(value: Any, name: str, arrays: dict[str, np.ndarray]) -> Any:
    """`value` as JSON has it; its arrays go into `arrays`, under `name` and their place in it.

    Raises:
        Unkept: what is neither plain nor an array of numbers.
    """
    if isinstance(value, np.generic) and value.dtype.kind in "iufbU":
        value = value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [pack(one, f"{name}/{i}", arrays) for i, one in enumerate(value)]}
    if isinstance(value, dict) and all(isinstance(key, (str, int)) for key in value):
        items = [[key, pack(one, f"{name}/{key}", arrays)] for key, one in value.items()]
        return {"dict": items}
    if isinstance(value, np.ndarray) or keras.ops.is_tensor(value):
        array = np.array(keras.ops.convert_to_numpy(value))
        if array.dtype.kind in "iufb" and array.ndim == 0:
            return array.item()
        if array.dtype.kind in "iufb":
            arrays[name] = array
            return {"array": name}
    raise Unkept(f"{name} must be plain; received {_checks.shown(value)}")


def unpack(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    """What `pack` packed."""
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "array":
        return arrays[content]
    if kind == "dict":
        return {key: unpack(one, arrays) for key, one in content}
    return {"list": list, "tuple": tuple}[kind](unpack(one, arrays) for one in content)


def _state_of(callback: Any) -> dict[str, Any]:
    """Copies of the plain attributes of a callback, or of those that it names."""
    names = getattr(callback, "kept_in_backup", None)
    if names is not None:
        return {name: _copied(getattr(callback, name)) for name in names}
    return {
        name: _copied(value)
        for name, value in vars(callback).items()
        if not (name in _OF_ALL or (name in _SET_ANEW and hasattr(callback, "monitor_op")))
        and not isinstance(value, _TOOLS)
        and _is_plain(value)
    }


def _copied(value: Any) -> Any:
    arrays: dict[str, np.ndarray] = {}
    return unpack(pack(value, "", arrays), arrays)


def _is_plain(value: Any) -> bool:
    try:
        pack(value, "", {})
    except (Unkept, RecursionError):
        return False
    return True


def _equal(one: Any, other: Any) -> bool:
    found: list[dict] = [{}, {}]
    texts = [json.dumps(pack(v, "", into)) for v, into in zip((one, other), found)]
    first, second = found
    return texts[0] == texts[1] and all(
        first[k].dtype == second[k].dtype and np.array_equal(first[k], second[k]) for k in first
    )
