"""What a service lets in: hosts, origins, and connections that keep moving."""

import asyncio
import ipaddress
import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import urlsplit

import h11
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from rnnzoo._checks import items, shown
from rnnzoo.serving.limits import Limits

_LOG = logging.getLogger("uvicorn.error.rnnzoo")
# It would be told with a traceback, as often as a stranger likes.
_LOG.addFilter(lambda record: not record.getMessage().startswith("Invalid UTF-8"))
# Bytes that are read of a connection before others have their turn: tiny chunks and frames cost
# microseconds a byte, and a step of somebody else takes several turns.
_TURN = 1 << 9
# Bytes of a request's head: one of 64 KiB may have 10,000 lines, which take 10 ms to read.
HEAD = 1 << 14
# Bytes of a message for each piece that it may come in.
_PIECE = 64


class Gate:
    """An ASGI application behind a check of `Host` and `Origin`.

    A browser lets any page send requests to any address, the user's own machine included, and
    says in `Origin` which page it was. A name that points to this machine can make such a page
    look like one of ours, but not its `Host`.

    Args:
        app: the application.
        hosts: names that this service may be called by, as `hosts_of` has them.
        origins: pages that may use it beside its own, as `origins_of` has them.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str], origins: Iterable[str]):
        self.app = app
        self._hosts, self._origins = frozenset(hosts), frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers 400 or 403 in the application's place; a WebSocket always 403."""
        if scope["type"] in ("http", "websocket"):
            refusal = self._refusal(Headers(scope=scope))
            if refusal is not None and scope["type"] == "websocket":
                return await send({"type": "websocket.close"})
            if refusal is not None:
                status, error = refusal
                return await JSONResponse({"error": error}, status)(scope, receive, send)
        await self.app(scope, receive, send)

    def _refusal(self, headers: Headers) -> tuple[int, str] | None:
        host = headers.get("host", "").lower()
        if _name(f"//{host}") not in self._hosts or len(headers.getlist("host")) > 1:
            return 400, "Host must be a name that this service may answer to"
        for origin in map(str.lower, headers.getlist("origin")):
            own = origin in (f"http://{host}", f"https://{host}")
            if not own and origin not in self._origins:
                return (
                    403,
                    "Origin must be this service's own page or one that it was told to allow",
                )
        return None


