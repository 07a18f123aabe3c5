"""The training and test step on JAX: pure functions of all variables' values."""

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import jax
import keras

from rnnzoo.backend.keras_internals import LentState, as_only_batch, taken_at_once
from rnnzoo.backend.processes import written_once
from rnnzoo.training.losses import measure, update_metrics, weigh
from rnnzoo.training.windows import Cut

# What a training state is made of, in Keras's order.
_KINDS = ("trainable_variables", "non_trainable_variables")
_KINDS += ("optimizer_variables", "metrics_variables")


class BackendStep(LentState):
    """`train_step`, `test_step`, and passes that may fail; a mix-in for `keras.Model`.

    Keras takes the values out of the variables for the time of a pass. Where its first step
    fails, and where `evaluate` or `predict` fails, it would not put them back. Another thread
    finds them all the same: a step gives its buffers away and says where the new ones are under
    one lock, and who reads them calls what reads them under it.

    Several processes write one file, and all must call `save` or `save_weights`.
    """

    spread = False  # no strategy forbids compiling a whole step
    replicas = 1  # rows are laid over devices, and a batch is one
    by_shape = False  # everything is compiled

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self._values = threading.RLock()
        self._alone = False  # whether the batch of this pass is its only one

    def call_with_values(self, call: Callable, variables: list, inputs: dict) -> Any:
        """`call(values of variables, inputs)`, also while another thread trains."""
        with self._values:
            taken = {}
            for kind, values in self.lent.items():
                taken |= {id(v): new for v, new in zip(self._variables_of(kind), values)}
            return call([taken[id(v)] if id(v) in taken else v.value for v in variables], inputs)

    def evaluated(self, variables: list, function: Callable) -> Any:
        """`function()`, which reads `variables`, also while another thread trains."""

        def call(values: list, _: None) -> Any:
            with keras.StatelessScope(state_mapping=list(zip(variables, values))):
                return function()

        return self.call_with_values(call, variables, None)

    def _variables_of(self, kind: str) -> list:
        return self.optimizer.variables if kind == "optimizer_variables" else getattr(self, kind)

    @contextlib.contextmanager
    def _traced_anew(self, name: str) -> Iterator[None]:
        """Inside, the step `name` is a function that JAX has not met.

        JAX knows what it has traced by the function, and one method of one model is one function
        to it: it would run on with the settings, windows and all, of the first `fit`.
        """
        step = getattr(self, name)
        before = vars(self).get(name)
        vars(self)[name] = anew = lambda *args: step(*args)
        anew.__name__ = name  # what a profile calls the compiled program
        try:
            yield
        finally:
            vars(self).pop(name) if before is None else vars(self).update({name: before})

    def make_train_function(self, force: bool = False) -> None:
        with self._traced_anew("train_step"):
            super().make_train_function(force)
        self.train_function = self._guarded(self.train_function, _KINDS)

    def make_test_function(self, force: bool = False) -> None:
        with self._traced_anew("test_step"):
            super().make_test_function(force)
        kinds = (*_KINDS[:2], "metrics_variables")
        self.test_function = self._guarded(self.test_function, kinds)

    def make_predict_function(self, force: bool = False) -> Callable:
        with self._traced_anew("predict_step"):
            super().make_predict_function(force)
        self.predict_function = self._guarded(self.predict_function, _KINDS[:2])
        return self.predict_function

    def _guarded(self, function: Callable, kinds: tuple) -> Callable:
        """`function`, a step that gives away the buffers of its state, with no thread between."""
        if getattr(function, "guarded", False):
            return function

        count = taken_at_once(self)

        def step(state: tuple, iterator: Any) -> tuple:
            data = list(itertools.islice(iterator, count))  # not under the lock
            if not data:
                raise StopIteration
            if self._alone:
                data = [as_only_batch(self, batch) for batch in data]
            with self._values:
                outputs, state = function(state, iter(data))
                self.lend(dict(zip(kinds, state)))
            return outputs, state

        step.guarded = True
        return step

    def jax_state_sync(self) -> None:
        with self._values:
            super().jax_state_sync()

    def train_step(self, state: tuple, data: Any) -> tuple[dict, tuple]:
        x, y, weight = _arrays(data)
        state = self.train_batch(tuple(state), x, y, weight, self._update, self._forward)
        mapping = list(zip(self.metrics_variables, state[3]))
        with keras.StatelessScope(state_mapping=mapping):
            logs = self.get_metrics_result()
        return logs, state

    def test_step(self, state: tuple, data: Any) -> tuple[dict, tuple]:
        x, y, weight = _arrays(data)
        trainable, fixed, metrics = state
        mapping = self._mapping(trainable, fixed, metrics)
        with keras.StatelessScope(state_mapping=mapping, collect_losses=True) as scope:
            y_pred = self.run(x, training=False)
            self.loss_tracker.update_state(measure(self, x, y, y_pred, weight, training=False))
            update_metrics(self, x, y, y_pred, weight)
            logs = self.get_metrics_result()
        fixed = _now(scope, self.non_trainable_variables)
        return logs, (trainable, fixed, _now(scope, self.metrics_variables))

    def predict_step(self, state: tuple, data: Any) -> tuple:
        x = _arrays(data)[0]
        with keras.StatelessScope(state_mapping=self._mapping(*state, None)) as scope:
            outputs = self.run(x, training=False)
        return outputs, _now(scope, self.non_trainable_variables)

    def building(self) -> Any:
        """The scope in which variables of losses, metrics and optimizer are made."""
        return contextlib.nullcontext()

    def _mapping(self, trainable: list, fixed: list, metrics: list | None) -> list:
        mapping = list(zip(self.trainable_variables, trainable))
        mapping += zip(self.non_trainable_variables, fixed)
        return mapping if metrics is None else mapping + list(zip(self.metrics_variables, metrics))

    def _forward(self, state: tuple, x: dict, carry: Any) -> tuple:
        """A run forward without gradient: `(state, outputs)`."""
        trainable, fixed, optimizer, metrics = state
        with keras.StatelessScope(state_mapping=self._mapping(trainable, fixed, None)) as scope:
            outputs = self.run(x, training=True, carry=carry)
        fixed = _now(scope, self.non_trainable_variables)
        return (trainable, fixed, optimizer, metrics), outputs

    def _update(
        self, state: tuple, x: dict, y: Any, weight: Any, cut: Cut | None, share: Any, carry: Any
    ) -> tuple:
        """One update on a batch or window, which a window without weight does not make."""
        trainable, fixed, optimizer, metrics = state

        def loss(trainable: list) -> tuple:
            mapping = self._mapping(trainable, fixed, metrics)
            with keras.StatelessScope(state_mapping=mapping, collect_losses=True) as scope:
                y_pred = self.run(x, training=True, cut=cut, carry=carry)
                measured = measure(self, x, y, y_pred, weight, share)
                self.loss_tracker.update_state(measured)
                update_metrics(self, x, y, y_pred, weight)
                held = weigh(weight, self.output_masks(x, y_pred))
            scales = list(zip(self.optimizer.variables, optimizer))
            with keras.StatelessScope(state_mapping=scales):
                scaled = self.optimizer.scale_loss(measured.total())
            fixed_now = _now(scope, self.non_trainable_variables)
            return scaled, (fixed_now, _now(scope, self.metrics_variables), held)

        gradients, (fixed, metrics, held) = jax.grad(loss, has_aux=True)(trainable)

        def apply() -> tuple:
            return self.optimizer.stateless_apply(optimizer, gradients, trainable)

        if held is None:
            trainable, optimizer = apply()
        else:
            trainable, optimizer = jax.lax.cond(held > 0, apply, lambda: (trainable, optimizer))
        return trainable, fixed, optimizer, metrics

    def set_carry(self, state: tuple, carry: Any, values: Callable, rows: Any) -> tuple:
        """The training state after the first `rows` lanes of `carry` were set to `values()`."""
        trainable, fixed, optimizer, metrics = state
        with keras.StatelessScope(state_mapping=self._mapping(trainable, fixed, None)) as scope:
            carry.write(values(), rows)
        return trainable, _now(scope, self.non_trainable_variables), optimizer, metrics

    def save(self, filepath: Any, *args: Any, **kwargs: Any) -> None:
        with written_once(filepath) as path:
            super().save(path, *args, **kwargs)

    def save_weights(self, filepath: Any, *args: Any, **kwargs: Any) -> None:
        with written_once(filepath) as path:
            super().save_weights(path, *args, **kwargs)

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().evaluate(*args, **kwargs)
        finally:
            self.jax_state_sync()

    def predict(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().predict(*args, **kwargs)
        finally:
            self.jax_state_sync()

    def train_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        with self._one_batch_alone():
            return super().train_on_batch(*args, **kwargs)

    def test_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        with self._one_batch_alone():
            return super().test_on_batch(*args, **kwargs)

    def predict_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        with self._one_batch_alone():
            return super().predict_on_batch(*args, **kwargs)

    @contextlib.contextmanager
    def _one_batch_alone(self) -> Iterator[None]:
        self._alone = True
        try:
            yield
        finally:
            self._alone = False

    def take_values(self, take: Callable, kinds: list, emptied: bool) -> tuple:
        with self._values:
            state = take()
            if emptied:
                self.lend(dict(zip(kinds, state)))
            return state


def _arrays(data: Any) -> tuple:
    """`(x, y, weight)` of a batch, as arrays of JAX where a step runs eagerly too."""
    parts = keras.utils.unpack_x_y_sample_weight(data)
    return keras.tree.map_structure(
        lambda part: None if part is None else jax.numpy.asarray(part), parts
    )


def _now(scope: keras.StatelessScope, variables: list) -> list:
    """The values of `variables` at the end of a scope."""
    found = [scope.get_current_value(variable) for variable in variables]
    return [v.value if now is None else now for now, v in zip(found, variables)]
