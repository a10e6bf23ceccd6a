"""Every count and compression in the committed tables, recomputed from the ranks and shapes in the committed records.

The formulas are written down here on their own: DLRT, 2022, Tables 5, 6 and 8 count Σ r(m + n) for evaluation and
Σ [2r(m + n) + (2r)²] for training, with m n for each dense layer; abc-PSI, 2025, the low-rank layers only.
"""

import csv
import json
import math
import re
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

RESULTS = Path(__file__).parents[2] / "results"
RECORDS = [
    path for path in sorted(RESULTS.rglob("records.jsonl")) if "benchmark" not in path.parts
]  # those have no runs
TABLES = [path for path in sorted(RESULTS.rglob("table.csv")) if "compression" in path.read_text().splitlines()[0]]
COUNTS = ["eval_params", "train_params", "dense_params", "compression", "train_compression", "params_low_rank"]


def recomputed(final: dict[str, Any]) -> dict[str, float]:
    ranks, shapes = final["ranks"], final["shapes"]
    assert set(ranks) <= set(shapes)
    dense = sum(m * n for m, n in shapes.values())
    kept_dense = sum(m * n for layer, (m, n) in shapes.items() if layer not in ranks)
    factors = sum(r * (shapes[layer][0] + shapes[layer][1]) for layer, r in ranks.items())
    evaluation = factors + kept_dense
    training = 2 * factors + sum(4 * r**2 for r in ranks.values()) + kept_dense
    low_rank = sum(shapes[layer][0] * shapes[layer][1] for layer in ranks)
    return {
        "eval_params": evaluation,
        "train_params": training,
        "dense_params": dense,
        "compression": (dense - evaluation) / dense,
        "train_compression": (dense - training) / dense,
        "params_low_rank": factors,
        "compression_low_rank": (low_rank - factors) / low_rank if low_rank else math.nan,
    }


def records() -> list[dict[str, Any]]:
    return [json.loads(line) for path in RECORDS for line in path.read_text().splitlines()]


def shared(config: dict[str, Any]) -> str:
    return json.dumps({key: config[key] for key in config if key not in ("seed", "weights")}, sort_keys=True)


DONE: dict[str, dict[str, dict[str, Any]]] = {}  # the finished runs of a configuration, by key
for run in records():
    if run["status"] == "done":
        DONE.setdefault(shared(run["config"]), {})[run["key"]] = run["final"]


def means(config: str) -> dict[str, float]:
    counts = [recomputed(final) for final in DONE[shared(json.loads(config))].values()]
    return {name: fmean(count[name] for count in counts) for name in counts[0]}


def test_there_are_committed_records_and_tables() -> None:
    assert RECORDS and TABLES and DONE


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: str(path.relative_to(RESULTS)))
def test_the_counts_of_records_follow_from_their_ranks(path: Path) -> None:
    for line in path.read_text().splitlines():
        run = json.loads(line)
        if run["status"] == "done":
            final = run["final"]
            expected = recomputed(final)
            for name in COUNTS:
                assert final[name] == pytest.approx(expected[name], abs=1e-12), (run["name"], name)


@pytest.mark.parametrize("path", TABLES, ids=lambda path: str(path.relative_to(RESULTS)))
def test_the_counts_of_tables_are_means_over_their_records(path: Path) -> None:
    with path.open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if int(row["n"])]
    assert rows
    for row in rows:
        expected = means(row["config"])
        assert len(DONE[shared(json.loads(row["config"]))]) >= int(row["n"])
        for name in [*COUNTS, "compression_low_rank"]:
            if row.get(name):  # blank for a dense network
                assert float(row[name]) == pytest.approx(expected[name], rel=1e-9), (row["config"], name)


@pytest.mark.parametrize("path", TABLES, ids=lambda path: str(path.relative_to(RESULTS)))
def test_the_printed_cells_are_the_unrounded_ones(path: Path) -> None:
    with path.open(encoding="utf-8") as file:
        unrounded = list(csv.DictReader(file))
    lines = [line for line in path.with_name("table.md").read_text(encoding="utf-8").splitlines() if line]
    first = next(i for i, line in enumerate(lines) if line.startswith("| "))
    header, *printed = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[first:]
                        if line.startswith("|")][: len(unrounded) + 2]  # fmt: skip
    for cells, row in zip(printed[1:], unrounded, strict=True):
        text = dict(zip(header, cells, strict=True))
        if not int(row["n"]):
            continue
        expected = means(row["config"])
        assert text["params"] == f"{expected['eval_params']:,.0f}"
        assert text["compr. %"] == f"{100 * expected['compression']:.2f}"
        if "train params" in text:
            assert text["train params"] == f"{expected['train_params']:,.0f}"
            assert text["train compr. %"] == f"{100 * expected['train_compression']:.2f}".replace("-", "−")
        if text.get("low-rank only"):
            params, percent = re.fullmatch(r"([\d,]+) \(([\d.]+) %\)", text["low-rank only"]).groups()  # type: ignore[union-attr]
            assert params == f"{expected['params_low_rank']:,.0f}"
            assert percent == f"{100 * expected['compression_low_rank']:.2f}"
