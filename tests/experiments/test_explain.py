"""Sentences for errors that the command line's tests do not reach: those of YAML files."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException

from experiments.config import CONF, ConfigError
from experiments.explain import explain, is_mistake, unknown_key


@pytest.mark.parametrize(
    ("yaml", "sentence"),
    [
        ("decya: 1", "In 'integrator/mine': unknown key 'integrator.decya': did you mean 'integrator.decay'?"),
        ("decay: abc", "Value 'abc' of type 'str' could not be converted to Float"),
    ],
)
def test_a_mistake_in_a_yaml_file_names_the_file(yaml: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "integrator").mkdir()
    (tmp_path / "integrator" / "mine.yaml").write_text(f"name: abc_psi\n{yaml}\n")
    added = f"hydra.searchpath=[file://{tmp_path}]"
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)), pytest.raises(HydraException) as raised:
        compose("config", [added, "integrator=mine"])
    text = explain(raised.value)
    assert sentence in text and "integrator/mine" in text
    assert "\n" not in text and "object_type" not in text


def test_only_the_users_mistakes_lose_their_traceback() -> None:
    assert is_mistake(ConfigError("a sentence")) and is_mistake(HydraException("a sentence"))
    assert not is_mistake(ValueError("a bug")) and not is_mistake(KeyError("a bug"))


def test_a_key_without_its_group_is_recognised() -> None:
    assert "did you mean 'trainer.warmup_steps'?" in unknown_key("warmup_steps")
    assert "did you mean 'adapters.targets'?" in unknown_key("adapters.target")
    assert unknown_key("xyzzy") == "unknown key 'xyzzy': `--cfg job` shows the keys there are"
