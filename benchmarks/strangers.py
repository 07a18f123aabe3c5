"""Clients that a service must withstand, each with the answers that are clear enough for it.

A case is a coroutine function of a running service of a model that writes (`started.Started`,
with the options `OPTIONS`), which returns what it got: an HTTP status, "error" (a message that
says why), "close CODE", or "aborted" for those who would not have read an answer.
"""

import asyncio
import base64
import contextlib
import http.client
import json
import logging
import math
import os
import re
import socket
import struct
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import websockets

from benchmarks.started import Service

# Small, so that every limit can be met in seconds.
OPTIONS = {
    "max_streams": 100,
    "max_per_client": 40,
    "max_steps": 1000,
    "max_bytes": 100_000,
    "max_numbers": 60_000,
    "idle": 4,
    "request": 1,
    "send": 1,
    "status": None,
    "token_hours": 1,
}
# Strangers come from another address of this machine than the clients that behave.
SOURCE = "127.0.0.2"
_HEAD = "Host: 127.0.0.1:{port}\r\n"
_POST = f"POST /streams HTTP/1.1\r\n{_HEAD}"

Case = Callable[[Service], Awaitable[str]]


async def opened(service: Service, size: int | None = None) -> tuple:
    """A connection; `size` bytes of answers fit into its end."""
    end = socket.socket()
    if size is not None:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
    end.bind((SOURCE, 0))
    end.setblocking(False)
    await asyncio.get_running_loop().sock_connect(end, ("127.0.0.1", service.port))
    return await asyncio.open_connection(sock=end, limit=1 << 24)


def raw(*parts: str | bytes, pause: float = 0.0, half: bool = False) -> Case:
    """Sends the parts as they are, `{port}` filled in, and reads until the service closes."""

    async def case(service: Service) -> str:
        reader, writer = await opened(service)
        try:
            for part in parts:
                part = part.replace("{port}", str(service.port)) if isinstance(part, str) else part
                writer.write(part if isinstance(part, bytes) else part.encode("latin-1"))
                await writer.drain()
                await asyncio.sleep(pause)
            if half:
                writer.write_eof()
            return await outcome(reader)
        except (ConnectionError, asyncio.IncompleteReadError):
            return "aborted"
        finally:
            writer.transport.abort()

    return case


async def outcome(reader: asyncio.StreamReader) -> str:
    """The status of an answer, or the code of the close frame after a handshake."""
    async with asyncio.timeout(15):
        status = (await reader.readline()).split(b" ")
        if len(status) < 2:
            return "closed"
        if status[1] != b"101":
            return status[1].decode()
        await reader.readuntil(b"\r\n\r\n")
        return await close_code(reader)


async def close_code(reader: asyncio.StreamReader) -> str:
    """The code with which a WebSocket is closed, after any other frames."""
    while True:
        first, size = await reader.readexactly(2)
        if size == 126:
            size = int.from_bytes(await reader.readexactly(2), "big")
        content = await reader.readexactly(size)
        if first & 15 == 8:
            return f"close {int.from_bytes(content[:2], 'big')}"


def frames(*parts: bytes, extensions: str = "") -> Case:
    """Sends the parts once a WebSocket was accepted."""

    async def case(service: Service) -> str:
        reader, writer = await opened(service)
        lines = [f"Sec-WebSocket-Extensions: {extensions}"] if extensions else []
        try:
            writer.write(handshake(*lines).replace("{port}", str(service.port)).encode())
            async with asyncio.timeout(15):
                await reader.readuntil(b"\r\n\r\n")
                for part in parts:
                    writer.write(part)
                return await close_code(reader)
        except (ConnectionError, asyncio.IncompleteReadError):
            return "aborted"
        finally:
            writer.transport.abort()

    return case


def request(method: str, path: str, body: bytes = b"", *lines: str, host: str = _HEAD) -> str:
    head = f"{method} {path} HTTP/1.1\r\n{host}Connection: close\r\n"
    head += "".join(f"{line}\r\n" for line in lines)
    return f"{head}Content-Length: {len(body)}\r\n\r\n{body.decode('latin-1')}"


