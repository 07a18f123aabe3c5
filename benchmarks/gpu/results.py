"""What the parts of `benchmarks/gpu.sh` share: sizes, rows written as they come, and the clock."""

import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.cases import CASES

RESETS = 0.01  # share of steps at which a row starts afresh


class Size(NamedTuple):
    """A stack of recurrent layers and its inputs, `(batch, steps, inputs)`."""

    batch: int
    steps: int
    inputs: int
    units: list[int]


SIZES = {"chart": Size(16, 1024, 768, [768])}  # that of FlashRNN's figure
SIZES |= {
    name: Size(case.lanes, case.window, case.embedding or case.features, case.units)
    for name, case in CASES.items()
}
RESET_SIZES = {"chart": SIZES["chart"], "agents": Size(128, 64, 256, [512])}


def sizes(tiny: bool, resets: bool = False) -> dict[str, Size]:
    """The sizes that are measured, by name; for `tiny`, one that takes no time."""
    found = RESET_SIZES if resets else SIZES
    return {"tiny": Size(2, 6, 3, [4, 4])} if tiny else found


def inputs_of(size: Size) -> np.ndarray:
    """Random inputs `(batch, steps, inputs)`, the same for all contestants."""
    shape = (size.batch, size.steps, size.inputs)
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def upstream_of(size: Size) -> np.ndarray:
    """A gradient of all outputs, so that no loss is part of what is measured."""
    shape = (size.batch, size.steps, size.units[-1])
    return np.random.default_rng(1).normal(size=shape).astype("float32")


def resets_of(size: Size) -> np.ndarray:
    """`(batch, steps)` bool, True at the steps where a row starts afresh, one at least."""
    found = np.random.default_rng(2).random((size.batch, size.steps)) < RESETS
    found[0, size.steps // 2] = True
    return found


def lengths_of(size: Size) -> np.ndarray:
    """`(batch,)` real steps of each row, from half of all to all."""
    return np.random.default_rng(3).integers(size.steps // 2, size.steps + 1, size.batch)


def write(line: str = "") -> None:
    """Prints a line and appends it to the file named by `RESULTS`: a kill loses nothing."""
    print(line, flush=True)
    if "RESULTS" in os.environ:
        with Path(os.environ["RESULTS"]).open("a") as file:
            file.write(line + "\n")


def row(*cells: Any) -> None:
    """Writes one row of a table; a float with three digits."""
    shown = [f"{cell:,.3g}" if isinstance(cell, float) else str(cell) for cell in cells]
    write("| " + " | ".join(shown) + " |")


def heading(*names: str) -> None:
    """Writes the head of a table."""
    write()
    row(*names)
    row(*["---"] * len(names))


def milliseconds(call: Callable, wait: Callable, least: float) -> tuple[float, float]:
    """Median of five rounds, and their range over it; `least` seconds go into all five.

    A round calls many times and waits once, so that what is measured is the device, not the way to
    it; `wait` takes what `call` returned last.
    """
    for _ in range(2):
        wait(call())
    begin = time.perf_counter()
    wait(call())
    calls = max(1, round(least / 5 / (time.perf_counter() - begin)))
    rounds = []
    for _ in range(5):
        begin = time.perf_counter()
        for _ in range(calls):
            found = call()
        wait(found)
        rounds.append(1e3 * (time.perf_counter() - begin) / calls)
    median = statistics.median(rounds)
    return median, (max(rounds) - min(rounds)) / median


COLUMNS = ("cell", "size", "precision", "contestant", "runs as")
COLUMNS += ("forward ms", "both ms", "M steps/s a layer", "spread")


def measured(
    names: Sequence[str], size: Size, make: Callable[[], tuple], wait: Callable, least: float
) -> None:
    """A row of `COLUMNS` for one contestant, or of the fault that kept it from running.

    Args:
        names: cell, size, precision and contestant.
        size: its sizes, for the steps a second (forward and backward) of one layer.
        make: gives what it runs as, forward, and forward with backward; the calls take nothing.
        wait: see `milliseconds`.
        least: see `milliseconds`.
    """
    try:
        runs_as, forward, both = make()
        first, _ = milliseconds(forward, wait, least / 2)
        second, spread = milliseconds(both, wait, least)
    except Exception as error:
        row(*names, fault(error), *["-"] * 4)
        return
    steps = size.batch * size.steps * len(size.units) / second / 1e3
    row(*names, runs_as, first, second, steps, f"{spread:.0%}")


def fault(error: Exception) -> str:
    """The first line of what went wrong, short enough for a table."""
    text = (str(error).strip() or "no message").splitlines()[0].replace("|", "/")
    return f"FAILED: {type(error).__name__}: {text[:90]}"


def difference(found: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> float:
    """The largest difference of two lists of arrays, as a share of each array's largest value."""
    shares = [0.0]
    for a, b in zip(found, expected, strict=True):
        largest = max(np.max(np.abs(b), initial=0.0), 1e-6)
        shares.append(np.max(np.abs(np.float64(a) - b), initial=0.0) / largest)
    return float("inf") if np.isnan(shares).any() else float(max(shares))


def torch_device(tiny: bool) -> str:
    """Where PyTorch computes: on the GPU, or for `tiny` where there is none on the CPU."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if not tiny:
        raise SystemExit("PyTorch finds no GPU")
    return "cpu"
