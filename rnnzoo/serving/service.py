"""A service over HTTP and WebSocket, for conversations with a model."""

import asyncio
import contextlib
import gc
import os
import sys
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any

try:
    import prometheus_client  # noqa: F401
    import uvicorn
    import websockets  # noqa: F401
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.middleware.cors import CORSMiddleware
    from starlette.requests import Request
    from starlette.responses import FileResponse, JSONResponse, Response
    from starlette.routing import Route, WebSocketRoute
    from starlette.websockets import WebSocket
except ImportError as error:
    raise ImportError(
        "a service must have prometheus-client, starlette, uvicorn and websockets; received not "
        "all of them (pip install 'rnnzoo[serve]')"
    ) from error

from rnnzoo._checks import flag, integer, path, shown
from rnnzoo._version import __version__
from rnnzoo.serving import openapi
from rnnzoo.serving.batching import Overloaded
from rnnzoo.serving.conversations import Conversations
from rnnzoo.serving.gate import (
    HEAD,
    Connections,
    Gate,
    client_of,
    hosts_of,
    origins_of,
    proxies_of,
)
from rnnzoo.serving.limits import Limits
from rnnzoo.serving.over_http import OverHttp, refuse_token
from rnnzoo.serving.talk import Talk
from rnnzoo.serving.watching import Watching


