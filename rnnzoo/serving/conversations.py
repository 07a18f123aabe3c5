"""All clients of a stream service: their conversations by id, with limits."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from typing import Any

from rnnzoo._checks import positive_integer
from rnnzoo.serving.batching import Batcher, Overloaded
from rnnzoo.serving.conversation import Conversation


class _Entry:
    def __init__(self, conversation: Conversation):
        self.conversation, self.lock = conversation, asyncio.Lock()
        self.used = time.monotonic()


class Conversations:
    """The conversations of a service, by an id that cannot be guessed.

    Messages of one conversation are answered one after the other, those of different ones
    together.

    Args:
        batcher: runs the steps of all.
        key: the secret of saved states, at least 16 bytes.
        limit: conversations that may be open at a time.
        idle: seconds without a message after which `drop_idle` ends one.
        **options: as `Conversation`.

    Raises:
        ValueError: an option out of its range.
    """

    def __init__(
        self, batcher: Batcher, key: bytes, *, limit: int = 1000, idle: float = 300, **options: Any
    ):
        self._made_of, self._options = (batcher, key), options
        self._limit, self._idle = positive_integer("limit", limit), idle
        self._entries: dict[str, _Entry] = {}
        Conversation(batcher, key, **options)  # wrong options show now

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def open(self, token: str | None = None) -> str:
        """The id of a new conversation, which goes on from a saved state where one is given.

        Raises:
            ValueError: a token that was altered.
            Overloaded: as many are open as may be.
        """
        if len(self) >= self._limit:
            raise Overloaded(f"at most {self._limit} streams may be open; try again later")
        entry = _Entry(Conversation(*self._made_of, token=token, **self._options))
        name = secrets.token_urlsafe(16)
        self._entries[name] = entry
        return name

    def close(self, name: str) -> None:
        """Ends a conversation; one that is not there is no error."""
        self._entries.pop(name, None)

    async def answers(self, name: str, message: str | bytes) -> AsyncIterator[dict]:
        """The answers to a message, as `Conversation.answers`; KeyError for an unknown id."""
        entry = self._entries[name]
        async with entry.lock:
            try:
                async for answer in entry.conversation.answers(message):
                    yield answer
            finally:
                entry.used = time.monotonic()

    async def drop_idle(self) -> None:
        """Ends those that are idle, again and again; run it as a task."""
        while True:
            await asyncio.sleep(min(1.0, self._idle))
            limit = time.monotonic() - self._idle
            for name, entry in list(self._entries.items()):
                if entry.used < limit and not entry.lock.locked():
                    self.close(name)
