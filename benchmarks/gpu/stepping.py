"""Single steps and generation on a GPU, for one stream and for many: rnnzoo on JAX and PyTorch.

The model is the character model of `python -m benchmarks training`, 2x512 LSTM units. A step is
waited for before the next one is asked for, as a service does; generation is greedy.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.cases import CASES, Case
from benchmarks.gpu.results import fault, heading, row, torch_device

ROWS, LENGTH, PROMPT = (1, 256), 256, 8
TINY = Case(7, 0, 3, [4, 4], 7, lanes=2, window=5, windows=8)


def rnnzoo_calls(case: Case, rows: int, length: int) -> dict[str, Callable]:
    """What is called, by name; each returns when its result is there."""
    import rnnzoo

    model = rnnzoo.one_to_one(
        vocabulary=case.vocabulary, embedding=case.embedding, units=case.units
    )
    prompt = np.zeros((rows, PROMPT), "int32")
    kept = [model.initial_state(rows)]

    def step() -> np.ndarray:
        y, kept[0] = model.step(prompt[:, :1], kept[0])
        return np.asarray(y)

    return {"step": step, "generate": lambda: model.generate(prompt, length).tokens}


def torch_calls(case: Case, rows: int, length: int) -> dict[str, Callable]:
    """The same, and both replayed as a CUDA graph of one step, as an expert would."""
    import torch

    device = torch_device(case is TINY)
    with torch.device(device):
        table = torch.nn.Embedding(case.vocabulary, case.embedding)
        lstm = torch.nn.LSTM(case.embedding, case.units[0], len(case.units), batch_first=True)
        out = torch.nn.Linear(case.units[0], case.outputs)
        token = torch.zeros((rows, 1), dtype=torch.long)
        zeros = torch.zeros((len(case.units), rows, case.units[0]))
    kept = [(zeros, zeros)]

    @torch.inference_mode()
    def forward(tokens: torch.Tensor, state: tuple) -> tuple:
        hidden, state = lstm(table(tokens), state)
        return out(hidden), state

    def step() -> np.ndarray:
        y, kept[0] = forward(token, kept[0])
        return y.cpu().numpy()

    def generate() -> np.ndarray:
        y, state = forward(token.expand(rows, PROMPT), (zeros, zeros))
        found = [y[:, -1:].argmax(-1)]
        while len(found) < length:
            y, state = forward(found[-1], state)
            found.append(y.argmax(-1))
        return torch.cat(found, dim=1).cpu().numpy()

    calls = {"step": step, "generate": generate}
    return calls | (graphed(forward, token, zeros, length) if device == "cuda" else {})


def graphed(forward: Callable, token: Any, zeros: Any, length: int) -> dict[str, Callable]:
    """Steps of `forward` as one CUDA graph that reads and writes the same tensors."""
    import torch

    token, state = token.clone(), (zeros.clone(), zeros.clone())

    @torch.inference_mode()
    def advance() -> torch.Tensor:
        y, new = forward(token, state)
        token.copy_(y.argmax(-1))
        for old, value in zip(state, new):
            old.copy_(value)
        return y

    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        for _ in range(3):
            advance()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = advance()

    def step() -> np.ndarray:
        graph.replay()
        return y.cpu().numpy()

    def generate() -> np.ndarray:
        found = []
        for _ in range(length):
            graph.replay()
            found.append(token.clone())
        return torch.cat(found, dim=1).cpu().numpy()

    return {"step, CUDA graph": step, "generate, CUDA graph": generate}


CONTESTANTS = {"rnnzoo": rnnzoo_calls, "torch": torch_calls}


def seconds(call: Callable, least: float) -> list[float]:
    """Times of single calls, shortest first, after three that warm up."""
    for _ in range(3):
        call()
    times, end = [], time.perf_counter() + least
    while time.perf_counter() < end or len(times) < 5:
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return sorted(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("contestant", choices=CONTESTANTS)
    parser.add_argument("--tiny", action="store_true")
    args = parser.parse_args()
    case = TINY if args.tiny else CASES["characters"]
    length = 6 if args.tiny else LENGTH
    heading("contestant", "rows", "what", "median ms", "99 % below ms", "tokens/s")
    for rows in ROWS[: 1 if args.tiny else None]:
        try:
            calls = CONTESTANTS[args.contestant](case, rows, length)
            for what, call in calls.items():
                times = seconds(call, 0.05 if args.tiny else 2.0)
                median = statistics.median(times)
                tokens = rows * (length if what.startswith("generate") else 1)
                slow = 1e3 * times[int(0.99 * (len(times) - 1))]
                row(args.contestant, rows, what, 1e3 * median, slow, f"{tokens / median:,.0f}")
        except ModuleNotFoundError:
            raise  # which the script reports
        except Exception as error:
            row(args.contestant, rows, fault(error), "-", "-", "-")


if __name__ == "__main__":
    main()
