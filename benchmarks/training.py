"""Training end to end, steps a second: truncated BPTT, labels and translation, and their peers.

The peers are stock Keras and PyTorch, with the same weights, data, optimizer and windows. Each
run is a process of its own, and the contestants take turns. Before anything is compared, the
losses of the first eight updates must agree; stock Keras on JAX carries no state from window to
window in `fit`, so there it is shown as it is and its loss is not compared.
"""

import argparse
import os
from pathlib import Path

from benchmarks.cases import CASES, EARLIER, WHOLE
from benchmarks.clock import ONE_CORE
from benchmarks.contestant import CONTESTANTS as PROGRAMS
from benchmarks.turns import CONTESTANTS, in_turn, machine, save, table

RATE, PEAK = "tokens a second", "peak MiB"


def check_losses(found: dict) -> None:
    """SystemExit where contestants that carry their state compute different losses."""
    for case, rows in found.items():
        losses = {name: results[0]["loss"] for name, results in rows.items()}
        print(f"{case}: loss of the first windows " + str(losses))
        if case in CASES:
            losses.pop("Keras JAX", None)
        if max(losses.values()) - min(losses.values()) > 1e-4 * max(losses.values()):
            raise SystemExit(f"{case}: the contestants do not compute the same")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cases", nargs="+", choices=[*CASES, *WHOLE], default=[*CASES, *WHOLE])
    names = [name for name, (_, program) in CONTESTANTS.items() if program in PROGRAMS]
    earlier = [name for name in names if CONTESTANTS[name][1] == "earlier"]
    names = [name for name in names if name not in earlier]
    parser.add_argument("--contestants", nargs="+", choices=names, help="all when left out")
    parser.add_argument("--scale", default="1", help="of the number of updates timed")
    parser.add_argument(
        "--one-core",
        action="store_true",
        help="one core and processor time, where others use the machine too; not 'by core'",
    )
    parser.add_argument(
        "--earlier", type=Path, metavar="FOLDER", help="another version of rnnzoo, in turn with it"
    )
    args = parser.parse_args()
    if args.one_core:
        os.environ[ONE_CORE] = "1"
        names = [name for name in names if CONTESTANTS[name][1] != "cores"]
    contestants = args.contestants or names
    if args.earlier:
        if not (args.earlier / "rnnzoo" / "__init__.py").is_file():
            parser.error(f"--earlier must be the root of a checkout of rnnzoo; got {args.earlier}")
        os.environ[EARLIER] = str(args.earlier.resolve())
        contestants = contestants + earlier
    module = "benchmarks.contestant"
    found = in_turn(module, contestants, args.cases, args.rounds, "--scale", args.scale)
    check_losses(found)
    for key in (RATE, PEAK):
        table(found, key, "PyTorch")
    print(f"\n{machine()}")
    save("training", found, RATE)


if __name__ == "__main__":
    main()
