"""Recurrent Keras models that are right: explicit state, truncated BPTT, honest export."""

from rnnzoo import layers
from rnnzoo.callbacks import ResetStates, TruncatedBPTT
from rnnzoo.many_to_one import many_to_one
from rnnzoo.model import RecurrentModel
from rnnzoo.one_to_one import one_to_one

__version__ = "0.1.0"

__all__ = [
    "RecurrentModel",
    "ResetStates",
    "TruncatedBPTT",
    "layers",
    "many_to_one",
    "one_to_one",
]
