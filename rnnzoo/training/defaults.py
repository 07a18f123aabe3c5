"""Defaults that nobody should have to find: losses that fit, biases that start right."""

import dataclasses
from typing import Any

import keras
import numpy as np

from rnnzoo import _checks, backend
from rnnzoo.backend.keras_internals import compiled_losses
from rnnzoo.core.spec import Output
from rnnzoo.feed.batches import Batches
from rnnzoo.feed.feed import Feed
from rnnzoo.feed.inputs import CoreInputs
from rnnzoo.heads.ctc import CTC
from rnnzoo.heads.discrete import Bernoulli, Logits
from rnnzoo.heads.loss import HeadLoss

# Losses and metrics of probabilities, by the names that Keras knows them under.
_OF_LOGITS = {
    "binary_crossentropy": "BinaryCrossentropy",
    "binary_focal_crossentropy": "BinaryFocalCrossentropy",
    "bce": "BinaryCrossentropy",
    "categorical_crossentropy": "CategoricalCrossentropy",
    "categorical_focal_crossentropy": "CategoricalFocalCrossentropy",
    "sparse_categorical_crossentropy": "SparseCategoricalCrossentropy",
}

# Metrics of yes or no, in small letters; at a logit of 0 lies a probability of one half.
_AT_LOGITS = {
    "accuracy": ("BinaryAccuracy", {"threshold": 0.0}),
    "acc": ("BinaryAccuracy", {"threshold": 0.0}),
    "binaryaccuracy": ("BinaryAccuracy", {"threshold": 0.0}),
    "precision": ("Precision", {"thresholds": 0.0}),
    "recall": ("Recall", {"thresholds": 0.0}),
    "auc": ("AUC", {"from_logits": True}),
}

# Losses whose targets are numbers of classes.
_OF_CLASSES = ("sparse_categorical_crossentropy", "categorical_generalized_cross_entropy")

# What `compile` takes for metrics that fit the loss.
_SHORT = ("accuracy", "acc", "crossentropy", "ce")

# Batches of a data set in which targets are counted.
_COUNTED = 200


def fitting(given: Any, outputs: dict[str, Output], module: Any, yes_no: Any = ()) -> Any:
    """`given` of `compile`, names of losses or metrics of probabilities as those of the outputs.

    So are the functions of Keras, which have these names.

    Args:
        given: a name, an object, or lists and dicts of them.
        outputs: those of the model. Where all are linear they are taken for logits.
        module: `keras.losses` or `keras.metrics`.
        yes_no: of metrics, the outputs that are logits of yes or no, as `of_yes_or_no` tells.

    Raises:
        ValueError: an object that takes linear outputs for probabilities.
    """
    linear = {name: output.activation == "linear" for name, output in outputs.items()}
    kinds = {name: (flag, name in yes_no) for name, flag in linear.items()}

    def fit(one: Any, kind: tuple[bool, bool]) -> Any:
        if isinstance(one, dict):
            return {key: fit(value, kinds.get(key, kind)) for key, value in one.items()}
        if isinstance(one, (list, tuple)):
            return type(one)(fit(value, kind) for value in one)
        logits, binary = kind
        if not logits:
            return one
        if _from_logits(one) is False:
            kind = "loss" if module is keras.losses else "metrics and weighted_metrics"
            raise ValueError(
                f"{kind} must have from_logits=True where outputs are logits, as those without an "
                f"activation are; received {type(one).__name__} with from_logits=False"
            )
        own = getattr(one, "__module__", "").split(".")[0] == "keras"
        known = getattr(one, "__name__", None) if own else one
        if not isinstance(known, str):
            return one
        name, short = _snake(known), known.replace("_", "").lower()
        if binary and short in _AT_LOGITS:
            made, options = _AT_LOGITS[short]
            return getattr(module, made)(**options, name=known)
        made = getattr(module, _OF_LOGITS[name], None) if name in _OF_LOGITS else None
        return one if made is None else made(from_logits=True, name=name)

    return fit(given, tuple(map(all, zip(*kinds.values()))))


def _from_logits(one: Any) -> Any:
    """What a loss or metric takes outputs for; in Keras 3.16 not all of its own keep it."""
    own = type(one).__module__.split(".")[0] == "keras" and _snake(type(one).__name__) in _OF_LOGITS
    return one.get_config()["from_logits"] if own else getattr(one, "from_logits", None)


