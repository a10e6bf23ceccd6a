"""Printing that stops no run."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.output import patient


def test_what_is_printed_comes_through(capsys: pytest.CaptureFixture[str]) -> None:
    with patient():
        print("words")
        print("error", file=sys.stderr, flush=True)
        assert sys.stdout.encoding and not sys.stdout.isatty()
    assert capsys.readouterr() == ("words\n", "error\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_disk_stops_nothing_of_any_length() -> None:
    script = (
        "import logging, sys; from experiments.output import patient\n"
        "logging.raiseExceptions = True\n"
        "with patient():\n"
        "    logging.basicConfig(stream=sys.stdout)\n"
        "    for i in range(1000): print('x' * 100, flush=True); logging.warning('y' * 100)\n"
        "    print('reached', file=sys.stderr)"
    )
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-c", script], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.stderr.splitlines()[0] == "reached" and "Traceback" not in done.stderr


def test_a_reader_that_is_gone_stops_nothing() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stream, pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "stdout", stream)
        with patient():
            print("words", flush=True)
            logging.getLogger("module").warning("warning")
        with pytest.raises(BrokenPipeError):
            stream.flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), writing)  # so that it can be closed