def handshake(*lines: str, path: str = "/stream", host: str = _HEAD, version: int = 13) -> str:
    key = base64.b64encode(bytes(16)).decode()
    head = f"GET {path} HTTP/1.1\r\n{host}Upgrade: websocket\r\nConnection: Upgrade\r\n"
    head += f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: {version}\r\n"
    return head + "".join(f"{line}\r\n" for line in lines) + "\r\n"


def frame(first: int, payload: bytes, mask: bool = True) -> bytes:
    """A frame of a WebSocket, masked with zeros."""
    flag = 128 if mask else 0
    size = len(payload)
    head = (
        bytes([first, flag | size]) if size < 126 else struct.pack(">BBH", first, flag | 126, size)
    )
    return head + (bytes(4) if mask else b"") + payload


def says(*messages: Any) -> Case:
    """The answer to the last of some WebSocket messages, after which a good one is answered."""

    async def case(service: Service) -> str:
        async with service.connect(local_addr=(SOURCE, 0)) as client:
            try:
                for message in messages:
                    await client.send(_text(message))
                    answer = json.loads(await asyncio.wait_for(client.recv(), 15))
                await client.send('{"inputs": 1}')
                good = json.loads(await asyncio.wait_for(client.recv(), 15))
                assert good["steps"] == 1, good
            except websockets.ConnectionClosed as closed:
                return f"close {closed.rcvd.code}"
        return "error" if "error" in answer else "answered"

    return case


def posts(
    message: Any, path: str = "/streams/{name}", method: str = "POST", steps: int = 1
) -> Case:
    """The status of a message to a stream of one's own, which has made `steps` one step later."""

    async def case(service: Service) -> str:
        def run() -> str:
            _, made = service.send("/streams")
            body = message if isinstance(message, bytes) else _text(message).encode()
            status, answer = service.send(path.format(name=made["stream"]), body, method)
            assert status < 400 or answer["error"]
            _, good = service.send(f"/streams/{made['stream']}", {"inputs": 1})
            assert good[0]["steps"] == steps, good
            service.send(f"/streams/{made['stream']}", method="DELETE")
            return str(status)

        return await asyncio.to_thread(run)

    return case


def _text(message: Any) -> Any:
    return message if isinstance(message, (str, bytes)) else json.dumps(message)


def deep(levels: int, key: str = "inputs") -> str:
    return f'{{"{key}": {"[" * levels}{"]" * levels}}}'


