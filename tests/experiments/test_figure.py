from pathlib import Path

import pytest
from fake_records import collection_of, record

from experiments import figure
from experiments.config import ConfigError

RUNS = [record(method, tau, seed, accuracy=0.97 + seed / 500, rank=rank)
        for method, tau, rank in (("abc_psi", 0.1, 20), ("abc_psi", 0.2, 12), ("psi", None, 20), ("dense", None, None))
        for seed in (0, 1)]  # fmt: skip


def test_the_same_records_give_the_same_bytes(tmp_path: Path) -> None:
    made = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        figure.make(collection_of(RUNS, table={"paper": ["abc_psi_table1_lr0.01"]}), tmp_path / name)
        made.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})
    stems = ("accuracy_compression", "rank_evolution", "rank_heatmap")
    assert set(made[0]) == {f"{stem}.{suffix}" for stem in stems for suffix in ("png", "pdf", "svg")}
    assert made[0] == made[1]


def test_a_figure_without_data_is_not_drawn_and_said_to_be_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figure.make(collection_of([record("psi")]), tmp_path)
    assert {path.stem for path in tmp_path.iterdir()} == {"accuracy_compression"}
    printed = capsys.readouterr().out
    assert all(f"{name} is not drawn" in printed for name in ("rank_evolution", "rank_heatmap", "accuracy_params"))


def test_a_preset_chooses_its_figures(tmp_path: Path) -> None:
    figure.make(collection_of(RUNS, figures=["rank_evolution"]), tmp_path)
    assert {path.stem for path in tmp_path.iterdir()} == {"rank_evolution"}
    with pytest.raises(ConfigError, match="did you mean 'rank_evolution'"):
        figure.make(collection_of(RUNS, figures=["rank_evolutoin"]), tmp_path)
