"""A sequence in, a sequence out."""

from collections.abc import Mapping
from typing import Any

from rnnzoo import _checks
from rnnzoo.core.joined import Tokens
from rnnzoo.core.scaling import Scaling
from rnnzoo.data.tokens import TextVocabulary
from rnnzoo.heads.head import Head
from rnnzoo.layers.recurrent import RecurrentLayer
from rnnzoo.models.blueprint import Blueprint
from rnnzoo.models.encoder_decoder_model import EncoderDecoder


def encoder_decoder(
    *,
    source_features: int | None = None,
    source_vocabulary: int | TextVocabulary | None = None,
    target_features: int | None = None,
    target_vocabulary: int | TextVocabulary | None = None,
    inputs: Mapping[str, int | Tokens] | None = None,
    static: Mapping[str, int | Tokens] | None = None,
    target_inputs: Mapping[str, int | Tokens] | None = None,
    units: int | list[int],
    encoder_units: int | list[int] | None = None,
    cell: str | type[RecurrentLayer] = "lstm",
    embedding: int | None = None,
    attention: str | None = None,
    input_feeding: bool = False,
    shared: bool = False,
    bidirectional: bool = False,
    tied: bool = False,
    dropout: float = 0.0,
    recurrent_dropout: float = 0.0,
    residual: bool = False,
    layer_norm: bool = False,
    activation: Any = None,
    outputs: Head | None = None,
    scaling: str | Scaling | Mapping[str, str | Scaling] | None = None,
    start: int | None = None,
    end: int | None = None,
    name: str = "encoder_decoder",
) -> EncoderDecoder:
    """A model from source `(batch, source time, ...)` to target `(batch, time, ...)`.

    Two recurrent networks back to back: the first reads the source, its final state starts the
    second, which writes the target until its end token, or, for real values, for as many steps
    as you ask for (Sutskever et al., 2014). Each side has tokens or real values. The model
    does the teacher forcing: train it by `fit({"source": ..., "target": ...})`.

    With `inputs`, `static` or `target_inputs` a batch has these by their names beside "target",
    in every form that data may have. Padding is that of the side: `source_mask` or
    `source_lengths` for `inputs`, `target_mask` or `target_lengths` for `target_inputs`.

    Args:
        source_features: size of a real-valued source step; give this, `source_vocabulary` or
            `inputs`.
        source_vocabulary: number of source tokens, or a `rnnzoo.data.Vocabulary` or a tokenizer
            of another library, with which strings are encoded.
        target_features: size of a real-valued target step; give this or `target_vocabulary`, or
            leave it to the head in `outputs`.
        target_vocabulary: the same of the target.
        inputs: several inputs per source step by name, in the place of one source: sizes of
            numbers `(batch, source time, size)`, or `rnnzoo.Tokens(n)` of token ids.
        static: inputs per sequence by name, which every step of both sides is given: sizes of
            numbers `(batch, size)`, or `rnnzoo.Tokens(n)` of token ids `(batch,)`.
        target_inputs: what is known beforehand of each step of the target, by name, as its day of
            the week: sizes of numbers `(batch, time, size)`, or `rnnzoo.Tokens(n)`. The step that
            is to be written is read beside the target of the step before. Of an end token it is
            all 0, from which a model learns where targets end: `generate` is to be given as many
            steps as the target has.
        units: size of the decoder's layer, or a list with one size per layer.
        encoder_units: the same for the encoder; `units` by default. Where the sizes differ,
            learned maps bridge the encoder's final states to the decoder's first ones.
        cell: 'lstm', 'gru', 'simple_rnn', a name in `rnnzoo.cells.CELLS`, a layer class of
            `rnnzoo.layers`, or a function from units to a Keras cell.
        embedding: size of a token's embedding, on both sides; the first layer's units by
            default.
        attention: None, 'dot' (Luong et al., 2015) or 'additive' (Bahdanau et al., 2015): each
            step looks at all source steps, padding left out.
        input_feeding: feed each step what the step before attended to (Luong et al., 2015).
            Steps then run one by one, which is slower.
        shared: one recurrent network, with one set of weights, for both sides.
        bidirectional: the encoder reads the source in both directions.
        tied: use the target embedding as output weights (Press & Wolf, 2017).
        dropout: share dropped of every recurrent layer's inputs and of the output layer's,
            in [0, 1); one mask per row and window.
        recurrent_dropout: share dropped of the hidden state where it meets the recurrent
            weights, in [0, 1); one mask per row and window (Gal & Ghahramani, 2016).
        residual: add each layer's inputs to its outputs, from the second layer on.
        layer_norm: normalise the inputs of each layer but the first, and the last outputs
            (Ba et al., 2016).
        activation: of real-valued outputs; None leaves them linear.
        outputs: a head of `rnnzoo.heads`, of numbers, for real-valued targets: the model then
            gives its raw parameters, `compile` takes its loss where none is given, and `generate`
            draws samples and tells quantiles. None for plain numbers.
        scaling: None, or how sources of different size are brought to one: 'mean', 'standard',
            'change', or a `rnnzoo.Scaling`, or a dict of these by the names of `inputs`, as
            `rnnzoo.one_to_one` takes it. The scale is measured as the source and then the target
            go by, and all is undone on the way out: targets and outputs are in the units of the
            first input that is named, and go on from where it ends.
        start, end: ids of the target's start and end tokens, where the target's vocabulary has
            them. By default the model adds two tokens of its own, `target_vocabulary` and
            `target_vocabulary + 1`. Targets are given without them in either case.
        name: name of the model.

    Returns:
        An `EncoderDecoder`, to be compiled and fitted like any Keras model.

    Raises:
        ValueError: an argument that is missing, contradicts another or is out of range.

    Example:

    >>> import keras, rnnzoo
    >>> model = rnnzoo.encoder_decoder(source_vocabulary=5, target_vocabulary=4, units=8)
    >>> model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    >>> pairs = {"source": [[1, 2, 3], [4]], "target": [[3, 1], [0, 2, 2]]}
    >>> history = model.fit(pairs, verbose=0)
    >>> model.generate([[1, 2, 3]], max_length=5).tokens.shape
    (1, 5)

    A forecast from several inputs, whose days to come are known:

    >>> import numpy as np
    >>> model = rnnzoo.encoder_decoder(
    ...     inputs={"sales": 1, "day": rnnzoo.Tokens(7)}, static={"store": rnnzoo.Tokens(50)},
    ...     target_inputs={"next_day": rnnzoo.Tokens(7)}, target_features=1, units=8)
    >>> model.compile("adam", "mse")
    >>> past = {"sales": np.ones((2, 14, 1)), "day": np.zeros((2, 14), int), "store": [3, 4]}
    >>> x = {**past, "next_day": np.zeros((2, 3), int), "target": np.ones((2, 3, 1))}
    >>> history = model.fit(x, verbose=0)
    >>> model.generate({**past, "next_day": np.zeros((2, 3), int)}).shape
    (2, 3, 1)

    And one with intervals, of series of any size:

    >>> model = rnnzoo.encoder_decoder(source_features=1, outputs=rnnzoo.heads.StudentT(),
    ...                                scaling="standard", units=8)
    >>> found = model.generate(np.ones((2, 14, 1)), steps=3, samples=50, seed=1)
    >>> found.mean.shape, found.quantile([0.1, 0.9]).shape
    ((2, 3, 1), (2, 3, 1, 2))
    """
    settings = {key: value for key, value in locals().items() if key != "name"}
    _checks.label("name", name)
    return EncoderDecoder(Blueprint(**settings), name=name)
