"""Tasks for launchers, which import nothing large."""

import os
import signal
import time
from pathlib import Path

from omegaconf import DictConfig


def seed_and_process(cfg: DictConfig) -> tuple[int, int]:
    """A launcher's task: the first is the slowest."""
    time.sleep(0.5 / (1 + cfg.seed))
    return cfg.seed, os.getpid()


def faulty(cfg: DictConfig) -> int:
    """A launcher's task: the second raises, the third is killed."""
    if cfg.seed == 1:
        raise Unpicklable("this", "that")
    if cfg.seed == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return cfg.seed


def faulty_too(cfg: DictConfig, stop_file: Path) -> int:
    """As `faulty`, called as a sweep's job."""
    return faulty(cfg)


class Unpicklable(Exception):
    """Cannot be unpickled, as it keeps other arguments than it is made of."""

    def __init__(self, one: str, other: str) -> None:
        super().__init__(f"{one} and {other}")
