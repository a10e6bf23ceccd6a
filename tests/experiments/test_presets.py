"""Blocks of presets as cells, with values of the command line and of earlier records; every preset of conf/."""

from pathlib import Path
from typing import Any

import pytest
import torch
from fake_records import record
from omegaconf import DictConfig, OmegaConf
from toy_runs import compose, composing

from experiments import build, presets, sweeper
from experiments.config import CONF, ConfigError
from experiments.data import Split, Splits
from experiments.presets import axes, drafts_of, hydra_compose_cell, settle, unique
from experiments.records import Store
from experiments.references import Cell
from experiments.validate import validate

PRESETS = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))


def overrides_of(blocks: list[dict[str, Any]], *command_line: str) -> list[list[list[str]]]:
    """The overrides of each cell of each block; references are left out."""
    cfg = OmegaConf.create({"blocks": blocks})
    return [
        [[value for value in draft.values() if isinstance(value, str)] for draft in drafts]
        for drafts in drafts_of(cfg, axes(command_line))
    ]


def test_a_block_is_a_cartesian_product_with_seeds_innermost() -> None:
    (block,) = overrides_of([{"seed": [0, 1], "integrator": "abc_psi", "tau": [0.1, 0.2]}])
    assert block == [["integrator=abc_psi", f"tau={tau}", f"seed={seed}"] for tau in (0.1, 0.2) for seed in (0, 1)]


def test_the_command_line_takes_the_place_of_a_blocks_values() -> None:
    blocks = [{"tau": [0.1, 0.2], "seed": [0, 1]}, {"integrator": "dense", "seed": 0}]
    first, second = overrides_of(blocks, "seed=5", "trainer.epochs=1,2", "experiment=demo")
    assert [cell[1:] for cell in first] == [
        [f"tau={tau}", f"trainer.epochs={epochs}", "seed=5"] for tau in (0.1, 0.2) for epochs in (1, 2)
    ]
    assert all(cell[0] == "experiment=demo" for cell in first + second)
    assert [cell[1:] for cell in second] == [["integrator=dense", f"trainer.epochs={n}", "seed=5"] for n in (1, 2)]


def test_without_blocks_the_command_line_is_the_only_one() -> None:
    assert overrides_of([], "tau=0.1,0.2", "seed=3") == [[["tau=0.1", "seed=3"], ["tau=0.2", "seed=3"]]]


@pytest.mark.parametrize(
    ("argument", "values"),
    [
        ("tau=0.1", ["tau=0.1"]),
        ("tau=0.1,0.2", ["tau=0.1", "tau=0.2"]),
        ("seed=range(3)", ["seed=0", "seed=1", "seed=2"]),
        ("+model.kwargs.mode=ok,raise", ["+model.kwargs.mode=ok", "+model.kwargs.mode=raise"]),
        ("model.skip=[a,b]", ["model.skip=[a,b]"]),
    ],
)
def test_axes_are_hydras_sweeps(argument: str, values: list[str]) -> None:
    assert list(axes([argument]).values()) == [values]


REFERENCES = [
    {"integrator": "abc_psi", "tau": [0.1, 0.2], "seed": [0, 1]},
    {"integrator": "bug", "rank": {"from": {"integrator": "abc_psi", "tau": 0.1}, "take": "mean_rank"}, "seed": [0, 1]},
    {
        "integrator": "abc_psi",
        "init": "svd",
        "weights": {"from": {"integrator": "bug", "seed": "same"}, "take": "weights"},
        "seed": [0, 1],
    },
]


def run_blocks(store: Store, ranks: dict[str, int], count: int) -> tuple[list[Cell], list[str]]:
    """Settle the first `count` blocks above, each run recorded after its block with its rank, by "tau-seed"."""
    cells: list[Cell] = []
    reasons: list[str] = []
    with composing():
        for drafts in drafts_of(OmegaConf.create({"blocks": REFERENCES}), {})[:count]:
            found, waiting = settle(drafts, cells, store, hydra_compose_cell)
            for cell in found:
                rank = ranks.get(f"{cell.config['tau']}-{cell.config['seed']}", 5)
                store.write(record("any", rank=rank) | {"key": cell.key, "config": cell.config})
            cells += found
            reasons += waiting
    return cells, reasons


def test_a_rank_is_the_rounded_mean_over_layers_and_seeds_of_the_records(tmp_path: Path) -> None:
    ranks = {"0.1-0": 10, "0.1-1": 17, "0.2-0": 90, "0.2-1": 90}
    cells, reasons = run_blocks(Store(tmp_path), ranks, count=2)
    assert reasons == []
    assert [cell.config["rank"] for cell in cells] == [120, 120, 120, 120, 14, 14]  # 13.5 rounds to even


def test_weights_are_those_of_the_cell_with_the_same_seed(tmp_path: Path) -> None:
    cells, _ = run_blocks(Store(tmp_path), {}, count=3)
    assert [cell.config["weights"] for cell in cells[-2:]] == [cell.key for cell in cells[4:6]]
    assert all(cell.config["init"] == "svd" for cell in cells[-2:])


