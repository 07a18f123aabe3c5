"""One LSTM or GRU layer alone, forward and with its gradients: rnnzoo, stock Keras, PyTorch.

GFLOP/s are of forward and backward together, counting matrix products only, so that they compare
with the rate of a large matrix product on the same machine, which each run measures beside.
"""

import argparse
import statistics

from benchmarks.layer_contestant import CONTESTANTS as PROGRAMS
from benchmarks.layer_contestant import GATES, SIZES
from benchmarks.turns import CONTESTANTS, in_turn, machine, save, table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    cases = [f"{cell}/{size}" for cell in GATES for size in SIZES]
    parser.add_argument("--cases", nargs="+", choices=cases, default=cases)
    names = [name for name, (_, program) in CONTESTANTS.items() if program in PROGRAMS]
    parser.add_argument("--contestants", nargs="+", choices=names, default=names)
    args = parser.parse_args()
    module = "benchmarks.layer_contestant"
    found = in_turn(module, args.contestants, args.cases, args.rounds)
    for key in ("forward ms", "both ms", "GFLOP/s"):
        table(found, key, "PyTorch")
    print("\nlarge matrix product, GFLOP/s, median of what each measured beside:")
    for name in args.contestants:
        rates = [r["product GFLOP/s"] for rows in found.values() for r in rows.get(name, ())]
        if rates:
            print(f"  {name:20} {statistics.median(rates):.0f}")
    print(machine())
    save("layers", found, "GFLOP/s")


if __name__ == "__main__":
    main()
