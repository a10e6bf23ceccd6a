"""Launchers of other packages: our YAML over the plugin's types, and one sentence where there is no plugin."""

import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest
from toy_runs import TOY, command, records_in

from experiments.config import CONF
from experiments.launchers import EXTRAS, not_installed


def test_every_launcher_has_a_yaml_and_an_extra() -> None:
    ours = {"processes"}
    assert {path.stem for path in (CONF / "hydra" / "launcher").glob("*.yaml")} == EXTRAS.keys() | ours
    project = tomllib.loads((CONF.parent / "pyproject.toml").read_text())["project"]
    assert set(EXTRAS.values()) <= project["optional-dependencies"].keys()


@pytest.mark.skipif(find_spec("hydra_plugins.hydra_ray_launcher") is not None, reason="Ray's launcher is installed")
def test_a_launcher_that_is_not_installed_is_one_sentence(tmp_path: Path) -> None:
    said = "hydra/launcher=ray: its package is not installed; run pip install -e '.[ray]'"
    assert not_installed("hydra/launcher_plugin/ray") == said and not_installed("model/ray") is None
    assert command("-m", *TOY, "hydra/launcher=ray", "seed=0,1", f"results_dir={tmp_path}") == said
    assert command(*TOY, "hydra/launcher=ray", f"results_dir={tmp_path}") == said
    assert records_in(tmp_path) == []


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("hydra.launcher.n_jobs=two", "hydra.launcher.n_jobs: Value 'two' of type 'str' could not be converted"),
        ("hydra.launcher.njobs=2", "unknown key 'hydra.launcher.njobs'"),
    ],
)
def test_the_plugin_s_types_hold_in_our_yaml(override: str, said: str, tmp_path: Path) -> None:
    end = command("-m", *TOY, "hydra/launcher=joblib", override, "seed=0,1", f"results_dir={tmp_path}")
    assert str(end).startswith(said)


def test_the_options_of_hydra_launcher_are_the_launchers(tmp_path: Path) -> None:
    end = command("-m", *TOY, "hydra/launcher=jolib", "seed=0,1", f"results_dir={tmp_path}")
    assert "did you mean 'joblib'" in str(end) and "plugin" not in str(end)
