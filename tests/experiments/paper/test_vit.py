import pytest

from experiments.paper import vit


def test_the_printed_figures_are_those_of_the_papers_table() -> None:
    printed = vit.printed().set_index(["method", "data"])
    assert len(printed) == 8 and printed.notna().all(axis=None)
    assert printed.loc[("abc_psi", "cifar10")].tolist() == [0.34, pytest.approx(0.9857)]
    assert printed.loc[("abc_psi", "cifar100")].tolist() == [0.34, pytest.approx(0.9093)]
    assert printed.loc[("parallel_bug", "cifar100")].tolist() == [0.35, pytest.approx(0.9163)]
    assert printed.loc[("adalora", "cifar100")].tolist() == [0.45, pytest.approx(0.9144)]
    assert printed.loc[("lora", "cifar10")].tolist() == [0.47, pytest.approx(0.9847)]
