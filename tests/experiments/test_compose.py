"""A cell composed from what was composed before is the cell that Hydra composes."""

import pytest
from omegaconf import DictConfig, OmegaConf
from toy_runs import compose, composing

from experiments.compose import hydra_compose_cell, remembering
from experiments.records import identity, key_of

LINES = [
    [],
    ["tau=0.05", "seed=3", "trainer.lr=1e-5"],
    ["integrator=dense", "tau=0.05", "integrator.optimizer=adam"],
    ["integrator.decay=0.5", "integrator={decay:0.25}", "integrator.min_rank=3"],
    ["model=lenet5", "model.skip=[]", "+model.kwargs.dropout=0.5", "model.kwargs.dropout=0.25"],
    ["model.kwargs={width:7}", "model.kwargs.width=8", "~data.kwargs.split_seed"],
    ["weights=null", "trainer.collapse_epoch=6", "data.kwargs.split=60k"],
    ["experiment=demo", "tau=0.2", "trainer.epochs=3"],
    ["experiment=demo", "integrator=bug", "rank=7", "logger=none", "model.kwargs.width=${rank}"],
]


@pytest.mark.parametrize("line", LINES, ids=" ".join)
def test_it_is_what_hydra_composes_whatever_was_composed_before(line: list[str]) -> None:
    with composing():
        quick = remembering(hydra_compose_cell)
        for other in LINES:
            OmegaConf.update(quick(other), "rank", 99)  # nobody's copy but its own
        found, expected = quick(line), hydra_compose_cell(line)
    assert found == expected and OmegaConf.is_struct(found) == OmegaConf.is_struct(expected)
    assert key_of(identity(found)) == key_of(identity(expected)) == key_of(identity(compose(*line)))


def test_hydra_composes_once_for_each_choice_of_groups() -> None:
    composed = []

    def counting(overrides: list[str]) -> DictConfig:
        composed.append(overrides)
        return hydra_compose_cell(overrides)

    with composing():
        quick = remembering(counting)
        for integrator in ("bug", "dense", "bug"):
            for seed in range(3):
                assert quick([f"integrator={integrator}", f"seed={seed}"]).seed == seed
    assert composed == [["integrator=bug"], ["integrator=dense"]]


@pytest.mark.parametrize("line", ["tua=1", "trainer.epoch=1", "integrator=foo", "tau=x", "hydra.x=1", "a@b=1"])
def test_a_mistake_is_hydras(line: str) -> None:
    with composing():
        with pytest.raises(Exception) as expected:
            hydra_compose_cell([line])
        with pytest.raises(type(expected.value)) as found:
            remembering(hydra_compose_cell)([line])
    assert str(found.value) == str(expected.value)
