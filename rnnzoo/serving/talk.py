"""One WebSocket client of a service: messages in, answers out, until one of the two ends."""

import asyncio
import collections
import contextlib
import json
import logging
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from rnnzoo.serving.batching import Overloaded
from rnnzoo.serving.conversations import Conversations, UnknownStream
from rnnzoo.serving.limits import Limits
from rnnzoo.serving.messages import is_stop
from rnnzoo.serving.watching import Watching

_LOG = logging.getLogger("rnnzoo.serving")
# Messages that are read while an answer is under way.
_AHEAD = 16
# Characters of a message, beyond which its answer may take long.
_SHORT = 1000


class Talk:
    """A connection that was accepted, and the stream that lives as long as it.

    Args:
        socket: the connection.
        clients: where its stream is.
        name: the stream.
        limits: of the service.
        watching: is told of refusals and times.
    """

    def __init__(
        self,
        socket: WebSocket,
        clients: Conversations,
        name: str,
        limits: Limits,
        watching: Watching,
    ):
        self._socket, self._clients, self._name = socket, clients, name
        self._limits, self._watching = limits, watching
        self._ahead: collections.deque[str | bytes] = collections.deque()
        self._main: asyncio.Task | None = None
        self._ending = self._gone = self._answering = False

    async def run(self) -> None:
        """Answers until the client is gone, is idle for too long, or `end` was called."""
        self._main = asyncio.current_task()
        try:
            await self._to_its_end()
        except WebSocketDisconnect:
            pass
        except asyncio.CancelledError:
            if not self._gone:
                raise
        finally:
            self._clients.close(self._name)

    async def _to_its_end(self) -> None:
        try:
            await self._converse()
        except TimeoutError:
            await self._socket.close(1001, "idle for too long")
        except UnknownStream:
            await self._socket.close(1001, "the stream has ended")
        except WebSocketDisconnect:
            raise
        except Exception:
            _LOG.exception("a connection failed")
            await self._socket.close(1011, "internal error")

    def end(self) -> None:
        """Ends the talk after the answer that is under way."""
        self._ending = True
        if self._main is not None and not self._answering:
            self._main.cancel()

    def cut(self) -> None:
        """Breaks off the answer that is under way after `end`: it then changes nothing."""
        if self._answering:
            self._main.cancel()

    async def _converse(self) -> None:
        while not self._ending:
            try:
                message = await self._next()
                if message is None:
                    return
                if isinstance(message, bytes):
                    return await self._socket.close(1003, "messages must be text")
                await self._watched(message)
            except asyncio.CancelledError:
                if self._gone or not self._ending:
                    raise
                self._main.uncancel()
        async with asyncio.timeout(self._limits.send):
            token = await self._clients.take(self._name)
            await self._socket.send_text(json.dumps({"closing": True, "token": token}))
            await self._socket.close(1012, "the service ends")

    async def _next(self) -> str | bytes | None:
        """The next message; None where the client is gone."""
        if self._ahead:
            return self._ahead.popleft()
        async with asyncio.timeout(self._limits.idle):
            return _message_of(await self._socket.receive())

    async def _watched(self, message: str) -> None:
        """Answers a message, and meanwhile sees whether the client stops it or goes."""
        self._answering = True
        long = len(message) > _SHORT or '"write"' in message
        reader = asyncio.create_task(self._read_ahead()) if long else None
        try:
            await self._answer(message)
        finally:
            self._answering = False
            if reader is not None:
                reader.cancel()

    async def _answer(self, message: str) -> None:
        try:
            with self._watching.time():
                replies = self._clients.replies(self._name, message)
                async with contextlib.aclosing(replies) as found:
                    async for reply in found:
                        await self._send(reply)
        except (ValueError, Overloaded) as error:
            self._watching.refused()
            await self._send(json.dumps({"error": str(error)}))

    async def _send(self, reply: str | bytes) -> None:
        if isinstance(reply, bytes):
            await self._socket.send_bytes(reply)
        else:
            await self._socket.send_text(reply)

    async def _read_ahead(self) -> None:
        # Of long messages fewer: what is kept of each client is bounded in bytes too.
        while len(self._ahead) < _AHEAD and sum(map(len, self._ahead)) < self._limits.bytes:
            message = _message_of(await self._socket.receive())
            if message is None:
                # What it waits for is no use to it any more, and must not move its stream.
                self._gone = True
                self._main.cancel()
                return
            if not (is_stop(message) and self._clients.stop(self._name)):
                self._ahead.append(message)


def _message_of(event: Any) -> str | bytes | None:
    if event["type"] == "websocket.disconnect":
        return None
    return event["bytes"] if event.get("text") is None else event["text"]
