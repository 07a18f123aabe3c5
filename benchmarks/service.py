"""The stream service under load, beside long work, and beside strangers; every answer checked.

Starts `recipes/serve.py` and talks to it over the loopback. "load": many WebSockets, each stepping
its own sequence of a fresh model as fast as it is answered, while a few make trouble; at the end
every answer is compared with what the model in memory gives for that sequence. "fairness": the time
of one client's single steps beside clients of 1,000 steps a message, and beside writers.
"strangers": the same beside all of `benchmarks/strangers.py`, again and again, and beside as many
harmless clients. "churn": the memory of the service while clients and strangers come and go.
"""

import argparse
import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import websockets

import rnnzoo
from benchmarks.started import ROOT, Service, Started
from benchmarks.strangers import CASES, HARMLESS, OPTIONS

FEATURES = 8
WRITER = ROOT / "saved_models" / "shakespeare" / "1"
PARTS = ("load", "fairness", "strangers", "churn")


async def client(service: Started, inputs: np.ndarray, until: float) -> tuple[list, list]:
    """Outputs and seconds of every step that one connection made before `until`."""
    outputs, seconds = [], []
    async with service.connect() as connection:
        for x in inputs:
            begin = time.monotonic()
            if begin > until:
                break
            await connection.send(json.dumps({"inputs": x.tolist()}))
            outputs.append(json.loads(await connection.recv())["outputs"])
            seconds.append(time.monotonic() - begin)
    return outputs, seconds


async def trouble(service: Started, until: float) -> None:
    """Rubbish, answers that nobody reads, a broken connection; again and again."""
    while time.monotonic() < until:
        try:
            async with service.connect() as connection:
                await connection.send("rubbish")
                for _ in range(3):
                    await connection.send(json.dumps({"inputs": [0.0] * FEATURES}))
                await asyncio.sleep(0.2)
                connection.transport.abort()
        except websockets.ConnectionClosed:
            continue


async def load(service: Started, data: np.ndarray, seconds: float, troublesome: int = 0) -> list:
    until = time.monotonic() + seconds
    others = asyncio.gather(*(trouble(service, until) for _ in range(troublesome)))
    found = await asyncio.gather(*(client(service, inputs, until) for inputs in data))
    await others
    return found


def report(name: str, times: list[float], seconds: float) -> float:
    """Prints and returns the steps a second."""
    rate = len(times) / seconds
    median, tail = np.percentile(times, [50, 99]) * 1e3
    print(
        f"{name:38} {rate:7.0f} steps/s   median {median:6.1f} ms   99 % {tail:6.1f} ms   "
        f"longest {max(times) * 1e3:6.1f} ms",
        flush=True,
    )
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


def under_load(args: argparse.Namespace) -> None:
    model = rnnzoo.one_to_one(features=FEATURES, units=args.units, outputs=4)
    random = np.random.default_rng(0)
    data = random.normal(size=(args.streams, 20_000, FEATURES)).astype("float32")
    options = {"delay": args.delay, "max_streams": 2 * args.streams + 50}
    options["max_per_client"] = options["max_streams"]
    with tempfile.TemporaryDirectory() as folder:
        with running(model.export(Path(folder) / "sensor" / "1"), **options) as service:
            asyncio.run(load(service, data[:4], 2))
            first = args.seconds / 4
            (found,) = asyncio.run(load(service, data[:1], first))
            one = report("one connection", found[1], first)
            found = asyncio.run(load(service, data, args.seconds, args.troublesome))
            times = [seconds for _, client in found for seconds in client]
            many = report(f"{args.streams} connections", times, args.seconds)
    print(f"throughput, many against one: {many / one:.1f} times")
    check(model, data, found)


@contextlib.contextmanager
def running(path: Path, **options):
    service = Started(path, **options)
    try:
        yield service.wait()
    finally:
        service.stop()


async def stepper(service: Started, until: float) -> list[float]:
    """Seconds of each single step of one client, whose steps are counted."""
    seconds = []
    async with service.connect() as connection:
        while (begin := time.monotonic()) < until:
            await connection.send('{"inputs": 1}')
            answer = json.loads(await connection.recv())
            seconds.append(time.monotonic() - begin)
            assert answer["steps"] == len(seconds), answer
            await asyncio.sleep(0.002)
    return seconds


async def asks(service: Started, message: dict, until: float) -> int:
    """Sends one message again and again and takes all answers; how many there were."""
    count = 0
    async with service.connect(max_size=None) as connection:
        while time.monotonic() < until:
            await connection.send(json.dumps(message))
            # Not read as JSON: that would hold up the client whose steps are measured.
            while (answer := await connection.recv()).startswith('{"text"'):
                pass
            assert not answer.startswith('{"error"'), answer
            count += 1
    return count


