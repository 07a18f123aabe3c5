"""Connectionist temporal classification: labels of a sequence without their place in time."""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from rnnzoo import _checks
from rnnzoo.heads.absent import ABSENT, marked, present_steps
from rnnzoo.heads.discrete import ClassHead
from rnnzoo.heads.head import Tensor
from rnnzoo.heads.loss import full_precision
from rnnzoo.heads.numeric import chosen, seeds
from rnnzoo.layers.per_step import PerStepDense


@keras.saving.register_keras_serializable(package="rnnzoo")
class CTCLogits(PerStepDense):
    """Logits of each step, marked where a mask says that a step is not there.

    The mask ends here: the loss is one for each sequence, and Keras would weigh it by steps.
    """

    def call(self, inputs: Tensor, training: bool | None = None, mask: Tensor | None = None):
        return self._marked(super().call(inputs, training), mask)

    def quantized_call(self, inputs: Tensor, training: bool | None = None, mask: Any = None):
        return self._marked(super().quantized_call(inputs, training), mask)

    def compute_mask(self, inputs: Tensor, previous_mask: Tensor | None = None) -> None:
        """None: see the class."""
        return None

    def _marked(self, logits: Tensor, mask: Tensor | None) -> Tensor:
        return marked(ops.cast(logits, full_precision(self.compute_dtype)), mask)


