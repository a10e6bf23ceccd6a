"""The table of the tuning runs, from records of the runner."""

from pathlib import Path

import pytest
from toy_runs import TOY, command

from experiments import tuning
from experiments.config import ConfigError
from experiments.kept import read


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tuning, "FOLDER", tmp_path / "kept")
    return tmp_path


def test_the_table_has_a_row_a_run_with_what_varies_and_grows(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for lr in (0.1, 0.2):
        runs = folder / f"runs{lr}"
        assert command(*TOY, "trainer.select=tuning", f"trainer.lr={lr}", f"results_dir={runs}") == 0
        tuning.main([str(runs)])
    assert capsys.readouterr().out.count(": validation accuracy ") == 2
    kept = read(folder / "kept" / "records.jsonl")
    rows = tuning.make(list(kept.values()))
    best = max(record["final"]["val_accuracy"] for record in kept.values())
    assert rows["lr"].tolist() in (["0.1", "0.2"], ["0.2", "0.1"]) and "epochs" not in rows
    assert rows["val %"].iloc[0] == f"{100 * best:.2f}"
    page = (folder / "kept" / "table.md").read_text()
    assert "2 runs, one seed each" in page and page.count("| import |") == 2


def test_a_run_that_saw_the_test_data_is_refused(folder: Path) -> None:
    assert command(*TOY, f"results_dir={folder / 'runs'}") == 0
    with pytest.raises(ConfigError, match="is no tuning run"):
        tuning.main([str(folder / "runs")])
    with pytest.raises(ConfigError, match="holds no records"):
        tuning.main([str(folder / "nothing")])
