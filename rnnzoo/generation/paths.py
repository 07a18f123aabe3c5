"""Paths of numbers: steps to come, each fed what was said of the one before it; traced."""

from typing import Any, NamedTuple

import keras
from keras import ops

from rnnzoo.backend import Buffer
from rnnzoo.core.spec import CoreSpec
from rnnzoo.decoding.random import RowSeeds, words_of_paths
from rnnzoo.decoding.stepper import shaped_like
from rnnzoo.heads.head import Head
from rnnzoo.heads.loss import full_precision
from rnnzoo.layers.recurrent import Tensor


class Feed(NamedTuple):
    """How a model is fed what it said.

    Attributes:
        name: the input that is fed.
        head: what is said; `Linear` for plain numbers.
        others: the other inputs per step, whose values to come must be known.
        still: the inputs per sequence.
    """

    name: str
    head: Head
    others: list[str]
    still: list[str]


class Paths:
    """The loop over the steps to come: all paths of all rows side by side.

    Args:
        core: Functional model, which is run step by step.
        spec: its contract; the first of its outputs is what is said.
        how: how it is fed.
        room: steps of the result, an int or int32 scalar; those that are not run are 0.
        samples: paths drawn for each row, an int or int32 scalar; None feeds the means.
        given: `said` `(rows, parameters)`, what the model says of the first step; `state`, what
            the steps before it left; `still` and `planned`, the other inputs by name, of each
            step but the first; `steps`, how many are run; with samples `seeds` `(rows, 2)`
            int32, the words that a row's paths are drawn by.
    """

    def __init__(
        self, core: keras.Model, spec: CoreSpec, how: Feed, room: Any, samples: Any, given: dict
    ):
        self.core, self.spec, self.how, self.room = core, spec, how, room
        self.samples = samples
        self.steps, self.planned = given["steps"], given["planned"]
        self.still = {key: self._repeated(value) for key, value in given["still"].items()}
        self.dtype = full_precision(keras.backend.standardize_dtype(given["said"].dtype))
        self.said = ops.cast(self._repeated(given["said"]), self.dtype)
        self.state = {key: self._repeated(value) for key, value in given["state"].items()}
        self.words = None if samples is None else words_of_paths(given["seeds"], samples)
        sizes = {"values": how.head.outputs}
        sizes |= {"parameters": self.said.shape[-1]} if samples is None else {}
        rows = ops.shape(self.said)[0]
        self.kept = {name: Buffer(room, (rows, size), self.dtype) for name, size in sizes.items()}

    def run(self) -> dict[str, Tensor]:
        """`values` `(rows, [samples,] room, size)`; where nothing is drawn, `parameters` too."""
        first = ops.convert_to_tensor(0, "int32")
        carry = {
            "state": self.state,
            "content": {name: buffer.empty() for name, buffer in self.kept.items()},
            **self._put(first, self.said, {n: b.empty() for n, b in self.kept.items()}),
        }
        _, carry = ops.while_loop(
            lambda index, _: index < self.steps, self._turn, (first + 1, carry)
        )
        found = {
            name: ops.swapaxes(buffer.stacked(carry["content"][name]), 0, 1)
            for name, buffer in self.kept.items()
        }
        if self.samples is not None:
            shape = (-1, self.samples, self.room, self.how.head.outputs)
            found["values"] = ops.reshape(found["values"], shape)
        return found

    def _repeated(self, value: Tensor) -> Tensor:
        """`value` for each path of its rows."""
        return value if self.samples is None else ops.repeat(value, self.samples, axis=0)

    def _turn(self, index: Tensor, carry: dict) -> tuple:
        spec, value = self.spec, carry["value"][:, None]
        others = {name: ops.take(x, index - 1, axis=1) for name, x in self.planned.items()}
        others = {name: self._repeated(x)[:, None] for name, x in others.items()}
        given = {self.how.name: value, **others, **self.still, **carry["state"]}
        if spec.reset:
            given[spec.reset] = ops.zeros_like(value[..., 0], dtype="bool")
        if spec.mask:
            given[spec.mask] = ops.ones_like(value[..., 0], dtype="bool")
        outputs, state = spec.split(self.core(given, training=False))
        said = ops.cast(next(iter(outputs.values()))[:, 0], self.dtype)
        new = {"state": state, **self._put(index, said, carry["content"])}
        return index + 1, shaped_like(new, carry)

    def _put(self, index: Tensor, said: Tensor, content: dict) -> dict:
        """What step `index` of the forecast is, kept."""
        head = self.how.head
        if self.samples is not None:
            value = head.sample(said, RowSeeds(self.words, index))
        else:
            value = head.point(said)
        value = ops.reshape(ops.cast(value, self.dtype), (-1, head.outputs))
        put = {"values": value, "parameters": said}
        content = {name: b.put(content[name], index, put[name]) for name, b in self.kept.items()}
        return {"value": value, "content": content}
