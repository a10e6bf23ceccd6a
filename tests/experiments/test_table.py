from pathlib import Path

import pandas as pd
import pytest
from fake_records import collection_of, preset_of, record, recorded

from experiments import table
from experiments.collection import command
from experiments.config import ConfigError

SECTION = {
    "paper": ["dlrt_table5_mlp500", "abc_psi_table1_lr0.01"],
    "match": "compression",
    "goals": [{"accuracy": 97.5, "compression": 90}],
}


def test_the_command_prints_the_table_and_writes_it_in_three_forms(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [record("abc_psi", 0.1, s, accuracy=0.97 + s / 100) for s in range(3)]
    with recorded(preset_of(runs, table=SECTION), runs, tmp_path):
        command(["demo", f"results_dir={tmp_path}", f"out={tmp_path}/out"], "experiments.table", table.make)

    folder = tmp_path / "out" / "demo"
    assert (folder / "table.md").read_text() == capsys.readouterr().out
    page = (folder / "table.md").read_text()
    assert "## Goals" in page and "; 1 of 1 goals reached; 3 of 3 runs finished, 0 diverged." in page.splitlines()[2]
    assert "98.00 $\\pm$ 1.00" in (folder / "table.tex").read_text()
    row = pd.read_csv(folder / "table.csv").iloc[0]
    assert row["accuracy"] == pytest.approx(0.98) and row["ranks"] == "20-20-20-20"
    assert len(pd.read_csv(folder / "dominated.csv")) == 9 + 17
    assert row["printed_accuracy"] == 0.96646 and row["difference"] == pytest.approx(0.98 - 0.96646)


def test_a_clean_clone_makes_the_same_table(tmp_path: Path) -> None:
    runs = [record("aug_bug", 0.1, s, accuracy=0.97 + s / 100) for s in range(2)]
    preset = preset_of(runs, table=SECTION)
    files = {}
    for results_dir in (tmp_path / "runs", tmp_path / "empty"):
        with recorded(preset, runs if results_dir.name == "runs" else [], results_dir):
            command(["demo", f"results_dir={results_dir}", f"out={tmp_path}/out"], "experiments.table", table.make)
        names = ("table.md", "table.csv", "dominated.csv", "table.tex", "records.jsonl")
        files[results_dir.name] = [(tmp_path / "out" / "demo" / name).read_text() for name in names]
    assert files["runs"] == files["empty"]


def test_partial_and_tuning_records_make_a_table_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [record("abc_psi", 0.1, s) for s in range(3)]
    tuning = record("abc_psi", 0.2)
    tuning["final"]["test_accuracy"] = None
    with recorded(preset_of([*runs, tuning], table=SECTION, protocol="tuned"), [runs[0], tuning], tmp_path):
        command(["demo", f"results_dir={tmp_path}", f"out={tmp_path}/out"], "experiments.table", table.make)
    text = capsys.readouterr().out
    assert "missing runs: 2" in text and "validation %" in text and "2 of 4 runs finished" in text
    assert text.startswith("# A title, protocol tuned\n") and (tmp_path / "out/demo/tuned/table.md").is_file()


@pytest.mark.parametrize("status", ["diverged", "preempted"])
def test_a_row_without_a_run_is_left_to_the_footer(
    status: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [record("abc_psi", 0.66, status=status), record("aug_bug", 0.77)]
    with recorded(preset_of(runs, table=SECTION), runs[:1], tmp_path):
        command(["demo", f"results_dir={tmp_path}", f"out={tmp_path}/out"], "experiments.table", table.make)
    text = capsys.readouterr().out
    assert "| 0.77 |" not in text and ("| 0.66 |" in text) == (status == "diverged")
    assert "missing runs: 1" in text


def test_an_unknown_kind_of_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"did you mean 'adapters'\? there is no 'adapter': write accuracy, adapters, ti"
    ):
        table.make(collection_of([record("psi")], table={"kind": "adapter"}), tmp_path)


def test_without_printed_tables_and_goals_there_is_one_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [record("abc_psi", 0.1)]
    with recorded(preset_of(runs), runs, tmp_path):
        command(["demo", f"results_dir={tmp_path}", f"out={tmp_path}/out"], "experiments.table", table.make)
    assert "##" not in capsys.readouterr().out
    assert not (tmp_path / "out/demo/dominated.csv").exists()
