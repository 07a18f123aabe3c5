"""Serve an export to many at once: each connection is a stream with a state of its own.

WebSocket /stream takes the messages of rnnzoo.serving.Conversation. Over HTTP, POST /streams opens
a stream, POST /streams/ID takes one message, DELETE /streams/ID closes it. / is a page to write on.
"""

import argparse
import asyncio
import contextlib
import secrets
import sys
from pathlib import Path

from quiet import load_tensorflow

load_tensorflow()

import uvicorn
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

import rnnzoo
from rnnzoo.serving import Batcher, Conversations, Overloaded

HERE = Path(__file__).resolve().parent
parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
parser.add_argument("path", type=Path, help="an export, such as saved_models/char_lm/1")
parser.add_argument("--port", type=int, default=8000, help="on 127.0.0.1")
parser.add_argument("--delay", type=float, default=0.0, help="seconds to gather steps for")
parser.add_argument("--max-streams", type=int, default=1000)
parser.add_argument("--max-steps", type=int, default=1000, help="in one message")
parser.add_argument("--max-bytes", type=int, default=1 << 18, help="of one message")
parser.add_argument("--idle", type=float, default=300, help="seconds; then a stream is dropped")
parser.add_argument("--key", type=Path, help="file with the secret of saved states")
args = parser.parse_args()
try:
    served = rnnzoo.load_served(args.path)
    if served.manifest["form"] == "encoder_decoder":
        raise ValueError("path must be a one-to-one or many-to-one model; received a pair")
    batcher = Batcher(served, args.delay)
    clients = Conversations(
        batcher,
        args.key.read_bytes() if args.key else secrets.token_bytes(32),
        vocabulary=served.vocabularies.get("prompt"),
        limit=args.max_streams,
        idle=args.idle,
        max_steps=args.max_steps,
    )
except (OSError, ValueError) as error:
    parser.error(str(error))

registry = CollectorRegistry()
seconds = Histogram("rnnzoo_answer_seconds", "From a message to its answer", registry=registry)
refused = Counter("rnnzoo_refused", "Messages that were refused", registry=registry)
for name, help, count in (
    ("streams", "Streams that are open", lambda: len(clients)),
    ("steps", "Messages stepped", lambda: batcher.steps),
    ("calls", "Calls of the model", lambda: batcher.calls),
):
    Gauge(f"rnnzoo_{name}", help, registry=registry).set_function(count)


async def talk(socket: WebSocket) -> None:
    """One stream for as long as the connection lasts."""
    await socket.accept()
    try:
        name = clients.open(socket.query_params.get("token"))
    except (ValueError, Overloaded) as error:
        refused.inc()
        code = 1013 if isinstance(error, Overloaded) else 1008
        return await socket.close(code, str(error)[:120])
    try:
        while name in clients:
            message = await asyncio.wait_for(socket.receive_text(), args.idle)
            try:
                with seconds.time():
                    async for answer in clients.answers(name, message):
                        await socket.send_json(answer)
            except (ValueError, Overloaded) as error:
                refused.inc()
                await socket.send_json({"error": str(error)})
    except TimeoutError:
        await socket.close(1001, "idle for too long")
    except KeyError:  # bytes
        await socket.close(1003, "messages must be text")
    except (WebSocketDisconnect, RuntimeError):
        pass  # the client is gone
    finally:
        clients.close(name)


async def body_of(request: Request) -> bytes:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > args.max_bytes:
            raise OverflowError
    return body


async def streams(request: Request) -> Response:
    """A stream over HTTP: opened, spoken to, closed. All answers to a message come as a list."""
    name = request.path_params.get("name")
    try:
        body = await body_of(request)
        if name is None:
            name = clients.open(request.query_params.get("token"))
            return JSONResponse({"stream": name}, 201)
        if name not in clients:
            return JSONResponse({"error": f"there is no stream {name[:40]!r}"}, 404)
        if request.method == "DELETE":
            clients.close(name)
            return Response(status_code=204)
        with seconds.time():
            return JSONResponse([answer async for answer in clients.answers(name, body)])
    except OverflowError:
        status, text = 413, f"a message must have at most {args.max_bytes} bytes"
    except Overloaded as error:
        status, text = 429, str(error)
    except (ValueError, ClientDisconnect) as error:
        status, text = 400, str(error)
    refused.inc()
    return JSONResponse({"error": text}, status)


@contextlib.asynccontextmanager
async def lifespan(app: Starlette):
    task = asyncio.create_task(clients.drop_idle())
    yield
    task.cancel()


routes = [
    Route("/", lambda request: FileResponse(HERE / "serve.html")),
    Route("/healthz", lambda request: JSONResponse({"model": served.manifest["name"]})),
    Route("/metrics", lambda request: PlainTextResponse(generate_latest(registry))),
    Route("/streams", streams, methods=["POST"]),
    Route("/streams/{name}", streams, methods=["POST", "DELETE"]),
    WebSocketRoute("/stream", talk),
]
print(f"http://127.0.0.1:{args.port}", file=sys.stderr)
app = Starlette(routes=routes, lifespan=lifespan)
uvicorn.run(app, port=args.port, log_level="warning", ws_max_size=args.max_bytes)
