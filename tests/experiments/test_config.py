"""conf/ and the schema behind it say the same."""

import pytest
from omegaconf import OmegaConf
from toy_runs import compose

from dlrt import BASELINES, INTEGRATORS
from experiments.config import CONF, Config

OTHERS = ("experiment", "preset", "wandb_sweeps")  # presets of experiments.run and experiments.benchmark; W&B's files
OPTIONS = [(path.parent.name, path.stem) for path in sorted(CONF.glob("*/*.yaml")) if path.parent.name not in OTHERS]


def test_the_default_config_is_complete_and_typed() -> None:
    cfg = compose()
    assert OmegaConf.missing_keys(cfg) == set()
    assert set(cfg) == set(Config.__dataclass_fields__)
    assert isinstance(compose("tau=0").tau, float)


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_composes_under_its_own_name(group: str, option: str) -> None:
    cfg = compose(f"{group}={option}")
    missing = {f"{group}.target"} if option == "import" else set()
    assert OmegaConf.missing_keys(cfg) == missing
    assert group in ("trainer", "recipe") or (cfg[group].name if cfg[group] else "none") == option
    assert (CONF / group / f"{option}.yaml").read_text().startswith("# ")


def test_every_integrator_of_the_library_has_its_yaml() -> None:
    assert {option for group, option in OPTIONS if group == "integrator"} == INTEGRATORS.keys() | BASELINES.keys()


def test_the_defaults_list_stands_in_config_yaml_and_presets_only() -> None:
    assert [name for name in OPTIONS if "defaults:" in (CONF / name[0] / f"{name[1]}.yaml").read_text()] == []
