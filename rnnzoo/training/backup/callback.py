"""`BackupAndResume`: training that goes on where it was stopped."""

import dataclasses
import datetime
import os
from collections.abc import Callable

import keras

from rnnzoo import _checks, backend
from rnnzoo.data.epochs import EpochDataset
from rnnzoo.feed.feed import Feed
from rnnzoo.training.backup import folders
from rnnzoo.training.backup.run import Run
from rnnzoo.training.backup.sources import source_of
from rnnzoo.training.callbacks import SequenceCallback
from rnnzoo.training.settings import Settings
from rnnzoo.training.trainer import SequenceTrainer


class BackupAndResume(SequenceCallback):
    """A callback with which training that was stopped goes on, bit for bit, as if it had not been.

    Run the same script again: `fit` finds the last backup in the folder and goes on from its
    batch, in the middle of an epoch and of a sequence. A backup holds weights, optimizer,
    metrics, the state carried by every lane, seeds, history, the place in the data, and what
    callbacks remember, those of Keras and your own: all attributes that training changes and
    that are numbers, texts, None, arrays, or lists and dicts of them. A callback of your own
    that holds anything else says what is to be kept: `kept_in_backup = ("name", ...)`. A
    `CSVLogger` goes on with its file. Where training had ended, `fit` returns its history, or
    trains on if there are more `epochs` now.

    Backups are written aside and renamed, with checksums; the last two are kept. One that is
    broken is passed over for the older one, with a warning. One that cannot be written (a full
    disk) is a warning too. Weights that are not finite are never backed up.

    To be sure that the data are the same, those of the begun epoch are read again and compared.
    Arrays are shuffled by a seed of their own; other data must come in the same order in a new
    process, so give `rnnzoo.data.pack(shuffle=True)` a seed.

    Where several processes train (`keras.distribution`), one of them writes and all read, from a
    folder that they share; `every` is a number of batches. A run goes on with as many of them.

    Args:
        folder: where the backups of this run are; made where it is not there.
        every: from one backup to the next: a number of batches, or a `datetime.timedelta`, and
            then backups take no more than 2 % of the time. One minute by default. One more is
            made at the end of training, and where `stop_training` breaks an epoch off.

    Raises:
        ValueError: another kind of `every`; a time where several processes train; a backup of
            another model or of other data; all backups broken; `steps_per_epoch`,
            `initial_epoch`, `validation_split` or `class_weight` in `fit`; a `tf.data` set,
            which has no position; a callback that remembers what cannot be kept.

    Example:

    >>> import tempfile, numpy as np, rnnzoo
    >>> folder = tempfile.mkdtemp()
    >>> def train(epochs):
    ...     model = rnnzoo.one_to_one(features=1, units=4, outputs=1)
    ...     model.compile("adam", "mse")
    ...     x = np.zeros((8, 20, 1), "float32")
    ...     return model.fit(x, x, batch_size=4, epochs=epochs, verbose=0,
    ...                      callbacks=[rnnzoo.BackupAndResume(folder)])
    >>> len(train(epochs=2).epoch), len(train(epochs=3).epoch)     # the second trains one more
    (2, 3)
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        every: int | datetime.timedelta = datetime.timedelta(minutes=1),
    ):
        super().__init__()
        self.folder = _checks.path("folder", folder)
        if isinstance(every, datetime.timedelta):
            if every <= datetime.timedelta(0):
                raise ValueError(f"every must be longer than no time; received every={every!r}")
        elif isinstance(every, bool) or not isinstance(every, int):
            raise ValueError(
                "every must be a number of batches, an int, or a datetime.timedelta; "
                f"received every={_checks.shown(every)}"
            )
        else:
            every = _checks.positive_integer("every", every)
        self.every = every

    def configure(self, model: SequenceTrainer, settings: Settings) -> Settings:
        return dataclasses.replace(settings, backup=self)

    def _saved(self) -> folders.Backup | None:
        """The backup to go on from, the same in all processes."""
        index, count = backend.share()
        if count > 1 and not isinstance(self.every, int):
            raise ValueError(
                "every must be a number of batches where several processes train, as their "
                f"clocks differ and all must stop at once; received every={self.every!r} and "
                f"{count} processes. Write BackupAndResume(folder, every=1000)."
            )
        # The first process writes: it tidies up too, while the others only read.
        saved = folders.newest(self.folder, tidy=not index)
        found = backend.from_all(saved.rest["trained"] if saved else -1)
        if (found != found[0]).any():
            raise ValueError(
                "all processes must see one folder of backups; received "
                f"{str(self.folder)!r}, where they found backups {found.tolist()} (-1: none). "
                "Give a folder that all of them share."
            )
        return saved

    def fit(
        self, model: SequenceTrainer, fit: Callable, data: Feed, given: dict
    ) -> keras.callbacks.History:
        """What `fit(**given)` returns, trained from the last backup on."""
        saved = self._saved()
        seed = saved.rest["seed"] if saved else None
        source = source_of(data, seed, given.pop("steps_per_epoch", None))
        run = Run(
            self.folder,
            self.every,
            source,
            saved,
            _checks.callbacks("callbacks", given["callbacks"]),
            verbose=given["verbose"],
            epochs=given["epochs"],
            steps=source.batches,
            model=model,
        )
        validation = getattr(given["validation_data"], "source", None)
        if isinstance(validation, EpochDataset):  # one that is shuffled goes on too
            validation.epoch += run.position.epoch
        return run.train(fit, given)
