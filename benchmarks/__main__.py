"""All benchmarks, or one: `python -m benchmarks [NAME [its options]]`."""

import argparse
import ast
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
NAMES = ["layers", "training", "serving", "decoding", "generation", "online", "memory", "service"]
NAMES += ["imports", "growth", "devices", "altered", "survival", "backups", "endless"]
ALONE = ["tpu", "learning"]  # with an environment of its own, or hours: only where named


def first_line(name: str) -> str:
    return ast.get_docstring(ast.parse((HERE / f"{name}.py").read_text())).split("\n")[0]


def main() -> None:
    listed = "\n".join(f"  {name:10} {first_line(name)}" for name in NAMES + ALONE)
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=f"{__doc__}\n\n{listed}\n\n`NAME --help` tells the options of one.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "name", nargs="?", choices=NAMES + ALONE, metavar="NAME", help="all when left out"
    )
    args, options = parser.parse_known_args(sys.argv[1:2])
    for name in [args.name] if args.name else NAMES:
        print(f"== {name}: {first_line(name)}", flush=True)
        command = [sys.executable, "-m", f"benchmarks.{name}", *options, *sys.argv[2:]]
        subprocess.run(command, cwd=HERE.parent, check=True)


if __name__ == "__main__":
    main()
