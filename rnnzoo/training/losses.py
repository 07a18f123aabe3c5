"""Losses and metrics of a batch or window, with what each mean was divided by.

Keras tells the mean over batches of their losses, weighed by rows. A window, a batch of shorter
sequences, or one with more padding then weighs as much as any other. Here every loss comes with
its divisor (steps, or weights, or valid steps, as its reduction has it), and what is told is the
sum of what was added up over the sum of what it was divided by: the mean over the whole epoch.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
from keras import ops

from rnnzoo.backend.keras_internals import compiled_losses, compiled_metrics, set_keras_mask

Tensor = Any


class Measured(NamedTuple):
    """The losses of a batch or window.

    Attributes:
        values: one for each loss of `compile`, as its reduction makes it.
        divisors: what each was divided by.
        factors: the loss weights of `compile`, 1 where there are none.
        added: regularisation and other added losses, one scalar, or None.
    """

    values: list[Tensor]
    divisors: list[Tensor]
    factors: list[float]
    added: Tensor | None

    def total(self) -> Tensor:
        """The scalar to be differentiated."""
        parts = [value * factor for value, factor in zip(self.values, self.factors)]
        parts += [] if self.added is None else [self.added]
        return sum(parts[1:], parts[0])


@keras.saving.register_keras_serializable(package="rnnzoo")
class LossTracker(keras.metrics.Metric):
    """The loss over all that was trained since the last reset: sums over sums.

    Args:
        factors: the weight of each loss.
        outputs: the names of the losses, where there are several.
        name, dtype: as in `keras.metrics.Metric`.
    """

    def __init__(
        self,
        factors: list[float],
        outputs: Sequence[str] = (),
        name: str = "loss",
        dtype: Any = None,
    ):
        super().__init__(name=name, dtype=dtype)
        self.factors, self.outputs = factors, outputs
        shape = (len(factors) + 1,)  # the last place is that of added losses
        self.totals = self.add_variable(shape, "zeros", name="totals")
        self.counts = self.add_variable(shape, "zeros", name="counts")

    def update_state(self, measured: Measured) -> None:
        """Add the losses of a batch or window."""
        zero = ops.zeros((), self.dtype)
        divisors = [ops.cast(divisor, self.dtype) for divisor in measured.divisors]
        values = [ops.cast(value, self.dtype) for value in measured.values]
        # What was divided by 0 has no loss, whatever came out of it.
        values = [ops.where(d > 0, v * d, zero) for v, d in zip(values, divisors)]
        weight = divisors[0] if divisors else ops.ones((), self.dtype)
        if measured.added is None:
            values, divisors = [*values, zero], [*divisors, weight]
        else:
            values = [*values, ops.cast(measured.added, self.dtype) * weight]
            divisors = [*divisors, weight]
        self.totals.assign_add(ops.stack(values))
        self.counts.assign_add(ops.stack(divisors))

    def result(self) -> Tensor:
        """The mean loss, a scalar."""
        return self.of(self.totals, self.counts)

    def by_output(self) -> dict[str, Tensor]:
        """The mean loss of each of several outputs, unweighted, under Keras's names."""
        means = ops.divide_no_nan(self.totals, self.counts)
        return {f"{name}_loss": means[place] for place, name in enumerate(self.outputs)}

    def of(self, totals: Any, counts: Any) -> Tensor:
        """The loss that such sums mean."""
        factors = ops.convert_to_tensor([*self.factors, 1.0], self.dtype)
        totals, counts = (ops.cast(part, self.dtype) for part in (totals, counts))
        return ops.sum(ops.divide_no_nan(totals, counts) * factors)


def measure(
    model: Any, x: Any, y: Any, y_pred: Any, weight: Any, share: Any = 1.0, training: bool = True
) -> Measured:
    """The losses of `model` for a batch or window.

    Args:
        model: a compiled model.
        x, y, y_pred, weight: a batch in its one form, and the outputs for it.
        share: of a batch's steps those that this window trains, 1 for a whole batch.
        training: whether it is trained.

    Raises:
        ValueError: there is nothing to compute.
    """
    compile_loss, _ = model.compiled_parts()
    if not getattr(type(model).compute_loss, "measured", False):
        # A subclass computes its loss itself, which is taken for a mean over rows.
        value = model.compute_loss(x, y, y_pred, weight, training=training)
        rows = ops.cast(ops.shape(keras.tree.flatten(y_pred)[0])[0], "float32")
        return Measured([value], [rows * share], [1.0], None)
    added = [ops.sum(loss) for loss in model.losses]
    if compile_loss is None and not added:
        raise ValueError("No loss to compute. Provide a `loss` argument in `compile()`.")
    masks = model.output_masks(x, y_pred)
    values, divisors, factors = [], [], []
    for path, loss, factor, _ in compiled_losses(compile_loss, y, y_pred) if compile_loss else ():
        target, outputs, w, mask = (_at(path, one) for one in (y, y_pred, weight, masks))
        if mask is not None:
            set_keras_mask(outputs, mask)
        reduction = getattr(loss, "reduction", "sum_over_batch_size")
        if _lacks_axis(target, outputs) and _of_keras(loss, "call"):
            target = ops.expand_dims(target, -1)
        value = loss(target, outputs, w)
        value = ops.cast(ops.mean(value) if len(value.shape) else value, "float32")
        if reduction not in (None, "none", "sum"):
            value = value * model.replicas  # Keras has divided means by their number
        values.append(value)
        # Of a head that judges whole sequences there is one loss for each, whatever its shape and
        # its steps.
        by_step = getattr(getattr(loss, "head", None), "per_step", True)
        timed = by_step and len(outputs.shape) > 2 and len(target.shape) > 1
        timed = timed and _same_time(target, outputs)
        divisors.append(_divisor(reduction, outputs, w, mask if by_step else None, share, timed))
        factors.append(1.0 if factor is None else factor)
    return Measured(values, divisors, factors, sum(added[1:], added[0]) if added else None)


