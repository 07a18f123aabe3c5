"""Export: state in, state out, so that one loaded copy serves any number of streams."""

import json
import os
import pathlib
import subprocess
import sys
import zipfile
from typing import Any

import keras

from rnnzoo import _checks
from rnnzoo._files import written_aside
from rnnzoo.data.tokenizer import Tokenizer
from rnnzoo.decoding import Beam
from rnnzoo.export.formats import FORMATS, write
from rnnzoo.export.triton import check_config
from rnnzoo.generation.forecasts import feed_of
from rnnzoo.training.trainer import SequenceTrainer


def export(
    model: SequenceTrainer,
    path: str | os.PathLike,
    format: str = "tf_saved_model",
    overwrite: bool = False,
    *,
    beam: Beam | None = None,
    metrics: dict[str, Any] | None = None,
    warm_up: bool = False,
    feed: str | None = None,
) -> pathlib.Path:
    """The path of the folder written, in the `<name>/<version>` layout of TensorFlow Serving.

    A SavedModel is pure: it holds weights and no state, no cuDNN op and no Python, and needs
    only TensorFlow to run. In every signature all tensors have the batch first.

    One-to-one and many-to-one models:

    * `serving_default`: whole sequences. `inputs`, for many-to-one also `lengths` `(batch,)`
      int32 -> `outputs`. Several inputs and outputs have the model's names. Beside the
      parameters of a head stand its `outputs_mean`, `outputs_quantiles` (0.1, 0.5 and 0.9, or
      the head's own levels, on the last axis), and of CRF and CTC `outputs_path`, as it has them.
    * `initial_state`: `like` `(batch,)` int32, read for its length only -> states by name.
    * `step`: `inputs` `(batch, time, ...)`, `reset` `(batch, time)` bool, states by name
      -> `outputs` and the states as `<name>_out`. Time is 1 or more. Bidirectional models have
      neither this nor `initial_state`.
    * `generate`, of one-to-one models on tokens: `prompt` `(batch, time)` int32 with
      `prompt_lengths` `(batch,)`, at least 1, and the states to go on from -> `tokens`
      `(batch, longest)`, `lengths`, `scores` in nats, the states as `<name>_out`, and `last`,
      the token that was not fed yet: it begins the next prompt.
    * `generate`, of one-to-one models on numbers: `inputs` and `lengths` `(batch,)`, at least 1,
      the states to go on from, `steps` `(batch,)`, and of each other input per step what is
      known of it at the steps to come, `future_<name>` `(batch, time, ...)`, of which the last of
      `steps` is not read -> `outputs` `(batch, longest, size)`, fed the means, and the states
      that the prompt left as `<name>_out`.
    * `sample`, where its head draws samples: the same with `samples`, of which the most are drawn
      for all, and `seed` `(batch,)` -> `samples` `(batch, samples, longest, size)`, as the first
      row of `generate` in Python with that seed, their `outputs_mean` and `outputs_quantiles`.

    Encoder-decoders (where there are several inputs, each stands by its name in the place of
    `source`; what is static comes with every signature, and what is known of the target's steps
    with those that read or write a target):

    * `serving_default`: `source`, `source_lengths`, `target`, `target_lengths` -> `outputs`
      with the target fed in, as `predict`.
    * `encode`: `source`, `source_lengths` -> the decoder's first states and, with attention,
      `memory` and `source_mask`.
    * `decode_step`: `inputs` `(batch, time, ...)` and what `encode` gave -> `outputs`, the
      states as `<name>_out` and, with attention, `alignment`.
    * `generate`: `source`, `source_lengths` -> `tokens`, `lengths`, `scores`, `alignment`;
      of real-valued targets, with `steps` `(batch,)` -> `outputs`.
    * `sample`, of real-valued targets whose head draws samples: as above, for a `source`.
    * `beam`, of target tokens: `source`, `source_lengths`, `max_length` -> the same with the
      best hypotheses of each row, `(batch, n_best, ...)`.

    `generate` of tokens takes for each row, `(batch,)`: `max_length` int32, `temperature` float32
    (0: greedy) and `seed` int32. Where the model has a `Vocabulary` (an encoder-decoder two),
    `generate_text` takes `text` `(batch,)` strings instead of tokens and gives `text` and
    `scores`.

    Other formats, each an optional extra of that name (`pip install 'rnnzoo[onnx]'`), all in
    float32, also of a model that computes in half precision:

    * "onnx": `<signature>.onnx` for each signature that neither decodes nor takes strings;
      of heads it tells the means of single steps, since what else they say may take loops.
      `step` and `decode_step` take one step.
    * "litert": `step.tflite` of one-to-one and many-to-one models, for one stream and one step,
      in built-in operations. Not of models with `rnnzoo.Characters`, whose size is open.
    * "triton": `step.onnx`, and `<name>/config.pbtxt`, with which the server keeps the state of
      each sequence.

    `assets.extra/rnnzoo.json` tells form, states, signatures, vocabularies and versions. The
    folder is written aside and renamed, so that a server never sees half of it. On the JAX
    backend a second Python process with the TensorFlow backend does the work.

    Args:
        model: the model to export.
        path: where to; the last part is the version, a whole number.
        format: "tf_saved_model", "onnx", "litert" or "triton".
        overwrite: replace an existing version.
        beam: the search of the signature `beam` where it has one; `Beam(5, n_best=5)` by default.
        metrics: figures of the model's worth, for `rnnzoo.json`; what JSON can hold.
        feed: of a one-to-one model on numbers, the input whose next value its output is; needed
            for `generate` and `sample` where several could be.
        warm_up: write a request for each signature beside a SavedModel, which TensorFlow
            Serving runs before it answers (`pip install 'rnnzoo[tf-serving]'`).

    Raises:
        ValueError: a path without a version; a model that is not of rnnzoo; another format, or
            one that this form has not; a setting of a signature that is not written; metrics that
            JSON cannot hold.
        ImportError: what the format needs is not installed.
        FileExistsError: the version exists, or other versions have another `config.pbtxt`, and
            `overwrite` is False.
        OSError: the folder cannot be written.
    """
    if not isinstance(model, SequenceTrainer):
        raise ValueError(
            "model must be a model of rnnzoo (one_to_one, many_to_one, encoder_decoder); "
            f"received {type(model).__name__}"
        )
    _checks.one_of("format", format, FORMATS)
    if beam is not None:
        _checks.instance("beam", beam, Beam, "a rnnzoo.decoding.Beam or None")
        if format != "tf_saved_model" or not model.decodes or model.start is None:
            raise ValueError(
                "beam is for the signature beam of format='tf_saved_model', which encoder-decoders "
                f"to tokens have; received beam={beam} for one of form {model.form!r}, "
                f"format={format!r}"
            )
    beam = beam or Beam(5, n_best=5)
    _checks.flag("overwrite", overwrite)
    path = _checks.path("path", path)
    options = {"format": format, "beam": dict(vars(beam)), "metrics": _plain(metrics)}
    if feed is not None:
        feed_of(model, feed, "export with feed")
        if format != "tf_saved_model":
            raise ValueError(
                "feed is for the signatures generate and sample of format='tf_saved_model'; "
                f"received feed={feed!r}, format={format!r}, which holds no loop over steps"
            )
    options["feed"] = feed
    options |= {"name": path.absolute().parent.name, "warm_up": _checks.flag("warm_up", warm_up)}
    options["tokenizers"] = {
        side: {"tokens": len(one), "tokenizer": one.name}
        for side, one in model.vocabularies.items()
        if isinstance(one, Tokenizer)
    }
    if warm_up and format != "tf_saved_model":
        raise ValueError(f"warm_up=True is for format='tf_saved_model'; received format={format!r}")
    with written_aside(path, overwrite) as written:
        if keras.backend.backend() == "tensorflow":
            write(model, written, **options)
        else:
            _write_elsewhere(model, written, options)
        if format == "triton":
            check_config(written, path, overwrite)
    if format == "triton":
        os.replace(path / "config.pbtxt", path.parent / "config.pbtxt")
    return path


