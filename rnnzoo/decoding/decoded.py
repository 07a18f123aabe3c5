"""The result of decoding, and how its parts are filled in step by step."""

from typing import Any, NamedTuple

from keras import ops

from rnnzoo.decoding.random import Tensor


class Decoded(NamedTuple):
    """What was decoded; with `Beam`, the best `n_best` of each row, the best first.

    Attributes:
        tokens: `(batch, [n_best,] max_length)` int32; after the end, `end` (0 if that is None).
        lengths: `(batch, [n_best])` int32, tokens before the end token.
        scores: `(batch, [n_best])` float32, in nats: the sum of the log-probabilities of the
            tokens and of the end token, before temperature, `top_k`, `top_p` and forbidden
            tokens. With `Beam`, divided by the length penalty; -inf where there are fewer
            hypotheses than `n_best`.
        alignment: `(batch, [n_best,] max_length, source steps)` float32, 0 after the end; None
            if the step function gives none.
        state: the states; those of an ended row are from before the end token is fed. None
            with `Beam`.
        last: `(batch,)` int32, the last token of each row, which is not fed yet: going on is
            `decode(step, state, last, ...)`. None with `Beam`.
    """

    tokens: Tensor
    lengths: Tensor
    scores: Tensor
    alignment: Tensor | None
    state: Any
    last: Tensor | None


def log_probability(logits: Tensor, tokens: Tensor) -> Tensor:
    """Log-probabilities in nats, `(rows, n)`, of the `tokens` `(rows, n)`."""
    return ops.take_along_axis(ops.log_softmax(logits, axis=-1), tokens, axis=-1)


def filled(tokens: Tensor, lengths: Tensor, fill: int) -> Tensor:
    """`tokens` `(..., max_length)` with `fill` after the first `lengths` `(...)` of each."""
    places = ops.arange(ops.shape(tokens)[-1], dtype="int32")
    return ops.where(places < lengths[..., None], tokens, fill)
