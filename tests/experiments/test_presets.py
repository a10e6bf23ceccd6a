"""Blocks of presets as cells, with values of the command line and of earlier records; every preset of conf/."""

import json
from pathlib import Path
from typing import Any

import pytest
import tiny_vits
import torch
from fake_records import record
from omegaconf import DictConfig, OmegaConf
from toy_runs import PRESETS, TOY, command, compose, composing, protocols, records_in

from experiments import build, presets, sweeper
from experiments.compose import hydra_compose_cell, remembering
from experiments.config import CONF, ConfigError
from experiments.data import Split, Splits
from experiments.presets import Draft, axes, plan, settle, unique
from experiments.records import Store, identity
from experiments.references import Cell
from experiments.validate import validate

SIZES = {"train": 50_000, "val": 10_000, "test": 10_000}
VARIANTS = [(name, protocol) for name in PRESETS for protocol in protocols(name)]


def drafts_of(blocks: Any, *command_line: str, protocol: str | None = None, **budget: Any) -> list[list[Draft]]:
    """The drafts of each block of a preset with these blocks, protocol and budget."""
    cfg = {"blocks": blocks, "budgets": {}, "protocol": protocol, "budget": {"name": "mine", "overrides": budget}}
    return plan(lambda overrides: OmegaConf.create(cfg), axes(command_line)).blocks


