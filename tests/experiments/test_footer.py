from pathlib import Path
from typing import Any

import pytest
from fake_records import collection_of, preset_of, record

from experiments import paper
from experiments.aggregate import aggregate
from experiments.collection import Collection
from experiments.footer import footer as sentences

SECTION = {"paper": ["dlrt_table5_mlp500", "abc_psi_table1_lr0.01"], "match": "compression"}
RUNS = [record("aug_bug", 0.1, seed) for seed in range(2)]


def footer(collection: Collection) -> str:
    rows = paper.beside(aggregate(collection.records, collection.missing), collection.preset.table)
    return "\n".join(sentences(collection, rows))


def test_the_footer_tells_where_the_numbers_come_from() -> None:
    runs = [record("aug_bug", 0.1, seed) for seed in range(2)]
    runs[1]["provenance"] = {"commit": "0123456789abcdef", "dirty": True, "device": "cuda: H100", "versions": {}}
    text = footer(collection_of(runs, table=SECTION))
    for words in (
        "runs: 2 of 2, records: records.jsonl",
        "epochs: 3",
        "012345678 (dirty), abcdef012",
        "cpu: Test, cuda: H100",
    ):
        assert words in text
    assert "Table 5: DLRT 2022" in text and "validation" in text
    assert "missing" not in text


def test_the_footer_counts_what_is_missing_and_names_the_command() -> None:
    runs = [record("aug_bug", 0.1, 0), record("aug_bug", 0.1, 1, status="failed") | {"provenance": {}}]
    preset = preset_of([*runs, record("aug_bug", 0.1, 2)], unresolved=4)
    text = footer(Collection(preset, ("trainer.epochs=1",), runs, Path("runs/records")))
    assert "missing runs: 5, failed or cut short: 1" in text
    assert "`python -m experiments.run -m experiment=demo trainer.epochs=1`" in text


def test_the_papers_protocol_is_named() -> None:
    run = record("aug_bug", 0.1)
    run["final"]["selected_by"] = "test_accuracy_paper_protocol"
    assert "best test epoch" in footer(collection_of([run]))


def test_protocol_and_budget_are_named() -> None:
    assert "protocol: paper; budget: smoke." in footer(collection_of(RUNS, protocol="paper", budget="smoke"))


@pytest.mark.parametrize(
    ("provenance", "words"),
    [
        ({}, "recipe and τ list were committed in abcdef012 before these runs."),
        ({"dirty": True}, "NOT a frozen recipe: 1 of 2 runs come from uncommitted changes."),
        ({"dirty": None}, "1 of 2 runs come from a copy without git, said to be of abcdef012."),
    ],
)
def test_a_tuned_table_names_the_commit_of_its_recipe_or_says_that_there_is_none(
    provenance: dict[str, Any], words: str
) -> None:
    runs = [RUNS[0], RUNS[1] | {"provenance": RUNS[1]["provenance"] | provenance}]
    assert words in footer(collection_of(runs, protocol="tuned"))


def test_records_that_others_keep_are_named() -> None:
    assert "records: those of one, two;" in footer(collection_of(RUNS, table={"records_from": ["two", "one"]}))


def test_tuning_runs_are_said_to_use_no_test_data() -> None:
    runs = [record("aug_bug", 0.1)]
    runs[0]["final"]["test_accuracy"] = None
    text = footer(collection_of(runs))
    assert "test data of tuning runs are never evaluated" in text and "accuracy:" not in text


def test_a_dominated_row_is_explained_where_there_are_printed_rows() -> None:
    assert "best of our rank-adaptive rows" in footer(collection_of(RUNS, table=SECTION))
    assert "best of our low-rank rows" in footer(collection_of([record("psi")], table=SECTION))
    assert "dominated" not in footer(collection_of(RUNS))
