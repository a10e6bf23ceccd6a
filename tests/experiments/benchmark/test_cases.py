"""The cases of presets and command lines, and the sentences about impossible ones."""

from __future__ import annotations

import json

import pytest
import yaml
from hydra import compose
from omegaconf import DictConfig, OmegaConf
from toy_runs import composing

from experiments.benchmark import config
from experiments.benchmark.cases import Case, expand, from_config, groups
from experiments.config import CONF, ConfigError

PRESETS = sorted(path.stem for path in (CONF / "preset").glob("*.yaml"))


def configured(*overrides: str) -> DictConfig:
    with composing():
        return compose("benchmark", list(overrides))


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_composes_under_its_own_name(preset: str) -> None:
    cfg = configured(f"preset={preset}")
    assert OmegaConf.missing_keys(cfg) == set() and set(cfg) == set(config.BenchmarkConfig.__dataclass_fields__)
    assert cfg.name == preset and len(expand(cfg)) > 0
    assert (CONF / "preset" / f"{preset}.yaml").read_text().startswith("# @package _global_\n# python -m")


def test_quick_holds_a_case_of_every_integrator_for_every_target_on_a_cpu() -> None:
    cfg = configured("preset=quick")
    cases = expand(cfg)
    assert len(cases) == len(set(cases)) == 2 * (5 + 2 + 1)
    for target in yaml.safe_load((CONF / "benchmark.yaml").read_text())["targets"]:
        rank = tuple(target["rank"]) if isinstance(target["rank"], list) else target["rank"]
        found = [c for c in cases if (*c.net, c.rank) == (target["model"], target.get("width"), target["batch"], rank)]
        assert {case.integrator for case in found} == {"aug_bug", "abc_psi"}
        assert all(case.reference for case in found) or "speedup" not in target


def test_a_value_replaces_those_of_all_blocks_and_a_model_selects() -> None:
    cases = expand(configured("case.model=mlp", "case.width=64", "case.rank=[4,8]", "case.integrator=psi"))
    assert [(c.width, c.batch, c.rank) for c in cases] == [(64, 500, 4), (64, 500, 8), (64, 256, 4), (64, 256, 8)]
    assert {c.integrator for c in cases} == {"psi"}
    (lenet,) = expand(configured("case.model=lenet5", "case.width=64", "case.integrator=bug"))
    assert (lenet.width, lenet.rank, lenet.ranks) == (None, (10, 25, 100, 10), "10-25-100-10")


def test_a_step_in_two_blocks_is_timed_once_and_compared_with_all() -> None:
    block = {"model": "mlp", "width": 8, "batch": 4, "rank": 2, "integrator": "bug"}
    cfg = configured("preset=quick")
    cfg.blocks = [block | {"dense": ["fp32"], "reference": True}, block | {"dense": ["fp32", "bf16"]}]
    assert expand(cfg) == [Case("mlp", 8, 4, 2, "bug", dense=("fp32", "bf16"), reference=True)]


def test_cases_of_one_net_and_batch_form_a_group() -> None:
    a, b, c = (Case("mlp", width, 4, rank, "bug") for width, rank in ((8, 2), (16, 2), (8, 4)))
    assert groups([a, b, c]) == [[a, c], [b]]


@pytest.mark.parametrize("case", [Case("mlp", 8, 4, 2, "bug"), Case("lenet5", None, 4, (1, 2, 3, 4), "psi")])
def test_a_case_survives_its_record(case: Case) -> None:
    assert from_config(json.loads(json.dumps(case.config()))) == case


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("case.integrator=abcpsi", "integrator is 'abcpsi': did you mean 'abc_psi'? choose one of "),
        ("case.model=mpl", "case.model is 'mpl': did you mean 'mlp'? choose one of mlp, lenet5"),
        ("case.precision=fp8", "precision is 'fp8': "),
        ("case.rank=0", "width, rank and batch must be positive integers, got "),
        ("case.batch=a", "width, rank and batch must be positive integers, got "),
        ("case.rank=[[1,2]]", "rank [1, 2]: only lenet5 takes a list, of 4 ranks; write [[10,25,100,10]]"),
        ("blocks=[{model: mlp, width: 8, batch: 4}]", "a block of mlp needs integrator, rank; got "),
        ("blocks=[{model: mlp, rank: 8, batch: 4, integrator: psi}]", "needs width: of an mlp, and of nothing else"),
        ("blocks=[{modl: mlp}]", "unknown key 'modl' in a block: did you mean 'model'? it takes model, "),
        ("blocks=[]", "case.model=None: no block of preset=quick has it"),
    ],
)
def test_an_impossible_case_is_one_sentence(override: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as raised:
        expand(configured(override))
    assert sentence in str(raised.value) and "\n" not in str(raised.value)
