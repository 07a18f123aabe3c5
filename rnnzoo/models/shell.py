"""`Shell`: what every model of rnnzoo has beside training."""

import os
import pathlib
from typing import Any

import keras

from rnnzoo.core.spec import Input
from rnnzoo.export.export import export
from rnnzoo.presets.folder import write_preset
from rnnzoo.training.trainer import SequenceTrainer


class Shell(SequenceTrainer):
    """The model that users fit and save, around the functional ones in `cores`."""

    @property
    def cores(self) -> list[keras.Model]:
        """The functional models that hold its weights."""
        raise NotImplementedError

    @property
    def inputs_of_preset(self) -> dict[str, Input]:
        """The inputs by name, of which a preset keeps a batch with its outputs."""
        raise NotImplementedError

    def summary(self, **kwargs: Any) -> None:
        """Prints the layers of each core, as `keras.Model.summary`."""
        for core in self.cores:
            core.summary(**kwargs)

    def export(
        self,
        filepath: str | os.PathLike,
        format: str = "tf_saved_model",
        overwrite: bool = False,
        **options: Any,
    ) -> pathlib.Path:
        """The path of the folder written; see `rnnzoo.export`."""
        return export(self, filepath, format, overwrite, **options)

    def save_to_preset(self, folder: str | os.PathLike, **told: Any) -> pathlib.Path:
        """The folder of a preset, written, which `rnnzoo.from_preset` reads.

        It holds the trained weights, the card, and a golden output; not the optimizer, nor the
        carried state.

        Args:
            folder: where to; its name is that of the preset.
            told: `storage='float16'` for half the bytes, `overwrite=True`, `golden=batch` for
                inputs of yours, by name, whose outputs are kept instead of those of random
                ones, and what the card is to say, by the names of `rnnzoo.zoo.Card`:
                `licence`, `data`, `labels`, ...

        Raises:
            ValueError: words that are not of a card, weights that the storage cannot hold, a
                golden batch without or beyond the inputs of the model.
            FileExistsError: there is a preset, and no `overwrite=True`.
        """
        return write_preset(self, folder, self.inputs_of_preset, **told)
