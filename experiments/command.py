"""The commands as a user meets them: a mistake ends in one sentence and exit code 1, a bug in its traceback."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import hydra
from omegaconf import DictConfig

from experiments import trust
from experiments.config import CONF, Config
from experiments.explain import explain, is_hydras, is_mistake
from experiments.output import patient


@contextmanager
def in_one_sentence(schema: type = Config) -> Iterator[None]:
    """Within: what the user wrote wrong raises SystemExit with one sentence; `schema` has the keys there are."""
    try:
        yield
    except Exception as error:
        if not is_mistake(error):
            raise
        sys.exit(explain(error, schema))  # within Hydra, an exception would make it print more than this one sentence


@patient()
def run_hydra(task: Callable[[DictConfig], object], config_name: str, schema: type = Config) -> None:
    """Run Hydra on the command line, with the config of that name in conf/."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises its errors here, instead of printing them its way
    words = sys.argv[1:]
    try:
        with trust.naming(words), trust.guarded():
            hydra.main(version_base="1.3", config_path=str(CONF), config_name=config_name)(task)()
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if not (is_mistake(error) or is_hydras(error)):
            raise
        sys.exit(explain(error, schema, words))
