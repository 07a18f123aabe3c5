"""JAX's own reference in the place of cuDNN, where there is no GPU: it reads the same weights."""

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

import jax
from jax.experimental import rnn


def lstm(x: Any, h: Any, c: Any, weights: Any, seq_lengths: Any, **sizes: Any) -> tuple:
    """`jax.experimental.rnn.lstm`, the weights unpacked as JAX says that cuDNN packs them."""
    plain = (sizes["input_size"], sizes["hidden_size"], sizes["num_layers"])
    parts = rnn.unpack_lstm_weights(weights, *plain, False)
    return rnn.lstm_ref(x, h, c, *parts, seq_lengths, *plain, 0.0, False)


@contextlib.contextmanager
def where_no_gpu() -> Iterator[None]:
    """Inside, cuDNN is what it is on a GPU, and the reference elsewhere."""
    with contextlib.ExitStack() as stack:
        if jax.default_backend() != "gpu":
            stack.enter_context(mock.patch.object(rnn, "lstm", lstm))
        yield
