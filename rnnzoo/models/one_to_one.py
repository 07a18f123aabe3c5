"""One step in, one step out, for as long as you like."""

from typing import Any

from rnnzoo.core.network import build_core
from rnnzoo.data.text import Vocabulary
from rnnzoo.data.tokens import size_and_vocabulary
from rnnzoo.layers.recurrent import RecurrentLayer
from rnnzoo.models.recurrent_model import RecurrentModel


def one_to_one(
    *,
    features: int | None = None,
    vocabulary: int | Vocabulary | None = None,
    units: int | list[int],
    outputs: int | None = None,
    cell: str | type[RecurrentLayer] = "lstm",
    embedding: int | None = None,
    dropout: float = 0.0,
    recurrent_dropout: float = 0.0,
    residual: bool = False,
    layer_norm: bool = False,
    tied: bool = False,
    learned_initial_state: bool = False,
    activation: Any = None,
    name: str = "one_to_one",
) -> RecurrentModel:
    """A model `(batch, time, features)` or tokens `(batch, time)` -> `(batch, time, outputs)`.

    The number of steps is free and may differ from call to call; one step is allowed.

    Args:
        features: size of a real-valued input step; give this or `vocabulary`.
        vocabulary: number of tokens, whose ids are 0 to `vocabulary - 1`, or a
            `rnnzoo.data.Vocabulary`, with which `generate` takes and gives strings.
        units: size of the recurrent layer, or a list with one size per layer.
        outputs: size of an output step. Needed with `features`; `vocabulary` by default.
        cell: 'lstm', 'gru', 'simple_rnn', or a layer class of `rnnzoo.layers`.
        embedding: size of a token's embedding; the first layer's units by default.
        dropout: share dropped of every recurrent layer's inputs and of the output layer's,
            in [0, 1); one mask per row and window.
        recurrent_dropout: share dropped of the hidden state where it meets the recurrent
            weights, in [0, 1); one mask per row and window (Gal & Ghahramani, 2016).
        residual: add each layer's inputs to its outputs, from the second layer on.
        layer_norm: normalise the inputs of each layer but the first, and the last outputs
            (Ba et al., 2016).
        tied: use the embedding as output weights (Press & Wolf, 2017).
        learned_initial_state: train the state that starts a sequence, instead of zeros.
        activation: of the outputs; None leaves them linear (logits, for tokens).
        name: name of the model.

    Returns:
        A `RecurrentModel`, to be compiled and fitted like any Keras model.

    Raises:
        ValueError: an argument that is missing, contradicts another or is out of range.

    Example:

    >>> import numpy as np, rnnzoo
    >>> model = rnnzoo.one_to_one(features=3, units=[8, 8], outputs=2)
    >>> y, state = model.step(np.zeros((4, 1, 3)), model.initial_state(4))
    >>> tuple(y.shape), sorted(state)
    ((4, 1, 2), ['c_0', 'c_1', 'h_0', 'h_1'])
    """
    size, kept = size_and_vocabulary("vocabulary", vocabulary)
    if outputs is None:
        if vocabulary is None and features is not None:
            raise ValueError(
                "outputs must be given with features: the size of an output step, an integer "
                "of at least 1; received outputs=None"
            )
        outputs = size
    core, spec = build_core(
        many_to_one=False,
        features=features,
        vocabulary=size,
        units=units,
        outputs=outputs,
        cell=cell,
        embedding=embedding,
        dropout=dropout,
        recurrent_dropout=recurrent_dropout,
        residual=residual,
        layer_norm=layer_norm,
        tied=tied,
        learned_initial_state=learned_initial_state,
        activation=activation,
    )
    return RecurrentModel(core, spec, name=name, vocabulary=kept)
