from __future__ import annotations

import pytest
import torch
from problems import dense_net, problem
from torch import nn

import dlrt


@pytest.mark.parametrize("rule", ["sgd", "momentum", "adam", "adamw"])
def test_dense_is_plain_torch_training(rule, double):
    model, x, y = dense_net("mlp")
    twin, _, _ = dense_net("mlp")
    twin.load_state_dict(model.state_dict())
    make = {
        "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
        "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
        "adam": lambda p: torch.optim.Adam(p, lr=0.1),
        "adamw": lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.3),
    }[rule]
    decay = 0.3 if rule == "adamw" else 0.0
    plain, stepper = make(twin.parameters()), dlrt.BASELINES["dense"](model, lr=0.1, optimizer=rule, decay=decay)
    for _ in range(4):
        stepper.step(lambda: nn.functional.cross_entropy(model(x), y))
        plain.zero_grad()
        nn.functional.cross_entropy(twin(x), y).backward()
        plain.step()
    for a, b in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_decay_shrinks_the_matrices_of_dense_and_the_cores_of_svd_factor():
    model, _, _ = dense_net("mlp")
    before = model[0].weight.detach().clone()
    dlrt.BASELINES["dense"](model, lr=0.1, decay=0.5).step(lambda: model[0].weight.sum() * 0)
    torch.testing.assert_close(model[0].weight.detach(), 0.95 * before)
    p = problem("mlp")
    before = p.Y[0]
    dlrt.BASELINES["svd_factor"](p.model, lr=0.1, decay=0.5).step(lambda: 0 * p.closure())
    torch.testing.assert_close(p.Y[0], 0.95 * before)


def test_svd_factor_descends_on_all_factors(double):
    p = problem("mlp")
    start = [layer.factors for layer in p.layers]
    U, S, V = (x.clone() for x in start[0])
    G = p.gradient(p.Y)[0]
    dlrt.BASELINES["svd_factor"](p.model, lr=0.1).step(p.closure)
    torch.testing.assert_close(p.layers[0].U.detach(), U - 0.1 * G @ V @ S.mT)
    torch.testing.assert_close(p.layers[0].S.detach(), S - 0.1 * U.mT @ G @ V)
    torch.testing.assert_close(p.layers[0].V.detach(), V - 0.1 * G.mT @ U @ S)


def test_clipping_checkpoint_and_schedule(tmp_path):
    p = problem("mlp")
    stepper = dlrt.BASELINES["svd_factor"](p.model, lr=0.1, optimizer="momentum", max_grad_norm=1e-3)
    schedule = torch.optim.lr_scheduler.ExponentialLR(stepper, 0.5)
    before = p.Y[0]
    stepper.step(p.closure)
    schedule.step()
    assert 0 < (p.Y[0] - before).norm() < 1e-3
    assert stepper.param_groups[0]["lr"] == 0.05
    torch.save(stepper.state_dict(), tmp_path / "state.pt")
    stepper.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert stepper.base.state is stepper.state
    assert len(stepper.state) == len(list(p.model.parameters()))


def test_svd_factor_needs_low_rank_layers():
    with pytest.raises(ValueError, match=r"call dlrt\.factorize"):
        dlrt.BASELINES["svd_factor"](nn.Linear(3, 3), lr=0.1)


def test_decay_follows_the_schedule_and_counts_tied_weights_once():
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    model[1].weight = model[0].weight
    stepper = dlrt.BASELINES["dense"](model, lr=0.2, decay=0.5)
    stepper.param_groups[0]["lr"] = 0.1
    before = model[0].weight.detach().clone()
    stepper.step(lambda: model[0].weight.sum() * 0)
    torch.testing.assert_close(model[0].weight.detach(), 0.95 * before)
