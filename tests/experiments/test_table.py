from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from fake_records import collection_of, preset_of, record, recorded

from experiments import paper, table
from experiments.aggregate import aggregate
from experiments.collection import Collection, command

SECTION = {"paper": ["dlrt_table5_mlp500", "abc_psi_table1_lr0.01"], "match": "compression"}


def cells(records: list[dict[str, Any]], section: dict[str, Any] = SECTION) -> pd.DataFrame:
    return table.formatted(paper.beside(aggregate(records), section), section.get("columns", []))


def footer(collection: Collection) -> str:
    rows = paper.beside(aggregate(collection.records, collection.missing), collection.preset.table)
    return "\n".join(table.footer(collection, rows))


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
        "paper's row": "Table 5, τ 0.15, 91.12 %",
    }


def test_beside_an_abc_psi_row_stands_our_count_of_the_low_rank_layers() -> None:
    rows = cells([record("psi", rank=10, accuracy=0.95), record("aug_bug", 0.1)])
    assert rows["low-rank only"].tolist() == ["42,840 (96.25 %)", ""]
    assert rows["paper's row"].iloc[0] == "Table 1, τ 0.2, 96.50 %"
    assert rows["diff."].iloc[0] == "−0.71"


def test_a_network_larger_than_the_printed_one_is_called_so() -> None:
    rows = cells([record("abc_psi", 0.1, rank=100), record("abc_psi", 0.2, rank=40)])
    assert rows["paper's row"].tolist() == [
        "Table 1, τ 0.005, 85.99 % (ours is larger)",
        "Table 1, τ 0.005, 85.99 % (ours is larger)",
    ]
    assert "larger" not in cells([record("psi", rank=10)])["paper's row"].iloc[0]


def test_a_row_without_finished_runs_counts_them_and_shows_no_number() -> None:
    row = cells([record("bc_psi", seed=s, status="diverged") for s in range(5)]).iloc[0]
    assert (row["n"], row["div."], row["accuracy %"], row["params"]) == ("0", "5", "–", "–")


def test_without_printed_tables_there_are_no_columns_for_them() -> None:
    assert not {"paper %", "diff.", "paper's row"} & set(cells([record("psi")], {}))


def test_columns_show_config_values_and_what_differs() -> None:
    runs = [record("psi", gain=0.5), record("psi", gain=0.7, model={"name": "lenet5"})]
    rows = cells(runs, {"columns": ["gain", "integrator.decay"]})
    assert rows["gain"].tolist() == ["0.5", "0.7"]
    assert rows["integrator.decay"].tolist() == ["0.005", "0.005"]
    assert rows["model"].tolist() == ["mlp5_500", "lenet5"]


def test_many_layers_are_summarised() -> None:
    assert table._ranks({str(i): float(i) for i in range(3, 11)}) == "3 to 10"


def test_the_footer_tells_where_the_numbers_come_from() -> None:
    runs = [record("aug_bug", 0.1, seed) for seed in range(2)]
    runs[1]["provenance"] = {"commit": "0123456789abcdef", "dirty": True, "device": "cuda: H100"}
    text = footer(collection_of(runs, table=SECTION))
    for words in ("runs: 2, in runs/records", "epochs: 3", "012345678 (dirty), abcdef012", "cpu: Test, cuda: H100"):
        assert words in text
    assert "Table 5: DLRT 2022" in text and "validation" in text
    assert "missing" not in text


def test_the_footer_counts_what_is_missing_and_names_the_command() -> None:
    runs = [record("aug_bug", 0.1, 0), record("aug_bug", 0.1, 1, status="failed") | {"provenance": {}}]
    preset = preset_of([*runs, record("aug_bug", 0.1, 2)], unresolved=4)
    text = footer(Collection(preset, ("trainer.epochs=1",), runs, Path("runs/records")))
    assert "missing runs: 5, failed or cut short: 1" in text
    assert "`python -m experiments.run -m experiment=demo trainer.epochs=1`" in text


def test_the_papers_protocol_is_named() -> None:
    run = record("aug_bug", 0.1)
    run["final"]["selected_by"] = "test_accuracy_paper_protocol"
    assert "best test epoch" in footer(collection_of([run]))


def test_the_command_prints_the_table_and_writes_it_in_three_forms(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [record("abc_psi", 0.1, s, accuracy=0.97 + s / 100) for s in range(3)]
    with recorded(preset_of(runs, table=SECTION), runs, tmp_path):
        command(["demo", f"results_dir={tmp_path}", f"out={tmp_path}/out"], "experiments.table", table.make)

    folder = tmp_path / "out" / "demo"
    assert (folder / "table.md").read_text() == capsys.readouterr().out
    assert "98.00 $\\pm$ 1.00" in (folder / "table.tex").read_text()
    row = pd.read_csv(folder / "table.csv").iloc[0]
    assert row["accuracy"] == pytest.approx(0.98) and row["ranks"] == "20-20-20-20"
    assert row["printed_accuracy"] == 0.96646 and row["difference"] == pytest.approx(0.98 - 0.96646)


def test_a_clean_clone_makes_the_same_table(tmp_path: Path) -> None:
    runs = [record("aug_bug", 0.1, s, accuracy=0.97 + s / 100) for s in range(2)]
    preset = preset_of(runs, table=SECTION)
    files = {}
    for results_dir in (tmp_path / "runs", tmp_path / "empty"):
        with recorded(preset, runs if results_dir.name == "runs" else [], results_dir):
            command(["demo", f"results_dir={results_dir}", f"out={tmp_path}/out"], "experiments.table", table.make)
        names = ("table.csv", "table.tex", "records.jsonl")
        files[results_dir.name] = [(tmp_path / "out" / "demo" / name).read_text() for name in names]
    assert files["runs"] == files["empty"]
