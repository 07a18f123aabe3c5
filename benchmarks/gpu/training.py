"""Truncated BPTT end to end on a GPU, tokens a second: rnnzoo on JAX and the usual PyTorch loop.

Weights, data, optimizer and loops are those of `python -m benchmarks training`; the loss of the
first windows shows that both compute the same. In bfloat16 rnnzoo has the policy `mixed_bfloat16`,
PyTorch `autocast`.
"""

import argparse
import contextlib
from collections.abc import Iterator

from benchmarks.cases import CASES, Case
from benchmarks.contestant import WARM, rnnzoo_model, torch_model
from benchmarks.gpu.results import fault, heading, row, torch_device

BIG = Case(65, 0, 128, [1024, 1024], 65, lanes=256, window=100, windows=40)
TINY = Case(7, 0, 3, [4, 4], 7, lanes=2, window=5, windows=8)


def cases(tiny: bool) -> dict[str, Case]:
    """By name; the large one first."""
    return {"tiny": TINY} if tiny else {"2x1024": BIG, **CASES}


@contextlib.contextmanager
def rnnzoo_in(precision: str, tiny: bool) -> Iterator[None]:
    import keras

    keras.config.set_dtype_policy("mixed_bfloat16" if precision == "bfloat16" else "float32")
    yield


@contextlib.contextmanager
def torch_in(precision: str, tiny: bool) -> Iterator[None]:
    import torch

    with torch.autocast(torch_device(tiny), torch.bfloat16, enabled=precision == "bfloat16"):
        yield


CONTESTANTS = {"rnnzoo": (rnnzoo_in, rnnzoo_model), "torch": (torch_in, torch_model)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("contestant", choices=CONTESTANTS)
    parser.add_argument("--tiny", action="store_true")
    args = parser.parse_args()
    inside, train = CONTESTANTS[args.contestant]
    heading("case", "precision", "contestant", "tokens/s", "ms a window", "loss of 8 windows")
    for name, case in cases(args.tiny).items():
        for precision in ("TF32", "bfloat16")[: 1 if args.tiny else None]:
            names = (name, precision, args.contestant)
            try:
                with inside(precision, args.tiny):
                    loss, seconds = train(case, WARM + case.windows)
            except ModuleNotFoundError:
                raise  # which the script reports
            except Exception as error:
                row(*names, fault(error), "-", "-")
                continue
            rate = case.windows * case.window * case.lanes / seconds
            row(*names, f"{rate:,.0f}", 1e3 * seconds / case.windows, f"{loss:.4f}")


if __name__ == "__main__":
    main()
