"""A decoder run one step at a time: what one call over all steps cannot do.

That is input feeding, whose step reads what the step before attended to, and feeding a decoder
its own outputs (scheduled sampling).
"""

import keras
from keras import ops

from rnnzoo import backend
from rnnzoo.core.spec import CoreSpec
from rnnzoo.layers.recurrent import Tensor


def run_steps(
    decoder: keras.Model, spec: CoreSpec, values: dict[str, Tensor], training: bool
) -> dict[str, Tensor]:
    """The outputs of `decoder` for `values`, as `decoder(values)` has them.

    Args:
        decoder: Functional model, one step of which is run at a time.
        spec: its contract; inputs that are not per step are the same at every step.
        values: its inputs. `truth` `(batch, time)` bool may come with them: where it is False,
            the step is fed the decoder's own output of the step before (of tokens the most
            probable, of a head the mean) instead of `inputs`. The first step is always fed
            `inputs`.
        training: whether dropout is at work; its masks are the same at every step.
    """
    loop = _Loop(decoder, spec, values, training)
    truth = values.get("truth")
    inputs = values["inputs"]
    if truth is None:
        truth = ops.ones(ops.shape(inputs)[:2], dtype="bool")
    xs = [_time_major(inputs), ops.transpose(truth)[..., None]]
    xs += [_time_major(values[name]) for name in loop.beside]
    widths = [decoder.output["outputs"].shape[-1]]
    if "memory" in values:
        widths.append(ops.shape(values["memory"])[1])
    carry, ys = backend.scan(loop.step, loop.start(inputs), xs, widths)
    outputs = loop.finish(carry)
    outputs |= {key: _time_major(y) for key, y in zip(("outputs", "alignment"), ys)}
    return outputs


class _Loop:
    """One pass over all steps; what is carried along is (states, dropout seeds, fed output)."""

    def __init__(
        self, decoder: keras.Model, spec: CoreSpec, values: dict[str, Tensor], training: bool
    ):
        self.decoder, self.training = decoder, training
        self.tokens = spec.inputs["inputs"].vocabulary is not None
        self.head = spec.outputs["outputs"].head
        self.constants = {k: values[k] for k, one in spec.inputs.items() if not one.per_step}
        self.beside = [name for name in spec.step_inputs if name != "inputs"]
        self.names = list(spec.states)
        self.state = [values[key] for key in self.names]
        self.trainable = [ops.convert_to_tensor(v) for v in decoder.trainable_variables]
        self.seeds = [ops.convert_to_tensor(v) for v in decoder.non_trainable_variables]

    def start(self, inputs: Tensor) -> tuple:
        first = inputs[:, 0]
        fed = first[:, None] if self.tokens else first
        return (*self.state, *self.seeds, fed)

    def step(self, carry: tuple, x: list) -> tuple:
        given, truth, *beside = x
        given = given[:, None] if self.tokens else given
        fed = ops.where(truth, given, ops.cast(carry[-1], given.dtype))
        inputs = {
            "inputs": fed if self.tokens else fed[:, None],
            **{name: value[:, None] for name, value in zip(self.beside, beside)},
            **dict(zip(self.names, carry)),
            **self.constants,
        }
        # Every step begins from the same seeds, and so draws the same dropout masks.
        outputs, seeds = self.decoder.stateless_call(
            self.trainable, self.seeds, inputs, training=self.training
        )
        y = outputs["outputs"][:, 0]
        own = y if self.head is None else self.head.point(y)
        own = ops.cast(ops.argmax(y, axis=-1)[:, None], fed.dtype) if self.tokens else own
        ys = (y, outputs["alignment"][:, 0]) if "alignment" in outputs else (y,)
        state = [outputs[key] for key in self.names]
        return (*state, *seeds, ops.cast(own, carry[-1].dtype)), ys

    def finish(self, carry: tuple) -> dict[str, Tensor]:
        """The states; the seeds that the steps moved on are kept, for other masks next time."""
        states, seeds = carry[: len(self.names)], carry[len(self.names) : -1]
        if self.training:
            for variable, seed in zip(self.decoder.non_trainable_variables, seeds):
                variable.assign(seed)
        return dict(zip(self.names, states))


def _time_major(values: Tensor) -> Tensor:
    """Batch and time change places."""
    return ops.swapaxes(values, 0, 1)
