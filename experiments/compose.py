"""The configs of a sweep's cells: Hydra composes each choice of config groups once, and values go into copies of it."""

import pickle
from collections.abc import Callable

from hydra import compose as hydra_compose
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig

from experiments.config import CONF, Config

Compose = Callable[[list[str]], DictConfig]


def hydra_compose_cell(overrides: list[str]) -> DictConfig:
    """Compose one cell outside a run of Hydra."""
    return hydra_compose("config", overrides)


def remembering(compose: Compose) -> Compose:
    """What `compose` gives, in a fiftieth of its time for a choice of groups that it has composed before."""
    parser = OverridesParser.create()
    parsed: dict[str, Override] = {}
    composed: dict[tuple[str, ...], bytes] = {}  # pickled: copied ten times as fast as by deepcopy

    def quick(overrides: list[str]) -> DictConfig:
        for line in overrides:
            if line not in parsed:
                parsed[line] = parser.parse_override(line)
        groups = tuple(line for line in overrides if not is_value(parsed[line]))
        if groups not in composed:
            composed[groups] = pickle.dumps(compose(list(groups)))
        cfg: DictConfig = pickle.loads(composed[groups])
        # Hydra, too, sets the values in the end and in this way; it has no public function for it.
        ConfigLoaderImpl._apply_overrides_to_config([o for o in map(parsed.get, overrides) if o and is_value(o)], cfg)
        return cfg

    return quick


def is_value(override: Override) -> bool:
    """Whether the override sets, adds or deletes a value of the schema: no config group, nothing of Hydra's own."""
    key = override.key_or_group
    known = override.package is None and key.partition(".")[0] in Config.__dataclass_fields__
    return known and (not (CONF / key).is_dir() or isinstance(override.value(), dict))
