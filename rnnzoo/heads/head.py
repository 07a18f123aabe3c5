"""The contract that all heads share: parameters -> loss, mean, quantiles, samples.

A head describes what one step of a model says about one target. It holds no weights: `layer`
makes the layer that maps hidden features to the raw parameters, and everything else is a function
of these, written in `keras.ops`, so that it can be compiled and exported.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from rnnzoo import _checks
from rnnzoo.heads.loss import HeadLoss, full_precision
from rnnzoo.layers.per_step import PerStepDense

Tensor = Any


class Head:
    """What a model says about a target: a distribution, or what is known of one.

    A head of your own sets the attributes and defines `log_prob`, and what else it can say.

    Attributes:
        parameters: raw numbers a step, the last axis of what `layer` gives.
        target_shape: shape of one target, after the axes of batch and time.
        outputs: numbers a step of `mean`; the number of classes where targets are classes.
        per_step: whether each step has a loss of its own; else there is one for each sequence.
        kind: what the targets are, in words, for errors.
        whole_sequences: whether the steps of a sequence hang together in the loss, so that a
            sequence must not be cut into windows.
        absent: the parameters by which it knows that a step is not there.
        levels: those at which an export gives quantiles.
        scalings: the kinds of scaling by series that `in_units` can undo.
    """

    parameters: int
    target_shape: tuple[int | None, ...]
    outputs: int
    kind: str = "numbers"
    per_step: bool = True
    whole_sequences: bool = False
    absent: float = 0.0
    levels: tuple[float, ...] = (0.1, 0.5, 0.9)
    scalings: tuple[str, ...] = ()

    def layer(self, name: str = "parameters") -> keras.layers.Layer:
        """A new layer `(batch, [time,] features) -> (batch, [time,] parameters)`."""
        return PerStepDense(self.parameters, name=_checks.label("name", name))

    @property
    def loss(self) -> HeadLoss:
        """A new `keras.losses.Loss` of targets and raw parameters, the mean over all steps.

        `rnnzoo.heads.HeadLoss(head, reduction=...)` takes another reduction.
        """
        return HeadLoss(self)

    def losses(self, parameters: Tensor, targets: Tensor, present: Tensor | None = None) -> Tensor:
        """The loss of each step in nats, `(batch, [time])`; 0 where a step is not `present`.

        Of whole sequences, as of `CTC`, there is one each, `(batch,)`.

        Args:
            parameters: `(batch, [time,] parameters)`.
            targets: `(batch, [time,] *target_shape)`.
            present: None, or bool, `(batch, [time])`.
        """
        return hidden_where_absent(-self.log_prob(parameters, targets), present)

    def log_prob(self, parameters: Tensor, targets: Tensor) -> Tensor:
        """The log-density or log-probability in nats, `(batch, [time])`, -inf where impossible.

        Args:
            parameters: `(batch, [time,] parameters)`.
            targets: `(batch, [time,] *target_shape)`.
        """
        raise self._lacks("log_prob")

    def mean(self, parameters: Tensor) -> Tensor:
        """The expected target, `(batch, [time,] outputs)`; of classes, their probabilities."""
        raise self._lacks("mean")

    def mode(self, parameters: Tensor) -> Tensor:
        """The most probable target."""
        raise self._lacks("mode")

    def quantile(self, parameters: Tensor, p: float | Sequence[float]) -> Tensor:
        """The smallest target of a distribution function of at least `p`.

        Args:
            parameters: `(batch, [time,] parameters)`.
            p: a number between 0 and 1, or several, which become the last axis.
        """
        raise self._lacks("quantile")

    def point(self, parameters: Tensor) -> Tensor:
        """One number for each of a target, `(batch, [time,] outputs)`: the mean, or the median
        of a head that has none; ValueError of one that has neither.

        Args:
            parameters: `(batch, [time,] parameters)`.
        """
        if not self.says("point"):
            raise ValueError(f"a point is a mean or a median, and {self} says neither")
        return self.mean(parameters) if self.says("mean") else self.quantile(parameters, 0.5)

    def sample(self, parameters: Tensor, seed: Any = None) -> Tensor:
        """One target a step, drawn at random.

        Args:
            parameters: `(batch, [time,] parameters)`.
            seed: None, an int (always the same draw) or a `keras.random.SeedGenerator`.
        """
        raise self._lacks("sample")

    def in_units(self, parameters: Tensor, shift: Tensor | None, scale: Tensor) -> Tensor:
        """Raw parameters of `scale * target + shift` out of those of a target.

        Args:
            parameters: `(batch, [time,] parameters)`.
            shift, scale: `(batch, [time,] outputs)`; a shift of None is 0.
        """
        raise ValueError(f"{type(self).__name__} is a head of {self.kind}, which have no units")

    def summaries(self, parameters: Tensor, loops: bool = True) -> dict[str, Tensor]:
        """What an export gives beside the parameters, of what the head can say.

        They are its `mean`, its `quantiles` at `levels` (the last axis) and, of whole
        sequences, `path`, the most probable labels.

        Args:
            parameters: `(batch, [time,] parameters)`.
            loops: whether what may take a loop is among them: quantiles, some of which are
                found by a search, and all that is said of whole sequences.
        """
        found = {}
        if self.says("mean") and (loops or not self.whole_sequences):
            found["mean"] = self.mean(parameters)
        if self.says("quantile") and loops:
            found["quantiles"] = self.quantile(parameters, self.levels)
        return found | ({"path": self.mode(parameters)} if self.whole_sequences and loops else {})

    def says(self, method: str) -> bool:
        """Whether the head has `method`, such as 'mean', 'quantile', 'point' or 'sample'."""
        own = getattr(type(self), method) is not getattr(Head, method)
        return own or method == "point" and (self.says("mean") or self.says("quantile"))

    def check_targets(self, targets: Any, sample_weight: Any = None) -> None:
        """ValueError that names the first target out of the head's domain.

        Args:
            targets: array.
            sample_weight: None, or weights of the first axes; what has weight 0 may be anything.
        """
        targets = _checks.array("targets", targets)
        if not _checks.holds_numbers(targets):
            raise ValueError(
                f"targets of {self} must be numbers; received dtype {targets.dtype.name}"
            )
        if targets.dtype.kind == "V":  # bfloat16, of which NumPy knows little
            targets = targets.astype("float32")
        wrong = ~self._allowed(targets)
        if sample_weight is not None:
            wrong &= _weighted(_checks.array("sample_weight", sample_weight), targets.shape)
        if wrong.any():
            place = tuple(int(i) for i in np.argwhere(wrong)[0])
            raise ValueError(
                f"targets of {self} must be {self._domain()}; received {targets[place]} at {place}"
            )

    def get_config(self) -> dict[str, Any]:
        """The arguments that make this head again."""
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Head":
        """The head of `get_config`."""
        return cls(**config)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.get_config() == self.get_config()

    def __hash__(self) -> int:
        return hash(repr(self))

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in self.get_config().items())
        return f"{type(self).__name__}({settings})"

    def _allowed(self, targets: np.ndarray) -> np.ndarray:
        """Which targets are in the domain, bool, of their shape."""
        return np.isfinite(targets)

    def _domain(self) -> str:
        """The domain in words."""
        return "finite numbers"

    def _lacks(self, method: str) -> ValueError:
        methods = ("log_prob", "mean", "mode", "quantile", "sample")
        has = list(filter(self.says, methods))
        return ValueError(
            f"{type(self).__name__} is a head of {self.kind}, which have no {method}; it has "
            f"{', '.join(has)}"
        )

    def _checked(self, parameters: Tensor) -> Tensor:
        """`parameters` in float32 at least; ValueError where their last axis is not ours."""
        parameters = _checks.tensor("parameters", parameters)
        rank, last = len(parameters.shape), parameters.shape[-1] if parameters.shape else None
        if rank < 2 or last not in (None, self.parameters):
            raise ValueError(
                f"the parameters of {self} must be (batch, [time,] {self.parameters}); received "
                f"shape {tuple(parameters.shape)}"
            )
        dtype = keras.backend.standardize_dtype(parameters.dtype)
        return ops.cast(parameters, full_precision(dtype))


def hidden_where_absent(losses: Tensor, present: Tensor | None) -> Tensor:
    """`losses`, 0 where `present` is False, whatever they were."""
    return losses if present is None else ops.where(present, losses, ops.zeros_like(losses))


def levels_of(p: Any, name: str = "p") -> np.ndarray:
    """`p` as a float64 array of rank 0 or 1; ValueError unless all are between 0 and 1."""
    try:
        levels = _checks.numbers(name, p)
    except ValueError:
        levels = np.zeros((0, 0))
    if levels.ndim > 1 or not levels.size or not np.all((levels > 0) & (levels < 1)):
        raise ValueError(
            f"{name} must be a number between 0 and 1, or a list of them (0 and 1 left out); "
            f"received {name}={_checks.shown(p)}"
        )
    return levels


def _weighted(weight: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Which targets of `shape` have a weight; ValueError where the first axes do not fit."""
    given = weight.shape
    if not _checks.holds_numbers(weight):
        raise ValueError(f"sample_weight must be numbers; received dtype {weight.dtype}")
    if weight.ndim == len(shape) + 1 and given[-1] == 1:
        weight = weight[..., 0]
    if not _checks.leads(weight.shape, shape):
        raise ValueError(
            f"sample_weight must have the first axes of the targets, {shape}; received shape "
            f"{given}"
        )
    weight = weight.reshape(weight.shape + (1,) * (len(shape) - weight.ndim))
    return np.broadcast_to(weight != 0, shape)
