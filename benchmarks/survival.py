"""Training that is killed at any moment: whether it ends with the weights of one that was not.

Each run is a process that trains with `BackupAndResume` after every third batch. It is killed
with SIGKILL after a random batch, every second one as soon as a backup is being written, and
started again; at its end a hash of weights, optimizer, state of the lanes, seeds and history
must be that of a run that nobody killed.
"""

import argparse
import concurrent.futures
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.turns import HERE, RESULTS, machine

# Compiled quickly, as each process trains for seconds only.
FAST = "--xla_llvm_disable_expensive_passes=true --xla_backend_optimization_level=0"
SECONDS = 300


def start(folder: Path) -> subprocess.Popen:
    cache = {  # each process runs the same program: compiled once
        "JAX_COMPILATION_CACHE_DIR": str(RESULTS / "jax_cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    env = {**cache, "TF_CPP_MIN_LOG_LEVEL": "3", "XLA_FLAGS": FAST, **os.environ}
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.interrupted", str(folder)],
        cwd=HERE.parent,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(path: Path, process: subprocess.Popen) -> None:
    until = time.monotonic() + SECONDS
    while not path.exists():
        if process.poll() is not None or time.monotonic() > until:
            raise SystemExit(f"training did not begin:\n{process.communicate()[1][-2000:]}")
        time.sleep(0.01)


def finish(process: subprocess.Popen) -> str:
    """The hash that a run prints at its end."""
    out, errors = process.communicate(timeout=SECONDS)
    if process.returncode:
        raise SystemExit(f"a run failed:\n{errors[-2000:]}")
    return next(line for line in out.splitlines() if line.startswith("end "))


def writing(folder: Path) -> bool:
    """Whether a backup is being written: its folder lies aside."""
    return any(name.startswith(".") for name in os.listdir(folder))


def backups(folder: Path) -> list[int]:
    """The numbers of the batches after which there are backups."""
    return sorted(int(name) for name in os.listdir(folder) if name.isdigit())


def kill(folder: Path, batch: int, seconds: float, while_writing: bool) -> dict | None:
    """What a kill met, `seconds` after the backup of `batch`; None where it came too late."""
    process = start(folder)
    try:
        wait_for(folder / "training", process)
        while batch and process.poll() is None and max(backups(folder), default=0) < batch:
            time.sleep(0.001)
        time.sleep(seconds)
        while while_writing and process.poll() is None and not writing(folder):
            pass
        early = process.poll() is None
    finally:
        process.kill()
        process.communicate()
    return {"backups": backups(folder), "writing": writing(folder)} if early else None


def run(case: int, batches: int, expected: str) -> dict:
    """One run that was killed and resumed."""
    rng = np.random.default_rng(case)
    while True:
        with tempfile.TemporaryDirectory() as folder:
            batch, moment = int(rng.integers(batches)), float(rng.uniform(0, 0.1))
            met = kill(Path(folder), batch, moment, while_writing=case % 2 == 1)
            if met is None:
                continue
            same = finish(start(Path(folder))) == expected
            left = writing(Path(folder))
        return {"case": case, "batch": batch, **met, "same": same, "left_over": left}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--at-once", type=int, default=2, help="runs side by side")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        expected = finish(start(Path(folder)))
        batches = backups(Path(folder))[-1]
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    print(f"{backend}: {batches} batches, never stopped: {expected[:12]}", flush=True)
    rows = []
    with concurrent.futures.ThreadPoolExecutor(args.at_once) as pool:
        for row in pool.map(lambda case: run(case, batches, expected), range(args.kills)):
            rows.append(row)
            met = "while writing a backup" if row["writing"] else "between backups"
            end = "the same" if row["same"] else "ANOTHER END"
            last = max(row["backups"], default=0)
            print(f"  {row['case']:3} {met}, last of batch {last}: {end}", flush=True)
    same = sum(row["same"] and not row["left_over"] for row in rows)
    amid = sum(row["writing"] for row in rows)
    print(
        f"{same} of {len(rows)} ended bit for bit as the one never stopped; {amid} killed writing"
    )
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"survival_{backend}.json"
    file.write_text(json.dumps({"machine": machine(), "runs": rows}, indent=1) + "\n")
    print(file)
    if same < len(rows):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
