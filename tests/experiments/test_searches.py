from pathlib import Path

from fake_records import preset_of, record

from experiments import kept
from experiments.kept import Layered
from experiments.records import Store
from experiments.searches import with_found

KEYS = ["tau", "trainer.lr"]


def lr(rate: float) -> dict[str, dict[str, float]]:
    return {"trainer": {"epochs": 3, "lr": rate}}


def test_the_runs_that_differ_in_what_is_searched_alone_are_the_searchs(tmp_path: Path) -> None:
    own = [record("abc_psi", 0.2, **lr(0.1)), record("abc_psi", 0.1, **lr(0.3)), record("abc_psi", 0.1, **lr(0.2))]
    others = [record("aug_bug", 0.1), record("abc_psi", 0.1, seed=1), record("abc_psi", 0.1, trainer={"epochs": 4})]
    for run in [*own[:2], *others]:
        Store(tmp_path).write(run)
    (tmp_path / "kept.jsonl").write_text(kept.line_of(own[2]))
    store = Layered(tmp_path, [tmp_path / "kept.jsonl"])

    preset = with_found(preset_of([record("abc_psi", 0.15)], table={"searched": KEYS}), store)

    assert [cell.key for cell in preset.cells] == [own[i]["key"] for i in (2, 1, 0)]


def test_the_records_of_one_file_are_searched_too(tmp_path: Path) -> None:
    runs = [record("abc_psi", tau) for tau in (0.1, 0.3)]
    kept.write(runs, tmp_path / "queue.jsonl")
    preset = preset_of([record("abc_psi", 0.15)], table={"searched": KEYS})
    found = with_found(preset, Layered(tmp_path / "queue.jsonl", []))
    assert [cell.key for cell in found.cells] == [run["key"] for run in runs]


def test_a_preset_that_is_no_search_stays_as_it_is(tmp_path: Path) -> None:
    preset = preset_of([record("abc_psi", 0.15)])
    assert with_found(preset, Layered(tmp_path, [])) is preset