def test_a_cell_whose_records_are_not_finished_waits(tmp_path: Path) -> None:
    with composing():
        first, second, _ = drafts_of(OmegaConf.create({"blocks": REFERENCES}), {})
        cells, _ = settle(first, [], Store(tmp_path), hydra_compose_cell)
        Store(tmp_path).write(record("any", status="diverged") | {"key": cells[0].key, "config": cells[0].config})
        found, reasons = settle(second, cells, Store(tmp_path), hydra_compose_cell)
    assert found == []
    assert reasons == ["rank comes from runs with integrator=abc_psi tau=0.1, and none is finished"] * 2


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"rank": {"from": {"tau": 0.3}, "take": "mean_rank"}}, "rank is taken from runs with tau=0.3, and no cells"),
        ({"rank": {"from": {"tau": 0.1}}}, "cannot take rank from"),
        ({"rank": {"from": {"tau": 0.1}, "take": "weights"}}, "cannot take rank from"),
        ({"tau": {"from": {"tau": 0.1}, "take": "mean_rank"}}, "cannot take tau from"),
        ({"init": "svd", "weights": {"from": {"tau": 0.1}, "take": "weights"}}, "and 2 cells of earlier blocks match"),
    ],
)
def test_a_reference_that_cannot_be_served_is_refused_before_anything_runs(block: dict[str, Any], message: str) -> None:
    cfg = OmegaConf.create({"blocks": [REFERENCES[0], block]})
    with composing(), pytest.raises(ConfigError, match=message):
        sweeper.check(drafts_of(cfg, {}), hydra_compose_cell)


def test_an_impossible_value_from_records_leaves_the_cell_out(tmp_path: Path) -> None:
    def refuse_small_ranks(overrides: list[str]) -> DictConfig:
        cfg = hydra_compose_cell(overrides)
        if cfg.rank < 100:
            raise ConfigError("too small")
        return cfg

    with composing():
        first, second, _ = drafts_of(OmegaConf.create({"blocks": REFERENCES}), {})
        cells, _ = settle(first, [], Store(tmp_path), hydra_compose_cell)
        for cell in cells:
            Store(tmp_path).write(record("any", rank=20) | {"key": cell.key, "config": cell.config})
        assert settle(second, cells, Store(tmp_path), refuse_small_ranks) == ([], ["too small"] * 2)


def test_the_first_of_equal_cells_stays_in_its_place() -> None:
    cells = [Cell(key, {}, (name,)) for key, name in [("a", "1"), ("b", "2"), ("a", "3"), ("c", "4")]]
    assert [cell.overrides for cell in unique(cells)] == [("1",), ("2",), ("4",)]


MINE = """# @package _global_
title: Mine
trainer: {epochs: 3}
blocks:
  - {integrator: [abc_psi, dense], seed: [0, 1]}
  - {integrator: bug, rank: {from: {integrator: abc_psi}, take: mean_rank}, seed: [0, 1]}
table: {match: tau}
figures: [rank_evolution]
"""


def test_load_gives_the_cells_of_a_preset_and_counts_those_that_wait(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(MINE)
    given = [f"hydra.searchpath=[file://{tmp_path}]", f"results_dir={tmp_path}", "trainer.batch_size=7"]
    preset = presets.load("mine", given)
    assert (preset.name, preset.title, preset.unresolved) == ("mine", "Mine", 2)
    assert (preset.table, preset.figures) == ({"match": "tau"}, ["rank_evolution"])
    names = [(cell.config["integrator"]["name"], cell.config["seed"]) for cell in preset.cells]
    assert names == [("abc_psi", 0), ("abc_psi", 1), ("dense", 0), ("dense", 1)]
    assert all(cell.config["trainer"]["batch_size"] == 7 for cell in preset.cells)
    for cell in preset.cells[:2]:
        Store(tmp_path).write(record("any", rank=33) | {"key": cell.key, "config": cell.config})
    again = presets.load("mine", given)
    assert again.unresolved == 0 and again.cells[:4] == preset.cells
    assert [cell.config["rank"] for cell in again.cells[4:]] == [33, 33]


def full_size_mnist(target: str, kwargs: str) -> Splits:
    """Splits of MNIST's sizes that take no memory."""
    image, label = torch.zeros(1, 1, 28, 28, dtype=torch.uint8), torch.zeros(1, dtype=torch.long)
    train, val, test = (Split(image.expand(n, 1, 28, 28), label.expand(n)) for n in (50_000, 10_000, 10_000))
    return Splits(train, None if "60k" in kwargs else val, test)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_composes_validates_and_instantiates(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "_load", full_size_mnist)
    given = axes([f"experiment={name}", f"results_dir={tmp_path}"])
    cfg = compose(f"experiment={name}")

    def validated(overrides: list[str]) -> DictConfig:
        cell = hydra_compose_cell(overrides)
        validate(cell)  # builds model and integrator
        return cell

    with composing():
        sweeper.check(drafts_of(cfg, given), validated)
    text = (CONF / "experiment" / f"{name}.yaml").read_text().splitlines()
    assert text[:2] == ["# @package _global_", f"# python -m experiments.run -m experiment={name}"]
    assert cfg.title and cfg.blocks
    assert all((CONF.parent / "experiments/paper" / f"{stem}.csv").is_file() for stem in cfg.table.get("paper", []))
