"""`SequenceTrainer`: `fit`, `evaluate` and `predict` of all models of rnnzoo."""

import contextlib
import functools
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

from rnnzoo import _checks, backend
from rnnzoo.backend.keras_internals import (
    TrainerState,
    compiled_losses,
    compute_output_spec,
    supports_xla,
)
from rnnzoo.core.spec import CoreSpec
from rnnzoo.data.arrays import ArrayBatches
from rnnzoo.data.buckets import BucketDataset
from rnnzoo.data.epochs import seeds_kept_on_error
from rnnzoo.feed.batches import CheckedDataset, Reading
from rnnzoo.feed.devices import refuse_prediction
from rnnzoo.feed.feed import Feed, feed, is_array_like, split_rows
from rnnzoo.training import defaults
from rnnzoo.training.carry import Carry
from rnnzoo.training.losses import LossTracker, measure, update_metrics
from rnnzoo.training.settings import Settings, settings_of
from rnnzoo.training.step import BackendStep

# Compiled functions that are kept for each of training, testing and predicting.
_KEPT = 4


class SequenceTrainer(BackendStep, TrainerState, keras.Model):
    """A Keras model whose training methods know about lanes, windows and resets.

    A subclass has `spec` (what its core takes and gives), `reader` (how its batches are read),
    `run(x, training, cut, carry)`, `train_batch`, `output_masks`, `initial_state`, and calls
    `make_carries`.
    """

    carries_state = True  # from batch to batch
    decodes = False  # whether it is fed its own outputs in training, where that is wanted

    def __init__(self, **kwargs: Any):
        # Keras would cast states that come with a batch to half precision, under a mixed policy.
        super().__init__(**{"autocast": False, **kwargs})
        self.settings = Settings()
        self.generators: dict = {}  # compiled functions of `generate`
        self.auto_jit = True
        self.without_xla = False  # found out when XLA could not compile a step
        self.tells = False  # whether `fit` says what it does
        self.planned: dict[str, dict] = {}  # of functions the steps to come in this pass, by shape
        self._judged: dict[str, bool] = {}  # outputs that have a loss, and whether it is by step
        self._measured: set[str] = set()  # outputs that have a metric
        self._classes: dict[str, tuple] = {}  # outputs whose targets are numbers of classes
        self._kept: dict[str, dict] = {}  # compiled functions by what went into them
        self._ranks: dict[str, tuple] = {}  # of the targets that a function was made for
        self._passing = threading.RLock()  # one pass over data at a time

    def make_carries(self, spec: CoreSpec, carries: bool) -> None:
        """The states that are kept between batches, and between the windows of one batch."""
        own = spec.states if carries else {}
        self.training_carry = Carry(own, name="training_carry")
        # Every evaluation starts afresh, so there is nothing to keep.
        self.evaluation_carry = Carry(own, name="evaluation_carry", saved=False)
        self.window_carry = Carry(spec.states, name="window_carry", saved=False)

    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        loss_weights: Any = None,
        metrics: Any = None,
        weighted_metrics: Any = None,
        run_eagerly: bool = False,
        steps_per_execution: int = 1,
        jit_compile: bool | str = "auto",
        auto_scale_loss: bool = True,
    ) -> None:
        """As `keras.Model.compile`.

        A loss or metric of probabilities that is given by name, or as the function of Keras, is
        that of what the model gives: of logits, where its outputs are linear; an object that takes
        those for probabilities is refused. Where the loss is that of yes or no, "accuracy" and its
        like take a logit above 0 for a yes. An output with a head has the head's loss where none is
        given for it. Lists are in the order of the outputs.

        On TensorFlow on a CPU `jit_compile="auto"` compiles with XLA what runs often enough
        to pay for it: windows, and whole batches of a shape that comes for some ten thousand
        steps. Other batches run without it, as all do, after a warning, where XLA cannot compile
        the model.
        """
        defaults.check_optimizer(optimizer)
        outputs = self.spec.outputs
        loss_weights = defaults.weights_of_losses(loss_weights, outputs)
        given = {"loss": loss, "metrics": metrics, "weighted_metrics": weighted_metrics}
        for argument, value in given.items():
            defaults.check_measures(argument, value)
            defaults.check_parameters(argument, value, outputs)
            given[argument] = defaults.by_name(argument, value, outputs)
        loss, metrics, weighted_metrics = given.values()
        _checks.flag("run_eagerly", run_eagerly)
        _checks.flag("auto_scale_loss", auto_scale_loss)
        _checks.positive_integer("steps_per_execution", steps_per_execution)
        if not isinstance(jit_compile, (bool, np.bool_)):
            _checks.one_of("jit_compile", jit_compile, ("auto", True, False))
        loss = defaults.ctc_as_head(defaults.loss_of_heads(loss, outputs), outputs)
        loss = defaults.fitting(loss, outputs, keras.losses)
        yes_no = defaults.of_yes_or_no(loss, outputs)
        fitting = [
            defaults.fitting(one, outputs, keras.metrics, yes_no)
            for one in (metrics, weighted_metrics)
        ]
        self.auto_jit, self.without_xla = isinstance(jit_compile, str), False
        self._judged = defaults.judged(loss, outputs)
        self._measured = defaults.measured(metrics, outputs)
        self._measured |= defaults.measured(weighted_metrics, outputs)
        self._classes = defaults.classes(loss, outputs)
        super().compile(
            optimizer,
            loss,
            loss_weights,
            *fitting,
            run_eagerly=run_eagerly,
            steps_per_execution=steps_per_execution,
            jit_compile=jit_compile,
            auto_scale_loss=auto_scale_loss,
        )
        self.reader = defaults.judging(self.reader, loss, outputs)
        self._kept = {}

    def get_compile_config(self) -> dict | None:
        config = self._read_compiled(super().get_compile_config)
        return {**config, "jit_compile": "auto"} if config and self.auto_jit else config

    def _read_compiled(self, function: Callable) -> Any:
        """`function()`, which reads the optimizer, also while another thread trains."""
        optimizer = getattr(self, "optimizer", None)  # a model that is not compiled has none
        if self.call_with_values is None or optimizer is None:
            return function()
        return self.evaluated(optimizer.variables, function)

    def compile_from_config(self, config: dict) -> None:
        # Keras does this only where `compile` is its own.
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.optimizer is not None:
            self.optimizer.build(self.trainable_variables)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """The scalar that is differentiated; see `rnnzoo.training.losses`."""
        return measure(self, x, y, y_pred, sample_weight, training=training).total()

    compute_loss.measured = True

    def get_metrics_result(self) -> dict[str, Any]:
        """Loss and metrics by name; the losses of several outputs are told as the loss is."""
        tracker = self.loss_tracker
        told = tracker.by_output() if isinstance(tracker, LossTracker) else {}
        return super().get_metrics_result() | told

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: Any = "auto",
        callbacks: Any = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool | None = None,
        class_weight: Any = None,
        sample_weight: Any = None,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        validation_freq: int = 1,
    ) -> keras.callbacks.History:
        """The history of training, as `keras.Model.fit`.

        `shuffle` is True by default for whole sequences of arrays and of a `PyDataset` of your
        own, and never for batches that carry state; other data sets come in their own order, and
        all have batches of their own. Loss and metrics are means over all steps of the epoch, or
        over their weights. Where `verbose` is not 0, a line says so before a new training step is
        compiled with XLA.

        Raises:
            ValueError: a batch that does not fit the model or the carry; shuffled streams; what has
                no use beside the other arguments, as a `batch_size` beside a data set.
        """
        _check_pass(verbose, batch_size, steps_per_epoch=steps_per_epoch)
        _check_epochs(epochs, initial_epoch, shuffle, validation_split)
        validating = (validation_steps, validation_batch_size, validation_freq)
        _check_validation(*validating, validation_data, validation_split)
        with self._set(settings_of(self, _checks.callbacks("callbacks", callbacks))):
            part, backup = (x, y, sample_weight), self.settings.backup
            if backup is not None:
                _check_place(initial_epoch, validation_split, class_weight)
            with seeds_kept_on_error():
                if validation_split and validation_data is None and not self._streams(x):
                    part, validation_data = split_rows(self.reader, part, validation_split)
                shuffled = shuffle is None or shuffle
                given = {"batch_size": batch_size, "steps": steps_per_epoch, "shuffle": shuffled}
                data = self._feed(*part, class_weight=class_weight, trains=True, **given)
                _check_order(data, shuffle, validation_split, backup)
                _check_again("x", data, epochs - initial_epoch, "steps_per_epoch")
                if validation_data is not None:
                    sizes = validation_batch_size, batch_size
                    tested = self._validation(validation_data, sizes, validation_steps, epochs)
                    passes = _validations(validation_freq, initial_epoch, epochs)
                    _check_again("validation_data", tested, passes, "validation_steps")
                    validation_data = tested.x
                self._prepare(data, trains=True, passes=epochs)
            options = {
                "x": data.x,
                "batch_size": None,
                "epochs": epochs,
                "verbose": verbose,
                "callbacks": callbacks,
                "validation_data": validation_data,
                "shuffle": not data.streaming if shuffle is None else shuffle,
                "initial_epoch": initial_epoch,
                "steps_per_epoch": steps_per_epoch,
                "validation_steps": validation_steps,
                "validation_batch_size": validation_batch_size,
                "validation_freq": validation_freq,
            }
            begin = functools.partial(self._begin, super().fit, data)
            return begin(**options) if backup is None else backup.fit(self, begin, data, options)

    def _begin(self, train: Callable, data: Feed, **options: Any) -> keras.callbacks.History:
        """`train(**options)`, now that nothing is refused any more."""
        defaults.start_at_frequencies(self, data)
        self.tells = bool(options["verbose"])
        if self.jit_compile and self.train_function is None:
            self.tell_compiling()
        with _own_errors(options["x"], options["validation_data"]):
            return train(**options)

    def tell_compiling(self) -> None:
        """Say that a training step is being compiled, where `fit` is to say anything."""
        if self.tells:
            print("compiling the training step (XLA) ...", flush=True)

    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        verbose: Any = "auto",
        sample_weight: Any = None,
        steps: int | None = None,
        callbacks: Any = None,
        return_dict: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Loss and metrics, as `keras.Model.evaluate`, from the initial state on."""
        options = {"verbose": verbose, "steps": steps, "callbacks": callbacks, **kwargs}
        options["return_dict"] = return_dict
        if kwargs.get("_use_cached_eval_dataset"):  # the validation of `fit`, prepared there
            self._restart(self.evaluation_carry)
            return super().evaluate(x, **options)
        _check_pass(verbose, batch_size, steps=steps)
        _checks.flag("return_dict", return_dict)
        with self._set(settings_of(self, _checks.callbacks("callbacks", callbacks))):
            with seeds_kept_on_error():
                data = self._feed(x, y, sample_weight, batch_size=batch_size, steps=steps)
                self._prepare(data)
            with _own_errors(data.x):
                return super().evaluate(data.x, **options)

    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: Any = "auto",
        steps: int | None = None,
        callbacks: Any = None,
    ) -> Any:
        """Outputs as `keras.Model.predict`, from the initial state on, in the order of the data.

        Outputs per step of batches that carry state are joined along time, lane by lane:
        `(lanes, all steps, outputs)`. Those of `rnnzoo.data.bucket`, whose batches differ in
        length, have as many steps as the longest: where their own batch ended zeros, or of a head
        what it knows absent steps by. With fewer `steps` than it has, its sequences stay in the
        order in which it serves them.
        """
        given = _checks.callbacks("callbacks", callbacks)
        _check_pass(verbose, batch_size, steps=steps)
        with self._set(settings_of(self, given)):
            refuse_prediction()
            with seeds_kept_on_error():
                data = self._feed(x, batch_size=batch_size, steps=steps)
                self._prepare(data, judged=False)
            if data.streaming and self.spec.per_step:
                return self._predict_batches(data, _along_time, verbose, steps, given)
            bucketed = isinstance(data.source, BucketDataset)
            order = data.source.order if bucketed else None  # now: a pass moves on to the next
            with _own_errors(data.x):
                if bucketed and not self.spec.of_last_step and not data.x.of_equal_steps:
                    found = self._predict_batches(data, _below, verbose, steps, given)
                else:
                    found = super().predict(
                        data.x, verbose=verbose, steps=steps, callbacks=callbacks
                    )
            if order is None or (steps or data.batches) < data.batches:
                return found
            back = np.argsort(order)
            return keras.tree.map_structure(lambda outputs: outputs[back], found)

    def _predict_batches(
        self, data: Feed, join: Callable, verbose: Any, steps: int | None, callbacks: list
    ) -> Any:
        """What `join` makes of the outputs of all batches, of each output, and of its filling.

        `keras.Model.predict` would put the batches below one another, and fail where one is
        shorter.
        """
        progress = keras.callbacks.CallbackList(
            callbacks,
            add_progbar=verbose != 0,
            verbose=1 if verbose == "auto" else verbose,
            epochs=1,
            steps=steps or data.batches,
            model=self,
        )
        progress.on_predict_begin()
        outputs = []
        for index, batch in zip(range(steps or 2**62), data.as_batches()):
            progress.on_predict_batch_begin(index)
            outputs.append(super().predict_on_batch(batch[0]))
            progress.on_predict_batch_end(index, {"outputs": outputs[-1]})
        progress.on_predict_end()
        found = self.spec.outputs.items()
        filling = {name: 0.0 if one.head is None else one.head.absent for name, one in found}
        return keras.tree.map_structure(
            lambda fill, *parts: join(parts, fill), self.spec.bare(filling), *outputs
        )

    def train_on_batch(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        class_weight: Any = None,
        return_dict: bool = False,
    ) -> Any:
        """Metrics of one update on one batch, as `keras.Model.train_on_batch`."""
        _checks.flag("return_dict", return_dict)
        with self._set(Settings()):
            batch = self._one_batch(self.training_carry, (x, y, sample_weight), class_weight)
            self._make_ready("train_function", batch)
            return super().train_on_batch(*batch, return_dict=return_dict)

    def test_on_batch(
        self, x: Any, y: Any = None, sample_weight: Any = None, return_dict: bool = False
    ) -> Any:
        """Metrics of one batch, as `keras.Model.test_on_batch`."""
        _checks.flag("return_dict", return_dict)
        with self._set(Settings()):
            batch = self._one_batch(self.evaluation_carry, (x, y, sample_weight))
            self._make_ready("test_function", batch)
            return super().test_on_batch(*batch, return_dict=return_dict)

    def predict_on_batch(self, x: Any) -> Any:
        """Outputs of one batch, as `keras.Model.predict_on_batch`."""
        with self._set(Settings()):
            refuse_prediction()
            batch = self._one_batch(self.evaluation_carry, (x,), judged=False)
            self._make_ready("predict_function", batch)
            return super().predict_on_batch(batch[0])

    def save(self, filepath: str | os.PathLike, *args: Any, **kwargs: Any) -> None:
        """As `keras.Model.save`; waits for a pass over data in another thread.

        Raises:
            ValueError: a file of the old format HDF5, from which Keras could not load the model.
        """
        _checks.path("filepath", filepath)
        if str(filepath).endswith((".h5", ".hdf5")):
            raise ValueError(
                "filepath must end in '.keras': Keras cannot load such a model from the old "
                f"format HDF5; received filepath={str(filepath)!r}"
            )
        with self._passing:
            super().save(filepath, *args, **kwargs)

    def save_weights(self, filepath: str | os.PathLike, *args: Any, **kwargs: Any) -> None:
        """As `keras.Model.save_weights`; waits for a pass over data in another thread."""
        _checks.path("filepath", filepath)
        with self._passing:
            super().save_weights(filepath, *args, **kwargs)

    def load_weights(self, filepath: str | os.PathLike, *args: Any, **kwargs: Any) -> None:
        """As `keras.Model.load_weights`; waits for a pass over data in another thread.

        Raises:
            ValueError: weights of a model that is built in another way.
        """
        _checks.path("filepath", filepath)
        with self._passing:
            try:
                super().load_weights(filepath, *args, **kwargs)
            except ValueError as error:
                raise ValueError(
                    "filepath must hold weights that save_weights of a model built like this one "
                    f"wrote; received filepath={str(filepath)!r}, of another. Those of a stock "
                    "Keras model fit layer by layer: model.core.get_layer(name).set_weights("
                    f"stock.get_layer(name).get_weights()). ({error})"
                ) from error

    def get_weights(self) -> list[np.ndarray]:
        """As `keras.Model.get_weights`; waits for a pass over data in another thread."""
        with self._passing:
            return super().get_weights()

    def set_weights(self, weights: list) -> None:
        """As `keras.Model.set_weights`; waits for a pass over data in another thread."""
        weights = _checks.items("weights", weights, "arrays")
        with self._passing:
            super().set_weights(weights)

    @property
    def shapes(self) -> Any:
        """The shapes that the training step has met; None where it does not look at them."""
        return getattr(self.train_function, "shapes", None)

    def waiting(self) -> contextlib.AbstractContextManager:
        """Inside, no pass over data is made in another thread."""
        return self._passing

    @contextlib.contextmanager
    def _set(self, settings: Settings) -> Iterator[None]:
        """Inside, the model is set as its callbacks want it; afterwards as it was before."""
        with self._passing:
            before = self.settings, self.jit_compile, self.planned, self.tells
            self.settings, self.planned, self.tells = settings, {}, False
            # Keras runs several batches in one call, all in one way.
            if settings.truncation is not None and self.steps_per_execution > 1:
                self.jit_compile = self.jit_compile or (self.auto_jit and self.xla_fits())
            try:
                yield
            finally:
                self.settings, self.jit_compile, self.planned, self.tells = before

    def xla_fits(self) -> bool:
        """Whether a step may be compiled with XLA without being asked for."""
        return not self.spread and supports_xla(self)

    def _streams(self, x: Any) -> bool:
        return self.settings.reset_every is not None or self.reader.carries(x)

    def _reading(self, class_weight: Any = None, trains: bool = False) -> Reading:
        truncation = self.settings.truncation
        return Reading(
            self.reader,
            every=self.settings.reset_every,
            class_weight=class_weight,
            window=None if truncation is None else truncation.window,
            burn_in=truncation.burn_in if trains and truncation is not None else 0,
            classes=dict(self._classes),  # which other processes can be given
        )

    def _feed(
        self,
        x: Any,
        y: Any = None,
        weight: Any = None,
        class_weight: Any = None,
        trains: bool = False,
        **options: Any,
    ) -> Feed:
        return feed(self._reading(class_weight, trains), x, y, weight, onward=trains, **options)

    def _validation(self, given: Any, sizes: tuple, steps: Any, passes: int) -> Feed:
        batches = isinstance(given, list) and not is_array_like(given)
        whole = given if isinstance(given, (tuple, list)) and not batches else (given,)
        try:
            x, y, weight = keras.utils.unpack_x_y_sample_weight(tuple(whole))
            size = next(filter(None, sizes), None) if is_array_like(x) else None
            if size is None and sizes[0]:
                raise ValueError(
                    "validation_batch_size is for arrays, and a data set has batches of its own; "
                    f"received validation_batch_size={sizes[0]}"
                )
            data = self._feed(x, y, weight, batch_size=size, steps=steps)
            self._prepare(data, passes=passes)
        except (ValueError, TypeError) as error:
            raise ValueError(f"validation_data must be as the data are: {error}") from error
        return data

    def _prepare(
        self, data: Feed, trains: bool = False, passes: int = 1, judged: bool = True
    ) -> None:
        """Make all that a step needs and that must not be made while one is traced.

        Args:
            data: what is to be read, so many `passes` of it.
            trains: whether it is trained on.
            judged: whether its losses are told.
        """
        self._check_targets(data.first, judged)
        lanes = data.lanes * backend.share()[1]  # those that other processes feed
        if data.streaming:
            self._resize(self.training_carry if trains else self.evaluation_carry, lanes)
        elif trains and self.settings.truncation is not None:
            self._resize(self.window_carry, lanes)
        if not trains:
            self._restart(self.evaluation_carry)
        self._build_losses(data.first)
        names = ("train_function",) if trains else ("test_function", "predict_function")
        planned = data.planned(passes) if self.by_shape else {}
        self.planned |= dict.fromkeys(names, planned)
        for name in ("train_function",) * trains + ("test_function", "predict_function"):
            self._make_ready(name, data.first)

    def _one_batch(
        self, carry: Carry, batch: tuple, class_weight: Any = None, judged: bool = True
    ) -> tuple:
        """A batch in its one form, for which `carry` and losses are ready."""
        reading = self._reading(class_weight)
        lanes = carry.lanes // backend.share()[1]
        x = self.reader.as_dict(batch[0])
        if self.reader.carries(x) and lanes:
            self.reader.check(x, lanes)
        batch = reading.prepare(0, (x, *batch[1:]))
        self._check_targets(batch, judged)
        if self.reader.carries(x) and not carry.lanes:
            self._resize(carry, self.reader.rows(x) * backend.share()[1])
        self._build_losses(batch)
        return batch

    def _check_targets(self, first: tuple, judged: bool) -> None:
        """ValueError where an output has a loss, which is to be `judged`, and no targets."""
        y = first[1] if len(first) > 1 else None
        ours = getattr(self.compute_loss, "measured", False)
        if y is None and self._judged and ours and judged:
            raise ValueError(
                "y must be given, the targets of a model that was compiled with a loss; received "
                "y=None"
            )
        by_step = [name for name, steps in self._judged.items() if steps and ours]
        by_step = [] if y is None else by_step
        outputs = self.output_specs(first[0]) if by_step else None
        for name in by_step:
            target = y.get(name) if isinstance(y, dict) else y
            shape = (outputs[name] if isinstance(outputs, dict) else outputs).shape
            wanted, short = shape[:-1], name in self._classes or shape[-1] == 1
            if target is not None and tuple(target.shape[: len(wanted)]) != wanted:
                raise ValueError(
                    f"y must begin with the axes {wanted} of the outputs that it is compared with; "
                    f"received targets of {name!r} of shape {target.shape}"
                )
            allowed = [(), (1,)] if short else [shape[-1:]]
            if target is not None and target.shape[len(wanted) :] not in allowed:
                raise ValueError(
                    f"y must have the shape {wanted if short else shape}, as its loss compares it "
                    f"with the outputs; received targets of {name!r} of shape {target.shape}"
                )
        if isinstance(y, dict) and set(self._judged) - set(y):
            raise ValueError(
                "targets must be given for each output that has a loss, "
                f"{', '.join(map(repr, self._judged))}; received {sorted(y)}"
            )
        if judged and isinstance(y, dict) and self._measured - set(y):
            raise ValueError(
                "targets must be given for each output that has a metric, "
                f"{', '.join(map(repr, sorted(self._measured)))}; received {sorted(y)}"
            )

    def _resize(self, carry: Carry, lanes: int) -> None:
        carry.prepare(lanes, self.initial_state(lanes))

    def _restart(self, carry: Carry) -> None:
        if carry.lanes:
            carry.assign(self.initial_state(carry.lanes))

    def _make_ready(self, name: str, first: tuple) -> None:
        """Put the function that was compiled for the present settings where Keras looks for it.

        What was compiled for others is kept. Each holds the variables of the carries that it
        was traced with, so those are part of what it is known by; and so are the axes of the
        targets in the `first` batch, as one that was traced for both knows of neither.
        """
        settings = self.settings
        if len(first) > 1 and first[1] is not None:
            self._ranks[name] = tuple(len(y.shape) for y in keras.tree.flatten(first[1]))
        key = (self.jit_compile, self.by_shape, settings.sampling, self.run_eagerly)
        key += () if name == "predict_function" else (self._ranks.get(name),)
        if name == "train_function":
            carries = (self.training_carry, self.window_carry)
            key += (settings.truncation, *(carry.version for carry in carries))
        else:
            key += (self.evaluation_carry.version,)
        kept = self._kept.setdefault(name, {})
        now = getattr(self, name)
        if now is not None and kept.get("key") is not None:
            kept[kept["key"]] = now
        setattr(self, name, kept.pop(key, None))
        kept["key"] = key
        while len(kept) > _KEPT + 1:
            kept.pop(next(k for k in kept if k != "key"))

    def _build_losses(self, first: tuple) -> None:
        """Losses, metrics and optimizer slots, made for batches like `first`."""
        compile_loss, compile_metrics = self.compiled_parts()
        x, y, weight = keras.utils.unpack_x_y_sample_weight(first)
        done = isinstance(self.loss_tracker, LossTracker)
        done = done and (compile_metrics is None or compile_metrics.built)
        if not self.compiled or done or (y is None and compile_loss is not None):
            return

        def symbol(value: Any) -> keras.KerasTensor:
            # The dtype that such an array gets: on JAX there are none of 64 bits, by default.
            made = keras.ops.convert_to_tensor(np.empty(0, value.dtype))
            return keras.KerasTensor(value.shape, keras.backend.standardize_dtype(made.dtype))

        x, y, weight = keras.tree.map_structure(
            lambda v: None if v is None else symbol(v), (x, y, weight)
        )
        y_pred = self.output_specs(x)
        with self.building():
            found = compiled_losses(compile_loss, y, y_pred) if compile_loss is not None else []
            factors = [1.0 if factor is None else factor for _, _, factor, _ in found]
            names = [name for *_, name in found] if len(found) > 1 else []
            self.set_loss_tracker(LossTracker(factors or [1.0], names))
            if compile_metrics is not None:

                def update(y: Any, y_pred: Any, weight: Any) -> Any:
                    update_metrics(self, None, y, y_pred, weight)
                    return keras.ops.zeros(())

                compute_output_spec(update, y, y_pred, weight)
            if self.optimizer is not None and not self.optimizer.built:
                self.optimizer.build(self.trainable_variables)


def _along_time(parts: tuple, _: float) -> np.ndarray:
    """All `parts` one after the other in time."""
    return np.concatenate(parts, axis=1)


def _below(parts: tuple, fill: float) -> np.ndarray:
    """The rows of all `parts` below one another, `fill` after the last step of shorter ones."""
    parts = [np.asarray(part) for part in parts]
    shape = np.max([part.shape for part in parts], axis=0)
    found = np.full((sum(map(len, parts)), *shape[1:]), fill, parts[0].dtype)
    row = 0
    for part in parts:
        found[(slice(row, row + len(part)), *map(slice, part.shape[1:]))] = part
        row += len(part)
    return found


def _check_pass(verbose: Any, batch_size: Any, **steps: Any) -> None:
    """ValueError for options of a pass over data that Keras would take or fail on later."""
    if not isinstance(verbose, (bool, np.bool_)):
        _checks.one_of("verbose", verbose, ("auto", 0, 1, 2))
    _checks.optional_count("batch_size", batch_size)
    for name, value in steps.items():
        _checks.optional_count(name, value)


def _check_epochs(epochs: Any, initial_epoch: Any, shuffle: Any, split: Any) -> None:
    _checks.integer("epochs", epochs, 0)
    _checks.integer("initial_epoch", initial_epoch, 0)
    if shuffle is not None:
        _checks.flag("shuffle", shuffle)
    if split is not None:
        _checks.fraction("validation_split", split)


def _check_validation(steps: Any, batch_size: Any, freq: Any, data: Any, split: Any) -> None:
    _checks.optional_count("validation_steps", steps)
    _checks.optional_count("validation_batch_size", batch_size)
    if not isinstance(freq, (list, tuple, set)):
        _checks.positive_integer("validation_freq", freq)
    for epoch in freq if isinstance(freq, (list, tuple, set)) else ():
        _checks.positive_integer("each of validation_freq", epoch)
    if data is not None and split:
        raise ValueError(
            "validation_data and validation_split say the same: give one; received both"
        )
    given = {"validation_steps": steps, "validation_batch_size": batch_size}
    given["validation_freq"] = None if freq == 1 else freq
    for name, value in given.items():
        if value is not None and data is None and not split:
            raise ValueError(
                f"{name} must come with validation_data or validation_split; received "
                f"{name}={_checks.shown(value)} without"
            )


def _check_place(initial_epoch: Any, validation_split: Any, class_weight: Any) -> None:
    """ValueError for what would move the place in the data at which a run was stopped."""
    for name, value in locals().items():
        if value:
            raise ValueError(
                f"{name} cannot be used with BackupAndResume, which begins at the place in the "
                f"data that it knows; received {name}={_checks.shown(value)}"
            )


def _validations(freq: Any, begin: int, end: int) -> int:
    """How often `fit` of the epochs from `begin` to `end` validates."""
    if isinstance(freq, (list, tuple, set)):
        return sum(begin < epoch <= end for epoch in set(freq))
    return end // freq - begin // freq


def _check_again(name: str, data: Feed, passes: int, steps: str) -> None:
    """ValueError where data that can be read once are to be read in several passes."""
    if passes > 1 and data.batches is None and isinstance(data.source, Iterator):
        raise ValueError(
            f"{name} must be data that can be read again, as arrays, a list of batches or a class "
            f"with __iter__, or come with {steps}; received an iterator, of which the first of "
            f"{passes} passes leaves nothing"
        )


@contextlib.contextmanager
def _own_errors(*data: Any) -> Iterator[None]:
    """Inside, an error of the data of a user is raised as it is, not as one of TensorFlow."""
    try:
        yield
    except Exception as error:
        made = type(error).__module__.startswith("tensorflow")
        for one in data:
            failed = getattr(one, "failed", None)
            if made and failed is not None and type(failed).__name__ in str(error):
                raise failed from None
        raise


def _check_order(data: Feed, shuffle: Any, validation_split: float, backup: Any) -> None:
    """ValueError where batches that carry state are to lose their order, or others cannot."""
    if data.streaming and (shuffle or validation_split):
        raise ValueError(
            "batches that carry state follow one another and must not be shuffled or "
            f"split; received shuffle={shuffle}, validation_split={validation_split}. "
            "Shuffle documents before packing; pass validation_data."
        )
    by_keras = isinstance(data.x, CheckedDataset) and backup is None
    if shuffle and not (by_keras or isinstance(data.source, ArrayBatches)):
        raise ValueError(
            "shuffle=True is for arrays and, without BackupAndResume, for a PyDataset of your own; "
            f"received it for {type(data.source).__name__.lstrip('_')}, which comes in its own "
            "order. Shuffle there, as rnnzoo.data.bucket(shuffle=True) does."
        )
