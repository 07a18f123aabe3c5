"""`recipes/serve.py` in a process of its own, for measurements and tests."""

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import websockets

ROOT = Path(__file__).resolve().parents[1]


class Service:
    """What clients do with a service at a port of 127.0.0.1."""

    def __init__(self, port: int):
        self.port = port

    def get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
            return answer.read().decode()

    def send(self, path: str, body: Any = b"", method: str = "POST") -> tuple[int, Any]:
        """Status and content of the answer: what its JSON holds, or bytes."""
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        url = f"http://127.0.0.1:{self.port}{path}"
        request = urllib.request.Request(url, body, method=method)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                status, content, kind = answer.status, answer.read(), answer.headers
        except urllib.error.HTTPError as error:
            status, content, kind = error.code, error.read(), error.headers
        if kind.get_content_type() == "application/octet-stream":
            return status, content
        return status, json.loads(content) if content else None

    def connect(self, query: str = "", **options: Any) -> Any:
        """A WebSocket with a stream of its own."""
        url = f"ws://127.0.0.1:{self.port}/stream{query}"
        return websockets.connect(url, open_timeout=60, **options)

    def metric(self, name: str) -> float:
        return float(re.search(rf"^{name} (\S+)$", self.get("/metrics"), re.M).group(1))


class Started(Service):
    """The service of an export, on a free port of 127.0.0.1.

    Args:
        path: the export.
        **options: of the recipe, by name; None for a switch.
    """

    def __init__(self, path: Path, **options: Any):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            super().__init__(free.getsockname()[1])
        command = [sys.executable, ROOT / "recipes/serve.py", path, f"--port={self.port}"]
        for name, value in options.items():
            name = name.replace("_", "-")
            command.append(f"--{name}" if value is None else f"--{name}={value}")
        environment = {**os.environ, "KERAS_BACKEND": "tensorflow"}
        self.errors = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(command, stderr=self.errors, env=environment)

    def wait(self) -> "Started":
        """The service, once it answers."""
        for _ in range(600):
            try:
                self.get("/")
                return self
            except OSError:
                assert self.process.poll() is None, self.stderr()
                time.sleep(0.1)
        raise TimeoutError(self.stderr())

    def stop(self) -> int:
        """The status with which it ends."""
        self.process.terminate()
        try:
            return self.process.wait(30)
        finally:
            self.process.kill()
            self.process.wait()
            self.errors.close()

    def stderr(self) -> str:
        self.errors.flush()
        self.errors.seek(0)
        return self.errors.read()

    def memory(self) -> float:
        """MiB that the process holds."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)