def overrides_of(blocks: Any, *command_line: str, **options: Any) -> list[list[list[str]]]:
    """The overrides of each cell of each block; references are left out."""
    return [
        [[value for value in draft.values() if isinstance(value, str)] for draft in drafts]
        for drafts in drafts_of(blocks, *command_line, **options)
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


PROTOCOLS = {"tuned": [{"tau": [0.1, 0.2]}], "paper": [{"integrator": "dense"}, {"tau": 0.3}]}


def test_a_protocol_picks_its_blocks() -> None:
    assert overrides_of(PROTOCOLS, protocol="tuned") == [[["tau=0.1"], ["tau=0.2"]]]
    assert overrides_of(PROTOCOLS, protocol="paper") == [[["integrator=dense"]], [["tau=0.3"]]]


@pytest.mark.parametrize(
    ("blocks", "protocol", "message"),
    [
        (PROTOCOLS, "papers", r"protocol=papers: did you mean 'paper'\? choose one of tuned, paper"),
        (PROTOCOLS, None, "protocol=null: choose one of tuned, paper"),
        ([{"tau": 0.1}], "paper", "protocol=paper: there are no protocols to choose from"),
        (None, "paper", "protocol=paper: there are no protocols to choose from"),
        ([1], None, "give a list of mappings"),
        ({"paper": {"tau": 0.1}}, "paper", "give a list of mappings"),
        (7, None, "give a list of mappings"),
    ],
)
def test_a_protocol_that_is_not_there_is_refused(blocks: Any, protocol: str | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        overrides_of(blocks, protocol=protocol)


@pytest.mark.parametrize("key", ["experiment", "protocol", "budget"])
def test_two_of_what_describes_a_whole_sweep_are_refused(key: str) -> None:
    with pytest.raises(ConfigError, match=rf"{key}=a, {key}=b: give one (preset|{key}) at a time"):
        overrides_of([], f"{key}=a,b")


def test_the_budget_takes_the_place_of_a_blocks_values_and_the_command_line_of_the_budgets() -> None:
    budget: dict[str, Any] = {"seed": 0, "trainer.epochs": 2, "model.skip": ["a", "b"], "tau": 0.3}
    (block,) = overrides_of([{"tau": [0.1, 0.2], "seed": [4, 5]}], "budget=mine", "trainer.epochs=7,8", **budget)
    assert block == [["tau=0.3", f"trainer.epochs={epochs}", "model.skip=[a,b]", "seed=0"] for epochs in (7, 8)]


def test_what_a_budget_means_for_a_preset_takes_the_place_of_the_budgets_own_values() -> None:
    cfg = {
        "blocks": [{"seed": [0, 1]}],
        "protocol": None,
        "budgets": {"mine": {"tau": 0.5, "rank": 3}, "other": {"rank": 9}},
    }
    for name, expected in (("mine", ["tau=0.5", "rank=7"]), ("full", ["tau=0.3", "rank=7"])):
        composed = OmegaConf.create(cfg | {"budget": {"name": name, "overrides": {"tau": 0.3}}})
        ((first, _),) = plan(lambda overrides, composed=composed: composed, axes(["rank=7"])).blocks
        assert [value for key, value in first.items() if key != "seed"] == expected


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
        for drafts in drafts_of(REFERENCES)[:count]:
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
        first, second, _ = drafts_of(REFERENCES)
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
    with composing(), pytest.raises(ConfigError, match=message):
        sweeper.check(drafts_of([REFERENCES[0], block]), hydra_compose_cell)


def test_an_impossible_value_from_records_leaves_the_cell_out(tmp_path: Path) -> None:
    def refuse_small_ranks(overrides: list[str]) -> DictConfig:
        cfg = hydra_compose_cell(overrides)
        if cfg.rank < 100:
            raise ConfigError("too small")
        return cfg

    with composing():
        first, second, _ = drafts_of(REFERENCES)
        cells, _ = settle(first, [], Store(tmp_path), hydra_compose_cell)
        for cell in cells:
            Store(tmp_path).write(record("any", rank=20) | {"key": cell.key, "config": cell.config})
        assert settle(second, cells, Store(tmp_path), refuse_small_ranks) == ([], ["too small"] * 2)


def test_the_first_of_equal_cells_stays_in_its_place() -> None:
    cells = [Cell(key, {}, (name,)) for key, name in [("a", "1"), ("b", "2"), ("a", "3"), ("c", "4")]]
    assert [cell.overrides for cell in unique(cells)] == [("1",), ("2",), ("4",)]


def test_same_is_the_value_given_even_where_the_run_ignores_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rank = {"from": {"integrator": "abc_psi", "tau": "same", "trainer.lr": "same"}, "take": "mean_rank"}
    adaptive = {"integrator": "abc_psi", "tau": [0.1, 0.2], "trainer.lr": [0.01, 0.001], "seed": [0, 1]}
    fixed = {"integrator": ["psi", "bc_psi"], "tau": [0.1, 0.2], "trainer.lr": [0.01, 0.001], "rank": rank}
    with composing():
        quick = remembering(hydra_compose_cell)
        first, second = drafts_of([adaptive, fixed])
        sweeper.check([first, second], quick)
        assert capsys.readouterr().out == ""  # tau has a meaning here
        cells, _ = settle(first, [], Store(tmp_path), quick)
        for cell in cells:
            rank_of_run = round(100 * cell.config["tau"] + 1e4 * cell.config["trainer"]["lr"]) + cell.config["seed"] * 2
            Store(tmp_path).write(record("any", rank=rank_of_run) | {"key": cell.key, "config": cell.config})
        found, reasons = settle(second, cells, Store(tmp_path), quick)
    assert reasons == [] and {cell.config["tau"] for cell in found} == {None}
    assert [cell.config["rank"] for cell in found] == [111, 21, 121, 31] * 2
    assert [cell.given("tau") for cell in found] == [0.1, 0.1, 0.2, 0.2] * 2


def test_an_empty_list_of_values_is_refused() -> None:
    assert overrides_of([{"model.skip": [[]]}]) == [[["model.skip=[]"]]]
    with pytest.raises(ConfigError, match=r"blocks: model.skip has no value: write \[\[\]\]"):
        overrides_of([{"model.skip": []}])


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
    given = [write_preset(tmp_path, MINE), f"results_dir={tmp_path}", "trainer.batch_size=7"]
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


def write_preset(folder: Path, text: str, group: str = "experiment") -> str:
    """Write the option `mine` of a group into `folder`; returns the override that makes Hydra look there."""
    (folder / group).mkdir()
    (folder / group / "mine.yaml").write_text(text)
    return f"hydra.searchpath=[file://{folder}]"


BOTH = """# @package _global_
title: Both
protocol: tuned
blocks:
  tuned: [{integrator: [abc_psi, bug], tau: [0.1, 0.2], rank: 3, seed: [0, 1]}]
  paper: [{integrator: dense, trainer.lr: [0.1, 0.2], seed: [0, 1]}]
table: {match: {tuned: compression, paper: tau}, goals: {tuned: [{accuracy: 98}], paper: []}, paper: [x]}
"""


@pytest.mark.parametrize(
    "given", [[], ["protocol=paper"], ["protocol=paper", "budget=mine"], ["budget=mine", "seed=5"]]
)
def test_the_sweep_runs_the_cells_that_load_gives(given: list[str], tmp_path: Path) -> None:
    searchpath = write_preset(tmp_path, BOTH)
    write_preset(tmp_path, "name: mine\noverrides: {seed: 3, trainer.gamma: 0.5}\n", "budget")
    line = [searchpath, *TOY[:-3], f"results_dir={tmp_path}/runs", *given]
    assert command("-m", "experiment=mine", *line) == 0
    preset = presets.load("mine", line)
    assert {record["key"] for record in records_in(tmp_path / "runs")} == {cell.key for cell in preset.cells}
    assert preset.protocol == ("paper" if "protocol=paper" in given else "tuned")
    tables = {"paper": {"match": "tau", "goals": []}, "tuned": {"match": "compression", "goals": [{"accuracy": 98}]}}
    assert preset.table == tables[preset.protocol] | {"paper": ["x"]}
    assert preset.budget == ("mine" if "budget=mine" in given else "full")
    seeds = {5} if "seed=5" in given else {3} if "budget=mine" in given else {0, 1}
    assert {cell.config["seed"] for cell in preset.cells} == seeds
    assert {cell.config["trainer"]["gamma"] for cell in preset.cells} == {0.5 if "budget=mine" in given else 0.96}
    assert len(preset.planned) == (2 if preset.protocol == "paper" else 4) * len(seeds)
    assert len(preset.cells) == (2 if preset.protocol == "paper" else 3) * len(seeds)  # bug has no tau


def test_protocol_and_budget_are_no_part_of_a_runs_identity() -> None:
    plain, named = compose(), compose("budget=smoke", "protocol=paper")
    assert identity(plain) == identity(named) and named.budget.name == "smoke"


def test_a_budget_with_an_unknown_key_is_refused(tmp_path: Path) -> None:
    searchpath = write_preset(tmp_path, "name: mine\noverrides: {trainer.epoch: 1}\n", "budget")
    with pytest.raises(
        ConfigError, match=r"^budget=mine: unknown key 'trainer.epoch': did you mean 'trainer.epochs'\?"
    ):
        presets.load("demo", [searchpath, "budget=mine"])


def full_size(target: str, kwargs: str) -> Splits:
    """Splits of MNIST's or CIFAR's sizes that take no memory."""
    given = json.loads(kwargs)
    shape = (3, 32, 32) if "cifar" in target else (1, 28, 28)
    image, label = torch.zeros(1, *shape, dtype=torch.uint8), torch.zeros(1, dtype=torch.long)
    sizes = [given.get(f"{part}_limit") or size for part, size in SIZES.items()]
    train, val, test = (Split(image.expand(n, *shape), label.expand(n)) for n in sizes)
    return Splits(train, None if "60k" in kwargs else val, test, image_size=given.get("image_size"))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """No data are read, no weights fetched, and no large network is built."""
    tiny_vits.install(monkeypatch)
    monkeypatch.setattr(build, "_load", full_size)


@pytest.mark.parametrize("budget", ["full", "smoke"])
@pytest.mark.parametrize(("name", "protocol"), VARIANTS)
def test_every_preset_composes_validates_and_instantiates(
    name: str, protocol: str, budget: str, tmp_path: Path, small: None
) -> None:
    given = axes([f"experiment={name}", f"protocol={protocol}", f"budget={budget}", f"results_dir={tmp_path}"])

    with composing():
        compose_quickly = remembering(hydra_compose_cell)

        def validated(overrides: list[str]) -> DictConfig:
            cell = compose_quickly(overrides)
            if cell.seed == 0:  # no rule depends on it
                validate(cell)  # builds model and integrator
            return cell

        asked = plan(compose_quickly, given)
        sweeper.check(asked.blocks, validated)
    seeds = {draft.get("seed", "seed=0") for block in asked.blocks for draft in block}
    assert seeds == {"seed=0"} or (budget == "full" and "seed=0" in seeds)
    assert asked.cfg.title


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_says_how_it_is_run_and_what_it_is_compared_with(name: str) -> None:
    cfg, text = compose(f"experiment={name}"), (CONF / "experiment" / f"{name}.yaml").read_text().splitlines()
    assert text[0] == "# @package _global_"
    assert text[1].startswith(f"# python -m experiments.run {'-m ' if cfg.blocks else ''}experiment={name}")
    assert all((CONF.parent / "experiments/paper" / f"{stem}.csv").is_file() for stem in cfg.table.get("paper", []))


@pytest.mark.parametrize("protocol", ["tuned", "paper"])
@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("abc_psi_figure1", ["abc_psi_table1", "abc_psi_table2"]),
        ("dlrt_figure6", ["dlrt_table5_mlp500"]),
    ],
)
def test_a_figure_shows_the_runs_of_its_tables(name: str, parts: list[str], protocol: str, tmp_path: Path) -> None:
    cells = provisional_cells(name, protocol, tmp_path)
    assert cells == set.union(*(provisional_cells(part, protocol, tmp_path) for part in parts))
    assert presets.load(name, [f"protocol={protocol}"]).table["records_from"] == parts


