"""What is printed: errors in a line, and nothing that stops a run because it cannot be printed."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from typing import Any


def first_line(error: BaseException) -> str:
    """The first line of an error's text, or what kind of error it is."""
    return (str(error).splitlines() or [type(error).__name__])[0]


class Patient:
    """A text stream that leaves out what cannot be written, to a full disk or a terminal that is gone."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write the text, or nothing."""
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush, if that is possible."""
        with suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def patient() -> Iterator[None]:
    """Within, no printing raises."""
    out: Any = Patient(sys.stdout)
    err: Any = Patient(sys.stderr)
    with redirect_stdout(out), redirect_stderr(err):
        try:
            yield
        finally:
            out.flush()
            err.flush()
