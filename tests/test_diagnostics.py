from __future__ import annotations

import torch
from problems import problem
from torch import nn

import dlrt
from dlrt.diagnostics import at_max_rank, orthogonality_drift, outside_tangent


def test_gradient_outside_the_tangent_space(double):
    p = problem("conv")
    p.closure().backward()
    grads = [q.grad.clone() for q in p.model.parameters()]
    shares = outside_tangent(p.model, p.closure)
    for (name, share), layer, G in zip(shares.items(), p.layers, p.gradient(p.Y), strict=True):
        U, _, V = layer.factors
        outside = (torch.eye(len(U)) - U @ U.mT) @ G @ (torch.eye(len(V)) - V @ V.mT)
        assert abs(share - float(outside.norm() / G.norm())) < 1e-10, name
        assert 0 < share < 1
    assert all(torch.equal(a, q.grad) for a, q in zip(grads, p.model.parameters(), strict=True))


def test_orthogonality_drift_sees_a_broken_basis():
    model = dlrt.factorize(nn.Sequential(nn.Linear(9, 8), nn.Linear(8, 7)), rank=3)
    assert max(orthogonality_drift(model).values()) < 5e-6
    model[1].V.data[:, 0] *= 1.1
    drift = orthogonality_drift(model)
    assert drift["0"] < 5e-6
    assert abs(drift["1"] - 0.21) < 1e-3


def test_layers_at_their_bound():
    model = dlrt.factorize(nn.Sequential(nn.Linear(9, 8), nn.Linear(8, 4)), rank=4)
    assert at_max_rank(dlrt.integrators.AugmentedBUG(model, lr=0.1)) == ["1"]
    assert at_max_rank(dlrt.integrators.AugmentedBUG(model, lr=0.1, max_rank=4)) == ["0", "1"]


def test_a_look_at_the_gradient_disturbs_nothing():
    model = dlrt.factorize(nn.Sequential(nn.Linear(9, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 7)), rank=3)
    x, state = torch.randn(5, 9), torch.get_rng_state()
    mean = model[1].running_mean.clone()
    outside_tangent(model, lambda: model(x).square().mean())
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(model[1].running_mean, mean)
