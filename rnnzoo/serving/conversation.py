"""One client of a stream service: messages in JSON, answered from a stream of its own."""

import contextlib
import functools
import hashlib
import math
import operator
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from rnnzoo._checks import one_of, optional_text, positive_integer, shown
from rnnzoo.data.tokens import TextVocabulary
from rnnzoo.serving import answers
from rnnzoo.serving.batching import Batcher
from rnnzoo.serving.client import Stream
from rnnzoo.serving.loaded import Steps
from rnnzoo.serving.messages import digest_of, number, parsed
from rnnzoo.serving.pieces import Written, next_piece
from rnnzoo.serving.seals import Keys, seal, unseal

# Tokens that are written in one call, before the client sees them.
_CHUNK = 8
# Numbers that an answer may hold which is kept in case its message is sent again.
_KEPT = 1 << 14
# Keeps none of the outputs of a prompt.
_NOTHING = operator.itemgetter(slice(0, 0))
# Bytes of a message, beyond which it is read beside the event loop.
_LONG = 1 << 13
# Brackets and commas of a message beyond those that its inputs need: a prompt may have some.
_MARKS = 1 << 12


class _Told(NamedTuple):
    """A message with a step number, as its hash, and its answers: it may come again."""

    step: int
    message: bytes
    answers: list[dict]


