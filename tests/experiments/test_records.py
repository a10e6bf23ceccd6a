"""Identity, files and locks of run records."""

import hashlib
import json
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from toy_runs import ADAPTED, PROBED, TOY, Net, compose

import dlrt
from experiments import presets, storage
from experiments.config import INCIDENTAL, NEUTRAL, Config, ConfigError
from experiments.kept import Layered
from experiments.records import RERUN, Store, bare, identity, key_of, name_of, needs_training, settled

RESULTS = Path(__file__).parents[2] / "results"
COMMITTED = [path for path in sorted(RESULTS.rglob("records.jsonl")) if "benchmark" not in path.parts]

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


def filled(config: dict[str, Any]) -> dict[str, Any]:
    """The config with every option of NEUTRAL that it lacks, at its neutral value."""
    full = OmegaConf.create(config)
    for key, value in NEUTRAL.items():
        if OmegaConf.select(full, key) is None:
            OmegaConf.update(full, key, value, force_add=True)
    return OmegaConf.to_container(full)  # type: ignore[return-value]


def test_any_other_value_of_an_option_that_can_be_neutral_changes_the_key() -> None:
    run = identity(compose(*TOY))
    for key, value in NEUTRAL.items():
        changed = OmegaConf.create(run)
        assert OmegaConf.select(changed, key) == value, key
        OmegaConf.update(changed, key, "another")
        assert key_of(OmegaConf.to_container(changed)) != key_of(run), key  # type: ignore[arg-type]


def test_the_config_of_a_run_names_every_option_and_its_bare_form_none_that_is_neutral() -> None:
    run = identity(compose(*TOY))
    assert filled(run) == run
    assert run["trainer"]["precision"] == "fp32" and "precision" not in bare(run)["trainer"]
    assert "adapters" in run and "adapters" not in bare(run)
    assert filled(bare(run)) == run and bare(bare(run)) == bare(run)


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: str(path.relative_to(RESULTS)))
def test_committed_records_keep_their_keys(path: Path) -> None:
    for line in path.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        assert key_of(record["config"]) == key_of(filled(record["config"])) == record["key"], record["name"]


@pytest.mark.parametrize("folder", ["demo", "dlrt_table3_train_time", "dlrt_table8_pruning/tuned"])
def test_todays_presets_find_the_committed_records(folder: str, tmp_path: Path) -> None:
    path, (name, *protocol) = RESULTS / folder / "records.jsonl", folder.split("/")
    store = Layered(tmp_path, [path])
    cells = presets.load(name, [f"protocol={word}" for word in protocol], store).cells
    assert store.kept.keys() <= {cell.key for cell in cells}


def test_files_and_folders_are_known_by_what_they_hold(tmp_path: Path) -> None:
    def config_of(*overrides: str) -> dict[str, Any]:
        return identity(compose(*TOY, *overrides))

    files = [tmp_path / name for name in ("a.pth", "b.pth", "c.pth")]
    for path, content in zip(files, (b"weights", b"weights", b"others"), strict=True):
        path.write_bytes(content)
    one, two, other = (config_of(f"model.weights={path}") for path in files)
    assert one == two != other
    assert one["model"]["weights"] == f"sha256:{hashlib.sha256(b'weights').hexdigest()[:12]}"
    assert config_of("model.weights=imagenet")["model"]["weights"] == "imagenet"
    assert settled(compose(*TOY, f"model.weights={files[0]}"))["model"]["weights"] == str(files[0])

    for folder in ("images", "copy"):
        for part in ("train", "test"):
            (tmp_path / folder / part / "cat").mkdir(parents=True)
            (tmp_path / folder / part / "cat" / "1.png").write_bytes(b"pixels")
    found, copied = (config_of(f"data.root={tmp_path / folder}") for folder in ("images", "copy"))
    assert found == copied == config_of(f"data.root={tmp_path / 'images'}", "data.source=folder")
    assert len(found["data"]["root"]) == 12
    assert key_of(found) != key_of(config_of())
    assert key_of(config_of(f"data.root={tmp_path}")) == key_of(config_of())  # torchvision's files lie there
    assert config_of(f"data.root={tmp_path / 'images'}", "data.source=torchvision")["data"]["root"] is None


def test_adapters_start_at_zero_and_have_no_init() -> None:
    run = identity(compose(*TOY, *ADAPTED, "init=normal", "gain=3"))
    assert (run["init"], run["gain"], run["rank"], run["tau"]) == (None, None, 3, 0.1)
    assert [run["adapters"][key] for key in ("name", "targets")] == ["vit", ["0", "2"]]
    lora = identity(compose(*TOY, *ADAPTED, "integrator=lora"))
    assert (lora["tau"], lora["rank"]) == (None, 3)


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
    assert name_of(identity(compose(*TOY, *PROBED))) == "dense-probe-import-import-seed0"
    assert name_of(identity(compose(*TOY, *ADAPTED, "integrator=lora"))) == "lora-import-import-rank3-seed0"


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
    monkeypatch.setattr(storage.os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "disk full")))
    with pytest.raises(ConfigError, match=r"the record .*a-run-0123456789ab.json cannot be written \(disk full\)"):
        store.write(RECORD | {"status": "failed"})
    assert store.get(RECORD["key"]) == RECORD
    assert [path.name for path in (tmp_path / "records").iterdir()] == ["a-run-0123456789ab.json"]


def test_who_waits_for_a_run_can_be_stopped(tmp_path: Path) -> None:
    def stopped() -> None:
        raise InterruptedError

    with Store(tmp_path).lock("a-key"), pytest.raises(InterruptedError), Store(tmp_path).lock("a-key", stopped):
        raise AssertionError


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


def test_of_an_adapted_net_only_what_was_trained_is_saved(tmp_path: Path) -> None:
    def adapted() -> torch.nn.Module:
        torch.manual_seed(0)
        return dlrt.add_adapters(Net(), 2, targets="0", trainable="bias$")

    net = adapted()
    with torch.no_grad():
        net[0].adapter.S.normal_()  # type: ignore[union-attr,operator]
    path = Store(tmp_path).save_trained("key", net, {"0": 2})
    x = torch.randn(5, 8)
    torch.manual_seed(0)
    assert torch.equal(dlrt.load_adapters(Net(), path)(x), net(x)) and not torch.equal(adapted()(x), net(x))
    assert sum(t.numel() for t in Store(tmp_path).load_weights("key").values()) == 2 * (16 + 2 + 8) + 16 + 3


def test_of_a_probed_net_only_the_classifier_is_saved(tmp_path: Path) -> None:
    net = dlrt.add_adapters(Net(), 1, targets=(), trainable="^2")
    Store(tmp_path).save_trained("key", net, {})
    assert Store(tmp_path).load_weights("key").keys() == {"2.weight", "2.bias"}


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
