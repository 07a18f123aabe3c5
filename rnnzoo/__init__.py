"""Recurrent Keras models that are right: explicit state, truncated BPTT, honest export."""

import importlib
from typing import TYPE_CHECKING, Any

from rnnzoo import cells, data, decoding, heads, layers, metrics
from rnnzoo._version import __version__ as __version__
from rnnzoo.core import Characters, CoreSpec, Scaling, Tokens
from rnnzoo.export.export import export
from rnnzoo.generation.backtest import Backtest, backtest
from rnnzoo.generation.forecaster import Forecaster
from rnnzoo.generation.forecasts import Forecast
from rnnzoo.generation.options import Generated
from rnnzoo.models.encoder_decoder import encoder_decoder
from rnnzoo.models.encoder_decoder_model import EncoderDecoder
from rnnzoo.models.from_keras import from_keras
from rnnzoo.models.many_to_one import many_to_one
from rnnzoo.models.one_to_one import one_to_one
from rnnzoo.models.recurrent_model import RecurrentModel
from rnnzoo.presets.saved import load_model
from rnnzoo.training.backup import BackupAndResume
from rnnzoo.training.callbacks import ResetStates, ScheduledSampling, TruncatedBPTT
from rnnzoo.training.divergence import StopOnDivergence

if TYPE_CHECKING:
    from rnnzoo import serving, zoo
    from rnnzoo.serving import load_served
    from rnnzoo.zoo.loading import from_preset

__all__ = [
    "BackupAndResume",
    "Backtest",
    "Characters",
    "CoreSpec",
    "EncoderDecoder",
    "Forecast",
    "Forecaster",
    "Generated",
    "RecurrentModel",
    "ResetStates",
    "Scaling",
    "ScheduledSampling",
    "StopOnDivergence",
    "Tokens",
    "TruncatedBPTT",
    "backtest",
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

# Names that training needs not, and where they are: imported when they are first asked for.
_LATER = {
    "from_preset": "rnnzoo.zoo.loading",
    "load_served": "rnnzoo.serving",
    "serving": "rnnzoo.serving",
    "zoo": "rnnzoo.zoo",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(_LATER[name])
    found = module if module.__name__ == f"{__name__}.{name}" else getattr(module, name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
