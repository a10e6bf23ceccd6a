import json
from pathlib import Path

import pytest
from fake_records import record

from experiments import kept
from experiments.config import ConfigError
from experiments.records import Store, key_of

RUN = record("aug_bug", 0.1)


def test_a_record_comes_back_but_for_what_follows_from_it(tmp_path: Path) -> None:
    run = record("aug_bug", 0.1)
    run["timing"]["epoch_seconds"] = [1.0]
    for row in run["history"]:
        row |= {"val_accuracy": None, "eval_params": 7, "train_params": 8, "compression": 0.5}
    kept.write([run], tmp_path / "kept")
    (again,) = kept.read(tmp_path / "kept").values()

    dropped = {"singular_values", "eval_params", "train_params", "compression"}
    history = [{key: row[key] for key in row if key not in dropped} for row in run["history"]]
    assert again["history"] == [row | {"loss": float(f"{row['loss']:.6g}")} for row in history]
    assert again["timing"] == {key: run["timing"][key] for key in ("started", "seconds")}
    assert {k: again[k] for k in run if k not in ("history", "timing")} == {
        k: run[k] for k in run if k not in ("history", "timing")
    }
    kept.write([again], tmp_path / "twice")
    assert (tmp_path / "twice").read_bytes() == (tmp_path / "kept").read_bytes()


def test_dense_and_failed_runs_and_runs_without_epochs_are_kept_too(tmp_path: Path) -> None:
    runs = [record("dense", rank=None), record("psi", status="failed"), record("bug") | {"history": []}]
    runs[1]["error"]["traceback"] = "long"
    kept.write(runs, tmp_path / "kept")
    dense, failed, empty = kept.read(tmp_path / "kept").values()
    assert [row["ranks"] for row in dense["history"]] == [{}, {}, {}]
    assert failed["error"] == {"kind": "Divergence", "message": "loss is not finite", "layer": None}
    assert empty["history"] == []


def test_a_kept_command_names_no_folder_of_the_machine() -> None:
    places = "results_dir=/somewhere/runs data.root=images model.weights=/some/vit.pth"
    command = f"python -m experiments.run -m tau=0.1 {places} 'model.skip=[a, b]' data.source=folder"
    kept_one = kept.packed(RUN | {"provenance": {"command": command, "dirty": False}})
    words = "python -m experiments.run -m tau=0.1 'model.skip=[a, b]' data.source=folder"
    assert kept_one["provenance"] == {"command": words, "dirty": False}
    assert kept.portable(["model.weights=imagenet", "model.weights=vit.pth"]) == ["model.weights=imagenet"]


def test_a_kept_config_is_without_what_is_neutral() -> None:
    run = RUN | {"config": RUN["config"] | {"adapters": None, "trainer": {"epochs": 3, "lr": 0.2, "accumulate": 1}}}
    assert kept.packed(run)["config"] == RUN["config"] and run["config"]["adapters"] is None
    assert kept.packed(run)["key"] == run["key"] == key_of(run["config"])


def test_sixty_epochs_take_a_few_kilobytes() -> None:
    row = RUN["history"][0] | {"lr": 1 / 3, "train_accuracy": 2 / 3, "val_accuracy": 0.9781}
    run = RUN | {"history": [row] * 60}
    assert len(json.dumps(kept.packed(run), separators=(",", ":"))) < 6000


@pytest.mark.parametrize("line", ["", "{", "[1]", '{"status": "done"}', '{"key": "a", "status": "x", "history": []}'])
def test_a_line_that_is_no_record_is_named(tmp_path: Path, line: str) -> None:
    kept.write([RUN], tmp_path / "kept")
    with (tmp_path / "kept").open("a") as file:
        file.write(f"{line}\n")
    with pytest.raises(ConfigError, match="kept, line 2 is no run record"):
        kept.read(tmp_path / "kept")


def test_of_two_records_that_of_the_results_counts_unless_it_is_unfinished(tmp_path: Path) -> None:
    key = RUN["key"]
    for path, seconds in ((tmp_path / "one", 1), (tmp_path / "two", 2)):
        kept.write([RUN | {"timing": {"seconds": seconds}}], path)
    files = [tmp_path / "one", tmp_path / "two", tmp_path / "none"]

    def seconds_of(status: str | None, results: Path) -> float:
        if status is not None:
            Store(results).write(RUN | {"status": status, "timing": {"seconds": 3}})
        found = kept.Layered(results, files).get(key)
        assert found is not None
        return float(found["timing"]["seconds"])

    statuses = (None, "done", "diverged", "failed", "preempted")
    assert [seconds_of(status, tmp_path / str(status)) for status in statuses] == [2, 3, 3, 2, 2]
    assert kept.Layered(tmp_path / "None", []).get(key) is None


def test_a_file_of_records_is_a_source_of_which_the_last_counts(tmp_path: Path) -> None:
    queue = tmp_path / "queue.jsonl"
    kept.write([RUN | {"status": "preempted"}, RUN], queue)
    found = kept.Layered(queue, []).get(RUN["key"])
    assert found is not None and found["status"] == "done"
    assert kept.Layered(queue, []).get("other") is None
