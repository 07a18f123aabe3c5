"""A SavedModel of rnnzoo in use: streams with a state of their own over one loaded copy."""

import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from rnnzoo import _checks
from rnnzoo.data.reading import as_array
from rnnzoo.serving import exported
from rnnzoo.serving.loaded import Loaded


class Stream:
    """One sequence on its way through a served model, with a state of its own.

    Made by `Served.new_stream`. A stream is an ordinary object: forget it and it is gone.

    Attributes:
        served: the model.
        state: arrays by name, without batch: what the next step goes on from.
        steps: steps that it has made.
    """

    def __init__(self, served: "Served", state: dict[str, np.ndarray]):
        _checks.instance("served", served, Served, "what rnnzoo.load_served returned")
        _checks.instance("state", state, dict, "a dict of arrays by name")
        served.check_names(state)
        self.served = served
        self.state, self.steps = dict(state), 0

    def step(self, inputs: Any) -> Any:
        """The outputs of the next step or steps.

        Args:
            inputs: one step, `(features,)` or a token, or several, `(time, features)` or
                `(time,)` tokens; of a model with several inputs per step a dict of these by name.

        Returns:
            `(outputs,)` for one step, `(time, outputs)` for several; of many-to-one models
            always `(outputs,)`. A dict by name where the model has several outputs.

        Raises:
            ValueError: inputs of another shape or type.
        """
        return self.served.step([self], [inputs])[0]


