"""Being told to stop: by a signal, or by the sweep's file."""

import os
import signal
from pathlib import Path

import pytest

from experiments.signals import SIGNALS, Preempted, Stop, handling, pass_on, stop_sweep, stoppable, stopped, stopping


@pytest.mark.parametrize("signum", SIGNALS)
def test_a_signal_is_found_by_the_next_check_and_not_before(signum: signal.Signals) -> None:
    with stoppable() as stop:
        stop.check()
        os.kill(os.getpid(), signum)
        os.kill(os.getpid(), signal.SIGTERM)  # while the checkpoint is being written
        with pytest.raises(Preempted, match="stopped by ") as stopped:
            stop.check()
    assert stopped.value.signum == signal.SIGTERM


def test_a_second_ctrl_c_ends_at_once_unless_it_is_an_echo_of_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    with pytest.raises(KeyboardInterrupt), stoppable():
        os.kill(os.getpid(), signal.SIGINT)
        now[0] += 0.9
        os.kill(os.getpid(), signal.SIGINT)
        now[0] += 0.2
        os.kill(os.getpid(), signal.SIGINT)


def test_a_sweep_is_stopped_even_if_the_disk_is_full(tmp_path: Path) -> None:
    file = tmp_path / "stop"
    file.touch()  # all that a full disk lets happen
    stop_sweep(tmp_path, "a folder cannot be written to")
    assert stopped(file) == "a full disk"


def test_handlers_are_restored_whatever_happens() -> None:
    before = [signal.getsignal(signum) for signum in SIGNALS]
    with pytest.raises(ZeroDivisionError), stoppable():
        assert signal.getsignal(signal.SIGTERM) is not before[0]
        raise ZeroDivisionError
    assert [signal.getsignal(signum) for signum in SIGNALS] == before


def test_a_signal_to_the_sweep_is_told_to_its_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "stop"
    with stopping(file):
        assert not stopped(file)
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stopped(file) == "SIGTERM"
        with pytest.raises(Preempted, match="stopped by SIGTERM"):
            Stop(file).check()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert "SIGTERM: the runs stop after their step" in capsys.readouterr().out


def test_the_file_is_not_looked_at_in_every_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    stop = Stop(tmp_path / "stop")
    stop.check()
    (tmp_path / "stop").write_text("on_error=raise")
    now[0] += 0.1
    stop.check()
    now[0] += 0.2
    with pytest.raises(Preempted, match="stopped by on_error=raise"):
        stop.check()


def test_the_handler_of_before_is_called_after_the_run() -> None:
    """As that of a scheduler, which puts the job into its queue again."""
    calls = []
    with handling(lambda signum, frame: calls.append(signum)):
        with stoppable():
            os.kill(os.getpid(), signal.SIGUSR1)
        assert not calls
        pass_on(signal.SIGUSR1)
    assert calls == [signal.SIGUSR1]
    pass_on(signal.SIGINT)  # Python's own: nothing
