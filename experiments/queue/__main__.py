"""Run the sweeps of a file on one device until all is run or the time is over; the same command goes on.

    python -m experiments.queue scripts/queues/mnist.txt --minutes 9 --jobs 8 --out queue.jsonl device=cuda

Each line of the file is a preset with overrides; those of the command line come after them. Runs of several lines share
the device, except those that measure time. A run that is not expected to end in time is started last; one that does not
is recorded as preempted, and the next call goes on from its checkpoint. The records of all runs are in the JSON-lines
file, too: with that file alone, on another machine, the same command goes on.

The exit code is 1 if runs failed, 75 if runs are left, else 0.
"""

from __future__ import annotations

import argparse
import math
import os
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from hydra import initialize_config_dir

from experiments import trust
from experiments.command import in_one_sentence
from experiments.compose import hydra_compose_cell, remembering
from experiments.config import CONF
from experiments.kept import Layered
from experiments.queue.backlog import Backlog
from experiments.queue.lines import Line, line_of, read
from experiments.queue.output import Output
from experiments.queue.work import Queue, report
from experiments.records import Store
from experiments.references import literal
from experiments.signals import Preempted, stoppable
from experiments.workers import Pool

CUDA_JOBS = 8


def options(argv: Sequence[str]) -> argparse.Namespace:
    """The command line's options."""
    parser = argparse.ArgumentParser("python -m experiments.queue", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("file", type=Path, help="a sweep per line: a preset's name and overrides")
    parser.add_argument("overrides", nargs="*", help="overrides of every line, e.g. budget=smoke")
    parser.add_argument("--minutes", type=float, default=math.inf, help="when to stop; default: when all is run")
    parser.add_argument("--jobs", type=int, help=f"runs at a time; default: {CUDA_JOBS} on CUDA, else one per core")
    parser.add_argument("--results-dir", default="runs", help="the folder of records and weights; default: runs")
    parser.add_argument("--out", type=Path, help="the JSON-lines file; default: FILE's name in the results folder")
    return parser.parse_intermixed_args(argv)


def main(argv: Sequence[str]) -> int:
    """Work the queue off; returns the exit code. Raises SystemExit with the sentence if the user got something wrong.

    SIGTERM and SIGINT end it as the time does.
    """
    start, given = time.monotonic(), options(argv)
    again = shlex.join(["python", "-m", "experiments.queue", *argv])
    out = given.out or Path(given.results_dir) / f"{given.file.stem}.jsonl"
    with (
        in_one_sentence(),
        trust.naming([*argv, *read(given.file)]),
        initialize_config_dir(version_base="1.3", config_dir=str(CONF)),
    ):
        compose = remembering(hydra_compose_cell)
        overrides = [*given.overrides, f"results_dir={literal(given.results_dir)}"]
        lines = [line_of(text, overrides, compose) for text in read(given.file)]
        store = Layered(Path(given.results_dir), [out])
        output = Output(out, store.kept)
        backlog = Backlog(lines, store, output.add)
        output.write()
        pool, records = Pool(given.jobs or default_jobs(lines), quiet=True), Store(given.results_dir)
        queue = Queue(backlog, compose, pool, records, output, end=start + 60 * given.minutes)
        stopped = run(queue)
        code = report(backlog, given.minutes, not queue.started, again)
        output.write()
    return code if stopped is None or stopped.signum is None else 128 + stopped.signum


def run(queue: Queue) -> Preempted | None:
    """Work until the end or until a signal, which is returned."""
    try:
        with stoppable() as stop:
            queue.work(stop.check)
    except Preempted as signal:
        return signal
    finally:
        queue.stop()
    return None


def default_jobs(lines: Sequence[Line]) -> int:
    """So many runs share a GPU; on a CPU, each has a core."""
    return CUDA_JOBS if any(line.device == "cuda" for line in lines) else os.cpu_count() or 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
