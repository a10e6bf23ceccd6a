"""What sweeps consist of, on disk."""

from pathlib import Path
from unittest import mock

import pytest
from fake_records import config

from experiments.records import key_of, name_of
from experiments.references import Cell
from experiments.sweeps import Planned, Sweep, all_of, write


def cell(method: str, tau: float | None = None, seed: int = 0) -> Cell:
    run = config(method, tau, seed)
    return Cell(key_of(run), run, (f"integrator={method}", f"tau={tau}", f"seed={seed}"))


CELLS = [cell("abc_psi", 0.1), cell("abc_psi", 0.2), cell("dense")]


def read(folder: Path, name: str) -> Sweep | None:
    """The sweep of that name."""
    return next((sweep for sweep in all_of(folder) if sweep.name == name), None)


def test_a_sweep_is_read_as_it_was_written(tmp_path: Path) -> None:
    write(tmp_path, "demo", ["experiment=demo", "tau=0.1,0.2"], CELLS, 3)
    sweep = read(tmp_path, "demo")
    assert sweep is not None and sweep.arguments == ("experiment=demo", "tau=0.1,0.2") and sweep.left_open == 3
    assert sweep.cells[0] == Planned(
        CELLS[0].key, name_of(CELLS[0].config), "abc_psi", ("integrator=abc_psi", "tau=0.1", "seed=0")
    )
    assert [run.key for run in sweep.cells] == [c.key for c in CELLS]
    assert read(tmp_path, "dem") is None and read(tmp_path / "none", "demo") is None and all_of(tmp_path / "none") == []


def test_the_same_name_again_takes_the_place_of_the_first_and_the_newest_comes_first(tmp_path: Path) -> None:
    for name, cells in (("a", CELLS), ("b", CELLS), ("a", CELLS[:1])):
        write(tmp_path, name, [], cells, 0)
    assert [(sweep.name, len(sweep.cells)) for sweep in all_of(tmp_path)] == [("a", 1), ("b", 3)]


@pytest.mark.parametrize(
    "name",
    [
        "integrator=abc_psi,dense tau=0.05,0.1",
        "../../etc/passwd",
        "/etc",
        "..",
        ".hidden",
        "",
        "τ" * 128,
        "data.root=" + "x/" * 59,
        "a\nb\0c",
        "\udcff",
    ],
)
def test_any_name_is_a_file_in_the_folder(tmp_path: Path, name: str) -> None:
    write(tmp_path, name, [f"logger.group={name}"], CELLS, 0)
    sweep = read(tmp_path, name)
    assert sweep is not None and sweep.name == name and all_of(tmp_path) == [sweep]
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path.parent for path in files] == [tmp_path / "sweeps"] and len(files[0].name) < 100


def test_names_that_look_the_same_as_files_stay_apart(tmp_path: Path) -> None:
    names = ["a b", "a/b", "a_b", "A_b", *(f"{'tau=0.1,' * 15}{end}" for end in "xy")]
    for name in names:
        write(tmp_path, name, [], CELLS, 0)
    assert sorted(sweep.name for sweep in all_of(tmp_path)) == sorted(names)
    assert len({path.name.lower() for path in (tmp_path / "sweeps").iterdir()}) == len(names)


@pytest.mark.parametrize("text", ["", '{"name": "demo", "cel', "[]", "null", '{"name": "demo"}', '{"cells": [{}]}'])
def test_a_damaged_file_is_left_out(tmp_path: Path, text: str) -> None:
    write(tmp_path, "demo", [], CELLS, 0)
    next((tmp_path / "sweeps").iterdir()).write_text(text)
    write(tmp_path, "whole", [], CELLS, 0)
    assert read(tmp_path, "demo") is None and [sweep.name for sweep in all_of(tmp_path)] == ["whole"]


def test_a_full_disk_stops_no_sweep(tmp_path: Path) -> None:
    with mock.patch.object(Path, "write_text", side_effect=OSError(28, "No space left on device")):
        write(tmp_path, "demo", [], CELLS, 0)
    assert all_of(tmp_path) == [] and not any((tmp_path / "sweeps").iterdir())
