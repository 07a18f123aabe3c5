"""Time per window on 1, 2, 4 and 8 virtual devices (JAX), and the bytes they exchange per step.

Virtual devices share the cores of this machine, so the times show what spreading itself costs and
no gain: with a fixed global batch the work is the same on any number of them. The bytes are those
of a real machine: they are read from the program that XLA compiled. `DEVICES.md` goes on from
there to 8, 64 and 512 accelerators. Each run is a process of its own.
"""

import argparse
import json
import math
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from benchmarks.cases import BATCH, CASES
from benchmarks.contestant import WARM, rnnzoo_run
from benchmarks.turns import HERE, machine, save, table

DEVICES = (1, 2, 4, 8)
LANES = 32  # of the fixed global batch
SAME = f"{LANES} lanes in all"
MILLISECONDS = "milliseconds a window"
BYTES = {"f64": 8, "s64": 8, "f32": 4, "s32": 4, "u32": 4, "bf16": 2, "f16": 2, "pred": 1}
_COLLECTIVE = re.compile(r" = (.+?) (all-[a-z]+|collective-[a-z]+|reduce-scatter)(?:-start)?\(")
_SHAPE = re.compile(r"(\w+)\[([\d,]*)\]")


class Array(NamedTuple):
    """An array in a program: what XLA calls its type, and how many elements it has."""

    dtype: str
    elements: int

    @property
    def bytes(self) -> int:
        return BYTES[self.dtype] * self.elements


def collectives(program: str) -> list[tuple[str, list[Array]]]:
    """The collective operations in the text of a compiled program: name and arrays of each."""
    found = []
    for line in program.splitlines():
        if match := _COLLECTIVE.search(line):
            shapes = _SHAPE.findall(re.sub(r"\{[^}]*\}|/\*[^*]*\*/", "", match[1]))
            arrays = [Array(d, math.prod(map(int, filter(None, n.split(","))))) for d, n in shapes]
            found.append((match[2], arrays))
    return found


def exchanged(program: str) -> dict[str, list[int]]:
    """Bytes of each collective operation in the text of a compiled program, by its name."""
    found = {}
    for name, arrays in collectives(program):
        found.setdefault(name, []).append(sum(array.bytes for array in arrays))
    return found


def measure(case_name: str, lanes: int, scale: float) -> dict:
    """What training on the devices of this process takes, beside the gradient's bytes."""
    import keras

    keras.distribution.set_distribution(keras.distribution.DataParallel())
    case = CASES[case_name]._replace(lanes=lanes)
    windows = BATCH * max(1, round(case.windows * scale / BATCH))
    model, loss, seconds = rnnzoo_run(case, WARM + windows)
    gradient = sum(4 * w.value.size for w in model.trainable_weights)
    return {"loss": loss, MILLISECONDS: 1e3 * seconds / windows, "gradient": gradient}


def run(case: str, devices: int, lanes: int, scale: float) -> dict:
    """`measure` in a process with so many virtual devices, and what they exchange."""
    with tempfile.TemporaryDirectory() as dump:
        flags = f"--xla_force_host_platform_device_count={devices} --xla_dump_to={dump}"
        flags += " --xla_dump_hlo_as_text --xla_dump_hlo_module_re=.*train_step.*"
        env = {**os.environ, "KERAS_BACKEND": "jax", "XLA_FLAGS": flags}
        options = ["--case", case, "--lanes", str(lanes), "--scale", str(scale)]
        command = [sys.executable, "-m", "benchmarks.devices", *options]
        done = subprocess.run(command, env=env, cwd=HERE.parent, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{devices} devices failed:\n{done.stderr[-2000:]}")
        found = json.loads(done.stdout.splitlines()[-1])
        programs = Path(dump).glob("*jit_train_step*after_optimizations.txt")
        operations = [exchanged(program.read_text()) for program in programs]
        if any(one != operations[0] for one in operations):  # JAX may compile more than once
            raise SystemExit(f"programs that exchange different things: {operations}")
        return found | {"exchanged": operations[0]}


def ring(size: float, devices: int, rate: float, delay: float) -> float:
    """Seconds of a ring all-reduce of `size` bytes at `rate` bytes a second in each direction.

    Every device sends 2 (n - 1) / n of the bytes, in 2 (n - 1) messages of `delay` seconds each.
    """
    hops = 2 * (devices - 1)
    return hops / devices * size / rate + hops * delay


def check(found: dict) -> None:
    """SystemExit unless devices exchange the gradient and a few numbers, and no rows.

    The losses of one global batch are the same on any number of devices.
    """
    losses = [result["loss"] for rows in found[SAME].values() for result in rows]
    if max(losses) - min(losses) > 1e-4 * max(losses):
        raise SystemExit(f"the devices do not compute the same: losses {losses}")
    for case, rows in found.items():
        for name, results in rows.items():
            result = results[0]
            sums, others = result["exchanged"].get("all-reduce", []), dict(result["exchanged"])
            others.pop("all-reduce", None)
            print(f"{case}, {name}: all-reduce of {sum(sums):,} bytes in {len(sums)} operations")
            print(f"  gradient {result['gradient']:,} bytes; other operations: {others or 'none'}")
            more = sum(sums) - result["gradient"]
            if name != "1 devices" and (others or not 0 <= more <= 64):
                raise SystemExit("the devices exchange something else than the gradient")


# Bytes a second that one accelerator sends, and seconds of a message: what `DEVICES.md` assumes.
NETWORKS = {8: (450e9, 3e-6), 64: (50e9, 5e-6), 512: (50e9, 5e-6)}


def growth(size: int) -> None:
    """Prints what a ring all-reduce of `size` bytes would take on more accelerators."""
    for devices, (rate, delay) in NETWORKS.items():
        print(f"{devices:4} accelerators: {1e3 * ring(size, devices, rate, delay):8.2f} ms a step")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--case", choices=CASES, default="characters")
    parser.add_argument("--lanes", type=int, help="measure this on the devices there are, only")
    parser.add_argument("--scale", type=float, default=0.3, help="of the number of windows timed")
    args = parser.parse_args()
    if args.lanes:
        print(json.dumps(measure(args.case, args.lanes, args.scale)))
        return
    kinds = {"4 lanes a device": lambda n: 4 * n, SAME: lambda n: LANES}
    found = {kind: {f"{n} devices": [] for n in DEVICES} for kind in kinds}
    for _ in range(args.rounds):
        for kind, lanes in kinds.items():
            for n in DEVICES:
                one = run(args.case, n, lanes(n), args.scale)
                found[kind][f"{n} devices"].append(one)
                print(f"{kind}, {n} devices: {one[MILLISECONDS]:,.0f} {MILLISECONDS}", flush=True)
    check(found)
    table(found, MILLISECONDS, "1 devices")
    growth(found[SAME]["1 devices"][0]["gradient"])
    print(f"\n{machine()}")
    save("devices", found, MILLISECONDS)


if __name__ == "__main__":
    main()
