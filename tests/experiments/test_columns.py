from typing import Any

import pandas as pd
from fake_records import record

from experiments import paper
from experiments.aggregate import aggregate
from experiments.columns import main_table

SECTION = {"paper": ["dlrt_table5_mlp500", "abc_psi_table1_lr0.01"], "match": "compression"}


def cells(records: list[dict[str, Any]], section: dict[str, Any] = SECTION) -> pd.DataFrame:
    return main_table(paper.beside(aggregate(records), section), section.get("columns", []))


def test_ours_the_papers_and_the_difference_stand_side_by_side() -> None:
    row = cells([record("aug_bug", 0.1, s, accuracy=a) for s, a in enumerate((0.97, 0.98))]).iloc[0].to_dict()
    assert row == {
        "method": "aug. BUG (DLRT)",
        "τ": "0.1",
        "ranks": "20-20-20-20",
        "n": "2",
        "div.": "0",
        "accuracy %": "97.50 ± 0.71",
        "paper %": "97.22 ± 0.29",
        "diff.": "+0.28",
        "params": "90,680",
        "compr. %": "92.09",
        "paper's compr. %": "91.12",
        "train params": "181,360",
        "train compr. %": "84.19",
        "paper's train compr. %": "81.93",
        "paper's row": "Table 5, τ 0.15",
    }


def test_beside_an_abc_psi_row_stands_our_count_of_the_low_rank_layers() -> None:
    rows = cells([record("psi", rank=10, accuracy=0.95), record("aug_bug", 0.1)])
    assert rows["low-rank only"].tolist() == ["42,840 (96.25 %)", ""]
    assert rows["paper's row"].iloc[0] == "Table 1, τ 0.2"
    assert rows["diff."].iloc[0] == "−0.71"


def test_a_network_larger_than_the_printed_one_is_called_so() -> None:
    rows = cells([record("abc_psi", 0.1, rank=100), record("abc_psi", 0.2, rank=40)])
    assert rows["paper's row"].tolist() == [
        "Table 1, τ 0.005 (ours is larger)",
        "Table 1, τ 0.005 (ours is larger)",
    ]
    assert "larger" not in cells([record("psi", rank=10)])["paper's row"].iloc[0]


def test_a_row_without_finished_runs_counts_them_and_shows_no_number() -> None:
    row = cells([record("bc_psi", seed=s, status="diverged") for s in range(5)]).iloc[0]
    assert (row["n"], row["div."], row["accuracy %"], row["params"]) == ("0", "5", "–", "–")


def test_without_printed_tables_there_are_no_columns_for_them() -> None:
    assert not {"paper %", "diff.", "paper's row"} & set(cells([record("psi")], {}))


def test_columns_show_config_values_and_what_differs() -> None:
    runs = [record("psi", gain=0.5), record("psi", gain=0.7, model={"name": "lenet5", "skip": ["output"]})]
    rows = cells(runs, {"columns": ["gain", "integrator.decay"]})
    assert rows["gain"].tolist() == ["0.5", "0.7"]
    assert rows["integrator.decay"].tolist() == ["0.005", "0.005"]
    assert rows["model"].tolist() == ["mlp5_500", "lenet5"]


def test_rows_that_differ_in_nothing_shown_are_told_apart() -> None:
    runs = [record("psi", gain=0.5), record("psi", gain=0.7), record("abc_psi", 0.1, gain=0.7)]
    assert cells(runs)["gain"].tolist() == ["0.5", "0.7", "0.7"]
    assert "gain" not in cells(runs[1:])


def test_fixed_ranks_are_a_column_and_tau_is_none_without_any() -> None:
    fixed = [record("bug", rank=r) | {"config": record("bug")["config"] | {"rank": r}} for r in (10, 20)]
    rows = cells(fixed)
    assert rows["rank"].tolist() == ["10", "20"] and "τ" not in rows
    mixed = cells([*fixed, record("abc_psi", 0.1)])
    assert mixed["rank"].tolist() == ["10", "20", ""] and mixed["τ"].tolist() == ["", "", "0.1"]


def test_pruned_networks_show_their_accuracy_before_training_and_the_papers() -> None:
    run = record("bug", rank=20) | {"start": {"test_accuracy": 0.61}}
    run["config"] |= {"rank": 20, "model": {"name": "mlp5_784", "skip": ["output"]}}
    row = cells([run], {"paper": ["dlrt_table8_pruning"], "match": "tau"}).iloc[0]
    assert (row["before training %"], row["paper's before %"], row["paper %"]) == ("61.00", "9.15", "97.47")
    assert row["paper's row"].startswith("Table 8, r 20")


def test_tuning_runs_show_their_validation_accuracy_and_no_paper() -> None:
    runs = [record("aug_bug", 0.1, s, accuracy=0.97 + s / 100) for s in range(2)]
    for run in runs:
        run["final"]["test_accuracy"] = None
    rows = cells(runs)
    assert rows["validation %"].tolist() == ["97.50 ± 0.71"]
    assert not {"accuracy %", "paper %", "diff."} & set(rows)
