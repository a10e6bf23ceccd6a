"""Identity, files and locks of run records."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from toy_runs import TOY, compose

from experiments import records
from experiments.config import INCIDENTAL, Config, ConfigError
from experiments.records import RERUN, Store, identity, key_of, name_of, needs_training

RECORD: dict[str, Any] = {"key": "0123456789ab", "name": "a-run", "status": "done"}


def test_the_key_is_the_start_of_the_sha256_of_the_canonical_json() -> None:
    # printf '{"a":[1,2],"b":{"c":0.1,"d":null}}' | sha256sum
    assert key_of({"b": {"d": None, "c": 0.1}, "a": [1, 2]}) == "ae07c46cc11a"
    with pytest.raises(ValueError, match="not JSON compliant"):
        key_of({"a": float("nan")})


def test_the_key_depends_on_what_can_change_the_result_only() -> None:
    key = key_of(identity(compose(*TOY)))
    for same in (
        "results_dir=elsewhere",
        "device=auto",
        "threads=2",
        "rerun=all",
        "logger=wandb",
        "logger.group=g",
        "title=t",
        "tau=0.10",
    ):
        assert key_of(identity(compose(*TOY, same))) == key, same
    for other in ("seed=1", "tau=0.2", "rank=5", "trainer.epochs=3", "integrator.decay=0", "integrator=aug_bug"):
        assert key_of(identity(compose(*TOY, other))) != key, other


def test_what_is_incidental_is_part_of_the_schema() -> None:
    assert set(Config.__dataclass_fields__) >= INCIDENTAL


@pytest.mark.parametrize("task", ["time_training", "time_prediction"])
def test_a_measurement_of_time_depends_on_the_machine_and_keeps_its_rank(task: str) -> None:
    config = identity(compose(*TOY, f"task={task}", "tau=0.2"))
    assert (config["device"], config["threads"], config["tau"]) == ("cpu", 1, None)
    for other in ("device=auto", "threads=2", "timing.repeats=3"):
        assert key_of(identity(compose(*TOY, f"task={task}", "tau=0.2", other))) != key_of(config), other
    assert identity(compose(*TOY, "timing.repeats=3"))["timing"] is None


def test_the_identity_has_null_for_what_the_integrator_ignores() -> None:
    bug, other_tau = (identity(compose(*TOY, "integrator=bug", f"tau={tau}")) for tau in (0.1, 0.2))
    assert bug == other_tau and bug["tau"] is None and bug["rank"] == 4
    dense = identity(compose(*TOY, "integrator=dense"))
    assert [dense[key] for key in ("tau", "rank", "init", "gain")] == [None] * 4
    assert identity(compose(*TOY, "init=normal"))["gain"] is None


def test_the_name_holds_what_a_reader_looks_for() -> None:
    assert name_of(identity(compose(*TOY, "tau=0.05"))) == "abc_psi-import-import-tau0.05-rank4-seed0"
    assert name_of(identity(compose(*TOY, "integrator=dense", "seed=3"))) == "dense-import-import-seed3"


def test_rerun_none_trains_nothing_that_is_recorded_and_all_everything() -> None:
    assert not any(needs_training({"status": status}, "none") for status in RERUN["all"])
    assert all(needs_training({"status": status}, "all") for status in RERUN["all"])
    assert needs_training(None, "none")


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.get(RECORD["key"]) is None
    assert store.write(RECORD) == tmp_path / "records" / "a-run-0123456789ab.json"
    assert store.get(RECORD["key"]) == RECORD
    store.write(RECORD | {"status": "failed"})
    assert store.get(RECORD["key"]) == RECORD | {"status": "failed"}


def test_a_write_that_fails_leaves_the_old_record_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    store.write(RECORD)
    monkeypatch.setattr(records.os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        store.write(RECORD | {"status": "failed"})
    assert store.get(RECORD["key"]) == RECORD
    assert [path.name for path in (tmp_path / "records").iterdir()] == ["a-run-0123456789ab.json"]


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    path = Store(tmp_path).write(RECORD)
    for text, sentence in (
        ("{", "is no run record .*"),
        ("[]", "is no record of the run .*"),
        ('{"key": 1}', "is no .*"),
    ):
        path.write_text(text)
        with pytest.raises(ConfigError, match=f"{path} {sentence}: delete it"):
            Store(tmp_path).get(RECORD["key"])


def test_weights_come_back_with_their_ranks_in_the_file(tmp_path: Path) -> None:
    state = {"0.U": torch.randn(5, 2), "0.bias": torch.randn(5)}
    path = Store(tmp_path).save_weights("key", state, {"0": 2})
    back = Store(tmp_path).load_weights("key")
    assert back.keys() == state.keys() and all(torch.equal(back[name], state[name]) for name in state)
    size = int.from_bytes(path.read_bytes()[:8], "little")
    metadata = json.loads(path.read_bytes()[8 : 8 + size])["__metadata__"]
    assert metadata == {"key": "key", "ranks": '{"0": 2}'}


def test_a_locked_run_makes_others_wait(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    order: list[str] = []

    def second() -> None:
        with Store(tmp_path).lock("key"):
            order.append("second")

    with Store(tmp_path).lock("key"), Store(tmp_path).lock("another"):
        waiting = threading.Thread(target=second)
        waiting.start()
        waiting.join(0.3)
        assert waiting.is_alive()
        order.append("first")
    waiting.join(5)
    assert order == ["first", "second"]
    assert "run key is being trained by another process: waiting for it" in capsys.readouterr().out