async def beside(service: Started, seconds: float, *others: Callable[[float], Coroutine]) -> list:
    """Seconds of the single steps of one client beside others, which end at a time."""
    until = time.monotonic() + seconds
    tasks = [asyncio.create_task(other(until)) for other in others]
    await asyncio.sleep(min(0.7, seconds / 4))
    found = await stepper(service, until)
    await asyncio.gather(*tasks)
    return found


WRITES = {"write": 400, "prompt": "ROMEO:\n"}


def neighbours(service: Started, long: int, writers: int, steps: int = 1000) -> list[Callable]:
    """Clients of so many steps a message, and clients that let it write."""
    messages = [{"inputs": [1] * steps}] * long + [WRITES] * writers
    return [lambda until, message=one: asks(service, message, until) for one in messages]


def fairness(args: argparse.Namespace) -> None:
    with running(WRITER) as service:
        for long, writers in ((0, 0), (1, 0), (4, 0), (0, 30), (1, 30)):
            found = beside(service, args.seconds / 5, *neighbours(service, long, writers))
            name = f"beside {long} of 1,000 steps, {writers} writers"
            report(name, asyncio.run(found), args.seconds / 5)


async def come(service: Service, seconds: float, harmless: int | None = None) -> dict:
    """What all strangers got, in a process of their own, or so many rounds of harmless clients."""
    command = [sys.executable, "-m", "benchmarks.strangers", str(service.port), str(seconds)]
    command += [] if harmless is None else [str(harmless)]
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=subprocess.PIPE)
    out, _ = await process.communicate()
    return json.loads(out)


def beside_strangers(args: argparse.Namespace) -> None:
    """Alone, beside strangers, and beside as many harmless clients, in turns.

    The last tell what the machine itself takes: the clients run on the same cores.
    """
    turns, told = 4, []
    seconds = args.seconds / turns / 3

    async def strangers_come(until: float) -> None:
        told.append(await come(service, until - time.monotonic()))

    async def harmless_come(until: float) -> None:
        await come(service, until - time.monotonic(), told[-1]["rounds"])

    kinds = {
        "alone": [],
        f"beside {len(CASES)} strangers": [strangers_come],
        f"beside {len(HARMLESS)} harmless clients": [harmless_come],
    }
    times: dict[str, list[float]] = {name: [] for name in kinds}
    with running(WRITER, **OPTIONS) as service:
        asyncio.run(come(service, 0))
        before = service.memory()
        for _ in range(turns):
            for name, others in kinds.items():
                times[name] += asyncio.run(beside(service, seconds, *others))
        after, rounds = service.memory(), sum(one["rounds"] for one in told)
    for name, found in times.items():
        report(name, found, turns * seconds)
    print(f"memory {before:.0f} MiB, after {rounds} rounds of strangers {after:.0f} MiB")
    wrong = [text for one in told for text in one["wrong"]]
    print("\n".join(wrong) or "each got a clear answer", flush=True)


async def come_and_go(service: Started, count: int) -> None:
    """Connections that make some steps, ask for long answers, write, and go or break off."""
    room = asyncio.Semaphore(20)

    async def one(number: int) -> None:
        async with room, service.connect(max_size=None) as connection:
            for message in ({"inputs": 1, "step": 0}, {"inputs": [1] * 100}, {"save": True}):
                await connection.send(json.dumps(message))
                await connection.recv()
            await connection.send('{"write": 40, "prompt": "T"}')
            if number % 2:
                await connection.recv()
                connection.transport.abort()
            else:
                while "text" in json.loads(await connection.recv()):
                    pass

    await asyncio.gather(*(one(number) for number in range(count)))


def churn(args: argparse.Namespace) -> None:
    """Memory while clients and strangers come and go: at the first tenth, and at the last."""
    minutes, done, found = args.minutes, 0, []

    async def all_the_while(seconds: float) -> None:
        nonlocal done
        strangers = asyncio.create_task(come(service, seconds))
        while not strangers.done():
            await come_and_go(service, 50)
            done += 50
        if wrong := (await strangers)["wrong"]:
            raise SystemExit("\n".join(wrong))

    with running(WRITER, **OPTIONS) as service:
        for part in range(1, 11):
            asyncio.run(all_the_while(minutes * 6))
            found.append(service.memory())
            now = f"after {minutes * part / 10:4.1f} minutes, {done:6} connections"
            print(f"memory {now} {found[-1]:6.0f} MiB", flush=True)
    print(f"growth over the last nine tenths: {found[-1] - found[0]:+.0f} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--streams", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=60, help="of each part")
    parser.add_argument("--troublesome", type=int, default=5, help="clients that misbehave")
    parser.add_argument("--units", type=int, default=256)
    parser.add_argument("--delay", type=float, default=0.0, help="seconds to gather steps for")
    parser.add_argument("--minutes", type=float, default=2, help="that clients come and go")
    args = parser.parse_args()
    parts = dict(zip(PARTS, (under_load, fairness, beside_strangers, churn)))
    for name in args.parts:
        print(f"-- {name}", flush=True)
        parts[name](args)


if __name__ == "__main__":
    main()
