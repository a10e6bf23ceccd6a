"""What faults are caused with: a slow network, and runs in processes of their own."""

import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress

from torch import Tensor, nn
from toy_runs import command


class Net(nn.Sequential):
    """8-WIDTH-3; a pass in training takes `pause` seconds, and mode "exit" ends the process after 50 of them."""

    def __init__(self, width: int = 16, pause: float = 0.0, mode: str = "ok") -> None:
        super().__init__(nn.Linear(8, width), nn.ReLU(), nn.Linear(width, 3))
        self.pause, self.mode = pause, mode

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            time.sleep(self.pause)
            if self.mode == "exit":
                time.sleep(50 * self.pause)
                sys.exit(3)
        return super().forward(x)


class Started:
    """`python -m experiments.run ARGUMENTS` in a fork of this process, which `prepare` may restrict first."""

    def __init__(self, *arguments: str, prepare: Callable[[], object] = lambda: None) -> None:
        self._output, theirs = os.pipe()
        self.said = ""
        self.pid = os.fork()
        if self.pid == 0:
            _become(theirs, arguments, prepare)
        os.close(theirs)

    def until(self, text: str) -> "Started":
        """Wait until it has said that."""
        while text not in self.said:
            assert self._read(), f"it ended without {text!r}: {self.said}"
        return self

    def end(self) -> int:
        """Wait for its end: the exit code, or minus the signal that killed it."""
        while self._read():
            pass
        os.close(self._output)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def send(self, signum: int) -> "Started":
        os.kill(self.pid, signum)
        return self

    def _read(self) -> bytes:
        assert select.select([self._output], [], [], 60)[0], f"nothing more for a minute after: {self.said}"
        read = os.read(self._output, 65536)
        self.said += read.decode()
        return read


def _become(output: int, arguments: tuple[str, ...], prepare: Callable[[], object]) -> None:
    code: int | str = 70
    try:
        os.dup2(output, 1)
        os.dup2(output, 2)
        signal.alarm(100)  # whatever becomes of the test
        sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
        prepare()
        code = command(*arguments)
        if isinstance(code, str):
            print(code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):
                stream.flush()
        os._exit(code if isinstance(code, int) else 1)
