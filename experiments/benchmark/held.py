"""What fine-tuning holds of its adapters in a step, measured: the claim at the end of section 6.2 of abc-PSI, 2025.

It is that forward pass and gradient of abc-PSI need K and V, or L and U, only: Σ r (m + n) numbers over the adapters,
where AdaLoRA and GeoLoRA need U, S, V and their gradients at all times.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from unittest import mock

import pandas as pd
from torch import Tensor, nn

import dlrt
from dlrt import descent
from experiments.benchmark.contenders import BRIEF, Contender
from experiments.benchmark.memory import bytes_read, storage_bytes, tensors_in
from experiments.render import Table
from experiments.timing_tasks import Batches
from experiments.words import count

COLUMNS = ("forward", "moving", "step", "weights", "stored")
LINES = [
    "What the adapters hold: numbers of all adapters together, × Σ r (m + n). forward: read in the forward pass, and "
    "again for the gradient. moving: those with a gradient; with it and AdamW's moments four times as many. step: read "
    "in a whole step, with inner steps in one that neither begins nor ends a flow. weights: there between two steps, "
    "factors that rest in a flow included; stored: moments, too.",
]


def phases(contender: Contender, batches: Batches, rank: int) -> list[dict[str, Any]]:
    """A row for a step of adapters of `rank` or, with `BRIEF` inner steps and a whole cycle done, for each flow.

    `COLUMNS` are numbers as `LINES` says, `numbers` is Σ r (m + n).
    """
    shapes = [adapter.matrix_shape for adapter in dlrt.adapters_of(contender.net).values()]
    numbers = {"numbers": rank * sum(m + n for m, n in shapes)}
    if contender.cycle == 1:
        return [_phase(contender, batches, "step") | numbers]
    found = []
    for flow in contender.optimizer.flows:  # type: ignore[attr-defined]
        contender.train(batches)
        found.append(_phase(contender, batches, flow) | numbers)
        for _ in range(BRIEF - 2):
            contender.train(batches)
    return found


def _phase(contender: Contender, batches: Batches, name: str) -> dict[str, Any]:
    parameters = [p for adapter in dlrt.adapters_of(contender.net).values() for p in adapter.parameters()]
    stored, size = list(contender.state(parameters)), parameters[0].element_size()
    resting = [contender.optimizer.state.get(p, {}).get("cycle") for p in parameters]  # type: ignore[attr-defined]
    held = {"stored": storage_bytes(stored), "weights": storage_bytes(tensors_in([*parameters, *resting]))}
    held["forward"] = bytes_read(stored, lambda: contender.loss_on(*batches[0]))
    moving: list[int] = []
    held["step"] = bytes_read(stored, lambda: moving.append(_moving(contender, batches, parameters)))
    return {"phase": name} | {key: n // size for key, n in held.items()} | {"moving": moving[0]}


def _moving(contender: Contender, batches: Batches, parameters: Sequence[nn.Parameter]) -> int:
    """The numbers of the adapters that have a gradient in one step."""
    gradients: list[Tensor] = []
    direction = descent.direction

    def noted(rule: str, gradient: Tensor, *args: Any) -> Any:
        gradients.append(gradient)
        return direction(rule, gradient, *args)

    with mock.patch.object(descent, "direction", noted):
        contender.train(batches)
    gradients += [p.grad for p in parameters if p.grad is not None]
    return sum(gradient.numel() for gradient in gradients)


def tables(rows: pd.DataFrame) -> list[Table]:
    """The phases of all rows as text; none if no row has any."""
    text = [_text(row, phase) for _, row in rows.iterrows() for phase in row["held"]]
    return [Table("What the adapters hold", pd.DataFrame(text, dtype=object).drop_duplicates())] if text else []


def _text(row: pd.Series, phase: dict[str, Any]) -> dict[str, str]:
    return {
        "net": row["net"],
        "method": row["method"],
        "rank": row["rank"],
        "phase": phase["phase"],
        "Σ r (m + n)": count(phase["numbers"]),
        **{name: f"{phase[name] / phase['numbers']:.2f}" for name in COLUMNS},
    }
