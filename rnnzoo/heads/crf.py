"""Linear-chain conditional random field: labels of a sequence that go together."""

import math
from typing import Any

import keras
from keras import ops

from rnnzoo import _checks
from rnnzoo.heads.absent import ABSENT, marked
from rnnzoo.heads.chain import Chain
from rnnzoo.heads.discrete import ClassHead
from rnnzoo.heads.head import Tensor
from rnnzoo.heads.loss import full_precision
from rnnzoo.heads.numeric import seeds, uniform_like
from rnnzoo.layers.per_step import PerStepDense


@keras.saving.register_keras_serializable(package="rnnzoo")
class CRFPotentials(keras.layers.Layer):
    """Log-potentials of a linear chain: a dense layer for each step, and learnt transitions.

    Args:
        classes: number of labels.
        **kwargs: those of `keras.layers.Layer`.

    Call arguments:
        inputs: `(batch, [time,] features)`.
        mask: None, or bool, `(batch, [time])`: a step that is not there is passed over.

    Returns:
        `(batch, [time,] (classes + 1) * classes)`: for each step the log-potential of every
        label after every label before it, and, last, after none (the first step).
    """

    def __init__(self, classes: int, **kwargs: Any):
        self.classes = _checks.positive_integer("classes", classes)
        super().__init__(**kwargs)
        self.supports_masking = True
        self.steps = PerStepDense(classes, name="steps", dtype=self.dtype_policy)

    def build(self, input_shape: tuple) -> None:
        """Makes the weights of a step, and `transitions`, whose last row starts a chain."""
        self.steps.build(input_shape)
        shape = (self.classes + 1, self.classes)
        self.transitions = self.add_weight(
            shape=shape, initializer="zeros", name="transitions", autocast=False
        )

    def call(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        dtype = full_precision(self.compute_dtype)
        steps = ops.expand_dims(ops.cast(self.steps(inputs), dtype), -2)
        potentials = steps + ops.cast(self.transitions, dtype)
        shape = (*ops.shape(inputs)[:-1], (self.classes + 1) * self.classes)
        return marked(ops.reshape(potentials, shape), mask)

    def get_config(self) -> dict[str, Any]:
        """The arguments that make this layer again."""
        return {**super().get_config(), "classes": self.classes}


@keras.saving.register_keras_serializable(package="rnnzoo")
class CRF(ClassHead):
    """A linear-chain conditional random field over class ids (Lafferty, McCallum & Pereira 2001).

    Parameters are the log-potentials of each step, `(classes + 1) * classes`: every label after
    every label, and after none. The loss of a step is what the step adds to the negative
    log-likelihood of the sequence; their sum is that of all labels. A chain starts at the first
    step that is there; steps that a mask or a sample weight of 0 takes away are passed over.

    Args:
        classes: number of labels, at least 2; targets are ids `(batch, time)`.

    Example:

    >>> import numpy as np
    >>> head = CRF(2)
    >>> even = np.zeros((1, 3, head.parameters), "float32")  # all 8 paths are alike
    >>> round(float(head.sequence_log_prob(even, np.array([[0, 1, 1]]))[0]), 4)
    -2.0794
    """

    whole_sequences = True
    absent = ABSENT

    def __init__(self, classes: int):
        super().__init__(classes)
        self.parameters = (self.classes + 1) * self.classes

    def layer(self, name: str = "parameters") -> CRFPotentials:
        """A new layer `(batch, [time,] features) -> (batch, [time,] parameters)`."""
        return CRFPotentials(self.classes, name=_checks.label("name", name))

    def losses(self, parameters: Tensor, targets: Tensor, present: Tensor | None = None) -> Tensor:
        """What each step adds to the negative log-likelihood, `(batch, [time])`, in nats.

        Args:
            parameters: `(batch, [time,] parameters)`.
            targets: `(batch, [time])` ids.
            present: None, or bool, `(batch, [time])`: steps that are there.
        """
        return -self.log_prob(parameters, targets, present)

    def log_prob(self, parameters: Tensor, targets: Tensor, mask: Tensor | None = None) -> Tensor:
        """What each step adds to the log-probability of the sequence, `(batch, [time])`, in nats.

        It is 0 where a step is not there, and -inf where a target is no class id.

        Args:
            parameters: `(batch, [time,] parameters)`.
            targets: `(batch, [time])` ids.
            mask: None, or bool, `(batch, [time])`: steps that are there.
        """
        chain = self._chain(parameters, mask)
        axes = tuple(chain.potentials.shape)[:2]
        labels, known = self._labels(chain.stepped(targets), axes)
        before = chain.label_before(labels)
        index = ops.expand_dims(before * self.classes + labels, -1)
        score = ops.squeeze(ops.take_along_axis(chain.potentials, index, axis=-1), -1)
        _, partition = chain.forward(ops.logsumexp)
        found = ops.where(known, score - partition, -math.inf)
        return chain.unstepped(ops.where(chain.present, found, ops.zeros_like(found)))

    def sequence_log_prob(
        self, parameters: Tensor, targets: Tensor, mask: Tensor | None = None
    ) -> Tensor:
        """The log-probability of all labels of each sequence, `(batch,)`, in nats.

        Args:
            parameters: `(batch, time, parameters)`.
            targets: `(batch, time)` ids.
            mask: None, or bool, `(batch, time)`: steps that are there.
        """
        return ops.sum(self.log_prob(parameters, targets, mask), axis=-1)

    def mean(self, parameters: Tensor, mask: Tensor | None = None) -> Tensor:
        """The probability of each label given the whole sequence, `(batch, [time,] classes)`.

        It is 0 where a step is not there.

        Args:
            parameters: `(batch, [time,] parameters)`.
            mask: None, or bool, `(batch, [time])`: steps that are there.
        """
        chain = self._chain(parameters, mask)
        return chain.unstepped(chain.marginals())

    def mode(self, parameters: Tensor, mask: Tensor | None = None) -> Tensor:
        """The most probable labels of the whole sequence, `(batch, [time])` int32 (Viterbi 1967).

        They are -1 where a step is not there.

        Args:
            parameters: `(batch, [time,] parameters)`.
            mask: None, or bool, `(batch, [time])`: steps that are there.
        """
        chain = self._chain(parameters, mask)
        best, _ = chain.forward(ops.max)
        return chain.unstepped(chain.path(best, ops.zeros_like(best)))

    def sample(
        self,
        parameters: Tensor,
        seed: int | keras.random.SeedGenerator | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Labels of the whole sequence drawn at random, `(batch, [time])` int32.

        They are -1 where a step is not there.

        Args:
            parameters: `(batch, [time,] parameters)`.
            seed: None, an int (always the same draw) or a `keras.random.SeedGenerator`.
            mask: None, or bool, `(batch, [time])`: steps that are there.
        """
        chain = self._chain(parameters, mask)
        sums, _ = chain.forward(ops.logsumexp)
        (seed,) = seeds(seed, 1)
        noise = -ops.log(-ops.log(uniform_like(sums, seed)))
        return chain.unstepped(chain.path(sums, noise))

    def _chain(self, parameters: Tensor, mask: Tensor | None) -> Chain:
        return Chain(self.classes, marked(self._checked(parameters), mask))
