"""One step in, one step out, for as long as you like."""

from collections.abc import Mapping
from typing import Any

from rnnzoo import _checks
from rnnzoo.core.joined import Characters, Tokens
from rnnzoo.core.network import build_core
from rnnzoo.core.scaling import Scaling
from rnnzoo.data.tokens import TextVocabulary
from rnnzoo.data.vocabularies import size_and_vocabulary
from rnnzoo.heads.head import Head
from rnnzoo.layers.recurrent import RecurrentLayer
from rnnzoo.models.recurrent_model import RecurrentModel


def one_to_one(
    *,
    features: int | None = None,
    vocabulary: int | TextVocabulary | None = None,
    inputs: Mapping[str, int | Tokens | Characters] | None = None,
    static: Mapping[str, int | Tokens | Characters] | None = None,
    units: int | list[int],
    outputs: int | Head | Mapping[str, int | Head] | None = None,
    cell: str | type[RecurrentLayer] = "lstm",
    embedding: int | None = None,
    dropout: float = 0.0,
    recurrent_dropout: float = 0.0,
    bidirectional: bool = False,
    residual: bool = False,
    layer_norm: bool = False,
    tied: bool = False,
    learned_initial_state: bool = False,
    activation: Any = None,
    scaling: str | Scaling | Mapping[str, str | Scaling] | None = None,
    name: str = "one_to_one",
) -> RecurrentModel:
    """A model `(batch, time, features)` or tokens `(batch, time)` -> `(batch, time, outputs)`.

    The number of steps is free and may differ from call to call; one step is allowed.

    With `inputs` or `static` a batch is a dict by their names, in every form that data may have.
    Numbers and embeddings are joined step by step, in the order of `inputs` and then `static`.
    A table (pandas, polars) of such a model is one sequence, its columns the inputs.

    Args:
        features: size of a real-valued input step; give this, `vocabulary` or `inputs`.
        vocabulary: number of tokens, whose ids are 0 to `vocabulary - 1`, or a
            `rnnzoo.data.Vocabulary` or a tokenizer of another library (see
            `rnnzoo.data.Tokenizer`), with which `generate` takes and gives strings.
        inputs: several inputs per step by name: sizes of numbers `(batch, time, size)`, or
            `rnnzoo.Tokens(n)` of token ids `(batch, time)`, or `rnnzoo.Characters(n, units)` of
            words by their characters `(batch, time, characters)`.
        static: inputs per sequence by name, which every step is given: sizes of numbers
            `(batch, size)`, `rnnzoo.Tokens(n)` of token ids `(batch,)`, or `rnnzoo.Characters`.
        units: size of the recurrent layer, or a list with one size per layer.
        outputs: size of an output step, or a head of `rnnzoo.heads`, whose raw parameters the
            model then gives; `model.heads` makes means, quantiles and samples of them, and
            `compile` takes the head's loss where none is given. Or a dict of these by name, and
            then outputs and targets are dicts. `vocabulary` by default, else needed.
        cell: 'lstm', 'gru', 'simple_rnn', a name in `rnnzoo.cells.CELLS`, a layer class of
            `rnnzoo.layers`, or a function from units to a Keras cell.
        embedding: size of a token's embedding; the first layer's units by default.
        dropout: share dropped of every recurrent layer's inputs and of the output layer's,
            in [0, 1); one mask per row and window.
        recurrent_dropout: share dropped of the hidden state where it meets the recurrent
            weights, in [0, 1); one mask per row and window (Gal & Ghahramani, 2016).
        bidirectional: every layer reads in both directions (Schuster & Paliwal, 1997), each
            with `units`: a tagger of whole sequences, which may come with `mask` or `lengths`.
            It has no state, so that streams, `step` and `TruncatedBPTT` are refused.
        residual: add each layer's inputs to its outputs, from the second layer on.
        layer_norm: normalise the inputs of each layer but the first, and the last outputs
            (Ba et al., 2016).
        tied: use the embedding as output weights (Press & Wolf, 2017).
        learned_initial_state: train the state that starts a sequence, instead of zeros.
        activation: of outputs given by size; None leaves them linear (logits, for tokens).
        scaling: None, or how series of different size are brought to one: 'mean', 'standard',
            'change', or a `rnnzoo.Scaling`, which tells of them. Or a dict of these by the names
            of inputs; instead of one of them may stand the name of an input that has one, whose
            scale the two then share. All is undone on the way out: data, and the outputs with
            their heads, are in the units of the series, those of the first input that is named.
            The scale is measured as a sequence goes by, and is part of the state.
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

    Several inputs, and a forecast with its uncertainty:

    >>> inputs = {"load": 1, "hour": rnnzoo.Tokens(24)}
    >>> model = rnnzoo.one_to_one(inputs=inputs, static={"store": rnnzoo.Tokens(50)}, units=8,
    ...                           outputs=rnnzoo.heads.StudentT())
    >>> model.compile("adam")
    >>> x = {"load": np.zeros((4, 6, 1)), "hour": np.zeros((4, 6), int), "store": np.arange(4)}
    >>> history = model.fit(x, np.ones((4, 6, 1)), verbose=0)
    >>> tuple(model.heads["outputs"].quantile(model.predict(x, verbose=0), [0.1, 0.9]).shape)
    (4, 6, 1, 2)
    """
    _checks.label("name", name)
    size, kept = size_and_vocabulary("vocabulary", vocabulary)
    if outputs is None:
        if vocabulary is None and (features is not None or inputs is not None):
            raise ValueError(
                "outputs must be given with features or inputs: the size of an output step, an "
                "integer of at least 1, a head, or a dict of these; received outputs=None"
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
        inputs=inputs,
        static=static,
        bidirectional=bidirectional,
        scaling=scaling,
    )
    return RecurrentModel(core, spec, name=name, vocabulary=kept)
