"""The inputs of a core: what forms they may have, checked and brought into one.

Everything here is of the host. `standardize` alone also takes tensors, inside a graph.
"""

import dataclasses
from typing import Any

import numpy as np
from keras import ops

from rnnzoo import _checks
from rnnzoo.core.spec import CoreSpec, Input
from rnnzoo.feed import labels
from rnnzoo.feed.checks import (
    as_dtype,
    check_array,
    check_flags,
    check_ids,
    check_lengths,
    finite_where,
    from_lists,
    is_table,
    plain,
    real_steps,
    zeroed,
)

State = dict[str, Any]
Tensor = Any


@dataclasses.dataclass(frozen=True)
class CoreInputs:
    """How batches of inputs for one core are read.

    A batch is an array where the core has one input, else a dict by name. With a dict may come
    the reset mask, `mask` or `lengths`, which say what is padding: losses leave it out, and
    `state`, a dict of the states that its rows begin with. In its one form a batch has the
    states by their names, beside the inputs.

    Attributes:
        spec: the contract of the core.
    """

    spec: CoreSpec

    @property
    def mask(self) -> str:
        """The name of the mask of a batch; it counts for the losses also where no core takes it."""
        return self.spec.mask or "mask"

    @property
    def flags(self) -> list[str]:
        """What may come beside the inputs, and the states."""
        given = [self.spec.reset] if self.spec.reset else []
        return given + [name for name in (self.mask, "lengths") if name not in self.spec.inputs]

    @property
    def _state(self) -> set[str]:
        """The key under which a batch may bring states; none where it cannot."""
        return {"state"} - set(self.spec.inputs) if self.spec.states else set()

    @property
    def _beside(self) -> str:
        return f"{self.flags}{''.join(f', or {key!r}' for key in self._state)}"

    def as_dict(self, x: Any) -> dict[str, Any]:
        """`x` by name, as arrays; ValueError where names are missing, unknown or contradictory."""
        inputs, x = self.spec.inputs, plain(self.by_name(x))
        if not isinstance(x, dict):
            if len(inputs) > 1:
                raise ValueError(
                    f"inputs must be a dict with {_names(inputs)} and any of {self._beside}; "
                    f"received {type(x).__name__}"
                )
            return {self.spec.leading: from_lists(x)}
        allowed = {*inputs, *self.flags, *self._state}
        for key in ("reset", "state"):
            if key in x and key not in inputs:
                self.spec.refuse_streams(f"a batch with a {key}")
            if key in x and key not in allowed and self.spec.uncut:
                raise ValueError(
                    f"batches must come without {key!r}, as sequences that must not be cut: "
                    f"{self.spec.uncut}; received keys {sorted(x)}"
                )
        if set(inputs) - set(x) or set(x) - allowed:
            raise ValueError(
                f"inputs must be {'an array or ' if len(inputs) == 1 else ''}a dict with "
                f"{_names(inputs)} and any of {self._beside}; received keys {sorted(x)}"
            )
        padding = {self.mask, "lengths"} & (set(x) - set(inputs))
        if padding and not self.spec.mask and (self.spec.whole_only or not self.spec.per_step):
            raise ValueError(
                f"padding would change the outputs of this model, which takes no mask: {padding} "
                "must not come with its batches. Give sequences of one length in a batch, as "
                "rnnzoo.data.bucket cuts them."
            )
        if self.mask in x and "lengths" in x:
            raise ValueError("mask and lengths say the same thing: give one; received both")
        return {key: from_lists(value) for key, value in x.items()}

    def one_sequence(self, x: Any) -> bool:
        """Whether `x` is a table whose columns are the inputs, and whose rows are the steps."""
        return len(self.spec.inputs) > 1 and is_table(x)

    def by_name(self, x: Any) -> Any:
        """`x`; of a table that is one sequence the columns by name, in a batch of one row."""
        if not self.one_sequence(x):
            return x
        found = {}
        for name in x.columns:
            values, one = _checks.array(name, x[name]), self.spec.inputs.get(name)
            if one is not None and not one.per_step:
                if (values != values[:1]).any():
                    raise ValueError(
                        f"{name} must be one value for a whole sequence, and a table is one "
                        f"sequence; received a column with {values[0]} and others"
                    )
                values = values[0]
            values = np.asarray(values)[None]
            found[name] = values[..., None] if one is not None and one.shape == (1,) else values
        return found

    def arrays(self, values: Any, argument: str) -> Any:
        """Targets or weights as an argument gave them, lists and tables as arrays."""
        return labels.arrays(list(self.spec.outputs), values, argument)

    def vocabulary_sizes(self) -> dict[str, int | None]:
        """The number of tokens of what a prompt is made of."""
        return {"prompt": self.spec.inputs[self.spec.leading].vocabulary}

    def rows(self, x: Any) -> int:
        """The number of rows of a batch that has been checked."""
        return int((x[self.spec.leading] if isinstance(x, dict) else x).shape[0])

    def steps_in(self, x: dict) -> int:
        """The number of steps of a batch that has been standardized."""
        return int(x[self.spec.leading].shape[1])

    def carries(self, x: Any) -> bool:
        """Whether the inputs `x` go on from the batch before: with a reset mask and no states."""
        return isinstance(x, dict) and self.spec.reset in x and not self.begins(x)

    def begins(self, x: Any) -> bool:
        """Whether the inputs `x` bring the states that their rows begin with."""
        return isinstance(x, dict) and not {*self._state, *self.spec.states}.isdisjoint(x)

    def check(self, x: Any, lanes: int | None = None) -> None:
        """ValueError where `x` is no batch for the core, or has another number of rows."""
        values = self.as_dict(x)
        for name, one in self.spec.inputs.items():
            check_array(values[name], one, name)
        rows, steps = values[self.spec.leading].shape[:2]
        for name, one in self.spec.inputs.items():
            _check_length(name, values[name], one, rows, steps)
        if lanes is not None and rows != lanes:
            raise ValueError(
                "every batch that carries state must have one row for each lane; "
                f"received a batch of {rows} rows for {lanes} lanes. Fill the last batch with rows "
                "of sample_weight 0, or choose a batch size that divides the rows."
            )
        for key in (self.spec.reset, self.mask):
            if key in values and key not in self.spec.inputs:
                check_flags(key, values[key], (rows, steps))
        if "lengths" in values:
            check_lengths(np.asarray(values["lengths"]), rows, steps)
        for key in self._state & set(values):
            _check_states(self.spec, values[key], rows)
        real = self._mask(values, rows, steps)
        if real is not None and not real.all():
            self._check_padding(real, values.get(self.spec.reset))
        for name, one in self.spec.inputs.items():
            if one.vocabulary is not None:
                ids = np.asarray(values[name])
                if real is not None and one.per_step:
                    ids = zeroed(ids, ~real)  # padding may hold what is no token
                check_ids(ids, one.vocabulary, "" if name == "inputs" else f"{name} ", one.padding)

    def _check_padding(self, real: np.ndarray, reset: Any) -> None:
        """ValueError where padding would change what the model makes of real steps."""
        reset = np.zeros_like(real) if reset is None else np.asarray(reset)
        if self.spec.mask is None:  # it reads padding as if it were steps
            wrong = real[:, 1:] & ~real[:, :-1] & ~reset[:, 1:]
            rule = (
                f"{self.mask} must be True up to the end of each sequence and False after it, as "
                "this model reads what stands in a gap; received a step after a gap, without a "
                "reset,"
            )
            mend = ". Give steps that are not to count a sample_weight of 0."
        else:  # it would answer for the sequence that begins there
            after = ~np.logical_or.accumulate(real[:, ::-1], axis=1)[:, ::-1]
            wrong = (reset & after & real.any(axis=1, keepdims=True))[:, 1:]
            wrong &= not self.spec.per_step
            rule = "reset must not be True in the padding after a row's last step; received one"
            mend = ": give it to the first step of the next sequence"
        if wrong.any():
            row, step = np.argwhere(wrong)[0]
            raise ValueError(f"{rule} at row {row}, step {step + 1}{mend}")

    def standard(self, x: Any) -> dict[str, np.ndarray]:
        """A batch that was checked, as arrays of the core's dtypes: inputs, reset, mask."""
        values = self.as_dict(x)
        found = {name: as_dtype(values[name], one.dtype) for name, one in self.spec.inputs.items()}
        if self.spec.reset in values:
            found[self.spec.reset] = np.asarray(values[self.spec.reset], "bool")
        for key in self._state & set(values):
            states = self.spec.states
            found |= {name: as_dtype(v, states[name].dtype) for name, v in values[key].items()}
        rows, steps = found[self.spec.leading].shape[:2]
        real = self._mask(values, rows, steps)
        if real is not None:
            found = self.without(found, ~real) | {self.mask: real}
        elif self.spec.mask:
            found[self.spec.mask] = np.ones((rows, steps), "bool")
        return found

    def without(self, x: dict[str, np.ndarray], padding: np.ndarray) -> dict[str, np.ndarray]:
        """`x` with zeros in the steps where `padding` `(rows, steps)` is True, and in the place of
        what is not finite and belongs to no step of its row.

        What stands there may be no number or no token: not a number times a gradient of 0 would
        be not a number in every weight.
        """
        if not padding.any():
            return x
        x = x | {name: zeroed(x[name], padding) for name in self.spec.step_inputs}
        return self._finite(x, padding)

    def _finite(self, x: dict[str, np.ndarray], idle: np.ndarray) -> dict[str, np.ndarray]:
        """`x` with zeros in the place of what is not finite, in steps and rows of idle steps."""
        found = {}
        for name in x.keys() - {self.spec.reset, self.mask}:
            steps = name in self.spec.step_inputs
            found[name] = finite_where(x[name], idle if steps else idle.all(axis=1))
        return x | found

    def batch(self, x: Any, y: Any, weight: Any, class_weight: Any = None) -> tuple:
        """`(x, y, weight)` in their one form, from a batch whose `x` was checked.

        Raises:
            ValueError: targets or weights that do not fit the outputs.
        """
        x, outputs = self.standard(x), self.spec.outputs
        rows, steps = x[self.spec.leading].shape[:2]
        y = labels.standard_targets(outputs, y, rows)
        real = x.get(self.mask) if self.mask not in self.spec.inputs else None
        if real is not None:
            y = labels.without_padding(outputs, y, ~real)
        if class_weight is not None:
            weight = labels.weights_of_classes(class_weight, y, weight, outputs)
        weight = labels.standard_weights(outputs, y, weight, rows, steps)
        labels.check_heads(outputs, y, weight, rows, steps)
        return *labels.without_weightless(x, y, weight, steps, self._finite), weight

    def open_axes(self, batch: tuple) -> tuple:
        """For each array of a batch in its one form, how many axes after that of its rows may
        differ from batch to batch: that of time, and those that an `Input` leaves open.
        """
        x, y, weight = (*batch, None, None)[:3]
        outputs, steps = self.spec.outputs, x[self.spec.leading].shape[1]
        axes = {name: one.open_axes for name, one in self.spec.inputs.items()}
        axes |= dict.fromkeys(self.spec.states, 0)

        def of_target(name: str, value: Any) -> bool:
            # Labels of whole sequences are as many as they are, from batch to batch.
            whole = outputs[name].per_step and not outputs[name].judged_per_step
            return whole or labels.has_time(value, outputs[name], steps)

        parts = [{name: axes.get(name, 1) for name in x}]
        if y is not None:
            named = isinstance(y, dict)
            one = {k: of_target(k, v) for k, v in y.items()} if named else of_target(*outputs, y)
            parts.append(one)
        if weight is not None:
            named = isinstance(weight, dict)
            two = {k: v.ndim > 1 for k, v in weight.items()} if named else weight.ndim > 1
            parts.append(two)
        return tuple(parts)

    def standardize(self, x: Any) -> dict[str, Tensor]:
        """`x` as a dict of tensors: inputs, mask where the core has one, reset and states given."""
        given = self.as_dict(x)
        for key in self._state & set(given):
            given |= self.states(given.pop(key))
        batch = {key: ops.convert_to_tensor(value) for key, value in given.items()}
        if self.spec.reset in batch:
            batch[self.spec.reset] = ops.cast(batch[self.spec.reset], "bool")
        given = {self.mask, "lengths"} & (set(batch) - set(self.spec.inputs))
        if self.spec.mask or given:
            rows, steps = ops.shape(batch[self.spec.leading])[:2]
            mask, lengths = batch.get(self.mask), batch.pop("lengths", None)
            batch[self.mask] = real_steps(rows, steps, mask, lengths)
        return batch

    def states(self, state: Any, rows: int | None = None) -> State:
        """`state` in the dtypes of the core; ValueError unless it is one of `rows` (None: any)."""
        _check_states(self.spec, state, rows)
        return {name: ops.cast(state[name], one.dtype) for name, one in self.spec.states.items()}

    def mark(self, x: Any, starts: Any) -> dict[str, Any]:
        """`x` with a reset mask that is `starts` at each row's first step."""
        reset, x = self.spec.reset, self.as_dict(x)
        if reset is None:
            why = self.spec.uncut
            raise ValueError(
                "ResetStates must be used with a model that carries state from batch to batch; "
                f"received one of form {self.spec.form!r}, whose core takes no reset"
                f"{f': {why}' if why else ''}"
            )
        if reset in x or self.begins(x):
            raise ValueError(
                f"ResetStates marks the resets itself, so batches must come without a {reset!r} "
                f"mask and without a state; received a batch with {sorted(x)}. Leave ResetStates "
                "out, or the mask or state."
            )
        flags = np.zeros(np.shape(x[self.spec.leading])[:2], "bool")
        flags[:, :1] = starts
        return {**x, reset: flags}

    def of_step(self, x: Any, state: State, reset: Any) -> dict[str, Any]:
        """What the core takes for one call of `step`, checked."""
        spec, x = self.spec, plain(self.by_name(x))
        spec.refuse_streams("step")
        if not isinstance(x, dict):
            x = x if hasattr(x, "shape") else _checks.array("inputs", x)
        values = self.as_dict(x)
        if set(values) - set(spec.inputs):
            raise ValueError(
                f"the inputs of step must be {_names(spec.inputs)} alone, reset being an argument "
                f"of its own; received keys {sorted(values)}"
            )
        self.check(values)
        # A host's array is turned into what the compiled step takes; a device's stays where it is.
        batch = {
            name: as_dtype(value, spec.inputs[name].dtype)
            if isinstance(value, np.ndarray)
            else value
            for name, value in values.items()
        }
        rows, steps = batch[spec.leading].shape[:2]
        _check_states(spec, state, rows)
        if spec.reset:
            if reset is None:
                reset = np.zeros((rows, steps), "bool")
            else:
                reset = reset if hasattr(reset, "dtype") else _checks.array("reset", reset)
                check_flags("reset", reset, (rows, steps))
            batch[spec.reset] = reset
        elif reset is not None:
            raise ValueError("reset must be None for a core that takes none; received another")
        if spec.mask:
            batch[spec.mask] = np.ones((rows, steps), "bool")
        return {**batch, **state}

    def _mask(self, values: dict, rows: int, steps: int) -> np.ndarray | None:
        """`(rows, steps)` bool, True on real steps; None where all are."""
        if self.mask in values and self.mask not in self.spec.inputs:
            return np.asarray(values[self.mask], "bool")
        if "lengths" in values and "lengths" not in self.spec.inputs:
            return np.arange(steps) < np.asarray(values["lengths"])[:, None]
        return None


