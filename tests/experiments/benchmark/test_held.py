"""What the adapters hold, against the sizes that the equations give, and the table of it."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
import torch

import dlrt
from experiments.benchmark import contenders, held, inputs
from experiments.benchmark.cases import Case

CPU = torch.device("cpu")
R = 3


def measured(integrator: str, inner_steps: int = 1) -> tuple[list[dict[str, Any]], int, int, int]:
    """The phases; Σ m r, Σ n r and Σ r² over the adapters."""
    case = Case("vit_tiny", None, 2, R, integrator, image_size=8, inner_steps=inner_steps)
    batch = inputs.batches(inputs.images(case, 0, CPU), 2)[0]
    contender = contenders.brief(case, 0, CPU, batch) if inner_steps > 1 else contenders.own(case, 0, CPU)
    if inner_steps == 1:
        contender.train(batch)
    shapes = [adapter.matrix_shape for adapter in dlrt.adapters_of(contender.net).values()]
    a, b = (R * sum(size) for size in zip(*shapes, strict=True))
    return held.phases(contender, batch, R), a, b, len(shapes) * R**2


def test_lora_and_adalora_hold_and_move_all_factors() -> None:
    (lora,), a, b, core = measured("lora")
    counters = 2 * core // R**2  # AdamW's, one per parameter
    assert lora == {"phase": "step", "numbers": a + b} | dict.fromkeys(("forward", "moving", "weights"), a + b) | (
        dict.fromkeys(("step", "stored"), 3 * (a + b) + counters)
    )
    (adalora,), a, b, core = measured("adalora")
    assert adalora["forward"] == adalora["moving"] == adalora["weights"] == a + b + core // R
    assert adalora["stored"] == 5 * (a + b + core // R) + 3 * core // R**2  # moments, sensitivities, uncertainties


def test_geolora_holds_and_moves_all_factors() -> None:
    (step,), a, b, core = measured("parallel_bug")
    assert step["forward"] == step["moving"] == step["weights"] == a + b + core
    assert step["stored"] == step["step"] == 3 * (a + b + core)


@pytest.mark.parametrize("inner_steps", [2, 20])
def test_abc_psi_moves_k_and_then_l_on_twice_the_columns(inner_steps: int) -> None:
    (K, L), a, b, core = measured("abc_psi", inner_steps)
    assert (K["phase"], L["phase"], K["numbers"]) == ("K", "L", a + b)
    assert (K["forward"], K["moving"]) == (a + b + core, a)  # K, V and the identity between them
    assert (L["forward"], L["moving"]) == (2 * a + 2 * b + 4 * core, 2 * b)
    assert K["forward"] < K["weights"] < K["stored"] and L["forward"] < L["weights"] < L["stored"]
    assert K["stored"] - K["weights"] == 2 * (a + b) and L["stored"] - L["weights"] == 2 * (a + 2 * b)  # moments
    assert K["step"] <= K["stored"] - 2 * b and L["step"] <= L["stored"] - 2 * a  # the resting flow's rest


def test_the_table_has_a_row_per_phase_and_none_twice() -> None:
    phase = {"phase": "K", "numbers": 2000, "forward": 2020, "moving": 1000, "step": 5000, "weights": 3000}
    row = {"net": "vit_tiny, 8 px", "method": "abc-PSI", "rank": "3", "held": [phase | {"stored": 7000}]}
    rows = pd.DataFrame([row, row | {"batch": 8}, row | {"held": []}])
    (table,) = held.tables(rows)
    (found,) = table.text.to_dict("records")
    assert [found[name] for name in ("method", "rank", "phase", "Σ r (m + n)")] == ["abc-PSI", "3", "K", "2,000"]
    assert [found[name] for name in held.COLUMNS] == ["1.01", "0.50", "2.50", "1.50", "3.50"]
    assert held.tables(rows.iloc[2:]) == []
