"""Many steps in, one vector out."""

from collections.abc import Mapping
from typing import Any

from rnnzoo import _checks
from rnnzoo.core.joined import Characters, Tokens
from rnnzoo.core.network import build_core
from rnnzoo.data.tokens import TextVocabulary
from rnnzoo.data.vocabularies import size_and_vocabulary
from rnnzoo.heads.head import Head
from rnnzoo.layers.recurrent import RecurrentLayer
from rnnzoo.models.recurrent_model import RecurrentModel


def many_to_one(
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
    learned_initial_state: bool = False,
    activation: Any = None,
    name: str = "many_to_one",
) -> RecurrentModel:
    """A model `(batch, time, features)` or tokens `(batch, time)` -> `(batch, outputs)`.

    The output belongs to the last valid step: pass `{"inputs": x, "mask": mask}` or
    `{"inputs": x, "lengths": lengths}` for padded sequences. It is computed from the last
    layer's hidden state, so with `residual=True` the last layer has no residual connection.

    Args:
        outputs: size of the output vector, a head of `rnnzoo.heads`, or a dict of these by
            name; None gives the last layer's final hidden state, `(batch, units[-1])`, without
            an output layer.
        bidirectional: every layer reads in both directions (Schuster & Paliwal, 1997), each
            with `units`, and the output is made of what both have read to their ends. The model
            has no state, so that streams, `step` and `TruncatedBPTT` are refused.
        features, vocabulary, inputs, static, units, cell, embedding, dropout,
            recurrent_dropout, residual, layer_norm, learned_initial_state, activation, name:
            as in `rnnzoo.one_to_one`.

    Returns:
        A `RecurrentModel`, to be compiled and fitted like any Keras model.

    Raises:
        ValueError: an argument that is missing, contradicts another or is out of range.

    Example:

    >>> import numpy as np, rnnzoo
    >>> model = rnnzoo.many_to_one(features=3, units=8, outputs=5)
    >>> model.predict({"inputs": np.zeros((2, 7, 3)), "lengths": np.array([7, 4])},
    ...               verbose=0).shape
    (2, 5)
    """
    if outputs is None and activation is not None:
        raise ValueError(
            "activation belongs to the output layer, and outputs=None has none; "
            f"received activation={_checks.shown(activation)}"
        )
    _checks.label("name", name)
    size, kept = size_and_vocabulary("vocabulary", vocabulary)
    core, spec = build_core(
        many_to_one=True,
        features=features,
        vocabulary=size,
        units=units,
        outputs=outputs,
        cell=cell,
        embedding=embedding,
        dropout=dropout,
        recurrent_dropout=recurrent_dropout,
        bidirectional=bidirectional,
        residual=residual,
        layer_norm=layer_norm,
        tied=False,
        learned_initial_state=learned_initial_state,
        activation=activation,
        inputs=inputs,
        static=static,
    )
    return RecurrentModel(core, spec, name=name, vocabulary=kept)