class Served(Loaded):
    """A SavedModel that `rnnzoo.export` wrote, loaded once and used by any number of streams.

    It needs TensorFlow, and nothing of the model's own code. All methods may be called from
    several threads; one stream must be stepped by one thread at a time.

    Load only exports that you trust, as you would run only programs that you trust: the graph
    of a SavedModel can read and write files.

    Attributes:
        path: the folder.
        manifest: what `assets.extra/rnnzoo.json` says.
        weights: SHA-256 of the weights that were loaded, as a hexadecimal text.
        inputs: dtype and shape of each input per step, by name, the batch first.
        static: the same of each input per sequence.
        outputs: numbers that one step gives.
        timeless: whether many steps have one answer, as in many-to-one models.
        signatures: names of the signatures, for `call`.
        vocabularies: those of its sides, "prompt", or "source" and "target", where it has them.
    """

    _start: dict[str, np.ndarray] | None = None

    def new_stream(
        self,
        source: Any = None,
        state: dict[str, Any] | None = None,
        static: dict[str, Any] | None = None,
    ) -> Stream:
        """A stream at the start of a sequence.

        Args:
            source: of an encoder-decoder, and there needed: `(time, features)` or tokens
                `(time,)`, what the target is written for; of one with several inputs a dict of
                these by name.
            state: where to go on from instead, as `Stream.state` was: it holds what is static.
            static: the inputs per sequence by name, of a model that has such: a row or token each.

        Raises:
            ValueError: a source or static input that is missing, not wanted or does not fit;
                another state.
        """
        if isinstance(static, dict):
            static = {
                name: as_array(value, f"static[{name!r}]")[None] for name, value in static.items()
            }
        return self.new_streams(1, None if source is None else [source], state, static)[0]

    def new_streams(
        self,
        count: int,
        sources: Sequence | None = None,
        state: dict[str, Any] | None = None,
        static: dict[str, Any] | None = None,
    ) -> list[Stream]:
        """`count` streams, as `new_stream` makes one.

        `sources` has one source for each, and each array of `static` one row.
        """
        _checks.integer("count", count, 0)
        if state is not None:
            if static is not None:
                raise ValueError(
                    "static must not be given with a state, which holds it; received "
                    f"static={_checks.shown(static)}"
                )
            return [Stream(self, self._checked(state)) for _ in range(count)]
        if ("encode" in self.signatures) != (sources is not None):
            raise ValueError(
                "source must be given for an encoder-decoder, and only there; "
                f"received {'none' if sources is None else 'one'} for a model of "
                f"{self.manifest['form']}"
            )
        if "initial_state" not in self.signatures and sources is None:
            raise ValueError(
                "streams are of models that go on from a state; received one of whole sequences, "
                f"which has the signatures {', '.join(self.signatures)} for call"
            )
        still = self.as_static(count, static)
        if sources is not None:
            sources = _checks.items("sources", sources, "sources, one for each stream")
            if len(sources) != count:
                raise ValueError(
                    f"sources must have one entry for each of {count} streams; received "
                    f"{len(sources)}"
                )
            return [Stream(self, self._encoded(*pair)) for pair in zip(sources, still)]
        if self._start is None:  # the same for all, and asked for by a service's event loop
            self._start = self.call("initial_state", like=np.zeros(1, "int32"))
        return [Stream(self, _row(self._start, 0) | still[row]) for row in range(count)]

    def step(self, streams: Iterable[Stream], inputs: Iterable[Any]) -> list[Any]:
        """The outputs of the next step or steps of every stream, as `Stream.step` has them.

        Streams that take equally many steps run together in one call.

        Args:
            streams: different streams of this model.
            inputs: for each what `Stream.step` takes.

        Raises:
            ValueError: inputs that do not fit; a stream that comes twice or is of another
                model. No stream has moved then.
        """
        streams = _checks.items("streams", streams, "streams")
        inputs = _checks.items("inputs", inputs, "inputs, one for each stream")
        self._check_streams(streams, inputs)
        singles, batches = zip(*map(self.as_steps, inputs)) if inputs else ((), ())
        groups: dict[tuple, list[int]] = {}
        for i, stream in enumerate(streams):
            shapes = tuple(value.shape for value in stream.state.values())
            groups.setdefault((batches[i].shape, shapes), []).append(i)
        results: list = [None] * len(streams)
        for rows in groups.values():
            found = self.advance([streams[i].state for i in rows], [batches[i] for i in rows])
            for i, result in zip(rows, found):
                results[i] = result
        for stream, batch, (_, state) in zip(streams, batches, results):
            stream.state, stream.steps = state, stream.steps + len(batch)
        return [self._shown(outputs, one) for (outputs, _), one in zip(results, singles)]

    def _shown(self, outputs: Any, single: bool) -> Any:
        """The outputs of a stream; of a `single` step without the axis of steps."""
        if isinstance(outputs, dict):
            return {k: y[0] if single and self.timed[k] else y for k, y in outputs.items()}
        return outputs[0] if single and not self.timeless else outputs

    def check(self, inputs: Any) -> None:
        """ValueError unless `inputs` are what `Stream.step` takes."""
        self.as_steps(inputs)

    def check_stream(self, stream: Stream) -> None:
        """ValueError unless `stream` is one of this model, with a state that fits it."""
        if not isinstance(stream, Stream) or stream.served is not self:
            raise ValueError("streams must be of this model; received another's")
        self.check_names(stream.state)
        for name, spec in self.states.items():
            exported.fitting(name, np.asarray(stream.state[name])[None], spec)

    def _check_streams(self, streams: list, inputs: list) -> None:
        if len(inputs) != len(streams):
            raise ValueError(
                f"inputs must have one entry for each of the {len(streams)} streams; "
                f"received {len(inputs)}"
            )
        if len({id(stream) for stream in streams}) < len(streams):
            raise ValueError("every stream must come once in a call; received one twice")
        for stream in streams:
            self.check_stream(stream)

    def _encoded(self, source: Any, still: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The state that a source leaves to the decoder, and beside it what is `still`."""
        names = set(self.manifest["signatures"]["encode"]["inputs"])
        names -= {"source_lengths", *still}
        given = {"source": source} if names == {"source"} else source
        if not isinstance(given, dict) or set(given) != names:
            got = sorted(map(str, given)) if isinstance(given, dict) else _checks.shown(given)
            raise ValueError(f"source must have the names {sorted(names)}; received {got}")
        given = {name: as_array(value, name)[None] for name, value in given.items()}
        for name, value in given.items():
            if value.ndim < 2 or not value.shape[1]:
                raise ValueError(
                    f"{name} must have at least one step; received shape {value.shape[1:]}"
                )
        steps = {value.shape[1] for value in given.values()}
        if len(steps) > 1:
            raise ValueError(
                f"all inputs of a source must have its steps; received {sorted(steps)} steps"
            )
        given |= {name: value[None] for name, value in still.items()}
        lengths = np.array([steps.pop()], "int32")
        return _row(self.call("encode", source_lengths=lengths, **given), 0) | still

    def _checked(self, state: dict[str, Any]) -> dict[str, np.ndarray]:
        self.check_names(state)
        return {
            k: exported.fitting(k, np.asarray(state[k])[None], spec)[0].copy()
            for k, spec in self.states.items()
        }


def load_served(path: str | os.PathLike) -> Served:
    """The SavedModel at `path`, ready for streams and calls.

    Args:
        path: a folder that `rnnzoo.export` wrote, `<name>/<version>`, and that you trust: a
            graph of TensorFlow can read and write files.

    Raises:
        ValueError: a folder that is no export of rnnzoo, or of another format; one that is
            damaged, or whose files are not those that its manifest tells of.
        ImportError: TensorFlow is not installed.
    """
    return Served(path)


def _row(values: dict[str, np.ndarray], row: int) -> dict[str, np.ndarray]:
    """One row of each array, as a copy that does not hold the batch."""
    return {key: value[row].copy() for key, value in values.items()}
