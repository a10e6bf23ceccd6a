"""Rows, targets and verdicts, and the text they become."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

from experiments.benchmark import table
from experiments.benchmark.cases import Case
from experiments.benchmark.rows import order, row, target, verdict

TARGETS: list[dict[str, Any]] = [
    {"device": "cpu", "model": "mlp", "width": 500, "batch": 256, "rank": 40, "ratio": 1.3, "speedup": 3.0},
    {"device": "cuda", "model": "mlp", "width": 500, "batch": 256, "rank": 40, "ratio": 0.5},
    {"device": "cpu", "model": "lenet5", "batch": 128, "rank": [1, 2, 3, 4], "ratio": 1.2},
]
CASE = Case("mlp", 500, 256, 40, "aug_bug", reference=True)


def figures(median: float) -> dict[str, Any]:
    return {
        "median": median,
        "q1": 0.9 * median,
        "q3": 1.2 * median,
        "least": 0.8 * median,
        "repeats": 9,
        "loss": 2.0,
    } | {
        "state_bytes": 2**20,
        "peak_bytes": 3 * 2**20,
    }


def record(case: Case = CASE, own: float = 0.012, dense: float = 0.01, reference: float | None = 0.03) -> Any:
    measured = {
        "own": figures(own),
        "dense": {name: figures(dense / (i + 1)) for i, name in enumerate(case.dense)},
        "reference": None if reference is None else figures(reference),
        "ratio": own / dense,
        "speedup": None if reference is None else reference / own,
        "state_ratio": 0.25,
        "peak_ratio": 0.5,
        "floor": {"total": 3.0, "dense": 10.0, "ratio": 0.3},
    }
    origin = {"device": "cpu: x", "commit": None, "dirty": True, "threads": 2, "data_source": "MNIST"}
    return {"case": case.config(), "measured": measured, "provenance": origin | {"versions": {"torch": "2"}}}


@pytest.mark.parametrize(
    ("ratio", "speedup", "text"),
    [
        (1.3, 3.0, "met"),
        (1.56, 3.1, "missed by 1.20×"),
        (1.0, 1.5, "separate passes: missed by 2.00×"),
        (2.6, 1.5, "missed by 2.00×; separate passes: missed by 2.00×"),
        (1.0, None, "met"),
    ],
)
def test_a_verdict_says_by_how_much_a_target_is_missed(ratio: float, speedup: float | None, text: str) -> None:
    assert verdict(ratio, speedup, TARGETS[0]) == text
    assert verdict(ratio, speedup, {}) == ""


def test_a_target_is_of_one_net_rank_and_device_in_fp32() -> None:
    lenet = Case("lenet5", None, 128, (1, 2, 3, 4), "psi")
    assert target(CASE, "cpu", TARGETS) is TARGETS[0] and target(CASE, "cuda", TARGETS) is TARGETS[1]
    assert target(lenet, "cpu", TARGETS) is TARGETS[2] and target(lenet, "cuda", TARGETS) == {}
    others = [Case("mlp", 500, 256, 20, "psi"), Case("mlp", 500, 256, 40, "psi", precision="bf16")]
    others.append(Case("mlp", 500, 256, 40, "psi", inner_steps=2))
    assert [target(case, "cpu", TARGETS) for case in others] == [{}, {}, {}]


def test_the_row_of_a_record_and_its_text() -> None:
    rows = pd.DataFrame([row(record(), TARGETS)])
    text = table.formatted(rows).iloc[0].to_dict()
    assert text == {
        "net": "784-500×4-10",
        "batch": "256",
        "method": "aug. BUG (DLRT)",
        "rank": "40",
        "ms": "12.0 (10.8–14.4)",
        "dense ms": "10.0 (9.0–12.0)",
        "× dense": "1.20",
        "target ≤": "1.30",
        "separate passes ×": "2.50",
        "target ≥": "3.00",
        "verdict": "separate passes: missed by 1.20×",
        "floor": "0.300",
        "distance": "4.00",
        "state ×": "0.250",
        "peak MiB": "3",
        "peak ×": "0.500",
    }


def test_columns_without_a_value_are_left_out_and_precisions_named() -> None:
    other = Case("mlp", 500, 256, 20, "abc_psi", precision="bf16", dense=("fp32", "tf32"))
    rows = pd.DataFrame([row(record(other, reference=None), TARGETS)])
    text = table.formatted(rows).iloc[0].to_dict()
    assert text["precision"] == "bf16" and text["× TF32"] == "2.40"
    assert not {"target ≤", "target ≥", "verdict", "separate passes ×", "× bf16", "curve"} & text.keys()


def test_the_footer_counts_what_is_met_and_names_where_it_was_measured() -> None:
    records = [record(), record(reference=0.06)]
    lines = table.footer(records, pd.DataFrame([row(r, TARGETS) for r in records]))
    assert "targets met: 1 of 2." in lines
    assert not any("worth little" in line for line in lines)
    records[1]["measured"]["dense"]["fp32"]["q3"] *= 2
    lines = table.footer(records, pd.DataFrame([row(r, TARGETS) for r in records]))
    assert any("in 1 of 2 rows" in line for line in lines)
    assert lines[-1].startswith("records: 2; images: MNIST; commit: unknown (dirty); device: cpu: x; threads: 2;")


TUNED = Case("vit_tiny", None, 4, 3, "parallel_bug", image_size=8)


def test_fine_tuning_is_set_against_full_fine_tuning() -> None:
    records = [record(TUNED, reference=None), record(replace(TUNED, precision="bf16", dense=("bf16",)), reference=None)]
    rows = pd.DataFrame([row(r | {"measured": r["measured"] | {"floor": None}}, TARGETS) for r in records])
    first, second = table.formatted(rows).to_dict("records")
    assert (first["net"], first["method"], first["× full"]) == ("vit_tiny, 8 px", "GeoLoRA (parallel BUG)", "1.20")
    assert second["precision"] == "bf16" and first["full ms"] == second["full ms"] == "10.0 (9.0–12.0)"
    assert not {"× bf16", "× dense", "dense ms", "floor", "distance"} & first.keys()
    lines = table.footer(records, rows)
    assert "of the medians, full fine-tuning in bf16, fp32." in lines[0] and not any(
        "dense step" in line for line in lines
    )
    assert any(line.startswith("What the adapters hold") for line in lines)


def test_rows_are_in_order_of_net_method_rank_and_inner_steps() -> None:
    inner, probe = replace(TUNED, integrator="abc_psi", inner_steps=20), replace(TUNED, integrator="probe", rank=None)
    cases = [CASE, replace(inner, inner_steps=1), inner, replace(inner, rank=32), TUNED, probe]
    cases.append(replace(TUNED, image_size=16))
    assert sorted(reversed(cases), key=lambda case: order({"case": case.config()})) == cases
    assert row(record(inner), [])["method"] == "abc-PSI, 20 inner steps"
