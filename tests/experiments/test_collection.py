from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_records import preset_of, record, recorded

from experiments import presets
from experiments.collection import KEPT, Collection, check_kept, collect, command, keep
from experiments.config import ConfigError
from experiments.records import Store

RUNS = [record("abc_psi", 0.1, seed) for seed in range(3)]


def test_records_come_in_the_presets_order_and_the_rest_is_missing(tmp_path: Path) -> None:
    with recorded(preset_of(RUNS[::-1]), RUNS[:2], tmp_path):
        found = collect("demo", tmp_path, tmp_path / "kept")
    assert found.records == [RUNS[1], RUNS[0]]
    assert found.missing == [RUNS[2]["config"]]
    assert found.command == f"python -m experiments.run -m experiment=demo results_dir={tmp_path}"


def test_a_clean_clone_takes_the_kept_records_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = tmp_path / "records.jsonl"
    keep(Collection(preset_of(RUNS), (), RUNS, tmp_path), kept)
    assert "singular_values" in RUNS[0]["history"][0]
    assert "singular_values" not in kept.read_text()

    with recorded(preset_of(RUNS), [], tmp_path):
        found = collect("demo", tmp_path / "runs", kept)

    assert [run["final"] for run in found.records] == [run["final"] for run in RUNS]
    assert (found.source, found.missing) == (kept, [])
    assert str(kept) in capsys.readouterr().err


def test_kept_records_that_the_preset_no_longer_has_are_left_out(tmp_path: Path) -> None:
    kept = tmp_path / "records.jsonl"
    keep(Collection(preset_of(RUNS), (), RUNS, tmp_path), kept)
    with recorded(preset_of(RUNS[:1]), [], tmp_path):
        assert len(collect("demo", tmp_path / "runs", kept).records) == 1


def test_records_in_results_dir_come_before_the_kept_ones(tmp_path: Path) -> None:
    kept = tmp_path / "records.jsonl"
    keep(Collection(preset_of(RUNS), (), RUNS, tmp_path), kept)
    with recorded(preset_of(RUNS), RUNS[:1], tmp_path):
        assert len(collect("demo", tmp_path, kept).records) == 1


def test_without_any_record_the_sentence_names_the_command(tmp_path: Path) -> None:
    with recorded(preset_of(RUNS), [], tmp_path), pytest.raises(ConfigError) as error:
        collect("demo", tmp_path, tmp_path / "none", ["trainer.epochs=1"])
    assert "python -m experiments.run -m experiment=demo" in str(error.value)
    assert "trainer.epochs=1" in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["dmo"], "did you mean 'demo'?"),
        ([], "usage: python -m experiments.table NAME"),
        (["--help"], "usage: python -m experiments.table NAME"),
        (["demo", "result_dir=x"], "did you mean 'results_dir'?"),
        (["demo", "results_dir=nowhere", "out=nothing"], "no run of demo is recorded in nowhere"),
    ],
)
def test_a_mistake_ends_in_one_sentence(
    arguments: list[str], sentence: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        command(arguments, "experiments.table", lambda *_: None)
    assert sentence in str(stop.value)
    assert "\n" not in str(stop.value)
    assert not list(tmp_path.iterdir())


def test_a_bug_keeps_its_traceback(tmp_path: Path) -> None:
    def broken(*_: Any) -> None:
        raise ValueError("bug")

    with recorded(preset_of(RUNS), RUNS, tmp_path), pytest.raises(ValueError, match="bug"):
        command(["demo", f"results_dir={tmp_path}", f"out={tmp_path}"], "experiments.table", broken)


def test_a_preset_whose_ranks_come_from_records_is_complete_from_the_kept_file(tmp_path: Path) -> None:
    store = Store(tmp_path / "runs")
    for _ in range(2):  # the first block's records, and then those whose ranks they give
        for cell in presets.load("demo", [f"results_dir={tmp_path}/runs"]).cells:
            rank = None if cell.config["integrator"]["name"] == "dense" else cell.config["rank"]
            store.write(record("psi", rank=rank) | {"key": cell.key, "config": cell.config})
    complete = collect("demo", tmp_path / "runs", tmp_path / "kept")
    keep(complete, tmp_path / "kept")

    again = collect("demo", tmp_path / "empty", tmp_path / "kept")

    assert {"bug", "psi"} <= {run["config"]["integrator"]["name"] for run in again.records}
    assert [run["key"] for run in again.records] == [run["key"] for run in complete.records]
    assert (again.missing, again.preset.unresolved) == ([], 0)

    fewer = replace(again, records=again.records[1:])
    (tmp_path / "out").mkdir()
    keep(again, tmp_path / "out" / KEPT)
    check_kept(tmp_path / "out", again)
    with pytest.raises(ConfigError, match="out keeps 9 records and this selection has 8: write it elsewhere"):
        check_kept(tmp_path / "out", fewer)
