"""Counts and spectra in a record, against dense matrices and hand counts."""

import pytest
import torch
from torch import nn

import dlrt
from experiments.structure import final_structure, spectrum_of, structure_of


def small_net() -> nn.Module:
    """12 × 10 of rank 3, a convolution 6 × 18 of rank 2, and a dense 4 × 12."""
    net = nn.ModuleDict({"a": nn.Linear(10, 12), "b": nn.Conv2d(2, 6, 3), "c": nn.Linear(12, 4)})
    return dlrt.factorize(net, rank={"a": 3, "b": 2}, init="orthonormal")


def test_counts_are_those_of_the_hand() -> None:
    final = final_structure(small_net())
    assert final["ranks"] == {"a": 3, "b": 2}
    assert final["shapes"] == {"a": [12, 10], "b": [6, 18], "c": [4, 12]}
    assert final["eval_params"] == 3 * 22 + 2 * 24 + 48
    assert final["train_params"] == (6 * 22 + 6**2) + (4 * 24 + 4**2) + 48
    assert final["dense_params"] == 120 + 108 + 48
    assert final["params_low_rank"] == 3 * 22 + 2 * 24
    assert final["compression"] == pytest.approx(1 - 162 / 276)
    assert final["train_compression"] == pytest.approx(1 - 328 / 276)
    assert structure_of(small_net()).items() <= final.items()


def test_of_an_adapted_net_the_adapters_are_counted() -> None:
    """The paper's counts of its Table 3, by hand: Σ r(m + n), and r² besides where there is a core S."""
    for method, r2 in (("integrator", 2 * 4), ("adalora", 2 * 4), ("lora", 0)):
        net = nn.ModuleDict({"a": nn.Linear(10, 12), "b": nn.Linear(12, 6), "c": nn.Linear(6, 4)})
        final = final_structure(dlrt.add_adapters(net, 2, ["a", "b"], method=method, trainable="c"))
        assert final["ranks"] == {"a": 2, "b": 2} and final["shapes"] == {"a": [12, 10], "b": [6, 12]}
        assert final["eval_params"] == final["params_low_rank"] == 2 * 22 + 2 * 18
        assert final["dense_params"] == 120 + 72
        assert final["adapter_params"] == 2 * 22 + 2 * 18 + r2
        numbers = {"integrator": 4 + 4, "adalora": 2 + 2, "lora": 0}[method]  # in S, or on its diagonal
        assert final["trainable_params"] == 2 * 22 + 2 * 18 + numbers + 6 * 4 + 4
        assert spectrum_of(net).keys() == final["ranks"].keys()


def test_without_adapters_there_is_no_count_of_them() -> None:
    assert "adapter_params" not in final_structure(small_net())
    probed = dlrt.add_adapters(nn.ModuleDict({"a": nn.Linear(3, 2), "b": nn.Linear(2, 2)}), 1, (), trainable="^b")
    final = final_structure(probed)
    assert "adapter_params" not in final and (final["ranks"], final["trainable_params"]) == ({}, 6)


def test_spectra_of_adapters_are_those_of_what_they_add() -> None:
    for method in ("integrator", "lora", "adalora"):
        net = dlrt.add_adapters(nn.ModuleDict({"a": nn.Linear(7, 5)}), 3, "a", method=method, trainable="bias")
        with torch.no_grad():
            for parameter in dlrt.adapters_of(net)["a"].parameters():
                parameter.normal_()
        correction = dlrt.adapters_of(net)["a"].weight.detach().double()  # type: ignore[operator,union-attr]
        assert spectrum_of(net)["a"] == pytest.approx(torch.linalg.svdvals(correction)[:3].tolist(), rel=1e-4)


def test_a_dense_net_has_no_ranks_and_no_compression() -> None:
    final = final_structure(nn.Linear(3, 2))
    assert (final["ranks"], final["compression"], final["params_low_rank"]) == ({}, 0, 0)


def test_spectra_are_those_of_the_weights_even_where_the_bases_are_not_orthonormal() -> None:
    net = small_net()
    with torch.no_grad():
        for layer in dlrt.low_rank_layers(net).values():
            for factor in (layer.U, layer.S, layer.V):
                factor.normal_()
    for name, values in spectrum_of(net).items():
        layer = dlrt.low_rank_layers(net)[name]
        expected = torch.linalg.svdvals(layer.weight.detach().double().flatten(1))[: layer.rank]
        assert values == pytest.approx(expected.tolist(), rel=1e-5)