def _names(inputs: dict) -> str:
    return ", ".join(repr(name) for name in inputs)


def _check_length(name: str, array: Any, spec: Input, rows: int, steps: int) -> None:
    wanted = (rows, steps)[: 1 + spec.per_step]
    if tuple(array.shape[: len(wanted)]) != wanted:
        axes = "rows and steps" if spec.per_step else "rows"
        raise ValueError(
            f"all inputs must have the same {axes}; received {tuple(array.shape)} for {name} "
            f"beside {wanted}"
        )


def _check_states(spec: CoreSpec, state: Any, rows: int | None = None) -> None:
    """ValueError unless `state` has the states of `spec`, for `rows` rows (None: any number)."""
    if not isinstance(state, dict) or set(state) != set(spec.states):
        got = sorted(state) if isinstance(state, dict) else type(state).__name__
        raise ValueError(f"state must be a dict with the names {list(spec.states)}; received {got}")
    for key, one in spec.states.items():
        given = tuple(state[key].shape) if hasattr(state[key], "shape") else None
        own = rows if rows is not None or not given else given[0]
        wanted = (own, *one.shape)
        if given != wanted:
            got = type(state[key]).__name__ if given is None else f"shape {given}"
            raise ValueError(
                f"state {key!r} must be an array of shape (batch, units) = {wanted}, the batch "
                f"being that of the inputs; received {got}"
            )
        dtype = str(getattr(state[key], "dtype", ""))
        if not any(kind in dtype for kind in ("float", "int", "bool")):
            raise ValueError(f"state {key!r} must hold numbers; received dtype {dtype}")


def lanes_of(rows: Any, lanes: int) -> np.ndarray:
    """`rows` as an array of lane numbers; ValueError where one does not exist."""
    rows = np.atleast_1d(_checks.array("rows", rows))
    if rows.dtype.kind not in "iu" or (rows.size and (rows.min() < 0 or rows.max() >= lanes)):
        allowed = f"integers from 0 to {lanes - 1}" if lanes else "empty: there is no lane yet"
        raise ValueError(f"rows must be {allowed}; received rows={_checks.shown(rows.tolist())}")
    return rows
