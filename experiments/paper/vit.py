"""Table 3 of abc-PSI, 2025: adapters of vit-base-patch16-224, as printed, the median of five runs."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

# What is compared there, as a run's config names it.
MODEL, DATA = "vit_b_16", ("cifar10", "cifar100")
_METHODS = {"LoRA (r=3)": "lora", "AdaLoRA": "adalora", "GeoLoRA": "parallel_bug", "abc-PSI": "abc_psi"}


def printed() -> pd.DataFrame:
    """Returns a row per method and data set: `method`, `data`, `mebi` (parameters in units of 2²⁰), `accuracy`.

    `method` and `data` are the keys of our configs; the accuracy is a fraction.
    """
    table = pd.read_csv(Path(__file__).parent / "abc_psi_table3_vit.csv")
    methods = table["method"].map(_METHODS)
    halves = [
        pd.DataFrame({"method": methods, "data": data, "mebi": table[f"{data}_params_M"],
                      "accuracy": table[f"{data}_acc"] / 100})
        for data in DATA
    ]  # fmt: skip
    return pd.concat(halves, ignore_index=True)
