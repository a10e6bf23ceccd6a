"""What identifies a case, and what cases share."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from experiments.benchmark import store
from experiments.benchmark.cases import Case, from_config, groups

RECORDS = sorted((Path(__file__).parents[3] / "results" / "benchmark").glob("*/records.jsonl"))
TUNED = Case("vit_tiny", None, 4, 3, "abc_psi", image_size=8, inner_steps=20)


def test_cases_of_one_net_and_batch_form_a_group() -> None:
    a, b, c = (Case("mlp", width, 4, rank, "bug") for width, rank in ((8, 2), (16, 2), (8, 4)))
    assert groups([a, b, c]) == [[a, c], [b]]
    small, large = (Case("vit_tiny", None, 4, 3, "lora", image_size=size) for size in (8, 16))
    assert groups([TUNED, large, small]) == [[TUNED, small], [large]]


@pytest.mark.parametrize("case", [Case("mlp", 8, 4, 2, "bug"), Case("lenet5", None, 4, (1, 2, 3, 4), "psi"), TUNED])
def test_a_case_survives_its_record(case: Case) -> None:
    assert from_config(json.loads(json.dumps(case.config()))) == case


def test_a_step_is_told_from_that_of_other_inner_steps_or_images() -> None:
    others = [Case("vit_tiny", None, 4, 3, "abc_psi", image_size=size, inner_steps=n) for size, n in ((8, 1), (16, 20))]
    assert len({TUNED.step, *(case.step for case in others)}) == 3


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.parent.name)
def test_the_keys_of_committed_records_are_those_of_their_cases(path: Path) -> None:
    for line in path.read_text().splitlines():
        record = json.loads(line)
        origin = record["provenance"]
        assert store.key(from_config(record["case"]), origin["device"], origin["threads"]) == record["key"]


def test_labels_and_ranks_are_text() -> None:
    assert (TUNED.label, TUNED.ranks) == ("vit_tiny, 8 px", "3")
    assert Case("vit_tiny", None, 4, None, "probe", image_size=8).ranks == "–"
