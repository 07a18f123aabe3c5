"""All clients of a stream service: their conversations by id, with limits."""

import asyncio
import contextlib
import json
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

from rnnzoo._checks import instance, positive_integer, seconds
from rnnzoo.serving.batching import Batcher, Overloaded
from rnnzoo.serving.conversation import Conversation
from rnnzoo.serving.messages import is_stop
from rnnzoo.serving.seals import Keys


class UnknownStream(KeyError):
    """A conversation that is not, or no longer, open."""


class _Entry:
    """A conversation, of which a block (`async with`) has the use for itself."""

    def __init__(self, name: str, conversation: Conversation, client: str | None):
        self.name, self.conversation, self.client = name, conversation, client
        self.lock, self.used, self.closed = asyncio.Lock(), time.monotonic(), False

    async def __aenter__(self) -> Conversation:
        await self.lock.acquire()
        if self.closed:  # while this message waited
            self.lock.release()
            raise UnknownStream(self.name)
        return self.conversation

    async def __aexit__(self, *error: Any) -> None:
        self.used = time.monotonic()
        self.lock.release()


class Conversations:
    """The conversations of a service, by an id that cannot be guessed.

    Messages of one conversation are answered one after the other, those of different ones
    together.

    Args:
        batcher: runs the steps of all.
        key: the secret of saved states, at least 16 bytes, or `Keys`.
        limit: conversations that may be open at a time.
        idle: seconds without a message after which `drop_idle` ends one.
        limit_per_client: conversations of one client at a time; None: as `limit`.
        **options: as `Conversation`.

    Attributes:
        batcher: runs the steps of all.
        closing: True: none is opened any more.

    Raises:
        ValueError: an option out of its range, a key that is too short.
    """

    def __init__(
        self,
        batcher: Batcher,
        key: bytes | Keys,
        *,
        limit: int = 1000,
        idle: float = 300,
        limit_per_client: int | None = None,
        **options: Any,
    ):
        instance("batcher", batcher, Batcher, "a rnnzoo.serving.Batcher")
        seconds("idle", idle)
        key = key if isinstance(key, Keys) else Keys(key)
        self.batcher, self._key, self._options = batcher, key, options
        self._limit, self._idle = positive_integer("limit", limit), idle
        most = limit if limit_per_client is None else limit_per_client
        self._limit_per_client = positive_integer("limit_per_client", most)
        self._entries: dict[str, _Entry] = {}
        self._of_client: Counter = Counter()
        self.closing = False
        Conversation(batcher, key, **options)  # wrong options show now

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self):
        return iter(list(self._entries))

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def open(self, token: str | None = None, client: str | None = None) -> str:
        """The id of a new conversation, which goes on from a saved state where one is given.

        Args:
            token: a saved state.
            client: who it is for, such as an address: one counts against `limit_per_client`.

        Raises:
            ValueError: a token that was altered.
            Overloaded: as many are open as may be, or none is opened any more.
        """
        if self.closing:
            raise Overloaded("the service is about to end; try again later")
        if len(self) >= self._limit:
            raise Overloaded(f"at most {self._limit} streams may be open; try again later")
        if client is not None and self._of_client[client] >= self._limit_per_client:
            raise Overloaded(
                f"at most {self._limit_per_client} streams of one client may be open; "
                "close one, or try again later"
            )
        name = secrets.token_urlsafe(16)
        conversation = Conversation(self.batcher, self._key, token=token, **self._options)
        self._entries[name] = _Entry(name, conversation, client)
        self._of_client[client] += 1
        return name

    def close(self, name: str) -> None:
        """Ends a conversation; one that is not there is no error."""
        entry = self._entries.pop(name, None)
        if entry is not None:
            entry.closed = True
            self._of_client[entry.client] -= 1
            if not self._of_client[entry.client]:
                del self._of_client[entry.client]

    async def answers(self, name: str, message: str | bytes) -> AsyncIterator[dict]:
        """The answers to a message, as `Conversation.answers`; `UnknownStream` for another id."""
        async with self._entry(name) as conversation:
            async with contextlib.aclosing(conversation.answers(message)) as found:
                async for answer in found:
                    yield answer

    async def replies(self, name: str, message: str | bytes) -> AsyncIterator[str | bytes]:
        """`answers` as they are sent, see `Conversation.replies`.

        `{"stop": true}` does not wait for its turn: it ends the writing of the conversation
        early, and is answered with `{"stopped": whether there was any}`.
        """
        if is_stop(message):
            yield json.dumps({"stopped": self._entry(name).conversation.stop()})
            return
        async with self._entry(name) as conversation:
            async with contextlib.aclosing(conversation.replies(message)) as found:
                async for answer in found:
                    yield answer

    def stop(self, name: str) -> bool:
        """Ends the writing of a conversation early; False where it writes nothing."""
        return name in self and self._entries[name].conversation.stop()

    async def take(self, name: str) -> str | None:
        """The state of a conversation as a signed text, after which it is closed.

        None where it has not begun.

        Raises:
            UnknownStream: another id.
            Overloaded: too much waits; the conversation stays open.
        """
        async with self._entry(name) as conversation:
            async with contextlib.aclosing(conversation.answers('{"save": true}')) as found:
                (token,) = [answer["token"] async for answer in found]
            self.close(name)
        return token

    async def drop_idle(self) -> None:
        """Ends those that are idle, again and again; run it as a task."""
        while True:
            await asyncio.sleep(min(1.0, self._idle))
            limit = time.monotonic() - self._idle
            for name, entry in list(self._entries.items()):
                if entry.used < limit and not entry.lock.locked():
                    self.close(name)

    def _entry(self, name: str) -> _Entry:
        if name not in self._entries:
            raise UnknownStream(name)
        return self._entries[name]