def loss_of_heads(given: Any, outputs: dict[str, Output]) -> Any:
    """`given` of `compile`, and the losses of the heads of outputs for which it names none."""
    heads = {name: one.head for name, one in outputs.items() if one.head is not None}
    if not heads or not (given is None or isinstance(given, dict)):
        return given
    if given is None and len(outputs) == 1:
        return next(iter(heads.values())).loss
    return {name: head.loss for name, head in heads.items()} | (given or {})


def ctc_as_head(loss: Any, outputs: dict[str, Output]) -> Any:
    """`loss` of `compile` with the CTC of Keras as that of `rnnzoo.heads.CTC`, which leaves out
    padding.
    """

    def fit(one: Any, output: Output) -> Any:
        named = isinstance(one, str) and one.lower() == "ctc"
        if not (named or type(one) is keras.losses.CTC) or not output.per_step or output.head:
            return one
        options = {} if named else {"reduction": one.reduction, "name": one.name}
        return HeadLoss(CTC(output.shape[-1]), **options)

    if isinstance(loss, dict):
        return {name: fit(one, outputs[name]) for name, one in loss.items()}
    return fit(loss, next(iter(outputs.values())))


def judging(reader: Any, loss: Any, outputs: dict[str, Output]) -> Any:
    """`reader`, to which targets are what `loss` of `compile` takes them for.

    A loss of whole sequences may stand beside an output that no head was declared for: its
    labels have no time, also where they are as many as there are steps.
    """
    if not isinstance(reader, CoreInputs):
        return reader
    heads = {
        name: one.head
        for name, one in _by_output(loss, outputs).items()
        if isinstance(one, HeadLoss) and not one.head.per_step and outputs[name].head is None
    }
    told = {name: dataclasses.replace(outputs[name], head=head) for name, head in heads.items()}
    return CoreInputs(dataclasses.replace(reader.spec, outputs=outputs | told))


def check_optimizer(given: Any) -> None:
    """ValueError unless Keras can make an optimizer of `given`."""
    try:
        given if isinstance(given, keras.optimizers.Optimizer) else keras.optimizers.get(given)
    except Exception as error:  # of Keras, or of a class of the user's
        raise _checks.refuse(
            "optimizer", "a keras.optimizers.Optimizer, its name or its config", given
        ) from error


def check_measures(argument: str, given: Any) -> None:
    """ValueError unless `given` is a loss or metric, its name, or lists and dicts of them."""
    module = keras.losses if argument == "loss" else keras.metrics
    try:
        leaves = keras.tree.flatten(given)
    except Exception:  # too deep, or with keys that cannot be sorted
        leaves = [0]
    if argument == "loss" and given is not None and not leaves:
        leaves = [0]
    for one in leaves:
        name = isinstance(one, str) and (
            argument != "loss" and one in _SHORT or _known(one, module)
        )
        if one is not None and not name and not callable(one):
            kind = "losses" if argument == "loss" else "metrics"
            raise _checks.refuse(
                argument, f"{kind} of Keras, by object or name, functions, or None", given
            )


def _known(name: str, module: Any) -> bool:
    try:
        return module.get(name) is not None
    except ValueError:
        return False


def weights_of_losses(given: Any, outputs: dict[str, Output]) -> Any:
    """`given` of `compile` as Keras takes it: None, a float, or a list or dict of them.

    Raises:
        ValueError: what is no number, a name that is no output's, a number for several outputs.
    """
    values = [given]
    if isinstance(given, (list, tuple)) and given:
        values = list(given)
    elif isinstance(given, dict) and given and all(isinstance(key, str) for key in given):
        values = list(given.values())
    if given is not None and not all(_checks.is_number(one) for one in values):
        raise _checks.refuse("loss_weights", "None, a number, or a list or dict of them", given)
    given = by_name("loss_weights", given, outputs)
    if not _checks.is_number(given):
        return given
    if len(outputs) > 1:
        raise ValueError(
            "loss_weights must be a list or a dict, of one for each of the outputs "
            f"{_names(outputs)}; received loss_weights={given}"
        )
    return float(given)


