"""The cases that presets and command lines stand for, and the sentences about impossible ones."""

from __future__ import annotations

import pytest
import yaml
from hydra import compose
from omegaconf import DictConfig, OmegaConf
from toy_runs import composing

from experiments.benchmark import config
from experiments.benchmark.cases import Case
from experiments.benchmark.expansion import expand
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


def tuned(*overrides: str) -> list[Case]:
    return expand(configured("preset=vit", "case.model=vit_tiny", "case.batch=4", *overrides))


def test_fine_tuning_has_a_case_of_every_method() -> None:
    cases = tuned()
    assert {case.integrator for case in cases} == {"probe", "lora", "adalora", "parallel_bug", "aug_bug", "abc_psi"}
    assert {case.rank for case in cases if case.integrator == "abc_psi" and case.inner_steps == 20} == {3, 32}
    assert [case.rank for case in cases if case.integrator == "probe"] == [None]
    assert {case.net for case in cases} == {("vit_tiny", 56, 4)} and len(set(cases)) == len(cases) == 12


def test_what_a_method_does_not_have_is_left_out_and_the_step_timed_once() -> None:
    assert [(c.rank, c.inner_steps) for c in tuned("case.integrator=lora")] == [(3, 1), (32, 1)]
    assert [(c.rank, c.inner_steps) for c in tuned("case.integrator=probe", "case.inner_steps=5")] == [(None, 1)]
    assert {c.inner_steps for c in tuned("case.integrator=[psi,abc_psi]", "case.inner_steps=5")} == {5}
    assert {c.image_size for c in tuned("case.image_size=32", "case.width=8")} == {32}


def test_the_preset_for_a_gpu_is_vit_b_16_in_bf16_against_bf16() -> None:
    cases = expand(configured("preset=vit_gpu"))
    assert {(case.model, case.image_size) for case in cases} == {("vit_b_16", 224)}
    assert {case.batch for case in cases} == {64, 256}
    assert {(case.precision, case.dense) for case in cases} == {("bf16", ("bf16",))}
    small, gpu = ({c.step[3:4] + c.step[6:] for c in expand(configured(f"preset={p}"))} for p in ("vit", "vit_gpu"))
    assert small == gpu


def tiny(keys: str) -> str:
    return f"blocks=[{{model: vit_tiny, batch: 4, integrator: lora, {keys}}}]"


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("case.integrator=abcpsi", "integrator is 'abcpsi': did you mean 'abc_psi'? choose one of "),
        ("case.model=mpl", "case.model is 'mpl': did you mean 'mlp'? choose one of mlp, lenet5, "),
        ("case.precision=fp8", "precision is 'fp8': "),
        ("case.rank=0", "width, image_size, rank, batch and inner_steps must be positive integers, got "),
        ("case.batch=a", "width, image_size, rank, batch and inner_steps must be positive integers, got "),
        ("case.rank=[[1,2]]", "rank [1, 2]: only lenet5 takes a list, of 4 ranks; write [[10,25,100,10]]"),
        ("blocks=[{model: mlp, width: 8, batch: 4}]", "a block of mlp needs integrator, rank; got "),
        ("blocks=[{model: mlp, rank: 8, batch: 4, integrator: psi}]", "needs width: of mlp, and of nothing else"),
        ("case.inner_steps=0", "rank, batch and inner_steps must be positive integers, got "),
        ("case.integrator=lora", "integrator is 'lora' of mlp: only vit_tiny, vit_small, vit_b_16 are fine-tuned"),
        (tiny("rank: 2, image_size: 30"), "image_size is 30: give a multiple of the patch size 4, as 28 or 32"),
        (tiny("rank: 200, image_size: 8"), "a case of vit_tiny: encoder.layers.encoder_layer_0.self_attention.q: rank"),
        (tiny("rank: 2"), "needs image_size: of vit_tiny, vit_small, vit_b_16, and of nothing else; got "),
        (
            tiny("rank: 2, width: 8, image_size: 8"),
            "a block of vit_tiny needs width: of mlp, and of nothing else; got ",
        ),
        (tiny("rank: 2, image_size: 8, reference: true"), "separate passes are timed of mlp and lenet5, leave it out"),
        ("blocks=[{modl: mlp}]", "unknown key 'modl' in a block: did you mean 'model'? it takes model, "),
        ("blocks=[]", "case.model=None: no block of preset=quick has it"),
    ],
)
def test_an_impossible_case_is_one_sentence(override: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as raised:
        expand(configured(override))
    assert sentence in str(raised.value) and "\n" not in str(raised.value)
