"""A log file for each run: its epochs, every warning while it runs, and its traceback if it fails."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from experiments.secrets import redacted

news = logging.getLogger("experiments.news")  # what the run prints by itself goes to its log only
news.setLevel(logging.INFO)
news.propagate = False


class JobLog(logging.FileHandler):
    """Appends to a file; a line that cannot be written stops no run."""

    def handleError(self, record: logging.LogRecord) -> None:
        pass

    def close(self) -> None:
        with suppress(OSError):  # of what could not be written before
            super().close()

    def format(self, record: logging.LogRecord) -> str:
        return str(redacted(super().format(record)))


@contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """Append what is logged within to the file at `path`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = JobLog(path)
    except OSError as error:
        logging.getLogger(__name__).warning("there is no log of this run (%s)", error)
        yield
        return
    handler.setFormatter(logging.Formatter("%(asctime)s  %(message)s", "%Y-%m-%d %H:%M:%S"))
    targets = (logging.getLogger(), news)
    for target in targets:
        target.addHandler(handler)
    try:
        yield
    finally:
        for target in targets:
            target.removeHandler(handler)
        handler.close()
