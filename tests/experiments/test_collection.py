from pathlib import Path
from typing import Any

import pytest
from fake_records import collection_of, preset_of, record, recorded

from experiments import kept, presets
from experiments.collection import KEPT, Collection, check_kept, collect, command, folder_of, keep
from experiments.config import ConfigError
from experiments.records import Store

RUNS = [record("abc_psi", 0.1, seed) for seed in range(3)]


def keep_all(folder: Path, runs: list[dict[str, Any]]) -> None:
    folder.mkdir(parents=True)
    keep(collection_of(runs), folder / KEPT)


def test_records_come_in_the_presets_order_and_the_rest_is_missing(tmp_path: Path) -> None:
    with recorded(preset_of(RUNS[::-1]), RUNS[:2], tmp_path):
        found = collect("demo", tmp_path, tmp_path / "out")
    assert found.records == [RUNS[1], RUNS[0]]
    assert found.missing == [RUNS[2]["config"]]
    assert found.command == f"python -m experiments.run -m experiment=demo results_dir={tmp_path}"


def test_a_clean_clone_takes_the_kept_records_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keep_all(tmp_path / "out/demo", RUNS)
    with recorded(preset_of(RUNS), [], tmp_path):
        found = collect("demo", tmp_path / "runs", tmp_path / "out")
    assert [run["final"] for run in found.records] == [run["final"] for run in RUNS]
    assert (found.source, found.missing) == (tmp_path / "out/demo/records.jsonl", [])
    assert capsys.readouterr().err == f"3 of 3 records of demo are taken from {tmp_path}/out\n"


def test_new_runs_join_the_kept_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keep_all(tmp_path / "out/demo", RUNS[:2])
    again = [run | {"timing": {"seconds": 1.0}} for run in RUNS[1:]]
    with recorded(preset_of(RUNS), again, tmp_path / "runs"):
        found = collect("demo", tmp_path / "runs", tmp_path / "out")
    assert [run["timing"]["seconds"] for run in found.records] == [60.0, 1.0, 1.0]
    assert "1 of 3 records" in capsys.readouterr().err


def test_kept_records_that_the_preset_no_longer_has_are_left_out(tmp_path: Path) -> None:
    keep_all(tmp_path / "out/demo", RUNS)
    with recorded(preset_of(RUNS[:1]), [], tmp_path):
        assert len(collect("demo", tmp_path / "runs", tmp_path / "out").records) == 1


def test_a_file_of_records_serves_as_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept.write(RUNS[:2], tmp_path / "queue.jsonl")
    with recorded(preset_of(RUNS), [], tmp_path):
        found = collect("demo", tmp_path / "queue.jsonl", tmp_path / "out")
        assert len(found.records) == 2 and not capsys.readouterr().err
        assert found.command == "python -m experiments.run -m experiment=demo"
        with pytest.raises(ConfigError, match="there is no such file"):
            collect("demo", tmp_path / "other.jsonl", tmp_path / "out")


def test_records_kept_by_other_presets_serve_and_are_kept_once(tmp_path: Path) -> None:
    keep_all(tmp_path / "out/one/tuned", RUNS[:1])
    keep_all(tmp_path / "out/two/tuned", RUNS[1:])
    preset = preset_of(RUNS, protocol="tuned", table={"records_from": ["one", "two"]})
    with recorded(preset, [], tmp_path):
        found = collect("demo", tmp_path / "runs", tmp_path / "out")
    assert len(found.records) == 3
    keep(found, tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


@pytest.mark.parametrize("kept_beside", [True, False])
def test_records_of_a_folder_of_data_serve_where_none_is_named(kept_beside: bool, tmp_path: Path) -> None:
    here = [record("abc_psi", 0.1, seed) for seed in range(2)]
    there = [
        record("abc_psi", 0.1, seed, data={"name": "mnist", "source": "folder", "root": "f00d"}) for seed in range(2)
    ]
    other = [record("abc_psi", 0.1, seed, data={"name": "mnist", "root": "beef"}) for seed in range(2)]
    if kept_beside:
        keep_all(tmp_path / "out/demo", there[:1])
    else:
        kept.write(there[:1], tmp_path / "queue.jsonl")
    results = tmp_path / ("empty" if kept_beside else "queue.jsonl")
    with recorded(preset_of(here), [], tmp_path):
        found = collect("demo", results, tmp_path / "out")
        assert [run["key"] for run in found.records] == [there[0]["key"]]
        assert found.missing == [here[1]["config"]]
    with recorded(preset_of(other), [], tmp_path), pytest.raises(ConfigError, match="no run of demo is recorded"):
        collect("demo", results, tmp_path / "out", ["data.root=elsewhere"])


def test_the_command_names_no_place_of_this_machine() -> None:
    given = ("data.root=~/pictures", "model.weights=./b16.pth", "model.weights=imagenet", "budget=smoke")
    assert Collection(preset_of(RUNS), given, RUNS, Path("records.jsonl")).command == (
        "python -m experiments.run -m experiment=demo data.root=FOLDER model.weights=FILE model.weights=imagenet "
        "budget=smoke"
    )


def test_the_title_names_protocol_and_budget() -> None:
    collection = collection_of([RUNS[0], record("psi", status="diverged")], protocol="tuned", budget="smoke")
    assert collection.title == "A title, protocol tuned, budget smoke" and collection_of(RUNS).title == "A title"
    assert collection.outcome == "1 of 2 runs finished, 1 diverged"


def test_each_protocol_and_budget_has_its_folder() -> None:
    chosen = [(None, "full"), ("paper", "full"), ("tuned", "smoke"), (None, "smoke")]
    folders = [folder_of(Path("out"), "x", preset_of([], protocol=p, budget=b)).as_posix() for p, b in chosen]
    assert folders == ["out/x", "out/x/paper", "out/x/tuned-smoke", "out/x/smoke"]


def test_without_any_record_the_sentence_names_the_command(tmp_path: Path) -> None:
    with recorded(preset_of(RUNS), [], tmp_path), pytest.raises(ConfigError) as error:
        collect("demo", tmp_path, tmp_path / "out", ["trainer.epochs=1"])
    assert "python -m experiments.run -m experiment=demo" in str(error.value)
    assert "trainer.epochs=1" in str(error.value)


def test_kept_records_are_not_lost_to_another_selection(tmp_path: Path) -> None:
    keep_all(tmp_path / "out", RUNS[:2])
    check_kept(tmp_path / "out", collection_of(RUNS))
    with pytest.raises(ConfigError, match="keeps 1 records that this selection lacks: write it elsewhere"):
        check_kept(tmp_path / "out", collection_of(RUNS[1:]))


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
    complete = collect("demo", tmp_path / "runs", tmp_path / "out")
    (tmp_path / "out/demo").mkdir(parents=True)
    keep(complete, tmp_path / "out/demo" / KEPT)

    again = collect("demo", tmp_path / "empty", tmp_path / "out")

    assert {"bug", "psi"} <= {run["config"]["integrator"]["name"] for run in again.records}
    assert [run["key"] for run in again.records] == [run["key"] for run in complete.records]
    assert (again.missing, again.preset.unresolved) == ([], 0)
