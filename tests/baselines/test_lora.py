"""LoRA, and its agreement with the widely used peft library."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from adapted_nets import adapted, batch, loss_of, mlp
from torch import nn

import dlrt


def net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 5, 3, stride=2, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(5 * 9, 4))


@pytest.mark.parametrize("alpha", [None, 8])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_agrees_with_peft(decay, alpha, double):
    peft = pytest.importorskip("peft")
    plain, x, y = net(), torch.randn(9, 3, 6, 6), torch.randint(0, 4, (9,))
    ours = dlrt.add_adapters(copy.deepcopy(plain), 2, ("0", "3"), "lora", alpha=alpha)
    config = peft.LoraConfig(r=2, lora_alpha=alpha or 2, lora_dropout=0.0, target_modules=["0", "3"], bias="all")
    theirs = peft.get_peft_model(copy.deepcopy(plain), config).double()
    layers = [theirs.base_model.model[i] for i in (0, 3)]
    A = [layer.lora_B["default"].weight for layer in layers]  # (m, r), (m, r, 1, 1)
    B = [layer.lora_A["default"].weight for layer in layers]  # (r, n), (r, C, J, K)
    with torch.no_grad():
        for adapter, b in zip(dlrt.adapters_of(ours).values(), B, strict=True):
            b.copy_(adapter.B.T.reshape(b.shape))

    stepper = dlrt.BASELINES["lora"](ours, lr=0.01, optimizer="adamw", decay=decay)
    optimiser = torch.optim.AdamW([p for p in theirs.parameters() if p.requires_grad], lr=0.01, weight_decay=decay)
    for _ in range(40):
        loss = stepper.step(loss_of(ours, x, y))
        optimiser.zero_grad()
        expected = F.cross_entropy(theirs(x), y)
        expected.backward()
        optimiser.step()
        torch.testing.assert_close(loss, expected.detach(), rtol=1e-9, atol=0)
        for adapter, a, b in zip(dlrt.adapters_of(ours).values(), A, B, strict=True):
            torch.testing.assert_close(adapter.A, a.flatten(1), rtol=1e-6, atol=1e-9)
            torch.testing.assert_close(adapter.B, b.flatten(1).T, rtol=1e-6, atol=1e-9)
    assert expected < 0.5 * F.cross_entropy(plain(x), y)


@pytest.mark.parametrize("rule", ["sgd", "adamw"])
def test_is_simultaneous_descent_on_both_factors_and_the_dense_parts(rule, double):
    ours, (x, y) = adapted("vit", "lora", trainable=("head", "bias$")), batch("vit")
    theirs = copy.deepcopy(ours)
    stepper = dlrt.BASELINES["lora"](ours, lr=0.05, optimizer=rule)
    make = {"sgd": torch.optim.SGD, "adamw": lambda p, lr: torch.optim.AdamW(p, lr, weight_decay=0.0)}[rule]
    optimiser = make([p for p in theirs.parameters() if p.requires_grad], lr=0.05)
    for _ in range(4):
        stepper.step(loss_of(ours, x, y))
        optimiser.zero_grad()
        loss_of(theirs, x, y)().backward()
        optimiser.step()
    for (name, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, msg=name)


@pytest.mark.parametrize("name", ["lora", "adalora"])
def test_other_adapters_are_refused(name):
    with pytest.raises(ValueError, match=rf"the model has no adapters: call dlrt\.add_adapters\(.*method='{name}'\)"):
        dlrt.BASELINES[name](mlp(), lr=0.1)
    with pytest.raises(ValueError, match="the model has adapters of LowRankLinear: call"):
        dlrt.BASELINES[name](adapted("mlp"), lr=0.1)
    other = {"lora": "adalora", "adalora": "lora"}[name]
    with pytest.raises(ValueError, match="the model has adapters of "):
        dlrt.BASELINES[name](adapted("mlp", other), lr=0.1)
    with pytest.raises(ValueError, match="no low-rank layer to train"):
        dlrt.integrators.AugmentedBUG(adapted("mlp", name), lr=0.1)