def by_name(argument: str, given: Any, outputs: dict[str, Output]) -> Any:
    """`given` of `compile` by the names of several outputs; that of the only one by itself.

    Keras has the outputs of a list in the order of their names, not in that of the model.

    Raises:
        ValueError: a name that is no output's, a list of another length.
    """
    several = len(outputs) > 1
    if isinstance(given, (list, tuple)) and given and several:
        if len(given) != len(outputs):
            raise ValueError(
                f"{argument} must have one entry for each of the outputs {_names(outputs)}; "
                f"received {argument}={_checks.shown(given)}"
            )
        given = dict(zip(outputs, given))
    if isinstance(given, str) and argument == "loss" and several:
        given = dict.fromkeys(outputs, given)  # logits may be among them
    if not isinstance(given, dict):
        return given
    if unknown := [name for name in given if name not in outputs]:
        raise ValueError(
            f"{argument} must be named as the outputs, {_names(outputs)}; received "
            f"{_checks.shown(unknown)}"
        )
    return given if several else next(iter(given.values()), None)


def _names(outputs: dict[str, Output]) -> str:
    return ", ".join(map(repr, outputs))


def check_parameters(argument: str, given: Any, outputs: dict[str, Output]) -> None:
    """ValueError where a loss or metric of Keras would take parameters of a head for values.

    Keras lays a target along the parameters as if each were a forecast of it.

    Args:
        argument: "loss" or "metrics", as `compile` calls it.
        given: what `compile` was given for it.
        outputs: those of the model.
    """
    if isinstance(given, (list, tuple)) and len(given) == len(outputs) > 1:
        given = dict(zip(outputs, given))
    for name, output in outputs.items():
        head = output.head
        if head is None or head.per_step and head.parameters == head.outputs:
            continue
        own = given.get(name) if isinstance(given, dict) else given
        for one in keras.tree.flatten(own):
            kind = type(one).__module__.split(".")[0]
            if isinstance(one, str) or (kind == "keras" and hasattr(one, "get_config")):
                raise ValueError(
                    f"{argument} of Keras compare targets with values, and the output {name!r} "
                    f"holds the {head.parameters} parameters of {head}; received "
                    f"{argument}={_checks.shown(one)}. Leave the loss to the head, and measure "
                    "what model.heads makes of the outputs."
                )


def judged(loss: Any, outputs: dict[str, Output]) -> dict[str, bool]:
    """The outputs for which `loss` of `compile` has a loss, and whether it judges step by step.

    Those of Keras do, but for CTC; of others nobody knows.
    """
    return {name: _judges_steps(one) for name, one in _by_output(loss, outputs).items()}


def of_yes_or_no(loss: Any, outputs: dict[str, Output]) -> set[str]:
    """The outputs whose `loss`, as `fitting` left it, takes them for logits of yes or no."""
    binary = (keras.losses.BinaryCrossentropy, keras.losses.BinaryFocalCrossentropy)
    return {
        name
        for name, one in _by_output(loss, outputs).items()
        if isinstance(getattr(one, "head", None), Bernoulli)
        or (isinstance(one, binary) and one.from_logits)
    }


def _by_output(loss: Any, outputs: dict[str, Output]) -> dict[str, Any]:
    """The losses of `compile` by the names of the outputs that have one."""
    if isinstance(loss, (list, tuple)):
        loss = dict(zip(outputs, loss))
    elif not isinstance(loss, dict):
        loss = dict.fromkeys(outputs, loss)
    return {name: loss[name] for name in outputs if loss.get(name) is not None}


def measured(metrics: Any, outputs: dict[str, Output]) -> set[str]:
    """The outputs for which `metrics` of `compile`, by name, has any."""
    if not isinstance(metrics, dict):
        return set()  # of one output, whose targets are looked for anyway
    return {name for name, given in metrics.items() if given and name in outputs}


def classes(loss: Any, outputs: dict[str, Output]) -> dict[str, tuple]:
    """The outputs whose `loss` takes numbers of classes: how many, and the one it passes over."""
    loss = _by_output(loss, outputs)
    return {
        name: (one.shape[-1], getattr(loss[name], "ignore_class", None))
        for name, one in outputs.items()
        if one.shape and one.shape[-1] and _counts_classes(loss.get(name))
    }


def _counts_classes(loss: Any) -> bool:
    name = loss if isinstance(loss, str) else getattr(getattr(loss, "fn", loss), "__name__", "")
    return _snake(name) in _OF_CLASSES


def _judges_steps(loss: Any) -> bool:
    name = loss if isinstance(loss, str) else getattr(loss, "__name__", type(loss).__name__)
    does = getattr(type(loss), "call", loss)  # what a user derives from a loss may be its own
    own = isinstance(loss, str) or getattr(does, "__module__", "").split(".")[0] == "keras"
    return own and name.lower() != "ctc" and not isinstance(loss, keras.losses.CTC)


