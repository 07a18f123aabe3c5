"""Tokens drawn at random."""

from typing import Any

import numpy as np
from keras import ops

from rnnzoo import _checks
from rnnzoo._checks import positive_integer, shown
from rnnzoo.decoding.random import Tensor, uniform
from rnnzoo.decoding.samplers import Sampler


class Sample(Sampler):
    """Tokens drawn at random, each row by its own seed: batches and neighbours change nothing.

    Step `i` of row `r` uses the number that the counter-based generator of Salmon et al. (2011)
    gives for (seed, r, i), so that two seeds have no draws in common. A call that goes on from
    another starts again from step 0, so give it another seed.

    Args:
        temperature: logits are divided by it; 0 takes the most probable token, as `Greedy`.
            A number of at least 0, or one per row `(batch,)`.
        top_k: draw among this many most probable tokens only; of equals, the lowest.
        top_p: draw among the fewest most probable tokens whose probabilities sum to at least
            this, in (0, 1] (nucleus sampling, Holtzman et al. 2020); after `top_k`.
        seed: in [0, 2**31). With one integer the rows draw by that and their number; with
            `(batch,)` integers each by its own, as the first row with that one. None draws one
            from NumPy's generator.

    Raises:
        ValueError: a setting out of its range. Tensors are not checked.

    >>> Sample(top_k=5, seed=3)
    Sample(temperature=1.0, top_k=5, top_p=None, seed=3)
    """

    varying = ("temperature", "seed")

    def __init__(
        self,
        temperature: Any = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: Any = None,
    ):
        if not ops.is_tensor(temperature):
            _check_temperature(temperature)
        if top_p is not None:
            top_p = _checks.number("top_p", top_p, "in (0, 1] or None", lambda v: 0 < v <= 1)
        if seed is not None and not ops.is_tensor(seed):
            _check_seed(seed)
        self.temperature = temperature
        self.top_k = None if top_k is None else positive_integer("top_k", top_k)
        self.top_p = top_p
        self.seed = int(np.random.randint(2**31 - 1)) if seed is None else seed

    def values(self, batch: Any) -> dict[str, Tensor]:
        """`seed` `(batch, 2)` int32, of which the second is the row, `temperature` `(batch,)`."""
        seed, temperature = self.seed, self.temperature
        if not ops.is_tensor(seed):
            seed = np.asarray(seed, "int32")
        seed = ops.cast(ops.convert_to_tensor(seed), "int32")
        if len(seed.shape) == 0:
            rows = ops.arange(batch, dtype="int32")
            seed = ops.stack([ops.broadcast_to(seed, (batch,)), rows], axis=-1)
        elif len(seed.shape) == 1:
            seed = ops.stack([seed, ops.zeros_like(seed)], axis=-1)
        temperature = ops.cast(ops.convert_to_tensor(temperature), "float32")
        if len(temperature.shape) == 0:
            temperature = ops.broadcast_to(temperature, (batch,))
        values = {"seed": seed, "temperature": temperature}
        for name, value in values.items():
            if isinstance(batch, int) and value.shape[0] not in (batch, None):
                raise ValueError(
                    f"{name} must be one number or ({batch},), one per row; "
                    f"received {name} of shape ({value.shape[0]},)"
                )
        return values

    def choose(self, logits: Tensor, index: Tensor) -> Tensor:
        """The tokens `(rows,)` int32 where a uniform number falls among summed probabilities."""
        temperature = ops.cast(self.temperature, "float32")
        warm = temperature > 0
        best = ops.cast(ops.argmax(logits, axis=-1), "int32")
        # Less their maximum first: a small temperature then cannot make infinity of it.
        logits = logits - ops.max(logits, axis=-1, keepdims=True)
        logits = logits / ops.reshape(ops.where(warm, temperature, 1.0), (-1, 1))
        tokens = None
        if self.top_k is not None or self.top_p is not None:
            size = logits.shape[-1]
            logits, tokens = ops.top_k(logits, min(self.top_k or size, size))
        weights = ops.exp(logits)
        if self.top_p is not None:
            sums = ops.cumsum(weights, axis=-1)
            # The first always stays, also where a processor takes a number as small for 0.
            bound = max(self.top_p, 1e-30) * sums[:, -1:]
            weights = ops.where(sums - weights < bound, weights, 0.0)
        place = _inverse(weights, uniform(self.seed, index))
        if tokens is not None:
            place = ops.take_along_axis(tokens, place[:, None], axis=-1)[:, 0]
        return ops.where(warm, place, best)


def _inverse(weights: Tensor, uniform: Tensor) -> Tensor:
    """The first place `(rows,)` int32 up to which the weights sum to more than `uniform` of all."""
    sums = ops.cumsum(weights, axis=-1)
    possible = weights > 0
    hit = ops.logical_and(possible, sums > uniform[:, None] * sums[:, -1:])
    # Rounding may leave no hit; the last possible token is then the one.
    size = weights.shape[-1]
    last = size - 1 - ops.argmax(ops.cast(ops.flip(possible, axis=-1), "int32"), axis=-1)
    first = ops.argmax(ops.cast(hit, "int32"), axis=-1)
    return ops.cast(ops.where(ops.any(hit, axis=-1), first, last), "int32")


def _check_temperature(value: Any) -> None:
    values = _checks.array("temperature", value)
    fits = values.dtype.kind in "iuf" and values.ndim <= 1 and values.size > 0
    if not fits or not np.all((values >= 0) & (values <= np.finfo("float32").max)):
        raise ValueError(
            "temperature must be a number of at least 0, within float32, or (batch,) of them; "
            f"received temperature={shown(value)}"
        )


def _check_seed(value: Any) -> None:
    values = _checks.array("seed", value)
    fits = values.dtype.kind in "iu" and values.ndim <= 1 and values.size > 0
    if not fits or not np.all((values >= 0) & (values < 2**31)):
        raise ValueError(
            "seed must be an integer in [0, 2**31), (batch,) of them, or None; "
            f"received seed={shown(value)}"
        )
