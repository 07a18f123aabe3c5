"""Metrics of sequence models, exact over a whole evaluation."""

from rnnzoo.metrics.accuracy import SequenceAccuracy
from rnnzoo.metrics.edits import edit_distance
from rnnzoo.metrics.forecast_errors import coverage, crps, mase, smape
from rnnzoo.metrics.perplexity import BitsPerSymbol, Perplexity

__all__ = [
    "BitsPerSymbol",
    "Perplexity",
    "SequenceAccuracy",
    "coverage",
    "crps",
    "edit_distance",
    "mase",
    "smape",
]
