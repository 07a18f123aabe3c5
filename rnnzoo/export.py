"""SavedModel export: state in, state out, so that one loaded copy serves any number of streams."""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
from typing import Any

import keras

from rnnzoo.layers.recurrent import portable
from rnnzoo.model import RecurrentModel


def export(model: RecurrentModel, path: str | os.PathLike, overwrite: bool = False) -> pathlib.Path:
    """The path of the SavedModel written, in TensorFlow Serving's `<name>/<version>` layout.

    The SavedModel is pure: it holds weights and no state, no cuDNN op and no Python, and needs
    only TensorFlow to run. Signatures, every tensor with the batch first:

    * `serving_default`: whole sequences. `inputs`, for many-to-one also `lengths` `(batch,)`
      int32 -> `outputs`.
    * `initial_state`: `like` `(batch,)` int32, read for its length only -> states by name.
    * `step`: `inputs` `(batch, time, ...)`, `reset` `(batch, time)` bool, states by name
      -> `outputs` and the states as `<name>_out`. Time is 1 or more.

    It is written aside and renamed, so that a server never sees half of it. On the JAX backend
    a second Python process with the TensorFlow backend does the work.

    Args:
        model: the model to export.
        path: where to; the last part is the version, a whole number.
        overwrite: replace an existing version.

    Raises:
        ValueError: a path without a version; a model that is not of rnnzoo.
        FileExistsError: the version exists and `overwrite` is False.
        OSError: the folder cannot be written.
    """
    if not isinstance(model, RecurrentModel):
        raise ValueError(
            f"model must be a model of rnnzoo (one_to_one, many_to_one); "
            f"received {type(model).__name__}"
        )
    path = pathlib.Path(path)
    if not path.name.isdigit():
        raise ValueError(
            "path must end in a version, a whole number, as in 'saved_models/my_model/1'; "
            f"received path={str(path)!r}"
        )
    if path.exists() and not overwrite:
        raise FileExistsError(
            f"version {path.name} exists already; received path={str(path)!r}, overwrite=False. "
            "Choose another version or pass overwrite=True."
        )
    aside = _folder_beside(path)
    try:
        written = aside / "model"
        if keras.backend.backend() == "tensorflow":
            _write(model, written)
        else:
            _write_elsewhere(model, written)
        _put(written, path)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return path


def _folder_beside(path: pathlib.Path) -> pathlib.Path:
    """A new folder on the disk of `path`, in the nearest folder above it that exists."""
    above = next(parent for parent in path.absolute().parents if parent.exists())
    try:
        return pathlib.Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=above))
    except OSError as error:
        raise OSError(
            f"path must lie in a folder that can be written; received path={str(path)!r}, where "
            f"{str(above)!r} cannot ({error.strerror})"
        ) from error


def _put(written: pathlib.Path, path: pathlib.Path) -> None:
    """Rename `written` to `path`; where that fails, what was there stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    before = written.with_name("before")
    if path.exists():
        path.rename(before)
    try:
        written.rename(path)
    except OSError:
        if before.exists():
            before.rename(path)
        raise


def _write(model: RecurrentModel, path: pathlib.Path) -> None:
    import tensorflow as tf

    archive = keras.export.ExportArchive()
    archive.track(model.core)
    with portable():
        for name, (function, specs) in _endpoints(model, tf).items():
            archive.add_endpoint(name, function, input_signature=[specs])
        archive.write_out(str(path), verbose=False)


def _endpoints(model: RecurrentModel, tf: Any) -> dict:
    """Each signature's function of one dict, with the specs of that dict."""
    core = model.core
    spec = core.input["inputs"]
    masked = "mask" in core.input
    states = [key for key in core.output if key != "outputs"]

    def tensor(name: str, shape: tuple, dtype: str) -> Any:
        return tf.TensorSpec(shape, dtype, name=name)

    inputs = {"inputs": tensor("inputs", (None, None, *spec.shape[2:]), spec.dtype)}
    lengths = {"lengths": tensor("lengths", (None,), "int32")} if masked else {}
    reset = {"reset": tensor("reset", (None, None), "bool")}
    carried = {
        key: tensor(key, (None, core.input[key].shape[-1]), core.input[key].dtype) for key in states
    }

    def serving_default(batch: dict) -> dict:
        return {"outputs": model.run_whole(model.standardize(batch), training=False)}

    def step(batch: dict) -> dict:
        batch = dict(batch)
        if masked:
            batch["mask"] = tf.ones_like(batch["reset"])
        result = core(batch, training=False)
        return {key if key == "outputs" else f"{key}_out": v for key, v in result.items()}

    def initial_state(batch: dict) -> dict:
        return {k: tf.identity(v) for k, v in model.initial_state(tf.size(batch["like"])).items()}

    return {
        "serving_default": (serving_default, inputs | lengths),
        "step": (step, inputs | reset | carried),
        "initial_state": (initial_state, {"like": tensor("like", (None,), "int32")}),
    }


_PROGRAM = """
import pathlib, sys
import keras, rnnzoo
from rnnzoo.export import _write
_write(keras.models.load_model(sys.argv[1], compile=False), pathlib.Path(sys.argv[2]))
"""


def _write_elsewhere(model: RecurrentModel, path: pathlib.Path) -> None:
    """Write from a process of its own, whose Keras runs on TensorFlow."""
    source = path.with_suffix(".keras")
    model.save(source)
    package = str(pathlib.Path(__file__).parent.parent)
    search = os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow", "PYTHONPATH": search}
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(source), str(path)],
        env=environment,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(
            "a SavedModel is written with TensorFlow, in a second process, which failed:\n"
            + done.stderr[-2000:]
        )
