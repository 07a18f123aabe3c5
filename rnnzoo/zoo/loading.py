"""`from_preset`: a trained model from a name, a folder or a hub, as it was or for another task."""

import os
import pathlib
from typing import Any

from rnnzoo import _checks
from rnnzoo.core.new_head import with_outputs
from rnnzoo.models.recurrent_model import RecurrentModel
from rnnzoo.presets.folder import read_card, read_preset
from rnnzoo.presets.storage import fresh
from rnnzoo.training.trainer import SequenceTrainer
from rnnzoo.zoo import hub
from rnnzoo.zoo.animals import BY_NAME
from rnnzoo.zoo.catalogue import build, unknown
from rnnzoo.zoo.places import HOME, find


def from_preset(
    preset: str | os.PathLike,
    *,
    load_weights: bool = True,
    outputs: int | None = None,
    freeze_until: str | None = None,
) -> Any:
    """The trained model of a preset, with its vocabulary; not compiled.

    `rnnzoo.zoo.card(name).compile(model)` compiles it as it was trained. It can be trained
    further, stepped, exported and served like any model of rnnzoo, on both backends.

    Args:
        preset: a name of `rnnzoo.zoo.list(trained=True)`; the folder of a preset; or
            'hf://user/name', a repository of the Hugging Face Hub, 'hf://user/name@revision'
            for one version of it (`pip install 'rnnzoo[hub]'`). Names are looked for in the
            folder of the environment variable `RNNZOO_HOME`, then in `saved_models` of the
            clone that rnnzoo is run from.
        load_weights: False gives the architecture, with new weights.
        outputs: size of a new output layer, with new weights, on the trained layers, for
            fine-tuning; its outputs are logits. None keeps the trained one. Of a model of
            `from_keras` it stands where the Dense layer at its end was.
        freeze_until: name of a layer of the model's core; it and all layers before it are not
            trained further. None trains all.

    Raises:
        ValueError: a preset that is not known, not whole, altered or of a newer rnnzoo; a
            model that has no output layer to replace; a layer that is not there.
        ImportError: 'hf://' without the extra `hub`.
        OSError: a hub that cannot be reached.

    Example:

    >>> import pathlib, tempfile, rnnzoo
    >>> folder = pathlib.Path(tempfile.mkdtemp(), "mine")
    >>> _ = rnnzoo.one_to_one(features=3, units=4, outputs=2).save_to_preset(folder)
    >>> model = rnnzoo.from_preset(folder, outputs=7, freeze_until="lstm_0")
    >>> model.compute_output_shape((None, None, 3))
    (None, None, 7)
    """
    _checks.flag("load_weights", load_weights)
    if outputs is not None:
        _checks.positive_integer("outputs", outputs)
    _checks.optional_text("freeze_until", freeze_until)
    folder = folder_of(preset)
    if folder is not None:
        model, _ = read_preset(folder)
        model = model if load_weights else fresh(model)
    elif not load_weights and preset in BY_NAME:
        model = build(preset)
    else:
        raise _no_weights(preset)
    if outputs is not None:
        model = _with_new_head(model, outputs)
    if freeze_until is not None:
        _freeze(model, freeze_until)
    return model


def save(model: SequenceTrainer, folder: str | os.PathLike, **told: Any) -> pathlib.Path:
    """The folder of a preset, written; the same as `model.save_to_preset(folder, ...)`.

    Raises:
        ValueError: what is no model of rnnzoo.
    """
    if not isinstance(model, SequenceTrainer):
        raise ValueError(f"model must be a model of rnnzoo; received {type(model).__name__}")
    return model.save_to_preset(folder, **told)


def folder_of(preset: str | os.PathLike) -> pathlib.Path | None:
    """The folder of a preset, fetched where it is on a hub; None for a name without weights.

    Raises:
        ValueError: neither a name, nor a folder, nor 'hf://user/name'.
    """
    if isinstance(preset, str) and hub.is_address(preset):
        return hub.download(preset)
    path = _checks.path("preset", preset)
    by_name = find(preset) if isinstance(preset, str) else None
    if by_name is not None:
        return by_name
    if path.is_dir():
        read_card(path)
        return path
    if isinstance(preset, str) and preset in BY_NAME:
        return None
    if path.parent != pathlib.Path(".") or not isinstance(preset, str):
        raise ValueError(f"preset must be a folder that exists; received preset={str(preset)!r}")
    raise unknown(preset, what="in the zoo, a folder, or 'hf://user/name'")


def _no_weights(name: str | os.PathLike) -> ValueError:
    return ValueError(
        f"the weights of {name} must be on this machine; received a name without: they are in "
        f"saved_models of a clone of rnnzoo (not in the wheel), in the folder that {HOME} names, "
        "or on a hub, 'hf://user/name'. load_weights=False gives the architecture."
    )


def _with_new_head(model: Any, outputs: int) -> Any:
    if not isinstance(model, RecurrentModel):
        raise ValueError(
            "outputs replaces the output layer of a one_to_one or many_to_one model; received "
            f"outputs={outputs} for a model of form {model.form}"
        )
    core, spec = with_outputs(model.core, model.spec, outputs)
    return RecurrentModel(
        core, spec, name=model.name, vocabulary=model.vocabulary, dtype=model.dtype_policy
    )


def _freeze(model: Any, last: str) -> None:
    layers = [layer for core in model.cores for layer in core.layers if layer.weights]
    names = [layer.name for layer in layers]
    _checks.one_of("freeze_until", last, names)
    for layer in layers[: names.index(last) + 1]:
        layer.trainable = False
