"""Tokens a second: greedy and by beams, in rnnzoo's graph and in the loops of PyTorch and ONNX.

All have the same weights and prompts, and must write the same. rnnzoo calls `generate`; the
others run a step for each token from Python, as is usual there: PyTorch with `nn.LSTM`,
onnxruntime with the `step.onnx` that rnnzoo exports. In PyTorch the hypotheses of all rows are one
batch, whose states and tokens are put in a new order at each step, as in OpenNMT.
"""

import argparse
import os

import numpy as np

from benchmarks.clock import ONE_CORE
from benchmarks.generation_contestant import CASES
from benchmarks.generation_contestant import CONTESTANTS as PROGRAMS
from benchmarks.turns import CONTESTANTS, in_turn, machine, save, table

RATE = "tokens a second"


def check_found(found: dict) -> None:
    """SystemExit where contestants do not write what the first one does.

    One of ten beams may lose its way to the best to one that is as good but for rounding.
    """
    for case, rows in found.items():
        written = {name: np.asarray(results[0]["found"]) for name, results in rows.items()}
        first = next(iter(written.values()))
        same = {name: np.isclose(w, first, rtol=1e-4).mean() for name, w in written.items()}
        others = [name for name, share in same.items() if share < 0.9]
        if others:
            raise SystemExit(f"{case}: {', '.join(others)} do not write what the first does")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    names = [name for name, (_, program) in CONTESTANTS.items() if program in PROGRAMS]
    parser.add_argument("--contestants", nargs="+", choices=names, default=names)
    parser.add_argument("--length", default="200", help="tokens that are written")
    parser.add_argument(
        "--one-core",
        action="store_true",
        help="one core and processor time, where others use the machine too",
    )
    args = parser.parse_args()
    if args.one_core:
        os.environ[ONE_CORE] = "1"
    module = "benchmarks.generation_contestant"
    found = in_turn(module, args.contestants, args.cases, args.rounds, "--length", args.length)
    check_found(found)
    table(found, RATE, "PyTorch")
    print(f"\n{machine()}")
    save("generation", found, RATE)


if __name__ == "__main__":
    main()
