"""Calls of exported signatures, made in a process where TensorFlow is all there is."""

import subprocess
import sys

import numpy as np

CLIENT = """
import sys
for name in ("keras", "rnnzoo", "tf_keras", "jax"):
    sys.modules[name] = None
import pathlib
import numpy as np
import tensorflow as tf

for folder in map(pathlib.Path, sys.argv[1:]):
    signatures = tf.saved_model.load(str(folder / "1")).signatures
    for path in folder.glob("call.*.npz"):
        inputs = {key: tf.constant(value) for key, value in np.load(path).items()}
        found = signatures[path.name.split(".")[2]](**inputs)
        values = {key: value.numpy() for key, value in found.items()}
        values = {k: v.astype("S") if v.dtype == object else v for k, v in values.items()}
        np.savez(path.with_name("found" + path.name.removeprefix("call")), **values)
assert not [m for m in sys.modules if m.startswith(("keras.", "rnnzoo."))]
"""


def save_calls(folder, calls):
    """Writes `calls`, `name: (signature, inputs)`, beside the export `folder / "1"`."""
    for name, (signature, inputs) in calls.items():
        np.savez(folder / f"call.{name}.{signature}.npz", **inputs)


def make_calls(folders, program=CLIENT):
    """Makes the calls saved in `folders`."""
    command = [sys.executable, "-c", program, *map(str, folders)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]


def found_in(folder):
    """What the calls of `folder` gave, by name."""
    paths = folder.glob("found.*.npz")
    return {path.name.split(".")[1]: dict(np.load(path)) for path in paths}
