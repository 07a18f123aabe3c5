"""Altered files: whether models, backups and exports of unknown origin are read without harm.

Alters a `.keras` file, a backup and the `rnnzoo.json` of an export: bytes, parts behind their
checksums, and values of their JSON, planted code among them. Each is then read as a user reads
it, in a process that is watched: it must be refused with an error, or give a model that works. A
crash, a hang, code that is run, and a file outside that is read or written are failures.
"""

import argparse
import collections
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from benchmarks.turns import HERE, RESULTS

KINDS = ["keras", "backup", "manifest"]
SECONDS = 120  # for one case, the start of its process included


class Worker:
    """A process that reads altered files, one after the other, from a case on."""

    def __init__(self, kind: str, folder: Path, seed: int, start: int, stop: int):
        command = [sys.executable, "-m", "benchmarks.reader", kind, str(folder)]
        command += [str(seed), str(start), str(stop)]
        self.errors = tempfile.TemporaryFile()
        env = {"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ}
        self.process = subprocess.Popen(
            command, cwd=HERE.parent, env=env, stdout=subprocess.PIPE, stderr=self.errors, text=True
        )
        self.lines = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self.process.stdout:
            if line.startswith("{"):
                self.lines.put(json.loads(line))
        self.lines.put(None)

    def next(self) -> dict | str:
        """What became of the next case: a dict of the worker's, 'hang' or 'crash'."""
        try:
            found = self.lines.get(timeout=SECONDS)
        except queue.Empty:
            self.process.kill()
            return "hang"
        return "crash" if found is None else found

    def end(self) -> str:
        """The end of what it wrote to stderr."""
        self.process.kill()
        self.process.wait()
        self.errors.seek(0)
        return self.errors.read().decode(errors="replace")[-1500:]


def run(kind: str, folder: Path, seed: int, count: int) -> list[dict]:
    """What became of each case; a new process goes on after a crash or a hang."""
    rows = []
    while len(rows) < count:
        worker = Worker(kind, folder, seed, len(rows), count)
        while len(rows) < count:
            found = worker.next()
            if isinstance(found, str):
                if not rows:
                    raise SystemExit(f"the reader of {kind} does not start:\n{worker.end()}")
                rows.append({"result": found, "text": worker.end()})
                break
            rows.append(found)
        worker.end()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=700, help="altered files of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    args = parser.parse_args()
    found, failures = {}, 0
    for kind in args.kinds:
        with tempfile.TemporaryDirectory() as folder:
            found[kind] = run(kind, Path(folder), args.seed, args.count)
        ends = collections.Counter(row["result"] for row in found[kind])
        kinds = collections.Counter(row["error"] for row in found[kind] if "error" in row)
        print(
            f"{kind:10} {len(found[kind]):6} files: {dict(ends)}; errors {dict(kinds)}", flush=True
        )
        for case, row in enumerate(found[kind]):
            if row["result"] not in ("refused", "loaded"):
                failures += 1
                print(f"  case {case}: {row['result']}: {row['text'][-600:]}")
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / "altered.json"
    file.write_text(json.dumps(found, indent=1) + "\n")
    print(file)
    if failures:
        raise SystemExit(f"{failures} files did harm or gave no clear error")


if __name__ == "__main__":
    main()
