"""Recurrent Keras models that are right: explicit state, truncated BPTT, honest export."""

from rnnzoo import cells, data, decoding, heads, layers, metrics, serving, zoo
from rnnzoo._version import __version__ as __version__
from rnnzoo.core import CoreSpec, Tokens
from rnnzoo.export.export import export
from rnnzoo.generation.options import Generated
from rnnzoo.models.encoder_decoder import encoder_decoder
from rnnzoo.models.encoder_decoder_model import EncoderDecoder
from rnnzoo.models.from_keras import from_keras
from rnnzoo.models.many_to_one import many_to_one
from rnnzoo.models.one_to_one import one_to_one
from rnnzoo.models.recurrent_model import RecurrentModel
from rnnzoo.presets.saved import load_model
from rnnzoo.serving import load_served
from rnnzoo.training.backup import BackupAndResume
from rnnzoo.training.callbacks import ResetStates, ScheduledSampling, TruncatedBPTT
from rnnzoo.training.divergence import StopOnDivergence
from rnnzoo.zoo.loading import from_preset

__all__ = [
    "BackupAndResume",
    "CoreSpec",
    "EncoderDecoder",
    "Generated",
    "RecurrentModel",
    "ResetStates",
    "ScheduledSampling",
    "StopOnDivergence",
    "Tokens",
    "TruncatedBPTT",
    "cells",
    "data",
    "decoding",
    "encoder_decoder",
    "export",
    "heads",
    "from_keras",
    "from_preset",
    "layers",
    "load_model",
    "load_served",
    "many_to_one",
    "metrics",
    "one_to_one",
    "serving",
    "zoo",
]
