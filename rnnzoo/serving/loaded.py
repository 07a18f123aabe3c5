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


class Loaded:
    """A SavedModel of rnnzoo and the calls of it, by which no stream moves; see `Served`.

    Attributes:
        states: dtype and shape of each state that a step takes, by name, the batch first.
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
        self._step = "decode_step" if "decode_step" in self.signatures else "step"
        specs = self.manifest["signatures"][self._step]
        self._spec = specs["inputs"]["inputs"]
        self.states = {k: v for k, v in specs["inputs"].items() if k not in ("inputs", "reset")}
        shape = specs["outputs"]["outputs"]["shape"]
        self.timeless = len(shape) == 2
        self.outputs = int(np.prod(shape[1 if self.timeless else 2 :]))

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

    def blank_steps(self, count: int) -> np.ndarray:
        """So many steps of zeros, of the model's shape."""
        return np.zeros((count, *self._spec["shape"][2:]), self._spec["dtype"])

    def numbers_of(self, steps: int) -> int:
        """Numbers that the outputs of so many steps hold."""
        return self.outputs * (1 if self.timeless else steps)

    def advance(
        self,
        states: Sequence[dict[str, np.ndarray]],
        steps: Sequence[np.ndarray],
        keep: Sequence[Callable[[np.ndarray], np.ndarray]] = (),
    ) -> list[tuple[np.ndarray, dict[str, np.ndarray]]]:
        """Of each row its outputs and its next state; no stream moves.

        Args:
            states: the state of each row, all of the same shapes.
            steps: for each row equally many, as `as_steps` has them.
            keep: for each row what to make of its outputs; a copy where it is left out.
        """
        values = {"inputs": np.stack(steps)}
        values |= {key: np.stack([state[key] for state in states]) for key in self.states}
        if self._step == "step":
            values["reset"] = np.zeros(values["inputs"].shape[:2], bool)
        found = self.call(self._step, **values)
        outputs = found["outputs"]
        kept = [take(one) for take, one in zip(keep or [np.array] * len(outputs), outputs)]
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

    def as_steps(self, value: Any) -> tuple[bool, np.ndarray]:
        """Whether `value` is a single step, and it as an array of steps.

        Raises:
            ValueError: what `Stream.step` does not take.
        """
        rank = len(self._spec["shape"]) - 1
        array = as_array(value, "inputs")
        single = array.ndim == rank - 1
        array = array[None] if single else array
        exported.fitting("inputs", array[None], self._spec)
        if array.ndim != rank or not len(array):
            raise ValueError(
                f"inputs must be one step of rank {rank - 1} or at least one of rank {rank}; "
                f"received shape {np.shape(value)}"
            )
        return single, array

    def check_names(self, state: Any) -> None:
        """ValueError unless `state` is a dict with an entry for each state of the model."""
        if not isinstance(state, dict) or set(state) != set(self.states):
            found = sorted(map(str, state)) if isinstance(state, dict) else shown(state)
            raise ValueError(f"state must have the names {list(self.states)}; received {found}")


def _weights_hash(signatures: Any) -> str:
    """SHA-256 over the weights of all `signatures`, in the order of their names."""
    weights = {id(w): w for signature in signatures.values() for w in signature.variables}
    digest = hashlib.sha256()
    for weight in sorted(weights.values(), key=lambda weight: weight.name):
        digest.update(f"{weight.name} {weight.shape} {weight.dtype.name}\n".encode())
        digest.update(np.ascontiguousarray(weight.numpy()).tobytes())
    return digest.hexdigest()
