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