MESSAGES = {
    "nothing": "",
    "rubbish": "rubbish",
    "zeros": "\0" * 50,
    "half": '{"inputs": [1',
    "a list": "[1, 2]",
    "a number": "17",
    "null": "null",
    "no key": {},
    "another key": {"input": 1},
    "two keys": {"inputs": 1, "save": True},
    "key twice": '{"inputs": 1, "inputs": "x"}',
    "key of objects": '{"__proto__": {"inputs": 1}}',
    "extra": {"inputs": 1, "seed": 1},
    "inputs null": {"inputs": None},
    "inputs text": {"inputs": "1"},
    "inputs texts": {"inputs": ["1", "2"]},
    "inputs objects": {"inputs": [{"a": 1}]},
    "inputs true": {"inputs": True},
    "inputs empty": {"inputs": []},
    "inputs ragged": {"inputs": [[1, 2], [3]]},
    "inputs deep": {"inputs": [[1]]},
    "inputs of lists": {"inputs": [[[]] * 20_000]},
    "inputs of objects": {"inputs": [[{}] * 20_000]},
    "inputs of 30,000 numbers": {"inputs": [1] * 30_000},
    "inputs half": {"inputs": 0.5},
    "inputs below": {"inputs": -1},
    "inputs above": {"inputs": 10**6},
    "inputs huge": {"inputs": 10**300},
    "inputs 5000 digits": '{"inputs": ' + "9" * 5000 + "}",
    "inputs infinite": '{"inputs": 1e999}',
    "inputs nan": '{"inputs": NaN}',
    "too many steps": {"inputs": [1] * 1001},
    "huge answer": {"inputs": [1] * 1000},
    "nested 60": deep(60),
    "nested 500": deep(500),
    "nested 967": deep(967),
    "nested 968": deep(968),
    "nested 30,000": deep(30_000),
    "nested objects": '{"inputs": ' * 5000 + "1" + "}" * 5000,
    "nested save": deep(950, "save"),
    "nested load": deep(950, "load"),
    "top 0": {"inputs": 1, "top": 0},
    "top text": {"inputs": 1, "top": "1"},
    "as": {"inputs": 1, "as": "pickle"},
    "wrong step": {"inputs": 1, "step": 5},
    "step below": {"inputs": 1, "step": -1},
    "step text": {"inputs": 1, "step": "0"},
    "write 0": {"write": 0, "prompt": "t"},
    "write much": {"write": 10**9, "prompt": "t"},
    "write text": {"write": "5", "prompt": "t"},
    "write without a prompt": {"write": 5},
    "prompt unknown": {"write": 5, "prompt": "\U0001f40d"},
    "prompt half a pair": '{"write": 5, "prompt": "\\ud800"}',
    "prompt long": {"write": 5, "prompt": "t" * 5000},
    "prompt of 90 KB": {"write": 5, "prompt": "t" * 90_000},
    "cold": {"write": 5, "prompt": "t", "temperature": -1},
    "hot": {"write": 5, "prompt": "t", "temperature": 1e300},
    "seed": {"write": 5, "prompt": "t", "seed": 2**64},
    "save false": {"save": False},
    "save text": {"save": "true"},
    "load nothing": {"load": ""},
    "load rubbish": {"load": "2.AAAA"},
    "load a number": {"load": 5},
    "load a path": {"load": "../../etc/passwd"},
}

