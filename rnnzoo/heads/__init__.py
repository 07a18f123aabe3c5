"""What a model says about its targets: losses, means, quantiles and samples."""

from rnnzoo.heads.counts import NegativeBinomial
from rnnzoo.heads.crf import CRF, CRFPotentials
from rnnzoo.heads.ctc import CTC, CTCLogits
from rnnzoo.heads.discrete import Bernoulli, Logits
from rnnzoo.heads.head import Head
from rnnzoo.heads.linear import Linear
from rnnzoo.heads.loss import HeadLoss
from rnnzoo.heads.mixture import Mixture
from rnnzoo.heads.normal import Normal, StudentT
from rnnzoo.heads.quantiles import Quantiles

__all__ = [
    "CRF",
    "CTC",
    "Bernoulli",
    "CRFPotentials",
    "CTCLogits",
    "Head",
    "HeadLoss",
    "Linear",
    "Logits",
    "Mixture",
    "NegativeBinomial",
    "Normal",
    "Quantiles",
    "StudentT",
]