@keras.saving.register_keras_serializable(package="rnnzoo")
class CTC(ClassHead):
    """Labels in their order, without their times (Graves et al. 2006).

    As in `keras.losses.CTC`, class 0 is the blank and pads targets at their end, and the loss is
    one number for each sequence. Unlike there, steps that a mask of the layer takes away are
    not read.

    Args:
        classes: number of classes, the blank among them, at least 2; targets are
            `(batch, labels)`.

    Example:

    >>> import numpy as np
    >>> head = CTC(2)
    >>> even = np.zeros((1, 2, 2), "float32")  # of 4 paths, 3 spell the label: "11", "10", "01"
    >>> round(float(head.log_prob(even, np.array([[1]]))[0]), 4)
    -0.2877
    """

    whole_sequences = True
    absent = ABSENT
    per_step = False

    def __init__(self, classes: int):
        super().__init__(classes)
        self.target_shape = (None,)

    def layer(self, name: str = "parameters") -> CTCLogits:
        """A new layer `(batch, time, features) -> (batch, time, classes)`."""
        return CTCLogits(self.classes, name=_checks.label("name", name))

    def log_prob(self, parameters: Tensor, targets: Tensor, mask: Tensor | None = None) -> Tensor:
        """The log-probability of the labels of each sequence, `(batch,)`, in nats.

        It is -inf where a label is no class id or follows a 0, or where the labels are too many
        for the steps.

        Args:
            parameters: `(batch, time, classes)`.
            targets: `(batch, labels)`, padded by 0.
            mask: None, or bool, `(batch, time)`: steps that are there.
        """
        logits, lengths = self._packed(parameters, mask)
        targets = _checks.tensor("targets", targets)
        given = tuple(targets.shape)
        if len(given) != 2 or not _checks.alike(given[:1], tuple(logits.shape)[:1]):
            raise ValueError(
                f"targets of {self} must be (batch, labels), with the rows of the parameters, "
                f"{logits.shape[0]}; received shape {given}"
            )
        if given[1] == 0:  # without a column TensorFlow's loss is of nothing at all
            targets = ops.pad(targets, ((0, 0), (0, 1)))
        labels, known = self._labels(targets, tuple(targets.shape))
        count = ops.sum(ops.cast(labels > 0, "int32"), axis=-1)
        before, after = labels[:, :-1], labels[:, 1:]
        # Two labels that are alike need a blank between them.
        alike = ops.logical_and(ops.equal(before, after), after > 0)
        fits = count + ops.sum(ops.cast(alike, "int32"), axis=-1) <= lengths
        in_front = ops.all(ops.logical_or(before > 0, ops.equal(after, 0)), axis=-1)
        possible = ops.logical_and(fits, ops.logical_and(in_front, ops.all(known, axis=-1)))
        count, labels = ops.where(possible, count, 0), ops.where(possible[:, None], labels, 0)
        found = -ops.cast(ops.ctc_loss(labels, logits, count, lengths), logits.dtype)
        return ops.where(possible, found, -math.inf)

    def mean(self, parameters: Tensor) -> Tensor:
        """The probability of each class at each step, `(batch, time, classes)`.

        Args:
            parameters: `(batch, time, classes)`.
        """
        return ops.softmax(self._checked(parameters), axis=-1)

    def mode(self, parameters: Tensor, mask: Tensor | None = None) -> Tensor:
        """The labels of the most probable path, `(batch, time)` int32, padded by -1.

        Those of the most probable labels are found, mostly, by `beam_search`.

        Args:
            parameters: `(batch, time, classes)`.
            mask: None, or bool, `(batch, time)`: steps that are there.
        """
        logits, lengths = self._packed(parameters, mask)
        return self._spelled(ops.argmax(logits, axis=-1), lengths)

    def sample(
        self,
        parameters: Tensor,
        seed: int | keras.random.SeedGenerator | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """The labels of a path drawn at random, `(batch, time)` int32, padded by -1.

        Args:
            parameters: `(batch, time, classes)`.
            seed: None, an int (always the same draw) or a `keras.random.SeedGenerator`.
            mask: None, or bool, `(batch, time)`: steps that are there.
        """
        logits, lengths = self._packed(parameters, mask)
        (seed,) = seeds(seed, 1)
        return self._spelled(chosen(logits, seed), lengths)

    def beam_search(
        self,
        parameters: Tensor,
        beam_width: int = 100,
        top_paths: int = 1,
        mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The most probable labels, `(top_paths, batch, time)` int32, padded by -1, and their log.

        It is `keras.ops.ctc_decode`, which XLA cannot compile on TensorFlow; `mode` it can. Where
        a sequence has fewer results than `top_paths`, those beyond are -1 alone, and have a
        log-probability of -inf.

        Args:
            parameters: `(batch, time, classes)`.
            beam_width: prefixes kept at each step.
            top_paths: results for each sequence, `beam_width` at most.
            mask: None, or bool, `(batch, time)`: steps that are there.

        Returns:
            The labels, best first, and their log-probabilities, `(batch, top_paths)`.
        """
        beam_width = _checks.positive_integer("beam_width", beam_width)
        top_paths = _checks.positive_integer("top_paths", top_paths)
        if top_paths > beam_width:
            raise ValueError(
                f"top_paths must be at most beam_width; received top_paths={top_paths}, "
                f"beam_width={beam_width}"
            )
        logits, lengths = self._packed(parameters, mask)
        # Blanks at the end, beside which a label has next to no probability: TensorFlow refuses
        # a sequence of fewer results than it is asked for, and of no steps JAX reads one.
        steps, more = ops.shape(logits)[1], 2 * top_paths
        after = ops.arange(steps + more, dtype="int32")[None] >= lengths[:, None]
        blank = ops.cast(np.where(np.arange(self.classes) > 0, ABSENT, 0.0), logits.dtype)
        logits = ops.pad(logits, ((0, 0), (0, more), (0, 0)))
        logits = ops.where(after[..., None], blank, logits)
        options = {"beam_width": beam_width, "top_paths": top_paths}
        labels, scores = ops.ctc_decode(logits, lengths + more, strategy="beam_search", **options)
        found = scores > 0.5 * ABSENT
        labels = ops.where(ops.transpose(found)[..., None], labels[..., :steps], -1)
        return labels, ops.where(found, scores, -math.inf)

    def check_targets(self, targets: Any, sample_weight: Any = None) -> None:
        """ValueError that names the first target that is no class id, or a 0 before a label.

        Args:
            targets: array, `(batch, labels)`.
            sample_weight: None, or `(batch,)`; a sequence of weight 0 may be anything.
        """
        if np.ndim(targets) != 2:
            raise ValueError(
                f"targets of {self} must be (batch, labels); received shape {np.shape(targets)}"
            )
        super().check_targets(targets, sample_weight)

    def _allowed(self, targets: np.ndarray) -> np.ndarray:
        label_follows = np.cumsum((targets != 0)[:, ::-1], axis=1)[:, ::-1] > 0
        return super()._allowed(targets) & ~((targets == 0) & label_follows)

    def _domain(self) -> str:
        return f"labels, 1 to {self.classes - 1}, and 0 only at the end, as padding"

    def _packed(self, parameters: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """The logits with the steps that are there in front, and how many these are."""
        logits = marked(self._checked(parameters), mask)
        if len(logits.shape) != 3:
            raise ValueError(
                f"the parameters of {self} must be (batch, time, {self.classes}); received shape "
                f"{tuple(logits.shape)}"
            )
        present = present_steps(logits)
        logits = ops.take_along_axis(logits, _in_front(present)[..., None], axis=1)
        return logits, ops.sum(ops.cast(present, "int32"), axis=-1)

    def _spelled(self, path: Tensor, lengths: Tensor) -> Tensor:
        """The labels of a path: of those that are alike in a row the first, without blanks."""
        path = ops.cast(path, "int32")
        before = ops.pad(path, ((0, 0), (1, 0)))[:, :-1]
        steps = ops.arange(ops.shape(path)[1], dtype="int32")[None]
        kept = ops.logical_and(path > 0, ops.not_equal(path, before))
        kept = ops.logical_and(kept, steps < lengths[:, None])
        path = ops.where(kept, path, -1)
        return ops.take_along_axis(path, _in_front(kept), axis=1)


def _in_front(kept: Tensor) -> Tensor:
    """Indices along time that bring what is kept to the front, in its order."""
    time = ops.shape(kept)[1]
    steps = ops.arange(time, dtype="int32")[None]
    return ops.argsort(ops.where(kept, steps, steps + time), axis=1)
