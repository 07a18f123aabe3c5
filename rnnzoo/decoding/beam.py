"""The loop of beam search: hypotheses of one row compete, rows do not."""

from typing import Any

import numpy as np
from keras import ops

from rnnzoo.backend import Buffer
from rnnzoo.decoding.decoded import Decoded, filled, log_probability
from rnnzoo.decoding.random import Tensor
from rnnzoo.decoding.rules import Rules
from rnnzoo.decoding.samplers import Beam
from rnnzoo.decoding.stepper import Stepper, shaped_like


def decode_beams(
    stepper: Stepper, rules: Rules, beam: Beam, tokens: Tensor, state: tuple
) -> Decoded:
    """The best hypotheses that begin with `tokens` `(batch,)`, by one loop there and one back.

    Args:
        stepper: sees `batch * width` rows.
        rules: for `batch` rows.
        beam: the settings.
        tokens: `(batch,)` int32.
        state: flat states of `batch * width` rows.
    """
    search = _Search(stepper, rules, beam, ops.shape(tokens)[0])
    carry = search.start(tokens, state)
    index = ops.convert_to_tensor(0, "int32")
    index, carry = ops.while_loop(
        lambda index, carry: ops.any(carry["live"]), search.turn, (index, carry)
    )
    scores, slots = ops.top_k(search.penalised(carry["sums"], carry["counts"]), beam.n_best)
    slots = ops.cast(slots, "int32")
    # Hypotheses that there are not have no tokens.
    counts = ops.where(scores > -np.inf, _at(carry["counts"], slots), 0)
    ended = ops.logical_and(counts > 0, rules.ends(_at(carry["last"], slots)))
    found = search.trace_back(index, carry, slots, counts)
    alignment = found.get("alignment")
    lengths = counts - ops.cast(ended, "int32")
    return Decoded(
        tokens=filled(ops.transpose(found["tokens"], (1, 2, 0)), lengths, rules.fill),
        lengths=lengths,
        scores=scores,
        alignment=None if alignment is None else ops.transpose(alignment, (1, 2, 0, 3)),
        state=None,
        last=None,
    )