@pytest.mark.parametrize("protocol", ["tuned", "paper"])
def test_table_8_starts_from_the_dense_nets_of_table_6(protocol: str, tmp_path: Path) -> None:
    table6, table8 = (
        {key for name, key in provisional_cells(preset, protocol, tmp_path) if name.startswith("dense")}
        for preset in ("dlrt_table6_mlp784", "dlrt_table8_pruning")
    )
    assert table8 <= table6 and len(table8) == 5


def provisional_cells(name: str, protocol: str, results_dir: Path) -> set[tuple[str, str]]:
    """Name and key of the cells, the ranks and weights that come from records left out."""
    given = axes([f"experiment={name}", f"protocol={protocol}", f"results_dir={results_dir}"])
    with composing():
        compose_quickly = remembering(hydra_compose_cell)
        cells: list[Cell] = []
        for drafts in plan(compose_quickly, given).blocks:
            cells += [presets.provisional(draft, unique(cells), compose_quickly) for draft in drafts]
    return {(cell.name, cell.key) for cell in cells}


@pytest.mark.parametrize("line", [("seed=range(0,1000000000)",), ("seed=range(0,1000)", "tau=range(0.001,0.5,0.001)")])
def test_a_sweep_has_an_end(line: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match=r"seed=range.*: more than 100000 runs; give fewer values"):
        presets.axes(line)
