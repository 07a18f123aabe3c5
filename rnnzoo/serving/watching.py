"""What a service tells of itself: `/healthz`, and `/metrics` for Prometheus."""

import contextlib
import time
from collections.abc import Sized

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from rnnzoo.serving.batching import Batcher
from rnnzoo.serving.conversations import Conversations


class Watching:
    """The figures of a service: streams, connections, calls, refusals, and times of answers.

    Args:
        batcher: runs the steps.
        clients: the conversations.
        connections: those that are open, for their number.
    """

    def __init__(self, batcher: Batcher, clients: Conversations, connections: Sized):
        self._name, self._clients = batcher.served.manifest["name"], clients
        self._registry = CollectorRegistry()
        self._seconds = Histogram(
            "rnnzoo_answer_seconds", "From a message to its answer", registry=self._registry
        )
        self._refused = Counter(
            "rnnzoo_refused", "Messages that were refused", registry=self._registry
        )
        for name, text, count in (
            ("streams", "Streams that are open", lambda: len(clients)),
            ("connections", "Connections that are open", lambda: len(connections)),
            ("steps", "Pieces of work done", lambda: batcher.steps),
            ("calls", "Calls of the model", lambda: batcher.calls),
            ("waiting", "Messages under way", lambda: batcher.waiting),
        ):
            Gauge(f"rnnzoo_{name}", text, registry=self._registry).set_function(count)

    @contextlib.contextmanager
    def time(self):
        """A block whose seconds are those of an answer."""
        begin = time.perf_counter()
        yield
        self._seconds.observe(time.perf_counter() - begin)

    def refused(self) -> None:
        """Counts a message that was refused."""
        self._refused.inc()

    def routes(self) -> list[Route]:
        """`/healthz`, which answers 503 once no stream is opened any more, and `/metrics`."""
        return [Route("/healthz", self._healthz), Route("/metrics", self._metrics)]

    async def _healthz(self, request: Request) -> Response:
        status = 503 if self._clients.closing else 200
        return JSONResponse({"model": self._name}, status)

    async def _metrics(self, request: Request) -> Response:
        return PlainTextResponse(generate_latest(self._registry))
