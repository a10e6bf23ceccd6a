"""The command that says what has become of sweeps."""

import re
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from fake_records import record
from fake_running import checkpoint, held, process_with, running

from experiments import status, sweeps
from experiments.records import Store
from experiments.references import Cell
from experiments.running import note

DONE = [record("abc_psi", tau=0.1, seed=seed) for seed in (0, 1, 2)]  # 60, 61 and 62 seconds
DENSE = record("dense", rank=None)
MISSING = record("abc_psi", tau=0.2)
ON, KILLED = record("psi"), record("bug")
DIVERGED, FAILED, PREEMPTED = (
    record("aug_bug", tau=tau, status=state) for tau, state in ((0.1, "diverged"), (0.2, "failed"), (0.3, "preempted"))
)


def begin(
    folder: Path, name: str, runs: Sequence[dict[str, Any]], arguments: Sequence[str] = (), open: int = 0
) -> None:
    cells = [Cell(run["key"], run["config"], ()) for run in runs]
    sweeps.write(folder, name, arguments, cells, open)


def store(folder: Path, *runs: dict[str, Any]) -> None:
    for run in runs:
        Store(folder).write(run)


def said(folder: Path, *arguments: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    status.main([*arguments, f"results_dir={folder}"])
    return capsys.readouterr().out.splitlines()


def refused(folder: Path, *arguments: str) -> str:
    with pytest.raises(SystemExit) as end:
        status.main([*arguments, f"results_dir={folder}"])
    assert isinstance(end.value.code, str) and "\n" not in end.value.code
    return end.value.code


def test_every_run_of_a_sweep_has_a_line_in_the_sweeps_order(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [MISSING, *DONE, ON, KILLED, DIVERGED, FAILED, PREEMPTED]
    begin(tmp_path, "many τ", runs, ["tau=0.1,0.2", "data.root=a b"], open=2)
    store(tmp_path, *DONE, DIVERGED, FAILED, PREEMPTED)
    note(tmp_path, running(ON))
    note(tmp_path, running(KILLED))
    checkpoint(tmp_path, KILLED)
    log, of_done = (tmp_path / "logs" / f"{run['name']}-{run['key']}.log" for run in (FAILED, DONE[0]))
    log.parent.mkdir()
    log.touch()
    of_done.touch()
    with held(tmp_path, ON):
        lines = said(tmp_path, "many τ", capsys=capsys)
    table, (waiting, counts, command) = [re.split(" {2,}", line) for line in lines[1:-3]], lines[-3:]
    assert [row[:2] for row in table] == [[run["name"], run["key"]] for run in runs]
    assert [row[2:] for row in table] == [
        ["missing", "1:01"],
        *[["done"]] * 3,
        ["running", "3/4", "0:20", "process 7 on here"],
        ["preempted", "3/4", "0:20", "killed or not recorded (process 7 on here), goes on from its checkpoint"],
        ["diverged", "loss is not finite"],
        ["failed", "loss is not finite", str(log)],
        ["preempted", "3/3", "1:01", "starts again: it has no checkpoint"],
    ]
    assert waiting == "and up to 2 missing, in blocks that wait for earlier ones"
    # 61 each for the four that have no pace, 20 for the one that runs, 20 for the killed one
    assert counts == ("many τ: 3 done, 1 running, 2 preempted, 1 diverged, 1 failed, 3 missing; time left: about 4:44")
    assert command == "go on with: python -m experiments.run -m tau=0.1,0.2 'data.root=a b'"


def test_a_finished_sweep_needs_no_command_and_no_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    begin(tmp_path, "sweep", [*DONE, DIVERGED])
    store(tmp_path, *DONE, DIVERGED)
    assert said(tmp_path, "sweep", capsys=capsys)[-1] == "sweep: 3 done, 1 diverged; time left: none"


def test_without_any_measure_the_time_left_is_unknown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    begin(tmp_path, "sweep", [MISSING])
    row, counts = said(tmp_path, "sweep", capsys=capsys)[1:3]
    assert row.endswith("missing         unknown") and counts.endswith("1 missing; time left: unknown")


def test_all_sweeps_and_the_single_runs_have_a_line_each_the_newest_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begin(tmp_path, "old", [*DONE, MISSING], open=1)
    begin(tmp_path, "new", [DENSE, DONE[0]])
    store(tmp_path, *DONE, DENSE, FAILED, PREEMPTED)
    with held(tmp_path, ON):
        note(tmp_path, running(ON))
        header, *rows = [re.split(" {2,}", line) for line in said(tmp_path, capsys=capsys)]
    assert header == ["sweep", "done", "running", "preempted", "diverged", "failed", "missing", "left"]
    assert rows == [
        ["new", "2", "0", "0", "0", "0", "0", "none"],
        ["old", "3", "0", "0", "0", "0", "2", "about 2:02"],
        ["single runs", "0", "1", "1", "0", "1", "0", "about 1:40"],
    ]


def test_where_nothing_was_run_that_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = said(tmp_path / "none", capsys=capsys)
    assert line.startswith("nothing has been run yet with results_dir=") and not (tmp_path / "none").exists()


def test_a_sweep_is_found_by_how_its_name_begins(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("tau=0.1,0.2", "tau=0.1,0.2 seed=0,1", "rank=2,4"):
        begin(tmp_path, name, [MISSING])
    assert status.find(tmp_path, "rank").name == "rank=2,4"
    assert status.find(tmp_path, "tau=0.1,0.2 ").name == "tau=0.1,0.2 seed=0,1"
    assert status.find(tmp_path, "tau=0.1,0.2").name == "tau=0.1,0.2"  # all of it goes before how others begin
    assert refused(tmp_path, "tau") == (
        "'tau' is how 2 sweeps begin: give more of one of tau=0.1,0.2 seed=0,1; tau=0.1,0.2"
    )


def test_an_unknown_sweep_is_one_sentence_with_the_nearest_name(tmp_path: Path) -> None:
    begin(tmp_path, "integrator=abc_psi,bug", [MISSING])
    assert "did you mean 'demo'?" in refused(tmp_path, "demoo")
    assert "did you mean 'demo'?" in refused(tmp_path, "experiment=demo")
    assert "did you mean 'integrator=abc_psi,bug'?" in refused(tmp_path, "integrator=abcpsi,bug")
    assert "only presets take overrides (tau=0.1): did you mean 'demo'?" in refused(tmp_path, "deno", "tau=0.1")
    assert refused(tmp_path, "--help").startswith("usage: python -m experiments.status [SWEEP")


def test_a_file_is_no_folder_of_runs(tmp_path: Path) -> None:
    (tmp_path / "queue.jsonl").touch()
    assert refused(tmp_path / "queue.jsonl").endswith("this is a file; give a folder of runs")


def test_a_preset_that_was_never_begun_is_missing_altogether_and_what_goes_on_runs_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = said(tmp_path / "a b", "demo", "budget=smoke", capsys=capsys)
    command = shlex.split(lines[-1].partition(": ")[2])
    assert command[:5] == ["python", "-m", "experiments.run", "-m", "experiment=demo"]
    assert command[5:] == [f"results_dir='{tmp_path / 'a b'}'", "budget=smoke"]
    cells = [line for line in lines[1:-2] if " missing" in line]
    assert len(cells) == len(lines) - 3 > 1 and not (tmp_path / "a b").exists()


def test_a_preset_is_what_was_begun_of_it_unless_overrides_say_otherwise(tmp_path: Path) -> None:
    begin(tmp_path, "demo", [MISSING], ["experiment=demo", "seed=7"])
    assert status.find(tmp_path, "demo").arguments == ("experiment=demo", "seed=7")
    asked = status.find(tmp_path, "demo", ["seed=8"])
    assert len(asked.cells) > 1 and all(run.name.endswith("seed8") for run in asked.cells)
    assert "unknown key 'taux'" in refused(tmp_path, "demo", "taux=8")


def test_a_process_that_is_killed_turns_from_running_to_preempted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begin(tmp_path, "sweep", [ON])
    with process_with(tmp_path, ON["key"]) as process:
        note(tmp_path, running(ON, pid=process.pid))
        assert " running " in said(tmp_path, "sweep", capsys=capsys)[1]
        process.kill()
        process.wait()
        assert " preempted " in said(tmp_path, "sweep", capsys=capsys)[1]


def test_a_reader_who_waits_for_torch_waits_too_long() -> None:
    code = "import sys, experiments.status; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_two_thousand_runs_take_no_longer_than_reading_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [record("psi", seed=seed) for seed in range(2000)]
    (tmp_path / "records").mkdir()
    for run in runs:  # a line each: what is measured is how they are found
        (tmp_path / "records" / f"{run['name']}-{run['key']}.json").write_text(f'{{"key": "{run["key"]}"}}')
    begin(tmp_path, "sweep", runs)
    start = time.perf_counter()
    with mock.patch.object(Path, "glob", autospec=True, side_effect=Path.glob) as glob:
        lines = said(tmp_path, "sweep", capsys=capsys)
    assert len(lines) == 2003 and time.perf_counter() - start < 5
    assert sum("records" in str(call.args[0]) for call in glob.call_args_list) == 1
