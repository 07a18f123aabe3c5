"""Contestants in turn, each time in a fresh process; medians, ratios, JSON and a chart."""

import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
# By name: KERAS_BACKEND and the program's own name for it.
CONTESTANTS = {
    "rnnzoo TensorFlow": ("tensorflow", "rnnzoo"),
    "rnnzoo JAX": ("jax", "rnnzoo"),
    "rnnzoo JAX, by core": ("jax", "cores"),  # a device for each core, as `--strategy cores`
    "Keras TensorFlow": ("tensorflow", "stock"),
    "Keras JAX": ("jax", "stock"),
    "PyTorch": ("tensorflow", "torch"),
    "onnxruntime": ("tensorflow", "onnx"),  # a step that rnnzoo has exported
    "earlier TensorFlow": ("tensorflow", "earlier"),  # rnnzoo of another folder
    "earlier JAX": ("jax", "earlier"),
}


def machine() -> dict:
    """The machine and the versions that the figures hold for."""
    names = ("keras", "tensorflow", "jax", "torch", "numpy")
    versions = {}
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    model = platform.processor() or platform.machine()
    listed = Path("/proc/cpuinfo")  # where Linux tells more; other systems have no such file
    for line in listed.read_text().splitlines() if listed.exists() else ():
        if line.startswith("model name"):
            model = line.split(":")[1].strip()
    return {"cpu": model, "cores": os.cpu_count(), "python": platform.python_version(), **versions}


def run_once(module: str, contestant: str, arguments: list[str]) -> dict | None:
    """What `module` printed last, as JSON; None where a library is absent or the case not its."""
    backend, name = CONTESTANTS[contestant]
    env = {**os.environ, "KERAS_BACKEND": backend}
    command = [sys.executable, "-m", module, name, *arguments]
    done = subprocess.run(command, env=env, cwd=HERE.parent, capture_output=True, text=True)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1]
        if last.startswith("ModuleNotFoundError"):
            return None
        raise SystemExit(f"{contestant} {' '.join(arguments)} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def in_turn(module: str, contestants: list[str], cases: list[str], rounds: int, *options) -> dict:
    """By case and contestant, what each round found; A B C A B C, not A A B B C C."""
    found = {case: {name: [] for name in contestants} for case in cases}
    for _ in range(rounds):
        for case in cases:
            for name in contestants:
                one = run_once(module, name, [case, *options])
                if one is not None:
                    found[case][name].append(one)
    for case in cases:
        for name in [name for name, rows in found[case].items() if not rows]:
            print(f"{case}: {name} left out: not installed, or not made for it")
            del found[case][name]
    return found


def table(found: dict, key: str, against: str) -> None:
    """Prints medians, the spread of the rounds, and ratios to the contestant `against`."""
    for case, rows in found.items():
        print(f"\n{case}: {key}")
        base = statistics.median(r[key] for r in rows[against]) if against in rows else None
        for name, results in rows.items():
            values = sorted(r[key] for r in results)
            median = statistics.median(values)
            ratio = f"   {median / base:5.2f} of {against}" if base else ""
            print(f"  {name:20} {median:12,.0f}   [{values[0]:,.0f} .. {values[-1]:,.0f}]{ratio}")


def save(name: str, found: dict, key: str) -> None:
    """Writes `results/NAME.json` and the chart `results/NAME.png`, and says where."""
    from rnnzoo.curves import picture

    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"{name}.json"
    file.write_text(json.dumps({"machine": machine(), "key": key, "found": found}, indent=1) + "\n")

    def draw(figure) -> None:
        for place, (case, rows) in enumerate(found.items()):
            axes = figure.add_subplot(1, len(found), place + 1, title=case)
            values = [[r[key] for r in results] for results in rows.values()]
            axes.barh(list(rows), [statistics.median(v) for v in values], color="tab:blue")
            for row, rounds in enumerate(values):
                axes.plot(rounds, [row] * len(rounds), "k|")
            axes.invert_yaxis()
            axes.set_xlabel(key)
            axes.locator_params(axis="x", nbins=4)
            if place:
                axes.set_yticklabels([])

    print(f"\n{file}\n{picture(draw, RESULTS / f'{name}.png', (4 * len(found) + 1, 2.6))}")