def _name(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def hosts_of(hosts: Iterable[str]) -> list[str]:
    """Names of hosts as they are compared; ValueError for what no `Host` can be equal to."""
    found = []
    for given in items("hosts", hosts, "names"):
        host = given.lower().strip("[]") if isinstance(given, str) else ""
        if not host or _name(f"//[{host}]" if ":" in host else f"//{host}") != host:
            raise ValueError(
                "hosts must be names without scheme and port, such as 'example.org'; "
                f"received {shown(given)}"
            )
        found.append(host)
    return found


def origins_of(origins: Iterable[str]) -> list[str]:
    """Origins as browsers send them; ValueError for what no `Origin` can be equal to."""
    found = []
    for given in items("origins", origins, "origins"):
        origin = given.lower().rstrip("/") if isinstance(given, str) else ""
        scheme, _, name = origin.partition("://")
        if scheme not in ("http", "https") or not _name(origin) or set(name) & set("/@?# "):
            raise ValueError(
                "origins must be scheme and name of pages, such as 'https://example.org'; "
                f"received {shown(given)}"
            )
        found.append(origin)
    return found


def proxies_of(proxies: Iterable[str]) -> list[str]:
    """Addresses of proxies; ValueError for what is none."""
    found = items("proxies", proxies, "addresses")
    for given in found:
        try:
            ipaddress.ip_address(given)
        except ValueError as error:
            raise ValueError(
                f"proxies must be addresses, such as '10.0.0.1'; received {shown(given)}"
            ) from error
    return list(map(str, found))


def client_of(address: str) -> str:
    """Whom an address belongs to: of IPv6, where one client has many, the first 64 bits."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    found = getattr(found, "ipv4_mapped", None) or found
    if found.version == 4:
        return str(found)
    return str(ipaddress.ip_network((int(found) >> 64 << 64, 64)))


class _Connection:
    def __init__(self, protocol: Any, client: str):
        self.protocol, self.client = protocol, client
        self.waits = time.monotonic()  # for a request, since
        self.paused: float | None = None  # by a peer that does not read, since
        self.closing: float | None = None


class _Watched:
    """A protocol whose connection `Connections` knows of, from its begin to its end."""

    watched_by: "Connections"

    def connection_lost(self, exc: Exception | None) -> None:
        self.watched_by.remove(self.transport)
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self.watched_by.all[self.transport].paused = time.monotonic()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.transport in self.watched_by.all:
            self.watched_by.all[self.transport].paused = None


class _Http(_Watched, H11Protocol):
    def connection_made(self, transport: asyncio.Transport) -> None:
        transport.max_size = _TURN
        self.conn.next_event = _counted(self.conn.next_event, self.watched_by.pieces)
        super().connection_made(transport)
        self.watched_by.add(self, transport)

    def send_400_response(self, msg: str) -> None:
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            _refuse(self.transport, "400 Bad Request", "the request must be HTTP/1.1")
        else:  # it was answered, or is being answered
            self.transport.close()

    def on_response_complete(self) -> None:
        if self.transport in self.watched_by.all:
            self.watched_by.all[self.transport].waits = time.monotonic()
        super().on_response_complete()


class _WebSocket(_Watched, WebSocketsSansIOProtocol):
    pieces = 0  # of a message, and control frames since the last one

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.logger = _LOG

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.handshake_initiated:
            _refuse(self.transport, "400 Bad Request", "the upgrade must be a WebSocket's")

    async def send(self, message: Any) -> None:
        await self.writable.wait()
        # Who has sent a broken frame meanwhile is gone. uvicorn would take what is sent to him
        # for a mistake of ours, and strangers could fill the log with that.
        if not (self.handshake_complete and self.transport.is_closing()):
            await super().send(message)
        elif message["type"] != "websocket.close":
            raise ClientDisconnected

    def handle_cont(self, event: Any) -> None:
        self._count()
        super().handle_cont(event)

    def handle_ping(self) -> None:
        self._count()
        super().handle_ping()

    def handle_pong(self, event: Any) -> None:
        self._count()
        super().handle_pong(event)

    def send_receive_event_to_app(self) -> None:
        self.pieces = 0
        super().send_receive_event_to_app()

    def _count(self) -> None:
        self.pieces += 1
        if self.pieces > self.watched_by.pieces and not self.close_sent:
            self.conn.fail(1008, "too many frames for a message")
            self.handle_parser_exception()


class Connections:
    """The connections of a service, of which those are broken off that hold it up.

    Args:
        limits: how many there may be, and how slow.
        proxies: addresses that may have any number.
    """

    def __init__(self, limits: Limits, proxies: Iterable[str] = ()):
        self._limits, self._proxies = limits, frozenset(proxies)
        self.pieces = 64 + limits.bytes // _PIECE
        self.all: dict[asyncio.Transport, _Connection] = {}
        self._of_client: Counter = Counter()

    def __len__(self) -> int:
        return len(self.all)

    def protocols(self) -> tuple[type, type]:
        """The protocols of HTTP and WebSocket for `uvicorn.Config`, watched by this object."""
        own = {"watched_by": self}
        return type("Http", (_Http,), own), type("WebSocket", (_WebSocket,), own)

    async def watch(self) -> None:
        """Breaks off what holds the service up, again and again; run it as a task."""
        pause = min(1.0, self._limits.request / 4, self._limits.send / 4)
        while True:
            await asyncio.sleep(pause)
            now = time.monotonic()
            for transport, one in list(self.all.items()):
                self._check(transport, one, now)
            self._free()

    def _free(self) -> None:
        """Breaks off those that have waited longest to be read, while too much waits."""
        sizes = {transport: transport.get_write_buffer_size() for transport in self.all}
        excess = sum(sizes.values()) - self._limits.unsent
        since = {t: one.paused or one.closing or math.inf for t, one in self.all.items()}
        for transport in sorted(sizes, key=since.get):
            if excess <= 0:
                return
            transport.abort()
            excess -= sizes[transport]

    def _check(self, transport: asyncio.Transport, one: _Connection, now: float) -> None:
        if transport.is_closing():
            one.closing = one.closing or now
        if any(since and now - since > self._limits.send for since in (one.paused, one.closing)):
            transport.abort()
        elif transport.is_closing() or transport.get_protocol() is not one.protocol:
            return
        elif one.protocol.cycle is None or one.protocol.cycle.response_complete:
            if now - one.waits > self._limits.request:
                _refuse(transport, "408 Request Timeout", "the head of a request came too slowly")

    def add(self, protocol: Any, transport: asyncio.Transport) -> None:
        """Takes note of a new connection, which is refused where there are too many."""
        address = (transport.get_extra_info("peername") or [""])[0]
        client = client_of(str(address))
        self.all[transport] = _Connection(protocol, client)
        self._of_client[client] += 1
        if len(self.all) > self._limits.connections:
            _refuse(transport, "503 Service Unavailable", "too many connections are open")
        elif (
            self._of_client[client] > self._limits.connections_per_client
            and address not in self._proxies
        ):
            _refuse(transport, "429 Too Many Requests", "one client has too many connections open")

    def remove(self, transport: asyncio.Transport) -> None:
        """Forgets a connection that is closed."""
        one = self.all.pop(transport, None)
        if one is not None:
            self._of_client[one.client] -= 1
            if not self._of_client[one.client]:
                del self._of_client[one.client]


def _counted(next_event: Callable[[], Any], limit: int) -> Callable[[], Any]:
    """`next_event` of h11, that takes a body in so many pieces at most."""
    pieces = 0

    def counted() -> Any:
        nonlocal pieces
        event = next_event()
        pieces = pieces + 1 if type(event) is h11.Data else pieces
        pieces = 0 if type(event) is h11.EndOfMessage else pieces
        if pieces > limit:
            raise h11.RemoteProtocolError("too many pieces")
        return event

    return counted


def _refuse(transport: asyncio.Transport, status: str, error: str) -> None:
    body = f'{{"error": "{error}"}}'
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nConnection: close\r\n"
    transport.write(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode("ascii"))
    transport.close()
