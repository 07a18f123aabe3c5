"""When a model is compiled with XLA without being asked to."""

from typing import Any

import keras


class AutoCompiled:
    """A mix-in for `keras.Model` whose `jit_compile="auto"` means XLA for windows on a CPU too."""

    _auto_jit = True

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
        return not self.spread and all(layer.supports_jit for layer in self._flatten_layers())
