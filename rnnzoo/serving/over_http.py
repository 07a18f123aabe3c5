"""Streams of a service over HTTP: opened, told one message at a time, closed."""

import asyncio
import contextlib
import logging
from collections.abc import Coroutine
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from rnnzoo.serving.batching import Overloaded
from rnnzoo.serving.conversations import Conversations, UnknownStream
from rnnzoo.serving.gate import client_of
from rnnzoo.serving.limits import Limits
from rnnzoo.serving.messages import opening
from rnnzoo.serving.watching import Watching

_LOG = logging.getLogger("rnnzoo.serving")


class OverHttp:
    """The requests that streams are used by.

    Args:
        clients: where the streams are.
        limits: of the service.
        watching: is told of refusals and times.

    Attributes:
        answering: the tasks that are at work for a client.
    """

    def __init__(self, clients: Conversations, limits: Limits, watching: Watching):
        self._clients, self._limits, self._watching = clients, limits, watching
        self.answering: set[asyncio.Task] = set()

    def routes(self) -> list[Route]:
        """`/streams` and `/streams/ID`."""
        return [
            Route("/streams", self._open, methods=["POST"]),
            Route("/streams/{name}", self._told_or_closed, methods=["POST", "DELETE"]),
        ]

    async def _open(self, request: Request) -> Response:
        async def opened() -> Response:
            refuse_token(request.query_params)
            body = await self._body(request)
            beside = self._clients.batcher.beside
            loads = bool(body) and await beside(opening, body) is not None
            name = self._clients.open(client=client_of(request.client.host))
            try:
                if loads:
                    await self._replies(name, body)
            except BaseException:
                self._clients.close(name)
                raise
            return JSONResponse({"stream": name}, 201)

        return await self._answered(opened())

    async def _told_or_closed(self, request: Request) -> Response:
        return await (self._close if request.method == "DELETE" else self._tell)(request)

    async def _tell(self, request: Request) -> Response:
        name = request.path_params["name"]

        async def told() -> Response:
            refuse_token(request.query_params)
            body = await self._body(request)
            if self._clients.closing:
                return await self._token(name)
            with self._watching.time():
                return await self._unless_gone(request, self._replies(name, body))

        return await self._answered(told())

    async def _close(self, request: Request) -> Response:
        async def closed() -> Response:
            name = request.path_params["name"]
            if name not in self._clients:
                raise UnknownStream(name)
            self._clients.close(name)
            return Response(status_code=204)

        return await self._answered(closed())

    async def _replies(self, name: str, message: bytes) -> Response:
        replies = self._clients.replies(name, message)
        async with contextlib.aclosing(replies) as found:
            answers = [reply async for reply in found]
        if isinstance(answers[0], bytes):
            return Response(answers[0], media_type="application/octet-stream")
        return Response(f"[{', '.join(answers)}]", media_type="application/json")

    async def _token(self, name: str) -> Response:
        token = await self._clients.take(name)
        error = "the service is about to end; bring the token to the next one"
        return JSONResponse({"error": error, "token": token}, 503)

    async def _answered(self, answer: Coroutine[Any, Any, Response]) -> Response:
        """The answer, or the response that says why there is none."""
        try:
            return await answer
        except _Refused as refusal:
            status, error = refusal.args
        except UnknownStream as unknown:
            status, error = 404, f"there is no stream {str(unknown.args[0])[:40]!r}"
        except Overloaded as overloaded:
            status, error = 503 if self._clients.closing else 429, str(overloaded)
        except ValueError as wrong:
            status, error = 400, str(wrong)
        except ClientDisconnect:
            status, error = 400, "the client is gone"
        except Exception:
            _LOG.exception("a request failed")
            return JSONResponse({"error": "internal error"}, 500)
        self._watching.refused()
        return JSONResponse({"error": error}, status)

    async def _body(self, request: Request) -> bytes:
        body = b""
        try:
            async with asyncio.timeout(self._limits.request):
                async for part in request.stream():
                    body += part
                    if len(body) > self._limits.bytes:
                        limit = f"a message must have at most {self._limits.bytes} bytes"
                        raise _Refused(413, limit)
        except TimeoutError:
            raise _Refused(408, f"a body must come within {self._limits.request} s") from None
        return body

    async def _unless_gone(self, request: Request, work: Coroutine) -> Response:
        """What `work` gives; it is broken off when the client is gone, or the service ends."""
        task, gone = asyncio.create_task(work), asyncio.create_task(request.receive())
        self.answering.add(task)
        try:
            await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
            if gone.done() and not task.done():
                raise ClientDisconnect
            return await task
        except asyncio.CancelledError:
            if not self._clients.closing:
                raise
            raise _Refused(
                503, "the service ended before the answer; nothing has changed"
            ) from None
        finally:
            self.answering.discard(task)
            task.cancel()
            gone.cancel()


class _Refused(Exception):
    """A status and what is wrong."""


def refuse_token(query: Any) -> None:
    """ValueError where the query of a URL has a token."""
    if "token" in query:
        raise ValueError(
            'a token must come in a message, {"load": token}; received one in the URL, and URLs '
            "are logged"
        )
