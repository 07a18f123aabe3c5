"""The stream service under load: many connections against one, every answer checked.

Starts `recipes/serve.py` on an export of a fresh model and talks to it over WebSockets: first one
connection, then many at once, each stepping its own sequence as fast as it is answered. At the end
every answer is compared with what the model in memory gives for that sequence. A few more clients
make trouble meanwhile: they send rubbish, read no answer, and break off in the middle.
"""

import argparse
import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import websockets

import rnnzoo

ROOT = Path(__file__).resolve().parents[1]
FEATURES = 8


async def client(url: str, inputs: np.ndarray, until: float) -> tuple[list, list]:
    """Outputs and seconds of every step that one connection made before `until`."""
    outputs, seconds = [], []
    async with websockets.connect(url, open_timeout=60) as connection:
        for x in inputs:
            begin = time.monotonic()
            if begin > until:
                break
            await connection.send(json.dumps({"inputs": x.tolist()}))
            outputs.append(json.loads(await connection.recv())["outputs"])
            seconds.append(time.monotonic() - begin)
    return outputs, seconds


async def trouble(url: str, until: float) -> None:
    """Rubbish, answers that nobody reads, a broken connection; again and again."""
    while time.monotonic() < until:
        try:
            async with websockets.connect(url, open_timeout=60) as connection:
                await connection.send("rubbish")
                for _ in range(3):
                    await connection.send(json.dumps({"inputs": [0.0] * FEATURES}))
                await asyncio.sleep(0.2)
                connection.transport.abort()
        except websockets.ConnectionClosed:
            continue


async def load(url: str, data: np.ndarray, seconds: float, troublesome: int = 0) -> list:
    until = time.monotonic() + seconds
    others = asyncio.gather(*(trouble(url, until) for _ in range(troublesome)))
    found = await asyncio.gather(*(client(url, inputs, until) for inputs in data))
    await others
    return found


def report(name: str, found: list, seconds: float) -> float:
    """Prints and returns the steps a second."""
    times = np.concatenate([times for _, times in found]) * 1e3
    rate = len(times) / seconds
    median, tail = np.percentile(times, [50, 99])
    print(f"{name:24} {rate:8.0f} steps/s   median {median:6.1f} ms   99 % {tail:6.1f} ms")
    return rate


def check(model, data: np.ndarray, found: list) -> None:
    """Every answer is that of the model in memory for that sequence alone."""
    worst = 0.0
    for inputs, (outputs, _) in zip(data, found):
        steps = len(outputs)
        expected = np.array(model.step(inputs[None, :steps], model.initial_state(1))[0])[0]
        worst = max(worst, float(np.abs(np.array(outputs) - expected).max()))
    print(f"largest difference from the model in memory, over all answers: {worst:.1e}")
    if worst > 1e-4:
        raise SystemExit("states were mixed up")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--troublesome", type=int, default=5, help="clients that misbehave")
    parser.add_argument("--units", type=int, default=256)
    parser.add_argument("--delay", type=float, default=0.0, help="seconds to gather steps for")
    args = parser.parse_args()
    model = rnnzoo.one_to_one(features=FEATURES, units=args.units, outputs=4)
    with tempfile.TemporaryDirectory() as folder, socket.socket() as free:
        path = model.export(Path(folder) / "sensor" / "1")
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        command = [sys.executable, ROOT / "recipes" / "serve.py", path, f"--port={port}"]
        command += ["--delay", str(args.delay)]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            for _ in range(600):
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz").close()
                    break
                except OSError:
                    time.sleep(0.1)
            url = f"ws://127.0.0.1:{port}/stream"
            random = np.random.default_rng(0)
            data = random.normal(size=(args.streams, 20_000, FEATURES)).astype("float32")
            asyncio.run(load(url, data[:4], 2))
            first = args.seconds / 4
            one = report("one connection", asyncio.run(load(url, data[:1], first)), first)
            found = asyncio.run(load(url, data, args.seconds, args.troublesome))
            many = report(f"{args.streams} connections", found, args.seconds)
        finally:
            process.terminate()
            process.wait(20)
    print(f"throughput, many against one: {many / one:.1f} times")
    check(model, data, found)


if __name__ == "__main__":
    main()
