"""A SavedModel of rnnzoo in use: streams with a state of their own over one loaded copy."""

import os
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from rnnzoo._checks import shown
from rnnzoo.data.reading import as_array
from rnnzoo.serving import reading


class Stream:
    """One sequence on its way through a served model, with a state of its own.

    Made by `Served.new_stream`. A stream is an ordinary object: forget it and it is gone.

    Attributes:
        served: the model.
        state: arrays by name, without batch: what the next step goes on from.
        steps: steps that it has made.
    """

    def __init__(self, served: "Served", state: dict[str, np.ndarray]):
        self.served = served
        self.state, self.steps = dict(state), 0

    def step(self, inputs: Any) -> np.ndarray:
        """The outputs of the next step or steps.

        Args:
            inputs: one step, `(features,)` or a token, or several, `(time, features)` or
                `(time,)` tokens.

        Returns:
            `(outputs,)` for one step, `(time, outputs)` for several; of many-to-one models
            always `(outputs,)`.

        Raises:
            ValueError: inputs of another shape or type.
        """
        return self.served.step([self], [inputs])[0]


class Served:
    """A SavedModel that `rnnzoo.export` wrote, loaded once and used by any number of streams.

    It needs TensorFlow, and nothing of the model's own code. All methods may be called from
    several threads; one stream must be stepped by one thread at a time.

    Attributes:
        path: the folder.
        manifest: what `assets.extra/rnnzoo.json` says.
        signatures: names of the signatures, for `call`.
        vocabularies: those of its sides, "prompt", or "source" and "target", where it has them.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = pathlib.Path(path)
        self.manifest = reading.read_manifest(self.path)
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
        self.vocabularies = reading.read_vocabularies(self.path, self.manifest)
        self._loaded = tf.saved_model.load(str(self.path))
        reading.check_signatures(self.path, self.manifest, self._loaded.signatures)
        self.signatures = tuple(sorted(self._loaded.signatures))
        self._step = "decode_step" if "decode_step" in self.signatures else "step"
        specs = self.manifest["signatures"][self._step]
        self._spec = specs["inputs"]["inputs"]
        self._timeless = len(specs["outputs"]["outputs"]["shape"]) == 2

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
        given = {key: reading.fitting(key, value, specs[key]) for key, value in inputs.items()}
        rows = {len(value) for value in given.values()}
        if len(rows) > 1:
            lengths = {key: len(value) for key, value in given.items()}
            raise ValueError(f"all inputs must have the same batch; received rows {lengths}")
        found = self._loaded.signatures[signature](
            **{key: self._tf.constant(value) for key, value in given.items()}
        )
        return {key: value.numpy() for key, value in found.items()}

    def new_stream(self, source: Any = None, state: dict[str, Any] | None = None) -> Stream:
        """A stream at the start of a sequence.

        Args:
            source: of an encoder-decoder, and there needed: `(time, features)` or tokens
                `(time,)`, what the target is written for.
            state: where to go on from instead, as `Stream.state` was.

        Raises:
            ValueError: a source that is missing, not wanted or does not fit; another state.
        """
        return self.new_streams(1, None if source is None else [source], state)[0]

    def new_streams(
        self, count: int, sources: Sequence | None = None, state: dict[str, Any] | None = None
    ) -> list[Stream]:
        """`count` streams, as `new_stream` makes one; `sources` has one source for each."""
        if state is not None:
            return [Stream(self, self._checked(state)) for _ in range(count)]
        if (self.manifest["form"] == "encoder_decoder") != (sources is not None):
            raise ValueError(
                "source must be given for an encoder-decoder, and only there; "
                f"received {'none' if sources is None else 'one'} for a model of "
                f"{self.manifest['form']}"
            )
        if sources is not None:
            return [Stream(self, self._encoded(source)) for source in sources]
        states = self.call("initial_state", like=np.zeros(count, "int32"))
        return [Stream(self, _row(states, row)) for row in range(count)]

    def step(self, streams: Iterable[Stream], inputs: Iterable[Any]) -> list[np.ndarray]:
        """The outputs of the next step or steps of every stream, as `Stream.step` has them.

        Streams that take equally many steps run together in one call.

        Args:
            streams: different streams of this model.
            inputs: for each what `Stream.step` takes.

        Raises:
            ValueError: inputs that do not fit; a stream that comes twice or is of another
                model. No stream has moved then.
        """
        streams, inputs = list(streams), list(inputs)
        self._check_streams(streams, inputs)
        singles, batches = zip(*map(self._steps_of, inputs)) if inputs else ((), ())
        groups: dict[tuple, list[int]] = {}
        for i, stream in enumerate(streams):
            shapes = tuple(value.shape for value in stream.state.values())
            groups.setdefault((batches[i].shape, shapes), []).append(i)
        results: list = [None] * len(streams)
        for rows in groups.values():
            found = self._run([streams[i] for i in rows], [batches[i] for i in rows])
            for place, i in enumerate(rows):
                results[i] = _row(found, place)
        for i, stream in enumerate(streams):
            moved = {k.removesuffix("_out"): v for k, v in results[i].items() if k[-4:] == "_out"}
            stream.state = {**stream.state, **moved}
            stream.steps += len(batches[i])
        single = [one and not self._timeless for one in singles]
        return [r["outputs"][0] if one else r["outputs"] for r, one in zip(results, single)]

    def check(self, inputs: Any) -> None:
        """ValueError unless `inputs` are what `Stream.step` takes."""
        self._steps_of(inputs)

    def _run(self, streams: list, batches: list) -> dict:
        values = {"inputs": np.stack(batches)}
        values |= {key: np.stack([s.state[key] for s in streams]) for key in streams[0].state}
        if self._step == "step":
            values["reset"] = np.zeros(values["inputs"].shape[:2], bool)
        return self.call(self._step, **values)

    def _steps_of(self, value: Any) -> tuple[bool, np.ndarray]:
        """Whether `value` is a single step, and it as an array of steps."""
        rank = len(self._spec["shape"]) - 1
        array = as_array(value, "inputs")
        single = array.ndim == rank - 1
        array = array[None] if single else array
        reading.fitting("inputs", array[None], self._spec)
        if array.ndim != rank or not len(array):
            raise ValueError(
                f"inputs must be one step of rank {rank - 1} or at least one of rank {rank}; "
                f"received shape {np.shape(value)}"
            )
        return single, array

    def _check_streams(self, streams: list, inputs: list) -> None:
        if len(inputs) != len(streams):
            raise ValueError(
                f"inputs must have one entry for each of the {len(streams)} streams; "
                f"received {len(inputs)}"
            )
        if len({id(stream) for stream in streams}) < len(streams):
            raise ValueError("every stream must come once in a call; received one twice")
        if any(stream.served is not self for stream in streams):
            raise ValueError("streams must be of this model; received another's")

    def _encoded(self, source: Any) -> dict[str, np.ndarray]:
        source = np.asarray(source)[None]
        if source.ndim < 2 or not source.shape[1]:
            raise ValueError(
                f"source must have at least one step; received shape {source.shape[1:]}"
            )
        lengths = np.array([source.shape[1]], "int32")
        return _row(self.call("encode", source=source, source_lengths=lengths), 0)

    def _checked(self, state: dict[str, Any]) -> dict[str, np.ndarray]:
        specs = self.manifest["signatures"][self._step]["inputs"]
        names = [key for key in specs if key not in ("inputs", "reset")]
        if set(state) != set(names):
            raise ValueError(f"state must have the names {names}; received {sorted(state)}")
        return {
            k: reading.fitting(k, np.asarray(state[k])[None], specs[k])[0].copy() for k in names
        }


def load_served(path: str | os.PathLike) -> Served:
    """The SavedModel at `path`, ready for streams and calls.

    Args:
        path: a folder that `rnnzoo.export` wrote, `<name>/<version>`.

    Raises:
        ValueError: a folder that is no export of rnnzoo, or of another format.
        ImportError: TensorFlow is not installed.
    """
    return Served(path)


def _row(values: dict[str, np.ndarray], row: int) -> dict[str, np.ndarray]:
    """One row of each array, as a copy that does not hold the batch."""
    return {key: value[row].copy() for key, value in values.items()}
