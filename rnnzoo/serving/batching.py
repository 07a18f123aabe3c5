"""Steps of many streams gathered into few calls, for an asynchronous service."""

import asyncio
from typing import Any, NamedTuple

import numpy as np

from rnnzoo._checks import positive_integer, shown
from rnnzoo.serving.client import Served, Stream


class Overloaded(RuntimeError):
    """More steps wait than a `Batcher` takes."""


class _Waiting(NamedTuple):
    stream: Stream
    inputs: np.ndarray
    answer: asyncio.Future


class Batcher:
    """Steps of concurrent callers, run together: `await batcher.step(stream, inputs)`.

    A call is made as soon as the one before it has ended, at the earliest `delay` after the
    first of its steps came. Calls run in a thread, so that the event loop stays free. The steps
    of one stream keep their order: one that comes while another is under way waits for the
    next call. Inputs are checked as they come: nobody pays for the mistake of another.

    Args:
        served: what `rnnzoo.load_served` returned.
        delay: seconds that a step waits for others where no call is running, at least 0.
            Steps that come during a call are gathered in any case.
        max_batch: steps in one call at most.
        max_waiting: steps that wait at most; beyond it `Overloaded` is raised.

    Raises:
        ValueError: a number out of its range.
    """

    def __init__(
        self, served: Served, delay: float = 0.0, max_batch: int = 256, max_waiting: int = 4096
    ):
        if not isinstance(delay, (int, float)) or isinstance(delay, bool) or not delay >= 0:
            raise ValueError(f"delay must be seconds, at least 0; received delay={shown(delay)}")
        self.served, self.delay = served, delay
        self.max_batch = positive_integer("max_batch", max_batch)
        self.max_waiting = positive_integer("max_waiting", max_waiting)
        self.calls = self.steps = 0
        self._waiting: list[_Waiting] = []
        self._worker: asyncio.Task | None = None

    async def step(self, stream: Stream, inputs: Any) -> np.ndarray:
        """The outputs of the next step or steps of `stream`, as `Stream.step`.

        Raises:
            ValueError: inputs that do not fit, before they wait.
            Overloaded: too many steps wait.
        """
        self.served.check(inputs)
        if len(self._waiting) >= self.max_waiting:
            raise Overloaded(f"at most {self.max_waiting} steps may wait; try again later")
        answer = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(stream, inputs, answer))
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return await answer

    async def _work(self) -> None:
        await asyncio.sleep(self.delay)
        while self._waiting:
            batch = self._next_batch()
            streams, inputs, answers = zip(*batch)
            try:
                found = await asyncio.to_thread(self.served.step, streams, inputs)
            except Exception as error:
                found = [error] * len(batch)
            self.calls, self.steps = self.calls + 1, self.steps + len(batch)
            for answer, outputs in zip(answers, found):
                if answer.cancelled():
                    continue
                if isinstance(outputs, Exception):
                    answer.set_exception(outputs)
                else:
                    answer.set_result(outputs)

    def _next_batch(self) -> list[_Waiting]:
        """The steps that have waited longest, one of each stream."""
        batch: dict[int, _Waiting] = {}
        rest = []
        for one in self._waiting:
            if one.answer.cancelled():
                continue
            if id(one.stream) in batch or len(batch) == self.max_batch:
                rest.append(one)
            else:
                batch[id(one.stream)] = one
        self._waiting = rest
        return list(batch.values())
