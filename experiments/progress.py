"""How a training shows itself: one live line on a terminal, one plain line per epoch elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

Row = dict[str, Any]


class PlainLines:
    """One printed line per epoch, which starts with the run's name if other runs print too; `done` epochs are over."""

    def __init__(self, name: str, epochs: int, done: float) -> None:
        self._prefix, self._epochs, self._done = f"{name}  " if name else "", epochs, done
        self._start = time.perf_counter()

    def batch(self) -> None:
        """Nothing: a step is no news."""

    def end(self, row: Row) -> None:
        """Print the epoch's figures and the time left."""
        epoch = row["epoch"]
        left = clock(self.left(epoch))
        print(f"{self._prefix}epoch {epoch}/{self._epochs}  {figures(row)}  left {left}", flush=True)

    def left(self, epoch: int) -> float:
        """Seconds that the epochs after `epoch` take at the pace of those since the start."""
        gone = epoch - self._done  # 0 if only the evaluation of this epoch was left
        return (time.perf_counter() - self._start) / gone * (self._epochs - epoch) if gone else 0.0


class LiveLine:
    """A bar over all steps with the last epoch's figures and the time left."""

    def __init__(self, bar: Progress, name: str, epochs: int, steps: int, done: int) -> None:
        self._bar, self._epochs = bar, epochs
        first = f"epoch {min(epochs, done // steps + 1)}/{epochs}"
        self._task = bar.add_task(name or "training", total=epochs * steps, completed=done, figures=first)

    def batch(self) -> None:
        """Advance the bar by one step."""
        self._bar.advance(self._task)

    def end(self, row: Row) -> None:
        """Show the epoch's figures."""
        self._bar.update(self._task, figures=f"epoch {row['epoch']}/{self._epochs}  {figures(row)}")


Display = PlainLines | LiveLine


@contextmanager
def progress(name: str, epochs: int, steps: int, done: int, parallel: bool) -> Iterator[Display]:
    """The display of a run of `epochs` of so many steps, of which `done` are done.

    With `parallel`, others print at the same time and a live line would be torn.
    """
    if parallel or not sys.stdout.isatty():
        yield PlainLines(name, epochs, done / steps)
        return
    name_column, figures_column = (  # no markup: rich would take the [key] in a name for a style
        TextColumn(field, markup=False) for field in ("{task.description}", "{task.fields[figures]}")
    )
    columns = (name_column, BarColumn(20), figures_column)
    with Progress(*columns, TimeRemainingColumn(), transient=True) as bar:
        yield LiveLine(bar, name, epochs, steps, done)


def figures(row: Row) -> str:
    """An epoch's loss, accuracies and ranks in words."""
    words = [f"loss {row['loss']:.4f}"]
    for key, label in (("val_accuracy", "val"), ("test_accuracy_paper_protocol", "test")):
        if row.get(key) is not None:
            words.append(f"{label} {100 * row[key]:.2f} %")
    if row["ranks"]:
        words.append(f"ranks {brief(row['ranks'])}")
    return "  ".join(words)


def brief(ranks: dict[str, int]) -> str:
    """The ranks of up to six layers, or the range of more."""
    values = list(ranks.values())
    if len(values) > 6:
        return f"{min(values)} to {max(values)}"
    return " ".join(map(str, values))


def clock(seconds: float) -> str:
    """E.g. 1:05 or 2:00:09."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
