"""Recurrent Keras models that are right: explicit state, truncated BPTT, honest export."""

from rnnzoo import cells, data, decoding, layers, metrics, serving
from rnnzoo.backup import BackupAndResume
from rnnzoo.callbacks import ResetStates, ScheduledSampling, TruncatedBPTT
from rnnzoo.divergence import StopOnDivergence
from rnnzoo.encoder_decoder import encoder_decoder
from rnnzoo.export import export
from rnnzoo.generation import Generated
from rnnzoo.many_to_one import many_to_one
from rnnzoo.model import RecurrentModel
from rnnzoo.one_to_one import one_to_one
from rnnzoo.seq2seq import EncoderDecoder
from rnnzoo.serving import load_served

__version__ = "0.1.0"

__all__ = [
    "BackupAndResume",
    "EncoderDecoder",
    "Generated",
    "RecurrentModel",
    "ResetStates",
    "ScheduledSampling",
    "StopOnDivergence",
    "TruncatedBPTT",
    "cells",
    "data",
    "decoding",
    "encoder_decoder",
    "export",
    "layers",
    "load_served",
    "many_to_one",
    "metrics",
    "one_to_one",
    "serving",
]
