"""What the callbacks of one pass over the data want of the model: read together, then fixed."""

import dataclasses
from collections.abc import Iterable
from typing import Any

import keras

from rnnzoo.training.windows import Truncation


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a model is trained or evaluated in one `fit`, `evaluate` or `predict`.

    Attributes:
        truncation: windows, None for whole batches.
        reset_every: batches after which a sequence ends, "epoch", or None: as the data say.
        sampling: the callback by which a decoder is fed its own outputs, or None.
        backup: the callback that takes over where a run may be resumed, or None.
        failed: what was found wrong with batches, as errors.
    """

    truncation: Truncation | None = None
    reset_every: int | str | None = None
    sampling: Any = None
    backup: Any = None
    failed: list = dataclasses.field(default_factory=list, compare=False)


def settings_of(model: keras.Model, callbacks: Iterable, given: Settings | None = None) -> Settings:
    """What all `callbacks` together want for `model`, which stays as it is.

    Raises:
        ValueError: a callback that does not fit the model.
    """
    settings = given or Settings()
    for callback in callbacks:
        if hasattr(callback, "configure"):
            settings = callback.configure(model, settings)
    return settings
