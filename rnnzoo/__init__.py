"""Recurrent Keras models that are right: explicit state, truncated BPTT, honest export."""

from rnnzoo import data, layers, metrics
from rnnzoo.callbacks import ResetStates, TruncatedBPTT
from rnnzoo.export import export
from rnnzoo.many_to_one import many_to_one
from rnnzoo.model import RecurrentModel
from rnnzoo.one_to_one import one_to_one

__version__ = "0.1.0"

__all__ = [
    "RecurrentModel",
    "ResetStates",
    "TruncatedBPTT",
    "data",
    "export",
    "layers",
    "many_to_one",
    "metrics",
    "one_to_one",
]