def update_metrics(model: Any, x: Any, y: Any, y_pred: Any, weight: Any) -> None:
    """Let the metrics of `compile` see a batch or window, each step as a sample of its own."""
    _, compile_metrics = model.compiled_parts()
    if compile_metrics is None:
        return
    masks = keras.tree.flatten(model.output_masks(x, y_pred))
    weights = _each(weight, y_pred)
    if isinstance(y, dict):  # an output without targets has no metric, but a place among all
        y = {**y_pred, **y}
    for metric, target, outputs, place, weighted in compiled_metrics(compile_metrics, y, y_pred):
        mask = masks[place] if masks else None
        w = weights[place] if weighted else None
        timed = len(target.shape) > 1 and len(outputs.shape) > 2 and _same_time(target, outputs)
        # Keras's own take the mean over a row's steps, so that a row of 2 steps counts as much
        # as one of 50. Metrics of others get sequences, as they would from Keras.
        flat = timed and _of_keras(metric, "update_state")
        if flat:
            target, outputs, w, mask = (_flattened(v) for v in (target, outputs, w, mask))
        if mask is not None:
            set_keras_mask(outputs, mask)
        metric.update_state(target, outputs, w)


def weigh(weight: Any, masks: Any) -> Tensor | None:
    """The sum of all weights of a batch or window; None where nothing is weighed or masked."""
    pairs = [(weight, masks)]
    if isinstance(masks, dict):  # an output without targets has no weights either
        names = masks if weight is None else weight
        pairs = [(None if weight is None else weight[name], masks[name]) for name in names]
    found = []
    for pair in pairs:
        if pair[0] is not None and pair[1] is not None and len(pair[0].shape) == 1:
            # Of whole sequences: one counts where any of its steps does.
            pair = pair[0], ops.any(ops.reshape(pair[1], (ops.shape(pair[1])[0], -1)), axis=1)
        given = [ops.cast(one, "float32") for one in pair if one is not None]
        if given:
            found.append(ops.sum(given[0] * given[1] if len(given) > 1 else given[0]))
    return sum(found[1:], found[0]) if found else None


def _at(path: tuple, values: Any) -> Any:
    for name in path if isinstance(values, (dict, list, tuple)) else ():
        values = values[name]
    return values


def _each(weight: Any, y_pred: Any) -> list:
    """The weights of each output, in the order of the flat outputs."""
    if isinstance(weight, dict):
        return [weight.get(name) for name in sorted(y_pred)]
    return [weight] * len(keras.tree.flatten(y_pred))


def _of_keras(one: Any, method: str) -> bool:
    """Whether a loss or metric computes as Keras has it: its own, what a user derives from them
    without a `method` of his own, and functions, which Keras has wrapped.
    """
    return getattr(type(one), method).__module__.split(".")[0] == "keras"


def _lacks_axis(target: Any, outputs: Any) -> bool:
    """Whether targets of one number have no axis for it.

    Keras would take that of the outputs away too, and a mean over the last axis left, which is
    time: one loss for each row, that weights and masks of steps do not fit.
    """
    return outputs.shape[-1] == 1 and len(target.shape) == len(outputs.shape) - 1


def _same_time(target: Any, outputs: Any) -> bool:
    sizes = target.shape[1], outputs.shape[1]
    return None in sizes or sizes[0] == sizes[1]


def _flattened(values: Any) -> Any:
    """Rows and steps of `values` as one axis."""
    if values is None:
        return None
    return ops.reshape(values, (-1, *values.shape[2:]))


def _divisor(
    reduction: str | None, outputs: Any, weight: Any, mask: Any, share: Any, timed: bool
) -> Tensor:
    """What a loss was divided by, so that sums over sums of divisors give the epoch's mean."""
    if reduction == "sum":
        return ops.cast(share, "float32")  # a mean over batches of their sums
    if reduction == "mean_with_sample_weight" and not (weight is None and mask is None):
        given = [ops.cast(one, "float32") for one in (weight, mask) if one is not None]
        return ops.sum(given[0] if len(given) == 1 else given[0] * given[1])
    if mask is not None:
        return ops.sum(ops.cast(mask, "float32"))
    if weight is not None:
        sizes = ops.shape(weight)
    else:
        sizes = ops.shape(outputs)[: 2 if timed else 1]
    count = ops.ones((), "float32")
    for size in sizes:
        count = count * ops.cast(size, "float32")
    return count
