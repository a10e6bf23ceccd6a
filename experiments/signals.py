"""SIGTERM and SIGINT: a run that is told to stop still writes its record, in this process or in workers."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

Handler = Callable[[int, FrameType | None], Any] | int | None
SIGNALS = (signal.SIGTERM, signal.SIGINT)
GRACE = 10.0  # seconds that workers have to write their records


class Preempted(BaseException):
    """A signal tells the run to stop."""

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}")
        self.signum = signum


@contextmanager
def preemption() -> Iterator[None]:
    """Raise Preempted on the first signal; later ones are ignored, so that the record can still be written."""

    stopped = False

    def stop(signum: int, _: FrameType | None) -> None:
        nonlocal stopped
        if not stopped:
            stopped = True
            raise Preempted(signum)

    previous = {signum: signal.signal(signum, stop) for signum in SIGNALS}
    try:
        yield
    finally:
        if not stopped:
            _restore(previous)


def leave(signum: int) -> NoReturn:
    """End this process with the exit code of a signal."""
    if multiprocessing.parent_process() is None:
        sys.exit(128 + signum)
    sys.stdout.flush()
    os._exit(128 + signum)  # an exception would only end the task, and the worker would go on to the next


@contextmanager
def passed_on() -> Iterator[None]:
    """Pass a signal on to the worker processes and wait for their records before this process ends."""

    def stop(signum: int, _: FrameType | None) -> None:
        _restore(dict.fromkeys(SIGNALS, signal.SIG_DFL))
        workers = multiprocessing.active_children()
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.join(GRACE)
        sys.exit(128 + signum)

    previous = {signum: signal.signal(signum, stop) for signum in SIGNALS}
    try:
        yield
    finally:
        _restore(previous)


def _restore(handlers: Mapping[signal.Signals, Handler]) -> None:
    for signum, handler in handlers.items():
        signal.signal(signum, handler)
