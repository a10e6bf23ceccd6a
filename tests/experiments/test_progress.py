"""What a training shows: a line per epoch, or one live line on a terminal."""

import io
import sys
from typing import Any

import pytest

from experiments.progress import LiveLine, PlainLines, brief, clock, figures, progress

ROW: dict[str, Any] = {"epoch": 1, "loss": 0.25, "val_accuracy": 0.9731, "ranks": {"0": 30, "2": 10}}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_plain_lines_start_with_the_name_of_the_run_and_say_how_long_it_takes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with progress("a-run", 4, 3, 0, parallel=False) as display:
        display.batch()
        display.end(ROW)
    assert capsys.readouterr().out == "a-run  epoch 1/4  loss 0.2500  val 97.31 %  ranks 30 10  left 0:00\n"


def test_a_run_alone_needs_no_name(capsys: pytest.CaptureFixture[str]) -> None:
    PlainLines("", 4, 0).end(ROW)
    assert capsys.readouterr().out.startswith("epoch 1/4  ")


def test_a_terminal_shows_a_live_line_but_not_beside_other_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with progress("a-run", 4, 3, 0, parallel=True) as display:
        assert isinstance(display, PlainLines)
    with progress("a-run [d405]", 4, 3, 0, parallel=False) as display:
        assert isinstance(display, LiveLine)
        display.batch()
        display.end(ROW)
        task = display._bar.tasks[0]
        assert (task.completed, task.total) == (1, 12)  # 3 steps in each of 4 epochs
        assert task.fields["figures"] == "epoch 1/4  loss 0.2500  val 97.31 %  ranks 30 10"
    assert "a-run [d405] " in terminal.getvalue()


def test_a_run_that_goes_on_counts_from_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half an epoch of a second: at that pace the three that are left take six."""
    now = iter([0.0, 1.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(now))
    display = PlainLines("", 10, 6.5)
    assert display.left(7) == 6.0
    monkeypatch.undo()
    assert PlainLines("", 10, 7.0).left(7) == 0.0
    monkeypatch.setattr(sys, "stdout", Terminal())
    with progress("", 4, 3, 7, parallel=False) as line:
        assert isinstance(line, LiveLine)
        task = line._bar.tasks[0]
        assert (task.completed, task.total, task.fields["figures"]) == (7, 12, "epoch 3/4")


def test_figures_name_what_is_measured() -> None:
    dense = {"loss": 1.0, "val_accuracy": None, "test_accuracy_paper_protocol": 0.5, "ranks": {}}
    assert figures(dense) == "loss 1.0000  test 50.00 %"


def test_many_ranks_are_shown_as_a_range() -> None:
    assert brief({str(n): n for n in range(1, 7)}) == "1 2 3 4 5 6"
    assert brief({str(n): n for n in range(1, 8)}) == "1 to 7"


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0:00"), (65, "1:05"), (3599.6, "1:00:00"), (7209, "2:00:09")])
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text
