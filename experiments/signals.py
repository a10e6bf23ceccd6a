"""Being told to stop, by a signal or by the sweep: a training ends after its step, with a checkpoint and a record.

SIGINT, SIGTERM and SIGUSR1 (with which SLURM warns) count. A sweep is stopped through a file that all its jobs look
at, whatever launcher started them and wherever they run, so that none of them is killed while it writes.
"""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
EVERY = 0.2  # seconds from one look at the file to the next
ECHO = 1.0  # seconds in which a launcher may pass on the SIGINT that its jobs have already
Handler = Callable[[int, FrameType | None], object]


class Preempted(BaseException):
    """The run is told to stop."""

    def __init__(self, reason: str, signum: int | None = None) -> None:
        super().__init__(f"stopped by {reason}")
        self.signum = signum


class Stop:
    """Whether to stop: a signal came, or there is the sweep's file, which says why."""

    def __init__(self, file: Path | None = None) -> None:
        self.file = file
        self.signum: int | None = None
        self.at = self._looked = 0.0

    def check(self) -> None:
        """Raise Preempted if it is time to stop."""
        if self.signum is not None:
            raise Preempted(signal.Signals(self.signum).name, self.signum)
        if time.monotonic() - self._looked >= EVERY:
            self._looked = time.monotonic()
            if reason := stopped(self.file):
                raise Preempted(reason)


def stopped(file: Path | None) -> str:
    """Why the sweep of that file has been stopped; empty if it has not."""
    try:
        return (file.read_text() or "a full disk") if file is not None else ""
    except OSError:
        return ""


def stop_sweep(file: Path, reason: str) -> None:
    """Tell all runs of the sweep to stop."""
    with suppress(OSError):  # on a full disk the file is there, if empty
        file.write_text(reason)


@contextmanager
def stoppable(file: Path | None = None) -> Iterator[Stop]:
    """Within, a signal sets what `Stop.check` finds; a second SIGINT, if no echo of the first, ends the run at once."""
    stop = Stop(file)

    def note(signum: int, _: FrameType | None) -> None:
        if stop.signum is None:
            stop.at = time.monotonic()
        elif signum == signal.SIGINT and time.monotonic() - stop.at > ECHO:
            raise KeyboardInterrupt
        stop.signum = signum

    with handling(note):
        yield stop


@contextmanager
def stopping(file: Path) -> Iterator[None]:
    """Within a sweep: the first signal writes its file, which its jobs see; a second SIGINT ends this process."""

    def tell(signum: int, _: FrameType | None) -> None:
        if file.exists() and signum == signal.SIGINT:
            raise KeyboardInterrupt
        stop_sweep(file, signal.Signals(signum).name)
        print(f"{signal.Signals(signum).name}: the runs stop after their step (again to stop at once)", flush=True)

    with handling(tell):
        yield


@contextmanager
def handling(handler: Handler) -> Iterator[None]:
    """The handler of all SIGNALS within; those there were before, after."""
    previous = {signum: signal.signal(signum, handler) for signum in SIGNALS}
    try:
        yield
    finally:
        for signum, earlier in previous.items():
            signal.signal(signum, earlier)


def pass_on(signum: int) -> None:
    """Call the handler of a signal that came while another one stood in its place: a sweep's, or a scheduler's."""
    handler = signal.getsignal(signum)
    if callable(handler) and handler is not signal.default_int_handler:
        handler(signum, None)