EVIL = "Origin: https://evil.example"
RAW = {
    "no HTTP": (raw("HELO strangers\r\n\r\n"), "400"),
    "TLS": (raw(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(32)), "400|408"),
    "zeros": (raw(bytes(1000)), "400|408"),
    "old HTTP": (raw("GET /\r\n\r\n"), "400"),
    "no host": (raw(request("GET", "/", host="")), "400"),
    "two hosts": (raw(request("GET", "/", b"", "Host: evil.example")), "400"),
    "evil host": (raw(request("GET", "/", host="Host: evil.example\r\n")), "400"),
    "host with our name": (
        raw(request("GET", "/", host="Host: 127.0.0.1.evil.example\r\n")),
        "400",
    ),
    "host with a user": (raw(request("GET", "/", host="Host: 127.0.0.1@evil.example\r\n")), "400"),
    "empty host": (raw(request("GET", "/", host="Host:\r\n")), "400"),
    "broken host": (raw(request("GET", "/", host="Host: [::1\r\n")), "400"),
    "evil origin": (raw(request("POST", "/streams", b"", EVIL)), "403"),
    "null origin": (raw(request("POST", "/streams", b"", "Origin: null")), "403"),
    "origin of another port": (
        raw(request("POST", "/streams", b"", "Origin: http://127.0.0.1:1")),
        "403",
    ),
    "two origins": (
        raw(request("POST", "/streams", b"", "Origin: http://127.0.0.1:{port}", EVIL)),
        "403",
    ),
    "evil page reads": (raw(request("GET", "/metrics", b"", EVIL)), "403"),
    "evil preflight": (raw(request("OPTIONS", "/streams", b"", EVIL)), "403"),
    "evil socket": (raw(handshake(EVIL)), "403"),
    "null socket": (raw(handshake("Origin: null")), "403"),
    "evil host socket": (raw(handshake(host="Host: evil.example\r\n")), "403"),
    "socket elsewhere": (raw(handshake(path="/streams")), "403|404"),
    "socket of another version": (raw(handshake(version=7)), "400|426"),
    "socket with many headers": (raw(handshake(*["X: 1"] * 200)), "400"),
    "socket with a long header": (raw(handshake("X: " + "x" * 9000)), "400"),
    "socket with a body": (raw(handshake("Content-Length: 5") + "hello"), "400"),
    "no socket key": (raw(handshake().replace("Sec-WebSocket-Key", "X")), "400"),
    "token in the URL of a socket": (raw(handshake(path="/stream?token=x")), "close 1008"),
    "token in a URL": (raw(request("POST", "/streams?token=x")), "400"),
    "token in the URL of a message": (raw(request("POST", "/streams/x?token=y")), "400"),
    "unknown path": (raw(request("GET", "/admin")), "404"),
    "path out": (raw(request("GET", "/../../../etc/passwd")), "404"),
    "path out, hidden": (raw(request("GET", "/%2e%2e/%2e%2e/etc/passwd")), "404"),
    "unknown method": (raw(request("BREW", "/streams")), "405"),
    "GET of a stream": (raw(request("GET", "/streams")), "405"),
    "unknown stream": (raw(request("POST", "/streams/none", b'{"save": true}')), "404"),
    "unknown stream closed": (raw(request("DELETE", "/streams/none")), "404"),
    "stream of zeros": (raw(request("POST", "/streams/%00%00", b'{"save": true}')), "404"),
    "long name": (raw(request("POST", f"/streams/{'x' * 9000}", b'{"save": true}')), "404"),
    "huge header": (raw(request("GET", "/", b"", "X: " + "x" * 300_000)), "400|431|aborted"),
    "many headers": (raw(request("GET", "/", b"", *["X: 1"] * 50_000)), "400|431|aborted"),
    "many short headers": (raw(request("GET", "/", b"", *["X: 1"] * 9000)), "400|431|aborted"),
    "negative length": (
        raw("POST /streams HTTP/1.1\r\n" + _HEAD + "Content-Length: -5\r\n\r\n"),
        "400",
    ),
    "two lengths": (
        raw(
            "POST /streams HTTP/1.1\r\n" + _HEAD + "Content-Length: 5\r\nContent-Length: 6\r\n\r\n"
        ),
        "400",
    ),
    "length and chunks": (
        raw(
            "POST /streams HTTP/1.1\r\n" + _HEAD + "Content-Length: 5\r\n"
            "Transfer-Encoding: chunked\r\n\r\nx\r\n"
        ),
        "400|501",
    ),
    "broken chunks": (
        raw("POST /streams HTTP/1.1\r\n" + _HEAD + "Transfer-Encoding: chunked\r\n\r\nxyz\r\n"),
        "400",
    ),
    "long body": (raw(request("POST", "/streams/x", b"x" * 150_000)), "413|aborted"),
    "long chunks": (
        raw(
            f"{_POST}Transfer-Encoding: chunked\r\n\r\n",
            *["fff0\r\n" + "x" * 0xFFF0 + "\r\n"] * 4,
        ),
        "413|aborted",
    ),
    "tiny chunks": (
        raw(f"{_POST}Transfer-Encoding: chunked\r\n\r\n" + "1\r\nx\r\n" * 5000),
        "400|aborted",
    ),
    "rubbish after the answer": (
        raw(
            "POST /nothing HTTP/1.1\r\n" + _HEAD + "Transfer-Encoding: chunked\r\n\r\n",
            "xyz\r\n",
            pause=0.1,
        ),
        "404",
    ),
    "opens with rubbish": (raw(request("POST", "/streams", b"rubbish")), "400"),
    "opens with another key": (raw(request("POST", "/streams", b'{"save": true}')), "400"),
    "opens with nesting": (raw(request("POST", "/streams", b"[" * 50_000)), "400"),
    "silent": (raw(), "408"),
    "half a head": (raw("GET / HTTP/1.1\r\nHost: 127"), "408"),
    "slow head": (raw("GET / HTTP/1.1\r\n", *["X: 1\r\n"] * 40, pause=0.1), "408|aborted"),
    "no body": (
        raw(f"{_POST}Content-Length: 50\r\n\r\n"),
        "408",
    ),
    "slow body": (
        raw(
            f"{_POST}Content-Length: 90\r\n\r\n",
            *"x" * 40,
            pause=0.1,
        ),
        "408|aborted",
    ),
    "half closed": (
        raw(f"{_POST}Content-Length: 50\r\n\r\n", half=True),
        "400|408|closed|aborted",
    ),
    "silent after its request": (
        raw("GET /nothing HTTP/1.1\r\n" + _HEAD + "\r\n", "GET /n", pause=0.1),
        "404",
    ),
    "socket that says nothing": (raw(handshake()), "close 1001"),
    "half a frame": (frames(b"\x81\xfe\x10"), "close 1001"),
    "unmasked": (frames(frame(0x81, b"{}", mask=False)), "close 1002"),
    "unknown opcode": (frames(frame(0x83, b"{}")), "close 1002"),
    "reserved bits": (frames(frame(0xF1, b"{}")), "close 1002"),
    "long control frame": (frames(frame(0x89, b"x" * 126)), "close 1002"),
    "wrong close code": (frames(frame(0x88, struct.pack(">H", 99))), "close 1002"),
    "no UTF-8": (frames(frame(0x81, b"\xff\xfe")), "close 1007"),
    "bytes": (frames(frame(0x82, b"{}")), "close 1003"),
    "long frame": (frames(struct.pack(">BBQ", 0x81, 255, 1 << 40)), "close 1009"),
    "long pieces": (
        frames(frame(0x01, b"x" * 60_000), *[frame(0x00, b"x" * 60_000)] * 3),
        "close 1009|aborted",
    ),
    "many pings": (frames(frame(0x89, b"") * 5000), "close 1008|aborted"),
    "many pieces": (frames(frame(0x01, b"x"), frame(0x00, b"") * 5000), "close 1008|aborted"),
    "goes on with nothing": (frames(frame(0x80, b"x")), "close 1002"),
    "compressed bomb": (
        frames(frame(0xC1, b"x" * 99), extensions="permessage-deflate"),
        "close 1002",
    ),
}


