"""One WebSocket client of a service: messages in, answers out, until one of the two ends."""

import asyncio
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
# Messages that are read ahead of their answers.
_AHEAD = 16


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
        self._inbox: asyncio.Queue[str | bytes | None] = asyncio.Queue(_AHEAD)
        self._main: asyncio.Task | None = None
        self._ending = self._gone = self._answering = self._cut = False

    async def run(self) -> None:
        """Answers until the client is gone, is idle for too long, or `end` was called."""
        self._main = asyncio.current_task()
        reader = asyncio.create_task(self._read())
        try:
            await self._to_its_end()
        except WebSocketDisconnect:
            pass
        except asyncio.CancelledError:
            if not self._gone:
                raise
        finally:
            reader.cancel()
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
        if self._inbox.empty():
            self._inbox.put_nowait(None)

    def cut(self) -> None:
        """Breaks off the answer that is under way, which then changes nothing."""
        if self._answering and not self._cut:
            self._cut = True
            self._main.cancel()

    async def _converse(self) -> None:
        while not self._ending:
            async with asyncio.timeout(self._limits.idle):
                message = await self._inbox.get()
            if isinstance(message, bytes):
                return await self._socket.close(1003, "messages must be text")
            if message is None:
                continue
            try:
                self._answering = True
                await self._answer(message)
            except asyncio.CancelledError:
                if self._gone or not self._cut:
                    raise
                self._main.uncancel()
            finally:
                self._answering = False
        async with asyncio.timeout(self._limits.send):
            token = await self._clients.take(self._name)
            await self._socket.send_text(json.dumps({"closing": True, "token": token}))
            await self._socket.close(1012, "the service ends")

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

    async def _read(self) -> None:
        while True:
            event: Any = await self._socket.receive()
            if event["type"] == "websocket.disconnect":
                # What it waits for is no use to it any more, and must not move its stream.
                self._gone = True
                self._main.cancel()
                return
            message = event.get("text")
            if message is not None and is_stop(message) and self._clients.stop(self._name):
                continue
            await self._inbox.put(event["bytes"] if message is None else message)