class Conversation:
    """A stream that is spoken to in JSON messages, for services over any transport.

    Messages, each an object with one of these keys:

    * `{"inputs": step or steps}` -> `{"outputs": ..., "steps": steps so far}`. Of a model with
      several inputs an object by their names, `{"inputs": {"load": ..., "hour": ...}}`. With
      `"top": k` the `k` highest outputs of each step only, the highest first, and their
      `"indices"`. With `"as": "binary"` the numbers stay numbers (see `answers.as_bytes`).
    * `{"write": tokens, "prompt": text, "temperature": 1.0, "seed": 0}` of models on tokens with
      a vocabulary -> a `{"text": ...}` for every few tokens, then `{"written": tokens}`. Without
      a prompt it goes on from what it wrote. `stop` ends it early. Each text is of whole
      characters: one whose last bytes are not written yet comes with the next text, or message.
    * `{"begin": {"store": 3}}` -> `{"steps": 0}`: a new sequence, with the inputs per sequence by
      name (`{}` where there are none). A model that has such takes no inputs before.
    * `{"save": true}` -> `{"token": ...}`, the state as a signed text (see `seal`), null where
      nothing has begun
    * `{"load": token}` -> `{"steps": ...}`; the stream goes on from there

    A message changes the stream when its last answer was taken. One that is refused or breaks
    off in its middle changes nothing.

    `inputs` and `write` take `"step"`: the steps that the stream has made. A client that got no
    answer sends the same message with the same step again. If the stream has not moved, it is
    done now; if it has, the answers of the first time come again, and nothing moves twice.

    Args:
        batcher: runs the steps, together with those of others.
        key: the secret of saved states, at least 16 bytes, or `Keys`.
        vocabulary: that of the model's tokens, for `write`.
        max_steps: steps, and tokens to write, in one message at most.
        token: a saved state to go on from.
        max_numbers: numbers in one answer at most: steps times outputs, or times 2 `top`.

    Raises:
        ValueError: a key that is too short, a token that was altered.
    """

    def __init__(
        self,
        batcher: Batcher,
        key: bytes | Keys,
        *,
        vocabulary: TextVocabulary | None = None,
        max_steps: int = 1000,
        token: str | None = None,
        max_numbers: int = 1 << 18,
    ):
        if not isinstance(batcher, Batcher):
            raise ValueError(f"batcher must be a rnnzoo.serving.Batcher; received {shown(batcher)}")
        if vocabulary is not None and not isinstance(vocabulary, TextVocabulary):
            raise ValueError(
                f"vocabulary must be a rnnzoo.data.Vocabulary or None; received {shown(vocabulary)}"
            )
        self._batcher, self._served = batcher, batcher.served
        self._keys = key if isinstance(key, Keys) else Keys(key)
        self._vocabulary = vocabulary if self._served.writes else None
        optional_text("token", token)
        self._max_steps = positive_integer("max_steps", max_steps)
        self._max_numbers = positive_integer("max_numbers", max_numbers)
        step = sum(_values_in(spec["shape"][2:]) for spec in self._served.inputs.values())
        still = sum(_values_in(spec["shape"][1:]) for spec in self._served.static.values())
        self._max_values = _MARKS + self._max_steps * step + still
        self._blank: Stream | None = None  # a stream that waits for its inputs per sequence
        if token is None:
            (self.stream,) = self._served.new_streams(1, static=self._served.blank_static(1))
            self._blank = self.stream if self._served.static else None
        else:
            self.stream = unseal(self._served, token, self._keys)
        self._last: int | None = None  # written, and not read by the stream yet
        self._written = Written()
        self._told: _Told | None = None
        self._writing = self._stopped = False

    def answers(self, message: str | bytes) -> AsyncIterator[dict]:
        """The answers to one message, as they come; numbers as lists, or arrays where binary.

        Take them all: the stream has moved when the last was taken.

        Raises:
            ValueError: a message that breaks a rule; the text may be shown to the client.
            Overloaded: too much waits.
        """
        return self._answered(message, answers.as_lists, dict)

    def replies(self, message: str | bytes) -> AsyncIterator[str | bytes]:
        """`answers` as they are sent: JSON, or bytes for messages with `"as": "binary"`."""
        return self._answered(message, answers.as_json, answers.as_bytes)

    def stop(self) -> bool:
        """Ends the writing that is under way after its next piece; False where none is."""
        self._stopped = self._writing
        return self._writing

    def token(self) -> str:
        """The state as it stands as a signed text, without what was written and not read yet."""
        return seal(self.stream, self._keys)

    async def _answered(
        self, message: str | bytes, as_text: Callable, as_binary: Callable
    ) -> AsyncIterator[Any]:
        long = len(message) > _LONG
        kind, given = (
            await self._batcher.beside(self._read, message) if long else self._read(message)
        )
        encode = as_binary if given.get("as") == "binary" else as_text
        told = self._told_before(given, message)
        if told is not None:
            for answer in told.answers:
                yield encode(answer)
            return
        step, found = self.stream.steps, []
        before = self.stream, self.stream.state, self._last, self._written
        try:
            async with contextlib.aclosing(getattr(self, f"_{kind}")(given)) as parts:
                async for answer in parts:
                    if "step" in given:
                        found.append(answer)
                    if answers.numbers_in(answer) <= answers.SMALL:
                        yield encode(answer)
                    elif encode is answers.as_json:
                        yield "".join(await self._batcher.all_beside(answers.json_parts(answer)))
                    else:
                        yield await self._batcher.beside(encode, answer)
        except BaseException:  # of a caller that breaks off too: then nothing has changed
            self.stream, state, self._last, self._written = before
            self.stream.state, self.stream.steps = state, step
            raise
        self._told = _Told(step, digest_of(message), found) if "step" in given else None

    def _read(self, message: str | bytes) -> tuple[str, dict]:
        """A message as it came, its inputs as steps, its prompt as ids."""
        kind, given = parsed(message, self._max_values)
        if kind == "inputs":
            given["inputs"] = self._steps(given["inputs"])
        elif kind == "write":
            given["prompt"] = self._prompt(given.get("prompt", ""))
        return kind, given

    def _told_before(self, given: dict, message: str | bytes) -> _Told | None:
        """The answers to a message that was answered before; ValueError for a wrong step."""
        if "step" not in given:
            return None
        step = number(given, "step", None, 0, 2**62, whole=True)
        told = self._told
        if told and told.step == step and told.message == digest_of(message):
            return told
        if step != self.stream.steps:
            raise ValueError(
                f"step must be {self.stream.steps}, the steps that the stream has made, or that "
                f"of the last message, sent again as it was; received step={step}"
            )
        return None

    async def _inputs(self, given: dict) -> AsyncIterator[dict]:
        top = given.get("top")
        width = self._served.outputs
        if "top" in given:
            top = number(given, "top", None, 1, width, whole=True)
        one_of("as", given.get("as", "json"), ("json", "binary"))
        if self.stream is self._blank:
            raise ValueError(
                "a sequence must begin with the inputs that it has as a whole, "
                f'{{"begin": {{...}}}} with {list(self._served.static)}; received inputs before'
            )
        single, steps = given["inputs"]
        numbers = self._served.numbers_of(len(steps)) // width * (2 * top if top else width)
        limit = min(self._max_numbers, _KEPT) if "step" in given else self._max_numbers
        if numbers > limit:
            raise ValueError(
                f"an answer {'to a message with step ' if 'step' in given else ''}must have at "
                f"most {limit} numbers, steps times outputs; received {len(steps)} steps, which "
                f"make {numbers}: send fewer, or ask for the best with top"
            )
        async with self._batcher.turn(self.stream, numbers):
            keep = answers.best(top) if top else np.array
            outputs = await self._batcher.advance(self.stream, steps, keep)
            self._last = None
            outputs = outputs[0] if single and not self._served.timeless else outputs
            found = {"outputs": outputs["value"] if top else outputs}
            found |= {"indices": outputs["index"]} if top else {}
            yield {**found, "steps": self.stream.steps}

    async def _write(self, given: dict) -> AsyncIterator[dict]:
        count = number(given, "write", None, 1, self._max_steps, whole=True)
        temperature = number(given, "temperature", 1.0, 0, 100)
        seed = number(given, "seed", 0, 0, 2**30, whole=True)
        prompt = given["prompt"]
        if not len(prompt) and self._last is None:
            raise ValueError(
                "prompt must be a text of at least one token; it may be left out to go on from "
                "what was written"
            )
        self._written = Written() if len(prompt) else self._written
        pending = [] if self._last is None else [self._last]
        prompt = np.concatenate([np.array(pending, "int32"), prompt])
        stream, written = self.stream, 0
        async with self._batcher.turn(stream):
            try:
                self._writing, self._stopped = True, False
                if len(prompt) > 1:
                    read = self._served.as_steps(prompt[:-1])[1]
                    await self._batcher.advance(stream, read, _NOTHING)
                self._last = int(prompt[-1])
                while written < count and not self._stopped:
                    length = min(_CHUNK, count - written)
                    settings = (length, temperature, _seed_at(seed, stream.steps))
                    tokens = await self._batcher.write(stream, self._last, *settings)
                    self._last, written = int(tokens[-1]), written + length
                    text, self._written = next_piece(self._vocabulary, self._written, tokens)
                    if text:
                        yield {"text": text}
            finally:
                self._writing = False
        end = {"stopped": True} if written < count else {}
        end |= {"steps": stream.steps} if "step" in given else {}
        yield {"written": written, **end}

    async def _begin(self, given: dict) -> AsyncIterator[dict]:
        still = given["begin"]
        if not isinstance(still, dict):
            raise ValueError(f"begin must be an object of JSON; received {shown(still)}")
        begin = functools.partial(self._served.new_stream, static=still)
        self.stream = await self._batcher.beside(begin)
        self._last = None
        yield {"steps": self.stream.steps}

    async def _save(self, given: dict) -> AsyncIterator[dict]:
        if given["save"] is not True:
            raise ValueError(f"save must be true; received save={shown(given['save'])}")
        if self._last is not None:
            await self._batcher.step(self.stream, self._last)
            self._last = None
        begun = self.stream is not self._blank
        yield {"token": await self._batcher.beside(self.token) if begun else None}

    async def _load(self, given: dict) -> AsyncIterator[dict]:
        load = given["load"], self._keys
        self.stream = await self._batcher.beside(unseal, self._served, *load)
        self._last = None
        yield {"steps": self.stream.steps}

    def _steps(self, inputs: Any) -> tuple[bool, Steps]:
        parts = inputs.values() if isinstance(inputs, dict) else [inputs]
        longest = max((len(part) for part in parts if isinstance(part, list)), default=0)
        if longest > self._max_steps:
            raise ValueError(
                f"a message must have at most {self._max_steps} steps; received {longest}"
            )
        return self._served.as_steps(inputs)

    def _prompt(self, text: Any) -> np.ndarray:
        if self._vocabulary is None:
            raise ValueError("write is for models on tokens that have a vocabulary")
        if not isinstance(text, str):
            raise ValueError(f"prompt must be a text; received prompt={shown(text)}")
        ids = np.asarray(self._vocabulary.encode(text), "int32")
        if len(ids) > self._max_steps:
            raise ValueError(
                f"prompt must have at most {self._max_steps} tokens; received {len(ids)}"
            )
        return ids


def _seed_at(seed: int, steps: int) -> int:
    """What is drawn by at a place of a stream: by another seed, or at another place, by another."""
    return int.from_bytes(hashlib.sha256(f"{seed} {steps}".encode()).digest()[:4]) % 2**31


def _values_in(shape: Sequence[int | None]) -> float:
    """Lists and numbers that an array is in JSON; of an open shape there may be any number."""
    sizes = [math.inf if size is None else size for size in shape]
    return sum(math.prod(sizes[:axis]) for axis in range(len(sizes) + 1))