def _snake(name: str) -> str:
    """`BinaryCrossentropy` as Keras's other name for it, `binary_crossentropy`."""
    parts = [f"_{c.lower()}" if c.isupper() else c for c in name]
    return "".join(parts).lstrip("_")


def start_at_frequencies(model: Any, data: Feed) -> None:
    """Set the bias of outputs over tokens or classes to the log frequencies of their targets.

    Otherwise the hidden units learn the frequencies first, and saturate: a translator with
    attention on a natural corpus stays there for ever. Nothing is done to weights that were
    trained or loaded: only where the bias is zero, the output layer is as it was made, and the
    optimizer has made no step.
    """
    if model.optimizer is None or not model.trainable:
        return
    if int(backend.values_of(model.optimizer.iterations)[0]):
        return
    if fingerprint(model) != model.begun_with:  # its weights were set
        return
    for name, output in model.spec.outputs.items():
        bias = _fresh_bias(model, output) if _of_classes(model, name, data.first) else None
        if bias is None:
            continue
        counts = _counts(model, data, name, bias.shape[0])
        if counts is not None:
            # As if every class had been seen half a time more (Krichevsky & Trofimov, 1981).
            frequencies = (counts + 0.5) / (counts + 0.5).sum()
            values = backend.values_of(bias)
            backend.set_values(bias, [np.log(frequencies).astype(v.dtype) for v in values])


def fingerprint(model: Any) -> tuple[float, ...]:
    """What tells whether the layers before the outputs are as they were made."""
    core = model.core_of_outputs
    layers = [core.get_layer(o.layer) for o in model.spec.outputs.values() if o.layer is not None]
    kernels = [layer.kernel for layer in layers if hasattr(layer, "kernel")]
    return tuple(float(np.abs(backend.values_of(kernel)[0]).sum()) for kernel in kernels)


def _of_classes(model: Any, name: str, first: tuple) -> bool:
    """Whether the loss of an output takes the numbers of classes for targets."""
    compile_loss, _ = model.compiled_parts()
    if compile_loss is None or len(first) < 2:
        return False
    losses = compiled_losses(compile_loss, first[1], None)
    return any(
        _counts_classes(loss) or isinstance(getattr(loss, "head", None), Logits)
        for path, loss, *_ in losses
        if path in ((), (name,))
    )


def _fresh_bias(model: Any, output: Output) -> Any:
    """The bias of an output over classes that nobody has set yet; None where there is none."""
    if output.layer is None or output.activation not in ("linear", "softmax"):
        return None
    bias = getattr(model.core_of_outputs.get_layer(output.layer), "bias", None)
    if bias is None or not bias.trainable or len(bias.shape) != 1 or bias.shape[0] < 2:
        return None
    return None if np.any(backend.values_of(bias)[0]) else bias


def _counts(model: Any, data: Feed, name: str, size: int) -> np.ndarray | None:
    """How often each of `size` classes is a target, by weight; None where there are none."""
    total = np.zeros(size)
    for batch in _batches(data):
        x, y, weight = keras.utils.unpack_x_y_sample_weight(batch)
        y = y.get(name) if isinstance(y, dict) else y
        weight = weight.get(name) if isinstance(weight, dict) else weight
        if y is None or np.asarray(y).dtype.kind not in "iu":
            return None
        labels = y[..., 0] if y.ndim > 1 and y.shape[-1] == 1 and size > 1 else y
        if labels.size and (labels.min() < 0 or labels.max() >= size):
            return None
        if weight is None or weight.shape != labels.shape:
            weight = np.ones(labels.shape)
        mask = x.get(model.reader.mask)
        if mask is not None and mask.shape == labels.shape:
            weight = weight * mask  # padding is no target, whatever stands there
        total += np.bincount(labels.reshape(-1), weight.reshape(-1), size)
    total = backend.from_all(total).sum(axis=0)  # each process has read its own rows
    return total if total.any() else None


def _batches(data: Feed) -> Any:
    """Batches to count in: of what has places, some from everywhere; of all else the first."""
    if isinstance(data.x, Batches) and data.x.indexed:
        count = data.x.count
        chosen = np.unique(np.linspace(0, count - 1, min(count, _COUNTED)).astype(int))
        return (data.x.reading.prepare(int(i), data.x.source[int(i)]) for i in chosen)
    return [data.first]
