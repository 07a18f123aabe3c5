"""One client of a stream service: messages in JSON, answered from a stream of its own."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import numpy as np

from rnnzoo._checks import positive_integer, shown
from rnnzoo.data.text import Vocabulary
from rnnzoo.serving.batching import Batcher
from rnnzoo.serving.seals import seal, unseal

# Tokens that are written in one call, before the client sees them.
_CHUNK = 8


class Conversation:
    """A stream that is spoken to in JSON messages, for services over any transport.

    Messages, each an object with one of these keys:

    * `{"inputs": step or steps}` -> `{"outputs": ..., "steps": steps so far}`
    * `{"write": tokens, "prompt": text, "temperature": 1.0, "seed": 0}` of models on tokens with
      a vocabulary -> a `{"text": ...}` for every few tokens, then `{"written": tokens}`. Without
      a prompt it goes on from what it wrote.
    * `{"save": true}` -> `{"token": ...}`, the state as a signed text (see `seal`)
    * `{"load": token}` -> `{"steps": ...}`; the stream goes on from there

    A message that is refused changes nothing.

    Args:
        batcher: runs the steps, together with those of others.
        key: the secret of saved states, at least 16 bytes.
        vocabulary: that of the model's tokens, for `write`.
        max_steps: steps, and tokens to write, in one message at most.
        token: a saved state to go on from.

    Raises:
        ValueError: a key that is too short, a token that was altered.
    """

    def __init__(
        self,
        batcher: Batcher,
        key: bytes,
        *,
        vocabulary: Vocabulary | None = None,
        max_steps: int = 1000,
        token: str | None = None,
    ):
        served = batcher.served
        self.stream = served.new_stream() if token is None else unseal(served, token, key)
        self._batcher, self._key = batcher, key
        self._vocabulary = vocabulary if "generate" in served.signatures else None
        self._max_steps = positive_integer("max_steps", max_steps)
        self._last: int | None = None  # written, and not read by the stream yet

    async def answers(self, message: str | bytes) -> AsyncIterator[dict]:
        """The answers to one message, as they come.

        Raises:
            ValueError: a message that breaks a rule; the text may be shown to the client.
            Overloaded: too many steps wait.
        """
        given = _parsed(message)
        kinds = [kind for kind in ("inputs", "write", "save", "load") if kind in given]
        if len(kinds) != 1:
            raise ValueError(
                "a message must have one of the keys inputs, write, save and load; "
                f"received {shown(sorted(given))}"
            )
        kind = kinds[0]
        allowed = {kind} | ({"prompt", "temperature", "seed"} if kind == "write" else set())
        if set(given) - allowed:
            raise ValueError(f"{kind} takes no {shown(sorted(set(given) - allowed))}")
        async for answer in getattr(self, f"_{kind}")(given):
            yield answer

    async def _inputs(self, given: dict) -> AsyncIterator[dict]:
        inputs = given["inputs"]
        if isinstance(inputs, list) and len(inputs) > self._max_steps:
            raise ValueError(
                f"a message must have at most {self._max_steps} steps; received {len(inputs)}"
            )
        outputs = await self._batcher.step(self.stream, inputs)
        self._last = None
        yield {"outputs": outputs.tolist(), "steps": self.stream.steps}

    async def _write(self, given: dict) -> AsyncIterator[dict]:
        if self._vocabulary is None:
            raise ValueError("write is for models on tokens that have a vocabulary")
        count = _number(given, "write", None, 1, self._max_steps, whole=True)
        temperature = _number(given, "temperature", 1.0, 0, 100)
        seed = _number(given, "seed", 0, 0, 2**30, whole=True)
        prompt = self._prompt(given.get("prompt", ""))
        for first in range(0, count, _CHUNK):
            length = min(_CHUNK, count - first)
            found = await asyncio.to_thread(
                self._batcher.served.call,
                "generate",
                prompt=prompt[None],
                prompt_lengths=[len(prompt)],
                max_length=[length],
                temperature=[temperature],
                seed=[(seed + first) % 2**31],
                **{key: value[None] for key, value in self.stream.state.items()},
            )
            self.stream.state = {key: found[f"{key}_out"][0] for key in self.stream.state}
            self.stream.steps += len(prompt) - 1 + length
            prompt = found["last"]
            self._last = int(prompt[0])
            yield {"text": self._vocabulary.decode(found["tokens"][0])}
        yield {"written": count}

    async def _save(self, given: dict) -> AsyncIterator[dict]:
        if self._last is not None:
            await self._batcher.step(self.stream, self._last)
            self._last = None
        yield {"token": seal(self.stream, self._key)}

    async def _load(self, given: dict) -> AsyncIterator[dict]:
        self.stream = unseal(self._batcher.served, given["load"], self._key)
        self._last = None
        yield {"steps": self.stream.steps}

    def _prompt(self, text: Any) -> np.ndarray:
        if not isinstance(text, str) or (not text and self._last is None):
            raise ValueError(
                "prompt must be a text, which may be left out to go on from what was written; "
                f"received prompt={shown(text)}"
            )
        ids = self._vocabulary.encode(text)
        if len(ids) > self._max_steps:
            raise ValueError(
                f"prompt must have at most {self._max_steps} tokens; received {len(ids)}"
            )
        pending = [] if self._last is None else [self._last]
        return np.concatenate([np.array(pending, "int32"), ids])


def _parsed(message: str | bytes) -> dict:
    """The object of JSON that a message is."""

    def refuse(name: str) -> None:
        raise ValueError(f"numbers must be finite; received {name}")

    try:
        given = json.loads(message, parse_constant=refuse)
    except (RecursionError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"a message must be JSON; {type(error).__name__}: {error}") from None
    if not isinstance(given, dict):
        raise ValueError(f"a message must be an object of JSON; received {shown(given)}")
    return given


def _number(
    given: dict, name: str, default: Any, low: float, high: float, whole: bool = False
) -> Any:
    value = given.get(name, default)
    kinds = int if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
        kind = "an integer" if whole else "a number"
        raise ValueError(
            f"{name} must be {kind} from {low} to {high}; received {name}={shown(value)}"
        )
    return value