def never_reads(*parts: bytes) -> Case:
    """Sends what has more answers than fit anywhere, and reads nothing."""

    async def case(service: Service) -> str:
        _, writer = await opened(service, 4096)
        writer.transport.pause_reading()
        try:
            for part in parts:
                writer.write(part.replace(b"{port}", str(service.port).encode()))
            own = writer.get_extra_info("sockname")[1]
            for _ in range(100):
                await asyncio.sleep(0.1)
                if not _is_held(service.port, own):
                    return "aborted"
            return "held"
        finally:
            writer.transport.abort()

    return case


def _is_held(port: int, own: int) -> bool:
    """Whether the service still holds its end of a connection, as Linux tells."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, state, *_ = line.split()
        if (int(local[-4:], 16), int(remote[-4:], 16)) == (port, own):
            return state == "01"
    return False


_LARGE = json.dumps({"inputs": [1] * 300}).encode()


async def _silent_http(service: Service) -> str:
    made = (await asyncio.to_thread(service.send, "/streams"))[1]["stream"]
    text = request("POST", f"/streams/{made}", _LARGE).replace("Connection: close\r\n", "")
    got = await never_reads(*[text.encode("latin-1")] * 200)(service)
    await asyncio.to_thread(service.send, f"/streams/{made}", b"", "DELETE")
    return got


async def _many_connections(service: Service) -> str:
    """More connections than one address may have; those of others are let in meanwhile."""
    ends = []
    try:
        for _ in range(OPTIONS["max_per_client"] + 60):
            ends.append(await opened(service))
        got = await outcome(ends[-1][0])
        assert json.loads(await asyncio.to_thread(service.get, "/healthz"))
        return got
    finally:
        for _, writer in ends:
            writer.transport.abort()


async def _many_streams(service: Service) -> str:
    """Streams opened over HTTP and left; one client gets some, and another still gets his."""

    def ask(method: str, path: str) -> tuple[int, dict]:
        link = http.client.HTTPConnection("127.0.0.1", service.port, source_address=(SOURCE, 0))
        with contextlib.closing(link):
            link.request(method, path)
            answer = link.getresponse()
            return answer.status, json.loads(answer.read() or "{}")

    def run() -> str:
        found = []
        # Those that are opened first may have become idle before the last.
        while len(found) < 500 and (not found or found[-1][0] == 201):
            found.append(ask("POST", "/streams"))
        status, made = service.send("/streams")
        assert status == 201
        service.send(f"/streams/{made['stream']}", method="DELETE")
        for status, made in found:
            if status == 201:
                ask("DELETE", f"/streams/{made['stream']}")
        return str(found[-1][0])

    return await asyncio.to_thread(run)


async def _breaks_off(service: Service) -> str:
    """Connections that are broken off in the middle of an answer, ten times."""
    for _ in range(10):
        async with service.connect(local_addr=(SOURCE, 0)) as client:
            await client.send('{"write": 500, "prompt": "t"}')
            await client.recv()
            client.transport.abort()
    return "aborted"


async def _gone_and_back(service: Service) -> str:
    """Goes in the middle of its steps and sends them again: they are done once."""

    def run() -> str:
        _, (once, twin) = 0, [service.send("/streams")[1]["stream"] for _ in range(2)]
        message = {"inputs": [1, 2, 3, 4] * 100, "top": 1, "step": 0}
        body = json.dumps(message).encode()
        for pause in (0.0, 0.001, 0.004, 0.02):
            with socket.create_connection(("127.0.0.1", service.port)) as end:
                text = request("POST", f"/streams/{once}").split("Content-Length")[0]
                text = text.replace("{port}", str(service.port))
                end.sendall(f"{text}Content-Length: {len(body)}\r\n\r\n".encode() + body)
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                with contextlib.suppress(TimeoutError):
                    end.settimeout(pause)
                    end.recv(1) if pause else None
        found = [service.send(f"/streams/{name}", message) for name in (once, once, twin)]
        assert found[0] == found[1] and found[0][0] == 200, found[0]
        after = [service.send(f"/streams/{name}", {"inputs": 5}) for name in (once, twin)]
        assert [answer[0]["steps"] for _, answer in after] == [401, 401], after
        for name in (once, twin):
            service.send(f"/streams/{name}", method="DELETE")
        return "done once"

    return await asyncio.to_thread(run)


async def _altered_token(service: Service) -> str:
    """A token with one character after the other altered, to the service as a message."""
    async with service.connect(local_addr=(SOURCE, 0)) as client:
        await client.send('{"save": true}')
        token = json.loads(await client.recv())["token"]
        found = set()
        for place in range(0, len(token) - 4, len(token) // 25):
            other = "A" if token[place] != "A" else "B"
            altered = token[:place] + other + token[place + 1 :]
            await client.send(json.dumps({"load": altered}))
            found |= set(json.loads(await client.recv()))
    return "/".join(found)


async def _token_of_another_key(service: Service) -> str:
    token = "2." + base64.urlsafe_b64encode(os.urandom(600)).decode()
    return await says({"load": token})(service)


OTHERS = {
    "never reads, socket": (
        never_reads(handshake().encode(), *[frame(0x81, _LARGE)] * 200),
        "aborted",
    ),
    "never reads, HTTP": (_silent_http, "aborted"),
    "breaks off": (_breaks_off, "aborted"),
    "gone and back": (_gone_and_back, "done once"),
    "altered token": (_altered_token, "error"),
    "token of another key": (_token_of_another_key, "error"),
}
# Those that take all that their address may have, so one after the other.
FLOODS = {
    "many connections": (_many_connections, "429"),
    "many streams": (_many_streams, "429"),
}

CASES: dict[str, tuple[Case, str]] = {
    **{f"socket, {name}": (says(message), "error") for name, message in MESSAGES.items()},
    **{f"HTTP, {name}": (posts(message), "400") for name, message in MESSAGES.items()},
    **{f"raw, {name}": case for name, case in RAW.items()},
    **OTHERS,
    **FLOODS,
}


def tells(*messages: Any) -> Case:
    """Sends messages that mean well over a WebSocket, and reads all answers."""

    async def case(service: Service) -> str:
        async with service.connect(local_addr=(SOURCE, 0), max_size=None) as client:
            for message in messages:
                await client.send(_text(message))
                while (answer := await client.recv()).startswith('{"text"'):
                    pass
        return "error" if answer.startswith('{"error"') else "answered"

    return case


def _meant_well(message: Any) -> str:
    """A step as long as `message`."""
    return '{"inputs": 1}'.ljust(len(_text(message)))


# As many clients that mean well, with as many bytes, over the same transports, and as much for the
# model to do: what the machine takes for them.
HARMLESS: dict[str, tuple[Case, str]] = {
    **{
        f"socket, {k}": (tells(_meant_well(v), {"inputs": 1}), "answered")
        for k, v in MESSAGES.items()
    },
    **{f"HTTP, {k}": (posts(_meant_well(v), steps=2), "200") for k, v in MESSAGES.items()},
    **{f"raw, {name}": (raw(request("GET", "/healthz")), "200") for name in RAW},
    "reads, socket": (tells(*[_LARGE.decode()] * 3), "answered"),
    "reads, HTTP": (tells(*[_LARGE.decode()] * 3), "answered"),
    "does not break off": (tells(*[{"write": 16, "prompt": "t"}] * 10), "answered"),
    "stays": (tells(*[{"inputs": [1, 2, 3, 4] * 100, "top": 1}] * 3), "answered"),
    "saves": (tells(*[{"save": True}] * 25), "answered"),
    "saves once": (tells({"save": True}), "answered"),
    **{f"no flood of {name}": (tells({"inputs": 1}), "answered") for name in FLOODS},
}


async def all_cases(
    service: Service, cases: dict[str, tuple[Case, str]] = CASES, at_once: int = 6
) -> dict[str, str]:
    """What each case got, and what it should have got where that is something else."""
    found: dict[str, str] = {}
    room = asyncio.Semaphore(at_once)

    async def run(name: str) -> None:
        case, expected = cases[name]
        async with room:
            try:
                got = await case(service)
            except Exception as error:
                got = f"{type(error).__name__}: {error}"
        found[name] = got if re.fullmatch(expected, got) else f"{got} instead of {expected}"

    await asyncio.gather(*(run(name) for name in cases if name not in FLOODS))
    for name in FLOODS.keys() & cases:
        await run(name)
    return found


def main() -> None:
    """All cases against the service at a port, again and again for some seconds; JSON.

    With a third argument it is clients that mean well, that many rounds of them in these seconds.
    """
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # who breaks off is told at each send
    port, seconds, *rounds = sys.argv[1:]
    service, begin, found = Service(int(port)), time.monotonic(), []
    cases, most = (HARMLESS, int(*rounds)) if rounds else (CASES, math.inf)
    while not found or (len(found) < most and time.monotonic() < begin + float(seconds)):
        found.append(asyncio.run(all_cases(service, cases)))
        if rounds:
            time.sleep(max(0.0, begin + float(seconds) * len(found) / most - time.monotonic()))
    wrong = [f"{k}: {v}" for one in found for k, v in one.items() if "instead of" in v]
    print(json.dumps({"rounds": len(found), "cases": len(cases), "wrong": wrong}))


if __name__ == "__main__":
    main()
