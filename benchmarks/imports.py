"""What `import rnnzoo` takes beside `import keras`: seconds, and MiB of peak memory.

Each figure is of a process of its own; the median of several rounds. rnnzoo imports Keras, so its
row is what comes on top.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks.turns import machine

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = """
import json, resource, sys, time

def taken():
    return time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

points = [taken()]
import keras
points.append(taken())
import rnnzoo
points.append(taken())
print(json.dumps([[b - a for a, b in zip(*two)] for two in zip(points, points[1:])]))
"""


def once(backend: str) -> list[list[float]]:
    """Seconds and MiB of Keras, and of rnnzoo on top."""
    environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(
        command, env=environment, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
    )
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    print(f"{'':32} {'seconds':>8} {'MiB':>6}")
    for backend in ("tensorflow", "jax"):
        rounds = [once(backend) for _ in range(args.rounds)]
        for name, found in zip(("import keras", "import rnnzoo, on top"), zip(*rounds)):
            seconds, memory = (statistics.median(values) for values in zip(*found))
            print(f"{backend:10} {name:21} {seconds:8.2f} {memory:6.0f}", flush=True)
    print(f"\n{machine()}")


if __name__ == "__main__":
    main()
