"""The work of many streams gathered into few calls, fairly, for an asynchronous service."""

import asyncio
import heapq
import itertools
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from rnnzoo._checks import positive_integer, shown
from rnnzoo.serving.client import Served, Stream
from rnnzoo.serving.loaded import Steps

# Steps of one call at most, over all of its rows: a call holds up everybody else.
_CALL_STEPS = 1024
# Numbers that the outputs of one call may hold, where it has more than one row.
_CALL_NUMBERS = 1 << 22


class Overloaded(RuntimeError):
    """More work waits, or more streams are open, than a service takes."""


class _Slice(NamedTuple):
    """A piece of a stream's work that runs in one call; `start` is its virtual time."""

    start: float
    number: int
    row: tuple
    answer: asyncio.Future


class _Turn:
    """See `Batcher.turn`. A class, as one in `contextlib` takes several times as long."""

    def __init__(self, batcher: "Batcher", stream: Stream, numbers: int):
        self._batcher, self._numbers = batcher, numbers
        self._lock = batcher.lock_of(stream)

    async def __aenter__(self) -> None:
        batcher = self._batcher
        if batcher.waiting >= batcher.max_waiting:
            raise Overloaded(f"at most {batcher.max_waiting} steps may wait; try again later")
        # A short answer is not refused for the long ones of others: `max_waiting` bounds them too.
        short = max(batcher.served.numbers_of(1), batcher.max_numbers // batcher.max_waiting)
        many = self._numbers > short
        if many and batcher.numbers + self._numbers > batcher.max_numbers:
            raise Overloaded(
                f"all answers under way may hold {batcher.max_numbers} numbers; try again later"
            )
        self._count(1)
        try:
            await self._lock.acquire()
        except BaseException:
            self._count(-1)
            raise

    async def __aexit__(self, *error: Any) -> None:
        self._lock.release()
        self._count(-1)

    def _count(self, sign: int) -> None:
        self._batcher.waiting += sign
        self._batcher.numbers += sign * self._numbers


class Batcher:
    """Steps of concurrent callers, run together: `await batcher.step(stream, inputs)`.

    All work of a model goes through one queue into one thread, so that the event loop stays
    free. Long work is cut into slices. The next call is always for the stream that has had the
    least so far (start-time fair queueing: Goyal et al., 1996), and takes along what waits and
    fits into the same call: a single step never waits for the thousand steps of a neighbour.

    The steps of one stream keep their order. A stream moves when its caller is answered: a step
    that was refused, failed or was cancelled, also in its middle, has not moved it. Inputs and
    streams are checked as they come, and a call that fails is made again for each of its rows:
    nobody pays for the mistake of another.

    Args:
        served: what `rnnzoo.load_served` returned.
        delay: seconds that a step waits for others where no call is running, at least 0.
            Steps that come during a call are gathered in any case.
        max_batch: rows of one call at most.
        max_waiting: pieces of work that are under way at most, steps and writing alike; beyond
            it `Overloaded` is raised.
        slice_steps: steps of one stream in one call at most.
        max_numbers: numbers that all answers under way may hold together, but for short ones: of
            a single step, or of `max_numbers / max_waiting` numbers.

    Raises:
        ValueError: an argument of another kind or out of its range.
    """

    def __init__(
        self,
        served: Served,
        delay: float = 0.0,
        max_batch: int = 256,
        max_waiting: int = 4096,
        *,
        slice_steps: int = 32,
        max_numbers: int = 1 << 23,
    ):
        if not isinstance(served, Served):
            raise ValueError(
                f"served must be what rnnzoo.load_served returned; received {shown(served)}"
            )
        if not isinstance(delay, (int, float)) or isinstance(delay, bool) or not delay >= 0:
            raise ValueError(f"delay must be seconds, at least 0; received delay={shown(delay)}")
        if len(served.timed) != 1:
            raise ValueError(
                "served must be a model that is stepped, of one output; received one of "
                f"{sorted(served.timed) or 'whole sequences'}"
            )
        self.served, self.delay = served, delay
        self.max_batch = positive_integer("max_batch", max_batch)
        self.max_waiting = positive_integer("max_waiting", max_waiting)
        self.slice_steps = positive_integer("slice_steps", slice_steps)
        self.max_numbers = positive_integer("max_numbers", max_numbers)
        self.calls = self.steps = self.waiting = self.numbers = 0
        self._groups: dict[tuple, list[_Slice]] = {}
        self._had: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()
        self._turns: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()
        self._clock, self._count = 0.0, itertools.count()
        self._worker: asyncio.Task | None = None
        self._model = ThreadPoolExecutor(1, "rnnzoo-model")
        self._beside = ThreadPoolExecutor(1, "rnnzoo-beside")

    async def warm_up(self) -> None:
        """Makes the first call of each kind, which takes up to seconds, before anybody waits."""
        if "encode" in self.served.signatures:
            return  # its streams need a source
        (stream,) = self.served.new_streams(1, static=self.served.blank_static(1))
        await self.step(stream, self.served.blank_steps(2))
        if self.served.writes:
            await self.write(stream, 0, 1, 0.0, 0)
        if vocabulary := self.served.vocabularies.get("prompt"):
            await self.beside(vocabulary.encode, vocabulary.decode([0]))

    async def step(self, stream: Stream, inputs: Any) -> np.ndarray:
        """The outputs of the next step or steps of `stream`, as `Stream.step`.

        Raises:
            ValueError: inputs or a stream that do not fit, before they wait.
            Overloaded: too much waits.
        """
        single, steps = self.served.as_steps(inputs)
        self.served.check_stream(stream)
        async with self.turn(stream, self.served.numbers_of(len(steps))):
            outputs = await self.advance(stream, steps)
        return outputs[0] if single and not self.served.timeless else outputs

    def turn(self, stream: Stream, numbers: int = 0) -> "_Turn":
        """An `async with` block to `advance` and `write` in, while nobody else moves the stream.

        Args:
            stream: the stream.
            numbers: what the answer will hold at most, until the block ends.

        Raises:
            Overloaded: too much waits.
        """
        return _Turn(self, stream, numbers)

    async def advance(
        self, stream: Stream, steps: Steps, keep: Callable[[np.ndarray], np.ndarray] = np.array
    ) -> np.ndarray:
        """The outputs of `steps`, checked before, with `keep` applied to those of each slice."""
        state, found = stream.state, []
        for first in range(0, len(steps), self.slice_steps):
            part = steps[first : first + self.slice_steps]
            outputs, state = await self._call("advance", stream, (state, part, keep), len(part))
            found.append(outputs)
        stream.state, stream.steps = state, stream.steps + len(steps)
        return found[-1] if self.served.timeless else np.concatenate(found)

    async def write(
        self, stream: Stream, last: int, count: int, temperature: float, seed: int
    ) -> np.ndarray:
        """`count` tokens that the model writes after `last`, in one slice; keep `count` small.

        The last of them is not fed to the stream yet: it is the next call's `last`.
        """
        row = (stream.state, last, count, temperature, seed)
        tokens, stream.state = await self._call("write", stream, row, count)
        stream.steps += count
        return tokens

    def lock_of(self, stream: Stream) -> asyncio.Lock:
        """The lock by which one piece of work after the other moves a stream."""
        lock = self._turns.get(stream)
        if lock is None:
            lock = self._turns[stream] = asyncio.Lock()
        return lock

    async def beside(self, function: Callable, *arguments: Any) -> Any:
        """What a function gives, run in a thread that is neither the loop's nor the model's."""
        return await asyncio.get_running_loop().run_in_executor(self._beside, function, *arguments)

    async def all_beside(self, parts: Iterator) -> list:
        """All that `parts` gives, each made `beside`, in turns with the work of others there."""
        found = []
        while (part := await self.beside(next, parts, None)) is not None:
            found.append(part)
        return found

    async def _call(self, kind: str, stream: Stream, row: tuple, steps: int) -> Any:
        start = max(self._clock, self._had.get(stream, 0.0))
        self._had[stream] = start + steps
        answer = asyncio.get_running_loop().create_future()
        shapes = tuple(value.shape for value in row[0].values())
        one = _Slice(start, next(self._count), row, answer)
        heapq.heappush(self._groups.setdefault((kind, steps, shapes), []), one)
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return await answer

    async def _work(self) -> None:
        if self.delay:
            await asyncio.sleep(self.delay)
        loop = asyncio.get_running_loop()
        while (found := self._next_batch())[1]:
            kind, batch = found
            rows = [one.row for one in batch]
            results = await loop.run_in_executor(self._model, self._run, kind, rows)
            self.calls, self.steps = self.calls + 1, self.steps + len(batch)
            for one, result in zip(batch, results):
                if one.answer.done():
                    continue
                if isinstance(result, Exception):
                    one.answer.set_exception(result)
                else:
                    one.answer.set_result(result)
            await asyncio.sleep(0)  # who goes on with another slice joins the next call

    def _run(self, kind: str, rows: list[tuple]) -> list:
        """For each row what the model gives, or the error that it alone makes."""
        try:
            return list(getattr(self.served, kind)(*zip(*rows)))
        except Exception as error:
            if len(rows) > 1:
                return [self._run(kind, [row])[0] for row in rows]
            # A future takes every exception but this one.
            wrong = isinstance(error, StopIteration)
            return [RuntimeError(f"the model raised {error!r}") if wrong else error]

    def _next_batch(self) -> tuple[str, list[_Slice]]:
        """The slice whose stream has had the least, with others that fit into its call."""
        for key, group in list(self._groups.items()):
            while group and group[0].answer.done():
                heapq.heappop(group)
            if not group:
                del self._groups[key]
        if not self._groups:
            return "", []
        (kind, steps, _), group = min(self._groups.items(), key=lambda item: item[1][0])
        self._clock = group[0].start
        widest = _CALL_NUMBERS // self.served.numbers_of(steps)
        size = max(1, min(self.max_batch, _CALL_STEPS // steps, widest))
        batch: list[_Slice] = []
        while group and len(batch) < size:
            one = heapq.heappop(group)
            if not one.answer.done():
                batch.append(one)
        return kind, batch
