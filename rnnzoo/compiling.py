"""How a model is set for one `fit`, and what is compiled anew for it, with or without XLA."""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras

from rnnzoo import inputs
from rnnzoo.backend.keras_internals import every_layer
from rnnzoo.windows import Truncation


class Configured:
    """A mix-in for `keras.Model` that callbacks set for the time of one pass over the data.

    Its `jit_compile="auto"` means XLA for windows on a CPU too.
    """

    _auto_jit = True

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.truncation: Truncation | None = None
        self.reset_every: int | str | None = None
        self.sampling: Any = None  # how a decoder is fed its own outputs, where it is
        self.backup: Any = None  # the callback that takes over where a run may be resumed
        self._compiled_for: dict[str, tuple] = {}  # what went into train_function and others

    def compile(self, *args: Any, jit_compile: bool | str = "auto", **kwargs: Any) -> None:
        """As `keras.Model.compile`; "auto" also compiles windows with XLA on a CPU.

        Keras leaves XLA out on a machine without accelerator. Training in windows has one
        shape for all of them and runs about twice as fast with it.
        """
        self._auto_jit = jit_compile == "auto"
        super().compile(*args, jit_compile=jit_compile, **kwargs)

    def get_compile_config(self) -> dict | None:
        config = super().get_compile_config()
        return {**config, "jit_compile": "auto"} if config and self._auto_jit else config

    def compile_from_config(self, config: dict) -> None:
        # Keras does this only where `compile` is its own.
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.optimizer is not None:
            self.optimizer.build(self.trainable_variables)

    def _xla_fits(self) -> bool:
        """Whether windows may be compiled with XLA without being asked to."""
        return not self.spread and all(layer.supports_jit for layer in every_layer(self))

    @contextlib.contextmanager
    def _configured(self, callbacks: Any, trains: bool = False) -> Iterator[None]:
        """Inside, the model is set as its callbacks want it; afterwards as it was before."""
        names = ("truncation", "reset_every", "sampling", "backup", "jit_compile")
        before = {name: getattr(self, name) for name in names}
        for callback in inputs.callback_list(callbacks):
            if hasattr(callback, "configure"):
                callback.configure(self)
        if self.truncation is not before["truncation"]:
            self.jit_compile = self.jit_compile or (self._auto_jit and self._xla_fits())
        wanted = {"test_function": (self.sampling, self.jit_compile)}
        if trains:
            wanted["train_function"] = (self.truncation, self.sampling, self.jit_compile)
        for name, settings in wanted.items():
            if self._compiled_for.get(name) != settings:  # else what was compiled serves again
                setattr(self, name, None)
                self._compiled_for[name] = settings
        try:
            yield
        finally:
            for name, value in before.items():
                setattr(self, name, value)
