"""Dynamical low-rank training: networks whose weights are low rank while they train."""

from dlrt import accounting, diagnostics, integrators, textbook
from dlrt.adapters import adapters_of, add_adapters, load_adapters, merge_adapters, save_adapters
from dlrt.baselines import BASELINES
from dlrt.errors import Divergence
from dlrt.factors import Factors, random_factors
from dlrt.integrators import INTEGRATORS
from dlrt.layers import LowRankConv2d, LowRankLayer, LowRankLinear
from dlrt.predict import predictor
from dlrt.surgery import factorize, low_rank_layers, merge

__version__ = "0.1.0"

__all__ = [
    "BASELINES",
    "INTEGRATORS",
    "Divergence",
    "Factors",
    "LowRankConv2d",
    "LowRankLayer",
    "LowRankLinear",
    "accounting",
    "adapters_of",
    "add_adapters",
    "diagnostics",
    "factorize",
    "integrators",
    "load_adapters",
    "low_rank_layers",
    "merge",
    "merge_adapters",
    "predictor",
    "random_factors",
    "save_adapters",
    "textbook",
]
