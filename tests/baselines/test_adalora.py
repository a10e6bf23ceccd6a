"""AdaLoRA: its equations, and its agreement with peft, whose implementation is the authors'."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from adapted_nets import adapted, batch, loss_of
from torch import nn

import dlrt
from dlrt.baselines.adalora import orthogonality


def make(model: nn.Module, **options) -> dlrt.baselines.AdaLoRA:
    return dlrt.baselines.AdaLoRA(model, **{"lr": 0.02, "optimizer": "adamw"} | options)


def net() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2, padding=1),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(6 * 9, 12),
        nn.Tanh(),
        nn.Linear(12, 4),
    )


def peft_model(plain: nn.Module, alpha: int, **config):
    peft = pytest.importorskip("peft")
    names = {"target_modules": ["0", "3", "5"], "bias": "all", "lora_alpha": alpha, "lora_dropout": 0.0}
    model = peft.get_peft_model(copy.deepcopy(plain), peft.AdaLoraConfig(**names | config)).double()
    layers = [model.base_model.model[i] for i in (0, 3, 5)]
    for layer in layers:
        layer.ranknum["default"].data -= 1e-5  # which peft adds again in its forward, so that s = α / r
    return model, layers


def penalty(model: nn.Module) -> torch.Tensor:
    """peft adds it to the loss of models that return one: its formula, from `AdaLoraModel.forward`."""
    norms = []
    for name, p in model.named_parameters():
        if "lora_A" in name or "lora_B" in name:
            covariance = p @ p.T if "lora_A" in name else p.T @ p
            norms.append(torch.norm(covariance - torch.eye(len(covariance)), p="fro"))
    return sum(norms) / len(norms)


@pytest.mark.parametrize("alpha", [None, 8])
def test_agrees_with_peft(alpha, double):
    """40 steps through warm-up (4), a falling budget (to step 28) and the final phase, masking every 3 steps."""
    plain, x, y = net(), torch.randn(9, 3, 6, 6), torch.randint(0, 4, (9,))
    ours = dlrt.add_adapters(copy.deepcopy(plain), 4, ("0", "3", "5"), "adalora", alpha=alpha)
    schedule = {"init_r": 4, "target_r": 2, "tinit": 4, "tfinal": 12, "deltaT": 3, "total_step": 40}
    theirs, layers = peft_model(plain, alpha or 4, orth_reg_weight=0.3, **schedule)
    adapters = list(dlrt.adapters_of(ours).values())
    with torch.no_grad():
        for adapter, layer in zip(adapters, layers, strict=True):
            layer.lora_A["default"].copy_(adapter.Q.T)
            layer.lora_B["default"].copy_(adapter.P)
    options = {"rank_budget": 6, "total_steps": 40, "warmup": 0.1, "final": 0.3, "interval": 3, "penalty": 0.3}
    stepper = make(ours, decay=0.1, **options)
    optimiser = torch.optim.AdamW([p for p in theirs.parameters() if p.requires_grad], lr=0.02, weight_decay=0.1)
    patterns = set()
    for step in range(1, 41):
        loss = stepper.step(loss_of(ours, x, y))
        optimiser.zero_grad()
        expected = F.cross_entropy(theirs(x), y)
        (expected + 0.3 * penalty(theirs)).backward()
        optimiser.step()
        theirs.base_model.update_and_allocate(step)
        torch.testing.assert_close(loss, expected.detach(), rtol=1e-8, atol=0)
        pattern = theirs.peft_config["default"].rank_pattern or {}
        masks = [torch.tensor(mask) for _, mask in sorted(pattern.items())] or [torch.ones(4, dtype=torch.bool)] * 3
        for adapter, layer, mask in zip(adapters, layers, masks, strict=True):
            torch.testing.assert_close(adapter.P, layer.lora_B["default"], rtol=1e-6, atol=1e-9)
            torch.testing.assert_close(adapter.sigma, layer.lora_E["default"][:, 0], rtol=1e-6, atol=1e-9)
            torch.testing.assert_close(adapter.Q, layer.lora_A["default"].T, rtol=1e-6, atol=1e-9)
            assert torch.equal(adapter.kept, mask), step
        patterns.add(tuple(torch.cat(masks).tolist()))
    assert len(patterns) > 3
    assert sum(adapter.rank for adapter in adapters) == 6
    assert F.cross_entropy(ours(x), y) < 0.5 * F.cross_entropy(plain(x), y)


@pytest.mark.parametrize(
    ("warmup", "final", "total", "target"), [(0.1, 0.3, 40, 2), (0.25, 0.25, 200, 1), (0, 0, 64, 3)]
)
def test_the_budget_is_pefts_at_every_step(warmup, final, total, target):
    numbers = {"tinit": int(warmup * total), "tfinal": int(final * total), "total_step": total}
    theirs, _ = peft_model(net(), 4, init_r=4, target_r=target, **numbers)
    allocator = theirs.base_model.rankallocator
    model = dlrt.add_adapters(net(), 4, ("0", "3", "5"), "adalora")
    stepper = make(model, rank_budget=3 * target, total_steps=total, warmup=warmup, final=final)
    for step in range(total + 1):
        assert stepper.budget(step) == allocator.budget_schedule(step)[0], step


def test_the_ranks_follow_the_budget_and_the_masked_stay_zero(double):
    model, (x, y) = adapted("vit", "adalora", rank=3), batch("vit")
    options = {"rank_budget": 14, "total_steps": 20, "warmup": 0.2, "final": 0.4, "interval": 2}
    stepper, adapters, seen = make(model, **options), list(dlrt.adapters_of(model).values()), []
    for step in range(1, 21):
        stepper.step(loss_of(model, x, y))
        seen.append(sum(adapter.rank for adapter in adapters))
        if step >= 12:
            assert not any(adapter.sigma[~adapter.kept].any() for adapter in adapters)
    assert seen[:4] == [36] * 4
    assert seen[5] == stepper.budget(6) and seen[7] == stepper.budget(8) and seen[11:] == [14] * 9
    assert seen[6] > seen[5]  # between two maskings the masked count again, as they move
    assert len({adapter.rank for adapter in adapters}) > 1


def test_without_a_schedule_nothing_is_masked_and_the_default_budget_is_two_thirds():
    model, (x, y) = adapted("mlp", "adalora", rank=4), batch("mlp")
    stepper = make(model)
    for _ in range(5):
        stepper.step(loss_of(model, x, y))
    assert [adapter.rank for adapter in dlrt.adapters_of(model).values()] == [4, 4, 4]
    assert stepper.target == 8


def test_the_penalty_keeps_the_bases_near_orthonormal_and_out_of_the_loss(double):
    model, (x, y) = adapted("mlp", "adalora"), batch("mlp")
    adapters, start = list(dlrt.adapters_of(model).values()), loss_of(model, x, y)()
    bases = [basis.detach() for adapter in adapters for basis in (adapter.P, adapter.Q)]
    expected = sum(torch.linalg.norm(Q.T @ Q - torch.eye(2)) for Q in bases) / 6
    torch.testing.assert_close(orthogonality(adapters).detach(), expected)
    stepper = make(model, penalty=1.0)
    torch.testing.assert_close(stepper.step(loss_of(model, x, y)), start.detach())
    for _ in range(150):
        stepper.step(loss_of(model, x, y))
    assert orthogonality(adapters) < 0.1 * expected


@pytest.mark.parametrize("rule", ["sgd", "momentum", "adam", "adamw"])
def test_interrupted_training_continues_exactly(rule, tmp_path):
    """Sensitivities, masks and the count of steps are part of the states."""
    x, y = batch("vit")
    options = {"optimizer": rule, "rank_budget": 14, "total_steps": 16, "final": 0.25, "interval": 3}

    def fresh():
        torch.manual_seed(1)
        model = adapted("vit", "adalora", rank=3)
        return model, make(model, **options)

    model, stepper = fresh()
    for step in range(16):
        if step == 7:
            torch.save([model.state_dict(), stepper.state_dict()], tmp_path / "checkpoint.pt")
        stepper.step(loss_of(model, x, y))
    twin, again = fresh()
    state, steps = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    twin.load_state_dict(state)
    again.load_state_dict(steps)
    for _ in range(9):
        again.step(loss_of(twin, x, y))
    for (key, a), b in zip(model.state_dict().items(), twin.state_dict().values(), strict=True):
        assert torch.equal(a, b), key


def test_a_layer_that_the_loss_does_not_reach_loses_its_triplets_first():
    model = nn.ModuleDict({"used": nn.Linear(6, 4), "idle": nn.Linear(6, 4)})
    dlrt.add_adapters(model, 2, ".", "adalora")
    stepper = make(model, rank_budget=2, total_steps=6, warmup=0.0, final=0.5, interval=1, penalty=0.0)
    x, y = torch.randn(5, 6), torch.randint(0, 4, (5,))
    for _ in range(6):
        stepper.step(lambda: F.cross_entropy(model["used"](x), y))
    assert {name: adapter.rank for name, adapter in dlrt.adapters_of(model).items()} == {"used": 2, "idle": 0}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank_budget": 0}, r"rank_budget must be in 1 … 6, the ranks there are, got 0"),
        ({"rank_budget": 7}, "rank_budget must be in 1 … 6"),
        ({"total_steps": 0}, "total_steps must be None or at least 1, got 0"),
        ({"warmup": 0.5, "final": 0.5}, r"warmup \+ final must be parts below 1 in all, got 1\.0"),
        ({"warmup": -0.1}, r"warmup \+ final must be"),
        ({"interval": 0}, "interval must be at least 1, got 0"),
        ({"lr": -1.0}, "lr must be"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        make(adapted("mlp", "adalora"), **options)


def test_a_closure_without_a_loss_is_refused():
    stepper = make(adapted("mlp", "adalora"))
    for wrong in (None, [], lambda: 3.0, lambda: torch.tensor(1.0)):
        with pytest.raises(ValueError, match="closure"):
            stepper.step(wrong)
