"""Training without an integrator, behind the same interface."""

from dlrt.baselines.adalora import AdaLoRA
from dlrt.baselines.dense import Dense
from dlrt.baselines.lora import LoRA
from dlrt.baselines.svd_factor import SVDFactor

BASELINES: dict[str, type[Dense]] = {"dense": Dense, "svd_factor": SVDFactor, "lora": LoRA, "adalora": AdaLoRA}

__all__ = ["BASELINES", "AdaLoRA", "Dense", "LoRA", "SVDFactor"]
