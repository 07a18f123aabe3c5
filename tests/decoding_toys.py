"""Toy languages for the tests of decoding, and decoding written out in plain Python."""

import keras
import numpy as np
from keras import ops

from rnnzoo.decoding import Decoded, decode

MEMORY = 5


class Toy:
    """A language whose next token depends on the last one and on a number made of all before.

    The state is that number, `seen`, and `steps`, how often the row was run.
    """

    def __init__(self, seed=0, vocabulary=4, aligned=False):
        table = np.random.default_rng(seed).normal(size=(MEMORY, vocabulary, vocabulary)) * 2
        self.table = table.astype("float32")
        self.vocabulary, self.aligned = vocabulary, aligned
        self.calls = 0

    def start(self, seen):
        """The state for rows that begin with these numbers."""
        seen = np.asarray(seen, "int32")
        return {"seen": seen, "steps": np.zeros_like(seen)}

    def step(self, tokens, state):
        """As `decode` wants it; the alignment points at the source step `seen`."""
        self.calls += 1
        seen = (state["seen"] * 3 + tokens + 1) % MEMORY
        rows = np.reshape(self.table, (-1, self.vocabulary))
        logits = ops.take(rows, seen * self.vocabulary + tokens, axis=0)
        state = {"seen": seen, "steps": state["steps"] + 1}
        if self.aligned:
            return logits, state, ops.one_hot(seen, MEMORY)
        return logits, state

    def follow(self, token, seen):
        """Logits of the next token, float64, and the next `seen`, of one row."""
        seen = (int(seen) * 3 + int(token) + 1) % MEMORY
        return self.table[seen, token].astype("float64"), seen


def log_softmax(logits):
    shifted = logits - np.max(logits)
    return shifted - np.log(np.sum(np.exp(shifted)))


def allowed_tokens(vocabulary, count, end, min_length, forbidden):
    """The tokens that may come after `count` others."""
    early = {end} if count < min_length else set()
    return [t for t in range(vocabulary) if t not in early and t not in forbidden]


def plain_rows(toy, token, seen, choose, length, end=None, min_length=0, forbidden=()):
    """(tokens without the end token, score, seen, last) of one row, step by step."""
    tokens, score = [], 0.0
    for index in range(length):
        logits, seen = toy.follow(token, seen)
        allowed = allowed_tokens(toy.vocabulary, index, end, min_length, forbidden)
        masked = np.full(len(logits), -np.inf)
        masked[allowed] = logits[allowed]
        token = choose(masked, index)
        score += log_softmax(logits)[token]
        if token == end:
            break
        tokens.append(token)
    return tokens, score, seen, token


def score_of(toy, token, seen, tokens, length, end, penalty):
    """The penalised score of a hypothesis, and the `seen` of each of its scored steps."""
    scored = [*tokens[:length], *([end] if length < len(tokens) and end is not None else [])]
    total, trail = 0.0, []
    for following in scored:
        logits, seen = toy.follow(token, seen)
        total += log_softmax(logits)[following]
        token = following
        trail.append(seen)
    return total / ((5 + len(scored)) / 6) ** penalty, trail


def plain_beam(toy, token, seen, width, length, end, min_length, forbidden, penalty):
    """[(score, tokens without the end token)], the best first: beam search run to its end.

    With `width` None nothing is ever dropped: that is an exhaustive search.
    """
    beams = [(0.0, 0.0, [], seen, token, length > 0)]  # score, sum, tokens, seen, last, live
    for index in range(length):
        candidates = []
        for beam in beams:
            _, total, tokens, seen, last, live = beam
            if not live:
                candidates.append(beam)
                continue
            logits, seen = toy.follow(last, seen)
            gains = log_softmax(logits)
            for new in allowed_tokens(toy.vocabulary, index, end, min_length, forbidden):
                ended = new == end
                longer = tokens if ended else [*tokens, new]
                score = (total + gains[new]) / ((6 + index) / 6) ** penalty
                live = not ended and index + 1 < length
                candidates.append((score, total + gains[new], longer, seen, new, live))
        beams = sorted(candidates, key=lambda beam: -beam[0])[:width]
    return [(beam[0], beam[2]) for beam in beams]


def compiled(function):
    """`function` of tensors, compiled by XLA."""
    if keras.backend.backend() == "jax":
        import jax

        return jax.jit(function)
    import tensorflow as tf

    return tf.function(function, jit_compile=True, autograph=False)


def run(toy, sampler, tokens, seen, **settings):
    """`decode` over a toy as NumPy arrays, op by op on TensorFlow and in one piece on JAX."""
    tokens, state = np.array(tokens, "int32"), toy.start(seen)

    def function(tokens, state):
        return tuple(decode(toy.step, state, tokens, sampler, **settings))

    if keras.backend.backend() == "jax":
        function = compiled(function)  # op by op, JAX would compile each of the many ops
    return arrays(Decoded(*function(tokens, state)))


def arrays(found):
    """`Decoded` with NumPy arrays."""
    made = keras.tree.map_structure(
        lambda x: None if x is None else ops.convert_to_numpy(x), tuple(found)
    )
    return type(found)(*made)