def _plain(metrics: Any) -> dict:
    if metrics is None:
        return {}
    try:
        fits = isinstance(metrics, dict) and all(isinstance(name, str) for name in metrics)
        text = json.dumps(metrics, allow_nan=False) if fits else None
    except (TypeError, ValueError, RecursionError):
        text = None
    if text is None:
        raise _checks.refuse("metrics", "a dict that JSON can hold, by names, or None", metrics)
    return json.loads(text)


# What the second process ends with where it has refused the model or the format.
_REFUSED = 3

_PROGRAM = """
import importlib, json, pathlib, sys, traceback
sys.path[:] = json.loads(sys.argv[4])
import keras, rnnzoo
for name in json.loads(sys.argv[5]):
    importlib.import_module(name)
from rnnzoo.export.formats import write
model = keras.models.load_model(sys.argv[1], compile=False)
try:
    write(model, pathlib.Path(sys.argv[2]), **json.loads(sys.argv[3]))
except (ValueError, ImportError) as error:
    traceback.print_exc()
    kind = "ValueError" if isinstance(error, ValueError) else "ImportError"
    print(json.dumps([kind, str(error)]))
    sys.exit(REFUSED)
""".replace("REFUSED", str(_REFUSED))


def _write_elsewhere(model: SequenceTrainer, path: pathlib.Path, options: dict) -> None:
    """Write from a process of its own, whose Keras runs on TensorFlow."""
    source = path.with_suffix(".keras")
    model.save(source)  # waits for training in another thread
    modules = _modules_in(source)
    package = str(pathlib.Path(__file__).parents[2])
    # As this process has them: a module may lie beside a script, or where a test put it.
    search = [package, *(os.path.abspath(entry) for entry in sys.path)]
    given = [options, search, modules]
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(source), str(path), *map(json.dumps, given)],
        env={**os.environ, "KERAS_BACKEND": "tensorflow"},
        capture_output=True,
        text=True,
    )
    failed = RuntimeError(
        "an export is written with TensorFlow, in a second process, which failed:\n"
        + done.stderr[-2000:]
    )
    if done.returncode == _REFUSED:
        kind, text = json.loads(done.stdout.splitlines()[-1])
        raise {"ValueError": ValueError, "ImportError": ImportError}[kind](text) from failed
    if done.returncode:
        raise failed


def _modules_in(source: pathlib.Path) -> list[str]:
    """The modules of a user's registered classes in a saved model, which its reader must import.

    Raises:
        ValueError: one that no other process can import, as it is in the script itself.
    """
    own = {
        name: made.__module__
        for name, made in keras.saving.get_custom_objects().items()
        if made.__module__.split(".")[0] not in ("keras", "rnnzoo")
    }
    with zipfile.ZipFile(source) as saved:
        told = saved.read("config.json").decode()
    used = {name: module for name, module in own.items() if f'"{name}"' in told}
    for name, module in used.items():
        if module == "__main__":
            raise ValueError(
                "the classes of an exported model must be in a module that another process can "
                "import: on JAX an export is written with TensorFlow, in a second process; "
                f"received {name!r}, which is in the script itself (__main__). Move it into a "
                "module of its own and import it."
            )
    return sorted(set(used.values()))
