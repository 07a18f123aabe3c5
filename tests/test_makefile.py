"""The Makefile on a fresh clone, with interpreters that only write down what they are asked."""

import pathlib
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
LOCKED = (ROOT / "requirements-lock.txt").read_text().splitlines()[0].removeprefix("# Python ")
ANOTHER = "3.99"

# `-c` asks for the version; an environment holds the interpreter that made it.
INTERPRETER = """#!/bin/sh
echo "$@" >> {log}
[ "$1" = -c ] && echo {version}
[ "$3" = freeze ] && echo keras-nightly==3.16
[ "$2" = venv ] && rm -rf "$4" && mkdir -p "$4/bin" && cp "$0" "$4/bin/python{version}" &&
    ln -s python{version} "$4/bin/python"
exit 0
"""


@pytest.fixture
def make(tmp_path):
    """Runs a target in a clone without environment: what was printed, what Python was asked."""
    for name in ("Makefile", "pyproject.toml", "setup.cfg", "requirements-lock.txt"):
        shutil.copy(ROOT / name, tmp_path)

    def run(target, version, *options):
        log = tmp_path / "log"
        log.write_text("")
        python = tmp_path / f"python{version}"
        python.write_text(INTERPRETER.format(log=log, version=version))
        python.chmod(0o755)
        command = ["make", "--no-print-directory", *options, target, f"PYTHON={python}"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0 and not done.stderr, done.stderr
        asked = [line for line in log.read_text().splitlines() if line[:2] == "-m"]
        return done.stdout, asked

    return run


@pytest.mark.parametrize(("version", "pinned"), [(LOCKED, True), (ANOTHER, False)])
@pytest.mark.parametrize("options", [["-n"], []], ids=["shown", "run"])
def test_a_fresh_clone_installs_what_the_lock_of_its_python_says(make, version, pinned, options):
    printed, asked = make("unit-jax", version, *options)
    installs = [line for line in printed.splitlines() if "pip install" in line]
    assert len(installs) == 1
    assert ("-c requirements-lock.txt" in installs[0]) == pinned
    assert any("-c requirements-lock.txt" in line for line in asked) == (pinned and not options)


def test_the_wheel_is_tried_with_what_the_lock_says(make):
    printed, _ = make("wheel", LOCKED, "-n")
    installs = [line for line in printed.splitlines() if "pip install" in line]
    assert len(installs) == 2
    assert all("-c requirements-lock.txt" in line for line in installs)


def test_another_python_makes_the_environment_anew_and_the_same_leaves_it(make):
    def made(version):
        return sum(line.startswith("-m venv") for line in make("unit-jax", version)[1])

    assert [made(v) for v in (LOCKED, LOCKED, ANOTHER, ANOTHER)] == [1, 0, 1, 0]


def test_the_next_keras_takes_the_place_of_the_pinned_one_in_an_environment_of_its_own(make):
    printed, asked = make("test-next", LOCKED, "NEXT_KERAS=keras-nightly==3.16")
    assert ".venv/" not in printed
    order = [
        next(i for i, line in enumerate(asked) if part in line)
        for part in ("venv", "-e .[dev]", "pip uninstall", "keras-nightly==3.16", "pytest")
    ]
    assert order == sorted(order)
