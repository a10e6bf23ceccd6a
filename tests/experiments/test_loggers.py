"""The W&B logger is judged by what W&B's own reader finds in its files, and by what survives its failures."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import wandb
from fake_wandb import Server
from matplotlib import pyplot
from PIL import Image
from wandb.sdk.lib.service import service_process

from experiments import loggers
from experiments.loggers import logged_in, make_logger

WANDB = {"name": "wandb", "mode": None, "project": "dlrt-test", "entity": None, "dir": None}
CLI = Path(sys.executable).with_name("wandb")


@pytest.fixture(autouse=True)
def no_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    for variable in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_RUN_ID", "WANDB_SERVICE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no_netrc"))
    yield
    wandb.teardown()


def epoch_row(epoch: int, rank: int) -> dict[str, Any]:
    values = [1.0 / (i + 1) for i in range(rank)]
    return {"epoch": epoch, "loss": 1.0 / epoch, "ranks": {"0": rank}, "singular_values": {"0": values}}


def run_record(seed: int, **config: Any) -> dict[str, Any]:
    final = {"epoch": 2, "test_accuracy": 0.9 + seed / 100, "ranks": {"0": 7}, "shapes": {"0": [5, 9]}}
    names = {key: {"name": key} for key in ("model", "data")} | {"integrator": {"name": "abc_psi"}}
    history = [{"epoch": 1, "ranks": {"0": 9}}, {"epoch": 2, "ranks": {"0": 7}}]
    return {"status": "done", "key": "0123456789ab", "name": "run", "final": final, "history": history,
            "config": names | {"tau": 0.1, "rank": 9, "trainer": {"lr": 0.1}} | config}  # fmt: skip


def log_one(results_dir: Path, seed: int) -> None:
    config = {"seed": seed, "integrator": {"name": "abc_psi"}}
    with make_logger(WANDB, group="sweep", name=f"run-seed{seed}", config=config, results_dir=results_dir) as logger:
        logger.log_epoch(epoch_row(1, 9))
        logger.log_epoch(epoch_row(2, 7))
        logger.finish(run_record(seed))


def log_epochs(results_dir: Path, epochs: int, id: str) -> None:
    """What a run of so many epochs logs, those of its earlier stretches first."""
    with make_logger(WANDB, group="sweep", name="run", config={}, results_dir=results_dir, id=id) as logger:
        for epoch in range(1, epochs + 1):
            logger.log_epoch(epoch_row(epoch, 3))
        logger.finish(run_record(0))


def rows_of(file: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in inspect(file).splitlines()]
    return [line["history"]["item"] for line in lines if line["type"] == "history"]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with Server() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
        yield server


def inspect(file: Path, *options: str) -> str:
    return subprocess.run(
        [CLI, "leet", "inspect", "--json", *options, file], check=True, capture_output=True, text=True
    ).stdout


def offline_files(results_dir: Path) -> list[Path]:
    return sorted((results_dir / "wandb").glob("offline-run-*/*.wandb"))


def test_three_runs_in_one_process_leave_three_offline_runs_with_their_own_config(tmp_path: Path) -> None:
    for seed in range(3):
        log_one(tmp_path, seed)

    runs = [json.loads(inspect(file, "--summary")) for file in offline_files(tmp_path)]

    assert sorted(run["name"] for run in runs) == ["run-seed0", "run-seed1", "run-seed2"]
    for run in runs:
        seed = run["config"]["seed"]
        assert run["name"] == f"run-seed{seed}"
        assert run["config"]["integrator"] == {"name": "abc_psi"}
        assert run["state"] == "finished"
        assert run["summary"]["final/test_accuracy"] == pytest.approx(0.9 + seed / 100)
        assert run["summary"]["final/rank/0"] == 7
        assert (run["summary"]["status"], run["summary"]["key"]) == ("done", "0123456789ab")


def test_every_epoch_has_its_loss_rank_and_spectrum(tmp_path: Path) -> None:
    log_one(tmp_path, seed=0)

    lines = [json.loads(line) for line in inspect(offline_files(tmp_path)[0]).splitlines()]
    rows = [line["history"]["item"] for line in lines if line["type"] == "history"]

    assert [(row["_step"], row["loss"], row["rank/0"]) for row in rows] == [(1, 1, 9), (2, 0.5, 7)]
    assert [row["total_rank"] for row in rows] == [9, 7]
    assert [sum(row["spectrum/0.values"]) for row in rows] == [9, 7]
    assert [line["run"]["run_group"] for line in lines if line["type"] == "run"] == ["sweep"]


def test_the_ranks_of_a_run_that_adapts_end_as_a_picture(tmp_path: Path) -> None:
    open_before = pyplot.get_fignums()
    log_one(tmp_path, seed=0)

    lines = [json.loads(line) for line in inspect(offline_files(tmp_path)[0]).splitlines()]
    rows = [line["history"]["item"] for line in lines if line["type"] == "history"]
    (picture,) = offline_files(tmp_path)[0].parent.glob("files/media/images/rank_heatmap*.png")

    assert "rank_heatmap.path" in rows[-1] and len(rows) == 2
    assert picture.name in rows[-1]["rank_heatmap.path"] and "rank_heatmap.path" not in rows[0]
    with Image.open(picture) as image:
        assert min(image.size) >= 400
    assert pyplot.get_fignums() == open_before


def test_the_total_rank_is_the_sum_over_the_layers_and_a_dense_run_has_none(tmp_path: Path) -> None:
    with make_logger(WANDB, group="sweep", name="run", config={}, results_dir=tmp_path) as logger:
        logger.log_epoch({"epoch": 1, "ranks": {"0": 3, "1": 4}})
        logger.log_epoch({"epoch": 2, "ranks": {}})
        logger.finish(run_record(0, tau=None))
    lines = [json.loads(line) for line in inspect(offline_files(tmp_path)[0]).splitlines()]
    rows = [line["history"]["item"] for line in lines if line["type"] == "history"]
    assert [row.get("total_rank") for row in rows] == [7, None]
    assert "rank_heatmap.path" not in rows[-1]  # its ranks are fixed


def test_a_picture_that_fails_stops_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    def broken_image(*_: object) -> None:
        raise ImportError("no pillow")

    monkeypatch.setattr(wandb, "Image", broken_image)
    with caplog.at_level(logging.WARNING):
        log_one(tmp_path, seed=0)

    assert [record.getMessage() for record in caplog.records] == [
        "W&B stopped logging run-seed0, the run goes on: no pillow"
    ]
    summary = json.loads(inspect(offline_files(tmp_path)[0], "--summary"))
    assert summary["state"] == "finished" and summary["summary"]["status"] == "done"


def test_a_run_left_by_an_exception_is_finished_as_failed(tmp_path: Path) -> None:
    with (
        pytest.raises(KeyboardInterrupt),
        make_logger(WANDB, group="sweep", name="run", config={}, results_dir=tmp_path) as logger,
    ):
        logger.log_epoch(epoch_row(1, 3))
        raise KeyboardInterrupt

    assert json.loads(inspect(offline_files(tmp_path)[0], "--summary"))["exit_code"] == 1
    assert wandb.run is None


def test_a_failing_init_warns_once_and_stops_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    def broken_init(**_: object) -> None:
        raise wandb.errors.CommError("no route to host\nsecond line")

    monkeypatch.setattr(wandb, "init", broken_init)
    with caplog.at_level(logging.WARNING):
        log_one(tmp_path, seed=0)

    assert [record.getMessage() for record in caplog.records] == [
        "W&B stopped logging run-seed0, the run goes on: no route to host"
    ]


def test_a_failing_log_call_still_finishes_the_run(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    def broken_log(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(wandb.Run, "log", broken_log)
    with caplog.at_level(logging.WARNING):
        log_one(tmp_path, seed=0)

    assert len(caplog.records) == 1
    assert json.loads(inspect(offline_files(tmp_path)[0], "--summary"))["state"] == "finished"


def test_none_imports_nothing_of_wandb() -> None:
    script = (
        "import sys; from experiments.loggers import make_logger\n"
        "with make_logger({'name': 'none'}, group='g', name='n', config={}) as logger:\n"
        "    logger.log_epoch({'epoch': 1}); logger.finish({'status': 'done', 'key': 'k', 'final': None})\n"
        "sys.exit(any(module.split('.')[0] == 'wandb' for module in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_the_console_stays_quiet(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    log_one(tmp_path, seed=0)
    wandb.teardown()
    assert capfd.readouterr() == ("", "")


def test_a_login_is_found_in_the_environment_and_in_netrc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    url = "https://api.wandb.ai"
    assert not logged_in(url)

    (tmp_path / "no_netrc").write_text("machine api.wandb.ai login user password secret\n")
    assert logged_in(url)
    assert not logged_in("https://wandb.example.org")

    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    assert logged_in("https://wandb.example.org")


@pytest.mark.parametrize(("mode", "key", "expected"), [(None, "k", "online"), ("offline", "k", "offline")])
def test_a_login_means_online_unless_a_mode_is_given(
    mode: str | None, key: str, expected: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: dict[str, Any] = {}
    monkeypatch.setenv("WANDB_API_KEY", key)
    monkeypatch.setattr(wandb, "init", lambda **settings: seen.update(settings))
    make_logger(WANDB | {"mode": mode}, group="g", name="n", config={}, results_dir=tmp_path)
    assert seen["mode"] == expected
    assert seen["reinit"] == "finish_previous"


def test_an_unknown_logger_is_named() -> None:
    with pytest.raises(ValueError, match="none or wandb, got 'tensorboard'"):
        make_logger({"name": "tensorboard"}, group="g", name="n", config={})


def test_a_run_that_goes_on_is_the_same_wandb_run_with_every_epoch_once(server: Server, tmp_path: Path) -> None:
    log_epochs(tmp_path, 2, id="stays")
    log_epochs(tmp_path, 4, id="stays")
    (rows,) = server.rows.values()
    assert server.rows.keys() == {"stays"}
    assert [(row["epoch"], row["_step"]) for row in rows.values()] == [(1, 1), (2, 2), (3, 3), (4, 4)]


def test_of_a_run_that_goes_on_offline_the_last_folder_is_the_whole_run(server: Server, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as offline:
        offline.setenv("WANDB_MODE", "offline")
        log_epochs(tmp_path, 2, id="stays")
        time.sleep(1)  # the folders' names have the second
        log_epochs(tmp_path, 4, id="stays")
    wandb.teardown()
    *_, last = offline_files(tmp_path)
    assert [row["epoch"] for row in rows_of(last)] == [1, 2, 3, 4]
    subprocess.run([CLI, "sync", last.parent], check=True, capture_output=True, cwd=tmp_path)
    assert [row["epoch"] for row in server.rows["stays"].values()] == [1, 2, 3, 4]


def test_an_agents_run_id_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WANDB_RUN_ID", "agents")
    log_epochs(tmp_path, 1, id="ours")
    (file,) = offline_files(tmp_path)
    assert file.name == "run-agents.wandb"


def test_a_service_that_dies_costs_its_run_one_warning_and_the_next_nothing(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    with make_logger(WANDB, group="sweep", name="run", config={}, results_dir=tmp_path, id="first") as logger:
        logger.log_epoch(epoch_row(1, 3))
        (service,) = services()
        os.kill(service, signal.SIGKILL)
        os.waitpid(service, 0)
        for epoch in range(2, 50):
            logger.log_epoch(epoch_row(epoch, 3))
        logger.finish(run_record(0))
    log_epochs(tmp_path, 2, id="second")
    (file,) = tmp_path.glob("wandb/offline-*/run-second.wandb")
    assert [row["epoch"] for row in rows_of(file)] == [1, 2]
    (warning,) = warnings_in(caplog)
    assert warning.startswith("W&B stopped logging run, the run goes on: ")


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    ours = (record for record in caplog.records if record.name == "experiments.loggers")
    return [record.getMessage() for record in ours if record.levelno == logging.WARNING]


def services() -> list[int]:
    """The processes of W&B that this one started."""
    listed = subprocess.run(["ps", "-o", "pid=,comm=", "--ppid", str(os.getpid())], capture_output=True, text=True)
    return [int(line.split()[0]) for line in listed.stdout.splitlines() if "wandb-core" in line]


@pytest.mark.parametrize("program", ["exit 1", "sleep 5"])
def test_a_service_that_does_not_start_is_one_warning(
    program: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    core = tmp_path / "wandb-core"
    core.write_text(f"#!/bin/sh\n{program}\n")
    core.chmod(0o755)
    monkeypatch.setattr(service_process, "get_core_path", lambda: str(core))
    monkeypatch.setenv("WANDB__SERVICE_WAIT", "0.3")
    log_epochs(tmp_path, 2, id="run")
    (warning,) = warnings_in(caplog)
    assert warning.startswith("W&B stopped logging run, the run goes on: ")


def test_the_service_of_another_process_that_is_gone_is_one_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.setenv("WANDB_SERVICE", f"3-1-unix-{tmp_path}/gone")
    log_epochs(tmp_path, 2, id="run")
    failed = f"Failed to connect to service on socket {tmp_path}/gone"
    assert warnings_in(caplog) == [f"W&B stopped logging run, the run goes on: {failed}"]


def test_a_server_that_does_not_answer_means_offline(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.setattr(loggers, "SERVER_PATIENCE", 1.0)
    server.gone = True
    start = time.monotonic()
    log_epochs(tmp_path, 2, id="run")
    assert time.monotonic() - start < 15
    (warning,) = warnings_in(caplog)
    assert warning.startswith("W&B does not answer, run is logged offline for `wandb sync`: ")
    (file,) = offline_files(tmp_path)
    assert [row["epoch"] for row in rows_of(file)] == [1, 2]


def test_a_server_that_goes_away_holds_up_the_end_of_a_run_for_so_long_only(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.setattr(loggers, "UPLOAD_PATIENCE", 1.0)
    start = time.monotonic()
    with make_logger(WANDB, group="sweep", name="run", config={}, results_dir=tmp_path, id="run") as logger:
        logger.log_epoch(epoch_row(1, 3))
        server.gone = True
        logger.log_epoch(epoch_row(2, 3))
        logger.finish(run_record(0))
    assert time.monotonic() - start < 15
    assert warnings_in(caplog) == ["W&B stopped logging run, the run goes on: Timed out finishing run."]
    (file,) = tmp_path.glob("wandb/run-*/*.wandb")
    assert [row["epoch"] for row in rows_of(file)] == [1, 2]  # for `wandb sync`


def test_no_secret_is_in_what_wandb_gets(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DATA_TOKEN", "s3cretword")
    monkeypatch.setattr(sys, "argv", ["run.py", "+data.kwargs.token=s3cretword"])
    config = {"data": {"kwargs": {"token": "s3cretword"}}}
    with make_logger(WANDB, group="sweep", name="run", config=config, results_dir=tmp_path, id="run") as logger:
        logger.log_epoch(epoch_row(1, 3))
        logger.finish(run_record(0))
    wandb.teardown()
    files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert "token" in server.configs["run"] and files
    for text in [server.configs["run"].encode(), *files]:
        assert b"s3cretword" not in text and b"k" * 40 not in text
