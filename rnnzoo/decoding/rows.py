"""The loop of greedy decoding and sampling: each row by itself."""

from typing import Any

from keras import ops

from rnnzoo.backend import Buffer
from rnnzoo.decoding.decoded import Decoded, filled, log_probability
from rnnzoo.decoding.random import Tensor
from rnnzoo.decoding.rules import Rules
from rnnzoo.decoding.samplers import Sampler
from rnnzoo.decoding.stepper import Stepper, by_rows, shaped_like


def decode_rows(
    stepper: Stepper, rules: Rules, sampler: Sampler, tokens: Tensor, state: tuple
) -> Decoded:
    """What `sampler` decodes from `tokens` `(rows,)` and flat states, all rows in one loop."""
    loop = _Loop(stepper, rules, sampler, ops.shape(tokens)[0])
    carry = loop.start(tokens, state)
    index = ops.convert_to_tensor(0, "int32")
    _, carry = ops.while_loop(
        lambda index, carry: ops.any(carry["active"]), loop.turn, (index, carry)
    )
    kept = {name: buffer.stacked(carry[name]) for name, buffer in loop.buffers.items()}
    alignment = kept.get("alignment")
    return Decoded(
        tokens=filled(ops.transpose(kept["tokens"]), carry["lengths"], rules.fill),
        lengths=carry["lengths"],
        scores=carry["scores"],
        alignment=None if alignment is None else ops.transpose(alignment, (1, 0, 2)),
        state=stepper.pack(carry["state"]),
        last=carry["last"],
    )


class _Loop:
    """What is carried from step to step; a row that is not `active` stays as it is."""

    def __init__(self, stepper: Stepper, rules: Rules, sampler: Sampler, rows: Any):
        self.stepper, self.rules, self.sampler, self.rows = stepper, rules, sampler, rows
        self.buffers = {"tokens": Buffer(rules.max_length, (rows,), "int32")}
        if stepper.aligns:
            shape = (rows, stepper.alignment_steps)
            self.buffers["alignment"] = Buffer(rules.max_length, shape, "float32")

    def start(self, tokens: Tensor, state: tuple) -> dict[str, Any]:
        """What is carried into the first step."""
        return {
            "last": tokens,
            "state": state,
            "active": self.rules.limits > 0,
            "lengths": ops.zeros((self.rows,), "int32"),
            "scores": ops.zeros((self.rows,), "float32"),
            **{name: buffer.empty() for name, buffer in self.buffers.items()},
        }

    def turn(self, index: Tensor, carry: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
        """The next index and carry."""
        active, last = carry["active"], carry["last"]
        logits, state, alignment = self.stepper(last, carry["state"])
        chosen = self.sampler.choose(self.rules.allow(logits, index), index)
        gain = log_probability(logits, chosen[:, None])[:, 0]
        going = ops.logical_and(active, ops.logical_not(self.rules.ends(chosen)))
        kept = {"tokens": chosen}
        if self.stepper.aligns:
            kept["alignment"] = by_rows(active, alignment, 0.0)
        new = {
            "last": ops.where(active, chosen, last),
            "state": tuple(by_rows(active, n, o) for n, o in zip(state, carry["state"])),
            "active": ops.logical_and(going, index + 1 < self.rules.limits),
            "lengths": carry["lengths"] + ops.cast(going, "int32"),
            "scores": carry["scores"] + ops.where(active, gain, 0.0),
            **{name: self.buffers[name].put(carry[name], index, kept[name]) for name in kept},
        }
        return index + 1, shaped_like(new, carry)
