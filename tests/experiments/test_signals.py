"""Signals as exceptions, for one run only."""

import os
import signal

import pytest

from experiments.signals import Preempted, leave, preemption


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_stops_the_run_and_later_ones_are_ignored(signum: signal.Signals) -> None:
    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}
    try:
        with pytest.raises(Preempted, match=f"stopped by {signum.name}") as stopped, preemption():
            os.kill(os.getpid(), signum)
        assert stopped.value.signum == signum
        os.kill(os.getpid(), signal.SIGTERM)  # while the record is being written
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def test_handlers_are_restored_after_a_run_that_was_not_stopped() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ZeroDivisionError), preemption():
        assert signal.getsignal(signal.SIGTERM) is not before
        raise ZeroDivisionError
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_process_leaves_with_the_exit_code_of_the_signal() -> None:
    with pytest.raises(SystemExit) as end:
        leave(signal.SIGTERM)
    assert end.value.code == 143
