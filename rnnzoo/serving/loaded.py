"""An export as it was loaded: its signatures, called with rows of many streams."""

import hashlib
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rnnzoo import _checks
from rnnzoo._checks import shown
from rnnzoo.data.reading import as_array
from rnnzoo.serving import exported


class Steps:
    """Steps of one stream: arrays `(time, ...)` by the names of the inputs.

    Args:
        values: the arrays, of equally many steps.
    """

    def __init__(self, values: dict[str, np.ndarray]):
        self.values = values

    def __len__(self) -> int:
        return len(next(iter(self.values.values())))

    def __getitem__(self, part: slice) -> "Steps":
        return Steps({name: array[part] for name, array in self.values.items()})

    @property
    def shape(self) -> tuple[tuple[int, ...], ...]:
        """The shape of each array: steps of one shape run together."""
        return tuple(array.shape for array in self.values.values())


class Loaded:
    """A SavedModel of rnnzoo and the calls of it, by which no stream moves; see `Served`.

    Attributes:
        inputs: dtype and shape of each input per step, by name, the batch first.
        static: the same of each input per sequence.
        states: the same of what else a step takes: its states, and what stays as it is.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = _checks.path("path", path)
        self.manifest = exported.read_manifest(self.path)
        if self.manifest["written_as"] != "tf_saved_model":
            raise ValueError(
                "path must be an export of format 'tf_saved_model'; received one of format "
                f"{self.manifest['written_as']!r}"
            )
        try:
            import tensorflow as tf
        except ImportError as error:
            raise ImportError(
                "load_served must have TensorFlow; received no such package "
                "(pip install tensorflow-cpu)"
            ) from error
        self._tf = tf
        self.vocabularies = exported.read_vocabularies(self.path, self.manifest)
        self._loaded = exported.load(self.path, self.manifest)
        self.weights = _weights_hash(self._loaded.signatures)
        self.signatures = tuple(sorted(self._loaded.signatures))
        step = exported.step_of(self.manifest)
        self._step, self.inputs, self.static, self.states = step[:4]
        steps = self.manifest["signatures"].get(step.name, {"inputs": ()})
        self._resets = "reset" in steps["inputs"]
        shapes = {name: spec["shape"] for name, spec in step.outputs.items()}
        self.timed = {name: exported.has_time(shape) for name, shape in shapes.items()}
        self.timeless = not any(self.timed.values())
        self.outputs = sum(int(np.prod(s[1 + self.timed[name] :])) for name, s in shapes.items())
        self.writes = (
            "prompt" in self.manifest["signatures"].get("generate", {"inputs": ()})["inputs"]
        )

    def call(self, signature: str = "serving_default", /, **inputs: Any) -> dict[str, np.ndarray]:
        """What a signature gives for `inputs`, as arrays by name.

        Args:
            signature: one of `signatures`.
            inputs: arrays by name, the batch first, as the manifest has them.

        Raises:
            ValueError: another signature; inputs that do not fit it.
        """
        if signature not in self.signatures:
            raise ValueError(
                f"signature must be one of {', '.join(self.signatures)}; "
                f"received {shown(signature)}"
            )
        specs = self.manifest["signatures"][signature]["inputs"]
        if set(specs) != set(inputs):
            raise ValueError(
                f"{signature} takes the inputs {', '.join(specs)}; received {', '.join(inputs)}"
            )
        given = {key: exported.fitting(key, value, specs[key]) for key, value in inputs.items()}
        rows = {len(value) for value in given.values()}
        if len(rows) > 1:
            lengths = {key: len(value) for key, value in given.items()}
            raise ValueError(f"all inputs must have the same batch; received rows {lengths}")
        found = self._loaded.signatures[signature](
            **{key: self._tf.constant(value) for key, value in given.items()}
        )
        return {key: value.numpy() for key, value in found.items()}

    def blank_steps(self, count: int) -> Any:
        """So many steps of zeros, as `Stream.step` takes them."""
        found = {name: _blank((count,), spec, 2) for name, spec in self.inputs.items()}
        return found if self.named else found["inputs"]

    def blank_static(self, count: int) -> dict[str, np.ndarray]:
        """Zeros for the inputs per sequence of so many streams, by name."""
        return {name: _blank((count,), spec, 1) for name, spec in self.static.items()}

    @property
    def named(self) -> bool:
        """Whether steps come as a dict by the names of several inputs."""
        return list(self.inputs) != ["inputs"]

    def numbers_of(self, steps: int) -> int:
        """Numbers that the outputs of so many steps hold."""
        return self.outputs * (1 if self.timeless else steps)

    def advance(
        self,
        states: Sequence[dict[str, np.ndarray]],
        steps: Sequence[Steps],
        keep: Sequence[Callable[[np.ndarray], np.ndarray]] = (),
    ) -> list[tuple[Any, dict[str, np.ndarray]]]:
        """Of each row its outputs, a dict where there are several, and its next state.

        No stream moves.

        Args:
            states: the state of each row, all of the same shapes.
            steps: for each row equally many, as `as_steps` has them.
            keep: for each row what to make of its outputs; a copy where it is left out.
        """
        values = {key: np.stack([one.values[key] for one in steps]) for key in self.inputs}
        values |= {key: np.stack([state[key] for state in states]) for key in self.states}
        if self._resets:
            values["reset"] = np.zeros((len(steps), len(steps[0])), bool)
        found = self.call(self._step, **values)
        takes = keep or [np.array] * len(steps)
        kept = [
            {name: take(found[name][row]) for name in self.timed} for row, take in enumerate(takes)
        ]
        if len(self.timed) == 1:
            kept = [next(iter(outputs.values())) for outputs in kept]
        return list(zip(kept, self._moved(states, found)))

    def write(
        self,
        states: Sequence[dict[str, np.ndarray]],
        last: Sequence[int],
        count: Sequence[int],
        temperature: Sequence[float],
        seed: Sequence[int],
    ) -> list[tuple[np.ndarray, dict[str, np.ndarray]]]:
        """Of each row `count` tokens that the model writes after `last`, and its next state.

        The signature `generate`, whose settings each row has of its own. No stream moves.
        """
        values = {key: np.stack([state[key] for state in states]) for key in self.states}
        values["prompt"] = np.array(last, "int32")[:, None]
        values["prompt_lengths"] = np.ones(len(last), "int32")
        values["max_length"] = np.array(count, "int32")
        found = self.call("generate", temperature=temperature, seed=seed, **values)
        tokens = [row[:length] for row, length in zip(found["tokens"], found["lengths"])]
        return list(zip(tokens, self._moved(states, found)))

    def _moved(self, states: Sequence[dict], found: dict) -> list[dict[str, np.ndarray]]:
        moved = [key for key in self.states if f"{key}_out" in found]
        return [
            {**state, **{key: found[f"{key}_out"][row].copy() for key in moved}}
            for row, state in enumerate(states)
        ]

    def as_steps(self, value: Any) -> tuple[bool, Steps]:
        """Whether `value` is a single step, and it as steps.

        Raises:
            ValueError: what `Stream.step` does not take.
        """
        if self.named and not (isinstance(value, dict) and set(value) == set(self.inputs)):
            got = sorted(map(str, value)) if isinstance(value, dict) else shown(value)
            raise ValueError(
                f"inputs must have the names {', '.join(map(repr, self.inputs))}; received {got}"
            )
        given = value if self.named else {"inputs": value}
        found = [_as_steps(name, given[name], spec) for name, spec in self.inputs.items()]
        kinds = {(single, len(array)) for single, array in found}
        if len(kinds) > 1:
            lengths = {name: len(array) for name, (_, array) in zip(self.inputs, found)}
            raise ValueError(
                f"all inputs must be one step, or equally many steps; received steps {lengths}"
            )
        return found[0][0], Steps({name: array for name, (_, array) in zip(self.inputs, found)})

    def as_static(self, count: int, values: Any) -> list[dict[str, np.ndarray]]:
        """The inputs per sequence of `count` streams, for each by name.

        Raises:
            ValueError: names, numbers or shapes that are not those of the model.
        """
        given = {} if values is None else values
        if not isinstance(given, dict) or set(given) != set(self.static):
            got = sorted(map(str, given)) if isinstance(given, dict) else shown(given)
            raise ValueError(f"static must have the names {list(self.static)}; received {got}")
        found = {k: exported.fitting(k, given[k], spec) for k, spec in self.static.items()}
        for name, array in found.items():
            if len(array) != count:
                raise ValueError(
                    f"static[{name!r}] must have one entry for each of {count} streams; received "
                    f"{len(array)}"
                )
        return [{k: array[row].copy() for k, array in found.items()} for row in range(count)]

    def check_names(self, state: Any) -> None:
        """ValueError unless `state` is a dict with an entry for each state of the model."""
        if not isinstance(state, dict) or set(state) != set(self.states):
            found = sorted(map(str, state)) if isinstance(state, dict) else shown(state)
            raise ValueError(f"state must have the names {list(self.states)}; received {found}")


def _blank(leading: tuple[int, ...], spec: dict, first: int) -> np.ndarray:
    """Zeros of a spec's shape from axis `first` on, 1 where that is open."""
    return np.zeros((*leading, *(size or 1 for size in spec["shape"][first:])), spec["dtype"])


def _as_steps(name: str, value: Any, spec: dict) -> tuple[bool, np.ndarray]:
    """Whether the `value` of an input is a single step, and it as an array of steps."""
    rank = len(spec["shape"]) - 1
    array = as_array(value, name)
    single = array.ndim == rank - 1
    array = array[None] if single else array
    exported.fitting(name, array[None], spec)
    if array.ndim != rank or not len(array):
        raise ValueError(
            f"{name} must be one step of rank {rank - 1} or at least one of rank {rank}; "
            f"received shape {np.shape(value)}"
        )
    return single, array


def _weights_hash(signatures: Any) -> str:
    """SHA-256 over the weights of all `signatures`, in the order of their names."""
    weights = {id(w): w for signature in signatures.values() for w in signature.variables}
    digest = hashlib.sha256()
    for weight in sorted(weights.values(), key=lambda weight: weight.name):
        digest.update(f"{weight.name} {weight.shape} {weight.dtype.name}\n".encode())
        digest.update(np.ascontiguousarray(weight.numpy()).tobytes())
    return digest.hexdigest()