class _Search:
    """Steps of the search. Each row has `width` slots, `(batch, width)`:

    * `sums`: the log-probability of the slot's hypothesis, -inf in a slot without one;
    * `counts`: its scored tokens, the end token included;
    * `live`: whether it goes on; the others are kept as they are.

    Buffers hold what each step put into a slot, `tokens`, and the slot that it went on from,
    `parents`: no hypothesis is copied before it is known to be wanted.
    """

    def __init__(self, stepper: Stepper, rules: Rules, beam: Beam, batch: Any):
        self.stepper, self.rules, self.beam = stepper, rules, beam
        self.width, self.batch = beam.width, batch
        slots = (batch, beam.width)
        self.buffers = {name: self._buffer(slots, "int32") for name in ("tokens", "parents")}
        if stepper.aligns:
            shape = (batch * beam.width, stepper.alignment_steps)
            self.buffers["alignment"] = self._buffer(shape, "float32")

    def _buffer(self, shape: tuple, dtype: str) -> Buffer:
        return Buffer(self.rules.max_length, shape, dtype)

    def start(self, tokens: Tensor, state: tuple) -> dict[str, Any]:
        """What is carried into the first step: one hypothesis in each row, which is empty."""
        slots = (self.batch, self.width)
        first = ops.broadcast_to(ops.arange(self.width) == 0, slots)
        return {
            "last": ops.broadcast_to(tokens[:, None], slots),
            "state": state,
            "sums": ops.cast(ops.where(first, 0.0, -np.inf), "float32"),
            "counts": ops.zeros(slots, "int32"),
            "live": ops.logical_and(first, self.rules.limits[:, None] > 0),
            **{name: buffer.empty() for name, buffer in self.buffers.items()},
        }

    def penalised(self, sums: Tensor, counts: Tensor) -> Tensor:
        """The scores of hypotheses of `counts` tokens."""
        if self.beam.length_penalty == 0:
            return sums
        return sums / ((5.0 + ops.cast(counts, "float32")) / 6.0) ** self.beam.length_penalty

    def turn(self, index: Tensor, carry: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
        """The next index and carry."""
        logits, state, alignment = self.stepper(ops.reshape(carry["last"], (-1,)), carry["state"])
        tokens, sums, scores = self.candidates(logits, index, carry)
        each = tokens.shape[-1] // self.width
        _, places = ops.top_k(scores, self.width)
        places = ops.cast(places, "int32")
        parents = places // each
        chosen, sums = _at(tokens, places), _at(sums, places)
        going = ops.logical_and(_at(carry["live"], parents), sums > -np.inf)
        live = ops.logical_and(going, ops.logical_not(self.rules.ends(chosen)))
        rows = self.flat(parents)
        kept = {"tokens": chosen, "parents": parents, "alignment": alignment}
        new = {
            "last": ops.where(going, chosen, _at(carry["last"], parents)),
            "state": tuple(ops.take(part, rows, axis=0) for part in state),
            "sums": sums,
            "counts": ops.where(going, index + 1, _at(carry["counts"], parents)),
            "live": ops.logical_and(live, index + 1 < self.rules.limits[:, None]),
            **{n: b.put(carry[n], index, kept[n]) for n, b in self.buffers.items()},
        }
        return index + 1, shaped_like(new | self.settled(new), carry)

    def candidates(self, logits: Tensor, index: Tensor, carry: dict[str, Any]) -> tuple:
        """Tokens, sums and scores `(batch, width * k)` of what may come next into a slot.

        A live hypothesis goes on with its k best tokens; any other has itself to offer, once.
        """
        each = min(self.width, self.stepper.vocabulary)
        allowed, tokens = ops.top_k(self.rules.allow(logits, index), each)
        tokens = ops.cast(tokens, "int32")
        gains = ops.where(allowed > -np.inf, log_probability(logits, tokens), -np.inf)
        tokens, gains = (ops.reshape(x, (-1, self.width, each)) for x in (tokens, gains))
        live, sums = carry["live"][..., None], carry["sums"][..., None]
        once = ops.cast(ops.where(ops.arange(each) == 0, 0.0, -np.inf), "float32")
        counts = ops.where(live, index + 1, carry["counts"][..., None])
        tokens = ops.where(live, tokens, self.rules.fill)
        sums = sums + ops.where(live, gains, once)
        scores = self.penalised(sums, counts)
        return tuple(ops.reshape(x, (-1, self.width * each)) for x in (tokens, sums, scores))

    def settled(self, carry: dict[str, Any]) -> dict[str, Tensor]:
        """`sums` and `live` without the live hypotheses of rows that they cannot improve.

        A sum only falls, so no live hypothesis gets above its sum over the largest penalty.
        """
        live, sums = carry["live"], carry["sums"]
        done = ops.where(live, -np.inf, self.penalised(sums, carry["counts"]))
        worst = ops.top_k(done, self.beam.n_best)[0][:, -1]
        best = ops.max(ops.where(live, sums, -np.inf), axis=-1)
        over = (worst >= self.penalised(best, self.rules.limits))[:, None]
        return {
            "sums": ops.where(ops.logical_and(over, live), -np.inf, sums),
            "live": ops.logical_and(live, ops.logical_not(over)),
        }

    def trace_back(
        self, index: Tensor, carry: dict[str, Any], slots: Tensor, counts: Tensor
    ) -> dict[str, Tensor]:
        """`tokens` `(max_length, batch, n)` and alignment, of the `slots` `(batch, n)` at the end.

        Args:
            index: the steps that were run.
            carry: what the search ended with.
            slots: where the hypotheses lie.
            counts: `(batch, n)`, the steps that belong to each.
        """
        best = self.beam.n_best
        buffers = {"tokens": self._buffer((self.batch, best), "int32")}
        if self.stepper.aligns:
            shape = (self.batch, best, self.stepper.alignment_steps)
            buffers["alignment"] = self._buffer(shape, "float32")

        def turn(index: Tensor, slots: Tensor, found: dict) -> tuple:
            index = index - 1
            kept = {name: b.read(carry[name], index) for name, b in self.buffers.items()}
            parents = _at(kept["parents"], slots)
            new = {"tokens": _at(kept["tokens"], slots)}
            if self.stepper.aligns:
                rows = ops.take(kept["alignment"], self.flat(parents), axis=0)
                own = (index < counts)[..., None]
                new["alignment"] = ops.where(own, ops.reshape(rows, shape), 0.0)
            new = {name: b.put(found[name], index, new[name]) for name, b in buffers.items()}
            return index, *shaped_like((parents, new), (slots, found))

        found = {name: buffer.empty() for name, buffer in buffers.items()}
        found = ops.while_loop(lambda index, *_: index > 0, turn, (index, slots, found))[-1]
        return {name: buffer.stacked(found[name]) for name, buffer in buffers.items()}

    def flat(self, slots: Tensor) -> Tensor:
        """The rows of step `(batch * n,)` that belong to the `slots` `(batch, n)`."""
        first = ops.arange(self.batch, dtype="int32") * self.width
        return ops.reshape(first[:, None] + slots, (-1,))


def _at(values: Tensor, slots: Tensor) -> Tensor:
    """`values` `(batch, m)` at the `slots` `(batch, n)` of each row."""
    return ops.take_along_axis(values, slots, axis=1)
