"""`Training`: how a model of the zoo is trained, as plain values, and made from these."""

import dataclasses
from typing import Any

import keras

from rnnzoo import _checks
from rnnzoo.metrics import Perplexity, SequenceAccuracy
from rnnzoo.training.trainer import SequenceTrainer

OPTIMIZERS = {"adam": keras.optimizers.Adam, "sgd": keras.optimizers.SGD}
SCHEDULES = ("one_cycle", "halving", "constant")
# What each metric is measured by; the loss that goes with it is `loss_of`.
METRICS = {
    "perplexity": Perplexity,
    "accuracy": lambda: "accuracy",
    "sequence_accuracy": SequenceAccuracy,
    "error": keras.metrics.RootMeanSquaredError,
}


@dataclasses.dataclass(frozen=True)
class Training:
    """How a model was trained; of each the best, or the paper's.

    Attributes:
        rate: the highest learning rate.
        epochs, updates: passes over the data, and updates of the weights in each.
        batch: sequences, or lanes, in a batch.
        window: steps that gradients go back through; None for whole sequences.
        clip: global norm of the gradients at most; None for no bound.
        optimizer: 'adam' or 'sgd'.
        schedule: 'one_cycle' rises to `rate` in the first `warm` of all updates and falls to
            zero on a cosine; 'halving' divides by `divisor` each epoch from epoch `warm` on
            (Zaremba et al., 2014); or 'constant'.
        warm: a share of all updates, or a number of epochs.
        divisor: of 'halving'.
        metric: 'perplexity', 'accuracy' or 'sequence_accuracy' of models whose outputs are
            logits, trained on cross-entropy in nats; or 'error', the root of the mean squared
            error of models that give numbers, trained on that mean.
        decay: of the weights, apart from the gradients (Loshchilov & Hutter, 2019).
        smoothing: the part of the cross-entropy that is against all classes alike (Szegedy et
            al., 2016).
    """

    rate: float
    epochs: int
    updates: int
    batch: int
    window: int | None = None
    clip: float | None = 1.0
    optimizer: str = "adam"
    schedule: str = "one_cycle"
    warm: float = 0.2
    divisor: float = 2.0
    metric: str = "accuracy"
    decay: float = 0.0
    smoothing: float = 0.0

    def __post_init__(self) -> None:
        _checks.one_of("optimizer", self.optimizer, OPTIMIZERS)
        _checks.one_of("schedule", self.schedule, SCHEDULES)
        _checks.one_of("metric", self.metric, METRICS)
        for name in ("epochs", "updates", "batch"):
            _checks.positive_integer(name, getattr(self, name))
        _checks.optional_count("window", self.window)
        for name in ("rate", "divisor", *(() if self.clip is None else ("clip",))):
            _checks.number(name, getattr(self, name), "a number above 0", lambda value: value > 0)
        for name in ("warm", "decay"):
            _checks.number(name, getattr(self, name), "a number of 0 or more", lambda v: v >= 0)
        _checks.fraction("smoothing", self.smoothing)
        if self.smoothing and self.metric == "error":
            raise ValueError(
                "smoothing is of classes, not of the metric 'error'; received "
                f"smoothing={self.smoothing}"
            )

    def learning_rate(self, epochs: int, updates: int) -> Any:
        """The schedule of `epochs` of `updates` each: a number or a `LearningRateSchedule`."""
        total = epochs * updates
        schedules = keras.optimizers.schedules
        if self.schedule == "constant":
            return self.rate
        if self.schedule == "one_cycle":
            rise = max(1, int(self.warm * total))
            return schedules.CosineDecay(
                self.rate / 25, max(1, total - rise), warmup_target=self.rate, warmup_steps=rise
            )
        later = range(int(self.warm), epochs)
        boundaries = [epoch * updates for epoch in later]
        rates = [self.rate / self.divisor**i for i in range(len(boundaries) + 1)]
        return schedules.PiecewiseConstantDecay(boundaries, rates) if boundaries else self.rate

    def compile(
        self, model: SequenceTrainer, epochs: int | None = None, updates: int | None = None
    ) -> SequenceTrainer:
        """`model`, compiled with these settings.

        Args:
            model: a model of rnnzoo whose outputs are logits.
            epochs: passes over the data that `fit` will make; those of the paper by default.
            updates: updates of the weights in each; those of the paper by default.

        Raises:
            ValueError: what is no model of rnnzoo, or numbers below 1.
        """
        if not isinstance(model, SequenceTrainer):
            raise ValueError(f"model must be a model of rnnzoo; received {type(model).__name__}")
        epochs = self.epochs if epochs is None else _checks.positive_integer("epochs", epochs)
        updates = self.updates if updates is None else _checks.positive_integer("updates", updates)
        optimizer = OPTIMIZERS[self.optimizer](
            self.learning_rate(epochs, updates),
            global_clipnorm=self.clip,
            weight_decay=self.decay or None,
        )
        model.compile(optimizer, self.loss(), weighted_metrics=[METRICS[self.metric]()])
        return model

    def loss(self) -> keras.losses.Loss:
        """The loss that is trained on: padding has no weight, and no part in the mean."""
        kept = {"reduction": "mean_with_sample_weight"}
        if self.metric == "error":
            return keras.losses.MeanSquaredError(**kept)
        if self.smoothing:
            return SmoothedCrossentropy(self.smoothing, **kept)
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True, **kept)


@keras.saving.register_keras_serializable(package="rnnzoo")
class SmoothedCrossentropy(keras.losses.SparseCategoricalCrossentropy):
    """Cross-entropy of integer classes and logits, in nats, with smoothed labels.

    Keras smooths labels that are one-hot, which take as much memory again as the logits.

    Args:
        smoothing: the part that is against all classes alike, in [0, 1).
        reduction, name, dtype: as in `keras.losses.Loss`.
    """

    def __init__(
        self,
        smoothing: float,
        reduction: str = "mean_with_sample_weight",
        name: str = "smoothed_crossentropy",
        dtype: Any = None,
    ):
        super().__init__(from_logits=True, reduction=reduction, name=name, dtype=dtype)
        self.smoothing = _checks.fraction("smoothing", smoothing)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """The loss of each step, `(batch, ...)`, of logits `(batch, ..., classes)`."""
        alike = -keras.ops.mean(keras.ops.log_softmax(y_pred), axis=-1)
        return (1 - self.smoothing) * super().call(y_true, y_pred) + self.smoothing * alike

    def get_config(self) -> dict[str, Any]:
        """The arguments, for a copy."""
        told = super().get_config()
        kept = {name: told[name] for name in ("reduction", "name", "dtype") if name in told}
        return {"smoothing": self.smoothing, **kept}
