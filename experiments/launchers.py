"""Launchers of other packages: conf/hydra/launcher/ has this project's defaults, their plugins have the types."""

import os

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins

EXTRAS = {"joblib": "joblib", "submitit_local": "submitit", "submitit_slurm": "submitit", "ray": "ray"}
PLUGINS = "hydra/launcher_plugin"  # the config group that the plugins' own configs are moved to


def register() -> None:
    """Let the YAML of a launcher extend its plugin's config, whose name it has: Hydra would take either alone."""
    Plugins.instance()  # finds the plugins
    store = ConfigStore.instance()
    options = store.repo["hydra"]["launcher"]
    for name in EXTRAS:
        if (config := options.pop(f"{name}.yaml", None)) is not None:
            store.store(name, config.node, group=PLUGINS, provider=config.provider)
    os.environ.setdefault("SUBMITIT_PREEMPT_SIGNAL", "USR1")  # which our runs answer; submitit's own default is USR2


def not_installed(config: str) -> str | None:
    """The sentence about a config that was not found, if it is that of a launcher's plugin."""
    group, _, name = config.rpartition("/")
    if group != PLUGINS:
        return None
    return f"hydra/launcher={name}: its package is not installed; run pip install -e '.[{EXTRAS[name]}]'"
