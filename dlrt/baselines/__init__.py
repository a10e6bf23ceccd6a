"""Training without an integrator, behind the same interface."""

from dlrt.baselines.dense import Dense
from dlrt.baselines.svd_factor import SVDFactor

BASELINES: dict[str, type[Dense]] = {"dense": Dense, "svd_factor": SVDFactor}

__all__ = ["BASELINES", "Dense", "SVDFactor"]
