import pytest
from fake_records import record
from toy_runs import compose

from experiments.config import ConfigError
from experiments.objective import check_objective, front, objective


def test_the_figures_of_a_finished_run() -> None:
    run = record("abc_psi", 0.1, accuracy=0.97)
    assert objective(run, ["val_accuracy", "compression"]) == (0.97, run["final"]["compression"])
    assert objective(run, []) == ()


def test_a_run_without_record_end_or_figure_has_none() -> None:
    assert objective(None, ["val_accuracy"]) is None
    assert objective(record("abc_psi", 0.1, status="diverged"), ["val_accuracy"]) is None
    run = record("abc_psi", 0.1)
    run["final"]["val_accuracy"] = None
    assert objective(run, ["val_accuracy", "compression"]) is None


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["objective=[]"], "needs something to maximise"),
        (["objective=[val_acuracy]"], "did you mean 'val_accuracy'"),
        (["objective=[test_accuracy,compression]"], "choose one or more of val_accuracy, compression"),
        (["objective=[val_accuracy]", "trainer.select=test"], "must not look at test data"),
        (["objective=[val_accuracy]", "task=time_training"], "use task=train"),
    ],
)
def test_what_cannot_be_maximised_is_one_sentence(overrides: list[str], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        check_objective(compose(*overrides))


@pytest.mark.parametrize("select", ["validation", "tuning"])
def test_what_uses_no_test_data_is_allowed(select: str) -> None:
    check_objective(compose("objective=[val_accuracy,compression]", f"trainer.select={select}"))


def test_the_front_are_the_points_that_none_dominates() -> None:
    points = [(1.0, 5.0), (2.0, 4.0), (1.5, 4.0), (2.0, 4.0), (3.0, 1.0), (3.0, 0.0)]
    assert front(points) == [0, 1, 3, 4]  # (1.5, 4) and (3, 0) are reached by others; equals do not beat each other
    assert front([(1.0,), (3.0,), (2.0,)]) == [1]
    assert front([]) == []