class Service:
    """Conversations over HTTP and WebSocket, with limits that hold against strangers.

    `POST /streams` opens a stream (the body may be `{"load": token}`), `POST /streams/ID` takes
    one message of `Conversation` and gives all answers, `DELETE /streams/ID` closes it.
    WebSocket `/stream` is a stream for as long as the connection lasts. `{"stop": true}` ends
    what is being written. `/openapi.json` describes the HTTP part.

    A client that is gone does not move its stream. One that does not read its answers, or sends
    its request too slowly, is broken off.

    Args:
        clients: the conversations, with the limits on streams.
        limits: all other limits.
        hosts: names that the service may be called by, beside those of this machine.
        origins: pages of other services that may use it, such as "https://example.org".
        proxies: addresses of proxies in front of it, whose `X-Forwarded-For` is believed.
        page: a file to show at `/`.
        status: whether to show `/healthz` and `/metrics`.

    Raises:
        ValueError: clients or limits of another kind, names, pages or addresses that are none.
        ImportError: what `rnnzoo[serve]` names is not installed.
    """

    def __init__(
        self,
        clients: Conversations,
        limits: Limits | None = None,
        *,
        hosts: Iterable[str] = (),
        origins: Iterable[str] = (),
        proxies: Iterable[str] = (),
        page: str | os.PathLike | None = None,
        status: bool = False,
    ):
        if not isinstance(clients, Conversations):
            raise ValueError(
                f"clients must be rnnzoo.serving.Conversations; received {shown(clients)}"
            )
        limits = Limits() if limits is None else limits
        if not isinstance(limits, Limits):
            raise ValueError(f"limits must be rnnzoo.serving.Limits; received {shown(limits)}")
        self._clients, self._limits = clients, limits
        self._page = None if page is None else path("page", page)
        if self._page and not self._page.is_file():
            raise ValueError(f"page must be a file; received {str(page)!r}, which is none")
        self._hosts = ["127.0.0.1", "localhost", "::1", *hosts_of(hosts)]
        self._origins, self._proxies = origins_of(origins), proxies_of(proxies)
        self._connections = Connections(limits, self._proxies)
        self._watching = Watching(clients.batcher, clients, self._connections)
        self._talks: set[Talk] = set()
        self._http = OverHttp(clients, limits, self._watching)
        self.app = self._app(flag("status", status))

    def run(self, host: str = "127.0.0.1", port: int = 8000) -> None:
        """Serves until SIGTERM or SIGINT, then ends in order and returns.

        Args:
            host: the address to listen at: only this machine can reach the default one.
            port: the port.

        Raises:
            ValueError: a port that there is not.
        """
        integer("port", port, 0, 65535)
        http, websocket = self._connections.protocols()
        config = uvicorn.Config(
            self.app,
            host=host,
            port=port,
            log_level="error",  # at "warning" each request that is none would be told
            http=http,
            ws=websocket,
            h11_max_incomplete_event_size=HEAD,
            ws_max_size=self._limits.bytes,
            ws_per_message_deflate=False,  # it would compress on the event loop
            proxy_headers=bool(self._proxies),
            forwarded_allow_ips=self._proxies,
            timeout_graceful_shutdown=3,
        )
        _Server(config, self).run()

    async def end(self) -> None:
        """Ends in order: no new streams, running answers are awaited, states are handed out.

        A WebSocket gets `{"closing": true, "token": state}` and is closed. An HTTP stream gets
        its token with its next message, status 503, for as long as the grace lasts.
        """
        self._clients.closing = True
        for talk in self._talks:
            talk.end()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._limits.grace):
                while len(self._clients) or self._http.answering:
                    await asyncio.sleep(0.05)
        for task in self._http.answering:
            task.cancel()
        for talk in self._talks:
            talk.cut()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(self._limits.grace, 5)):
                while self._talks or self._http.answering:
                    await asyncio.sleep(0.05)

    def _app(self, status: bool) -> Starlette:
        routes = [
            Route("/openapi.json", self._openapi),
            *self._http.routes(),
            WebSocketRoute("/stream", self._talk),
        ]
        routes += [Route("/", self._show)] if self._page else []
        routes += self._watching.routes() if status else []
        middleware = [Middleware(Gate, self._hosts, self._origins)]
        if self._origins:
            allowed = {"allow_methods": ["POST", "DELETE"], "allow_headers": ["content-type"]}
            middleware.append(Middleware(CORSMiddleware, allow_origins=self._origins, **allowed))
        return Starlette(routes=routes, middleware=middleware, lifespan=self._lifespan)

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        await self._clients.batcher.warm_up()
        tasks = [
            asyncio.create_task(task)
            for task in (self._clients.drop_idle(), self._connections.watch())
        ]
        with _prompt():
            yield
        for task in tasks:
            task.cancel()

    async def _talk(self, socket: WebSocket) -> None:
        await socket.accept()
        try:
            refuse_token(socket.query_params)
            name = self._clients.open(client=client_of(socket.client.host))
        except (ValueError, Overloaded) as error:
            self._watching.refused()
            full = 1012 if self._clients.closing else 1013
            code = full if isinstance(error, Overloaded) else 1008
            return await socket.close(code, str(error)[:120])
        talk = Talk(socket, self._clients, name, self._limits, self._watching)
        self._talks.add(talk)
        try:
            await talk.run()
        finally:
            self._talks.discard(talk)

    async def _show(self, request: Request) -> Response:
        # Nobody may show the page inside of his own, where clicks could be led astray.
        headers = {"Content-Security-Policy": "frame-ancestors 'none'"}
        return FileResponse(self._page, headers=headers)

    async def _openapi(self, request: Request) -> Response:
        served = self._clients.batcher.served
        name = served.manifest["name"]
        found = openapi.document(name, __version__, served.outputs, served.static)
        return JSONResponse(found)


@contextlib.contextmanager
def _prompt() -> Iterator[None]:
    """A block in which the process keeps nobody waiting of its own accord.

    A full collection goes through all that TensorFlow has made: 0.2 s in which nothing runs. And
    a thread at work in Python would go on for 5 ms each time that the event loop, or the model,
    comes back from a wait, of which a single step has about five.
    """
    interval, frozen = sys.getswitchinterval(), gc.get_freeze_count()
    sys.setswitchinterval(0.0001)
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        if not frozen:
            gc.unfreeze()
        sys.setswitchinterval(interval)


class _Server(uvicorn.Server):
    """uvicorn's server, which on a signal first lets its service end in order."""

    def __init__(self, config: uvicorn.Config, service: Service):
        super().__init__(config)
        self._service = service
        self._end: asyncio.Task | None = None

    def handle_exit(self, sig: int, frame: Any) -> None:
        asyncio.get_running_loop().call_soon_threadsafe(self._begin_to_end)

    def _begin_to_end(self) -> None:
        if self._end is None:
            self._end = asyncio.create_task(self._service.end())
            self._end.add_done_callback(lambda task: setattr(self, "should_exit", True))
