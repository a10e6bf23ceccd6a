from fake_records import record

from experiments import settings
from experiments.aggregate import aggregate


def test_only_keys_that_tell_like_rows_apart_vary() -> None:
    runs = [record("psi", gain=0.5), record("bug", gain=0.7), record("psi", seed=1, gain=0.5)]
    assert settings.varying(aggregate(runs)) == []
    assert settings.varying(aggregate([*runs, record("bug", gain=0.9)])) == ["gain"]


def test_nested_keys_are_dotted_and_a_missing_one_counts() -> None:
    runs = [record("psi", model={"name": "lenet5", "skip": skip}) for skip in ([], ["output"])]
    assert settings.varying(aggregate(runs)) == ["model.skip"]
    runs = [record("psi"), record("psi", integrator={"name": "psi", "decay": 0.005, "inner_steps": 2})]
    assert settings.varying(aggregate(runs)) == ["integrator.inner_steps"]


def test_a_fixed_rank_is_shown_anyway_and_a_start_rank_is_a_setting() -> None:
    fixed = [record("psi") | {"config": record("psi")["config"] | {"rank": rank}} for rank in (10, 20)]
    assert settings.varying(aggregate(fixed)) == []
    adaptive = [record("abc_psi", 0.1) | {"config": record("abc_psi", 0.1)["config"] | {"rank": r}} for r in (10, 20)]
    rows = aggregate(adaptive)
    assert settings.columns(rows, settings.varying(rows)) == {"start rank": ["10", "20"]}
