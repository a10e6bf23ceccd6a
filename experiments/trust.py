"""What a YAML file may have called: it may come from anyone, so only what can do no harm, unless the user names it.

The rule, whichever YAML a name comes from (a preset, a file in --config-dir):

- model.target and data.target: what `experiments.models` and `experiments.data` export, and the nn.Module classes of
  `torch.nn` and `torchvision.models`.
- hydra: its own plugins, callbacks and ordinary log handlers; no environment variables, and no shell commands
  (hydra.launcher.setup).
- anything else only if that very name stands on the command line, or in the line of a queue file.
"""

import os
import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from omegaconf import DictConfig, OmegaConf

from experiments.config import ConfigError

GIVEN = "DLRT_NAMED"  # an environment variable, so that the processes that a command starts know what it was given
NAMING = re.compile(r"target|class|env_set|setup|\(\)")  # in a word of the command line that names something
EXPORTING = ("experiments.models", "experiments.data")
WITH_MODULES = ("torch.nn.", "torchvision.models.")
CALLED = {  # what may stand at such a key below hydra
    "_target_": r"(hydra_plugins|hydra\._internal\.core_plugins|hydra\.experimental\.callbacks)\.[\w.]+",
    "class": r"logging\.((Stream|File|Null)Handler|handlers\.(Timed)?RotatingFileHandler|Formatter|Filter)",
    "()": r"colorlog\.ColoredFormatter",
}


@contextmanager
def naming(words: Iterable[str]) -> Iterator[None]:
    """Within, also in processes that are started within: the user has named what is in `words`, and nothing else."""
    before = os.environ.get(GIVEN)
    os.environ[GIVEN] = shlex.join(word for word in words if NAMING.search(word))
    try:
        yield
    finally:
        os.environ.pop(GIVEN, None)
        os.environ |= {} if before is None else {GIVEN: before}


def is_named(name: str) -> bool:
    """Whether the user has named it; a process that knows of no command line leaves the rule to the one that does."""
    given = os.environ.get(GIVEN)
    return given is None or re.search(rf"(?<![\w.:]){re.escape(name)}(?![\w.:])", given) is not None


def check_target(group: str, target: str) -> None:
    """Raise ValueError unless the target of the config's "model" or "data" may be imported and called."""
    if not (is_harmless(target) or is_named(target)):
        raise ValueError(
            f"a YAML file gives target {target!r}, which is neither of this project nor a module of torch: to run it, "
            f"write {group}.target={target} on the command line"
        )


def is_harmless(target: str) -> bool:
    """Whether a YAML file may name the target, as it is this project's or a module of torch."""
    module, _, name = target.partition(":")
    if module in EXPORTING:
        return name in import_module(module).__all__
    if not f"{module}.".startswith(WITH_MODULES):
        return False
    from torch import nn  # takes seconds, and who names no target need not wait

    try:
        found = getattr(import_module(module), name, None)
    except ImportError:
        return False
    return isinstance(found, type) and issubclass(found, nn.Module)


@contextmanager
def guarded() -> Iterator[None]:
    """Within: Hydra raises ConfigError for a config that breaks the rule before it calls or sets what is in it."""
    load = ConfigLoaderImpl.load_configuration

    def checked(self: ConfigLoaderImpl, *args: Any, **kwargs: Any) -> DictConfig:
        cfg = load(self, *args, **kwargs)
        _check_hydra(OmegaConf.to_container(cfg.hydra), ())
        return cfg

    ConfigLoaderImpl.load_configuration = checked  # type: ignore[method-assign]
    try:
        yield
    finally:
        ConfigLoaderImpl.load_configuration = load  # type: ignore[method-assign]


def _check_hydra(value: Any, path: Sequence[str]) -> None:
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            _check_hydra(item, (*path, str(key)))
        return
    imported = str(value).startswith("ext://") and value not in ("ext://sys.stdout", "ext://sys.stderr")
    called = value is not None and path[-1] in CALLED and not re.fullmatch(CALLED[path[-1]], str(value))
    shell = value is not None and path[:2] == ("launcher", "setup")
    if (called or imported or shell) and not is_named(str(value)):
        raise _refused(path, value)
    if path[:2] == ("job", "env_set") and "env_set" not in os.environ[GIVEN]:
        raise _refused(path, value)


def _refused(path: Sequence[str], value: Any) -> ConfigError:
    key = ".".join(("hydra", *path))
    return ConfigError(f"{key}={value} in a YAML file could run anything: to have it, write it on the command line")
