"""A budget of ranks over all layers, in place of τ or beside it."""

from __future__ import annotations

import copy

import pytest
import torch
from problems import problem, random_matrix
from torch import Tensor, nn

import dlrt
from dlrt.diagnostics import orthogonality_drift

EVERY = sorted(dlrt.INTEGRATORS)
ADAPTIVE = [name for name in EVERY if dlrt.INTEGRATORS[name].rank_adaptive]


def make(name: str, model: nn.Module, **options):
    return dlrt.INTEGRATORS[name](model, **{"lr": 0.1, "rank_budget": 8} | options)


def kept_of_all(spectra: list[Tensor], budget: int, least: int) -> list[int]:
    """How many of each layer's singular values are left: `least` in any case, then the largest of all layers."""
    rest = sorted(((float(s), i) for i, sigma in enumerate(spectra) for s in sigma[least:]), reverse=True)
    chosen = [i for _, i in rest[: budget - sum(min(least, len(sigma)) for sigma in spectra)]]
    return [min(least, len(sigma)) + chosen.count(i) for i, sigma in enumerate(spectra)]


@pytest.mark.parametrize("in_backward", [True, False])
@pytest.mark.parametrize(("budget", "least"), [(8, 1), (9, 2), (6, 2), (30, 1)])
@pytest.mark.parametrize("kind", ["mlp", "conv"])
@pytest.mark.parametrize("name", ADAPTIVE)
def test_what_goes_are_the_smallest_singular_values_of_all_layers(name, kind, budget, least, in_backward, double):
    """Against the same step without any truncation, whose Y are decomposed afresh."""
    p = problem(kind, rank=3)
    if kind == "conv":
        budget += 4  # four layers instead of three
    stepper = make(name, p.model, rank_budget=budget, min_rank=least, in_backward=in_backward)
    x, y = torch.randn(16, *p.model[0].weight.shape[1:]) if kind == "mlp" else torch.randn(7, 3, 8, 8), None
    y = torch.randint(0, 4, (len(x),))
    for _ in range(4):
        model, twin = copy.deepcopy((p.model, stepper))
        twin.param_groups[0].update(rank_budget=None, tau=0.0, min_rank=1)
        twin.step(lambda model=model: nn.functional.cross_entropy(model(x), y))
        stepper.step(lambda: nn.functional.cross_entropy(p.model(x), y))
        whole = [layer.factors.dense() for layer in dlrt.low_rank_layers(model).values()]
        spectra = [torch.linalg.svdvals(Y) for Y in whole]
        spectra = [s[: layer.rank] for s, layer in zip(spectra, dlrt.low_rank_layers(model).values(), strict=True)]
        ranks = kept_of_all(spectra, budget, least)
        assert [layer.rank for layer in p.layers] == ranks
        assert sum(ranks) <= budget
        for layer, Y in zip(p.layers, whole, strict=True):
            A, sigma, Bt = torch.linalg.svd(Y, full_matrices=False)
            best = A[:, : layer.rank] @ torch.diag(sigma[: layer.rank]) @ Bt[: layer.rank]
            assert (layer.factors.dense() - best).norm() <= 1e-10


def two_matrices(ranks: dict[str, int], targets: dict[str, Tensor]):
    """½‖Y − A‖² of two layers that start small."""
    starts = {name: random_matrix(12, 10, torch.full((r,), 0.01)) for name, r in ranks.items()}
    model = nn.ModuleDict({k: dlrt.LowRankLinear(10, 12, len(Y.S), bias=False, init=Y) for k, Y in starts.items()})
    eye = torch.eye(10)
    return model, lambda: sum(0.5 * (model[k](eye).mT - A).square().sum() for k, A in targets.items())


@pytest.mark.parametrize("tau", [None, 1e-3])
@pytest.mark.parametrize("name", ADAPTIVE)
def test_ranks_go_where_the_singular_values_are(name, tau, double):
    """A layer that needs rank 4 takes it from one that needs no more than 1; with τ, that layer gives up the rest."""
    targets = {
        "rich": random_matrix(12, 10, torch.tensor([4.0, 3.0, 2.0, 1.0])).dense(),
        "poor": random_matrix(12, 10, torch.tensor([5.0, 1e-3])).dense(),
    }
    model, closure = two_matrices({"rich": 2, "poor": 4}, targets)
    stepper = make(name, model, rank_budget=6, tau=tau)
    losses = []
    for _ in range(80):
        losses.append(float(stepper.step(closure)))
        assert model["rich"].rank + model["poor"].rank <= 6
    assert model["rich"].rank >= 4
    assert model["poor"].rank <= 2
    assert losses[-1] < 1e-4 * losses[0]


def test_without_tau_and_budget_the_ranks_stay_and_a_budget_lets_them_grow():
    for budget, expected in ((None, 3), (30, 6)):
        p = problem("mlp", rank=3)
        make("aug_bug", p.model, rank_budget=budget).step(p.closure)
        assert p.layers[0].rank == expected


@pytest.mark.parametrize("name", ADAPTIVE)
def test_the_largest_rank_bounds_each_layer_still(name):
    p = problem("mlp", rank=2)
    stepper = make(name, p.model, rank_budget=9, max_rank=3)
    for _ in range(4):
        stepper.step(p.closure)
        assert all(layer.rank <= 3 for layer in p.layers)


@pytest.mark.parametrize("transport", ["project", "index"])
@pytest.mark.parametrize("rule", ["sgd", "momentum", "adamw"])
@pytest.mark.parametrize("inner_steps", [1, 2])
@pytest.mark.parametrize("name", ADAPTIVE)
def test_the_rules_moments_follow_and_the_loss_falls(name, inner_steps, rule, transport):
    p = problem("mlp", rank=3)
    lr = {"sgd": 0.1, "momentum": 0.05, "adamw": 0.02}[rule]
    stepper = make(name, p.model, lr=lr, rank_budget=7, optimizer=rule, transport=transport, inner_steps=inner_steps)
    losses = []
    for budget in [7] * 6 + [12] * 6 + [5] * 6:
        stepper.param_groups[0]["rank_budget"] = budget
        for _ in range(stepper.cycle):
            losses.append(float(stepper.step(p.closure)))
        assert sum(layer.rank for layer in p.layers) == budget
        assert max(orthogonality_drift(p.model).values()) < 5e-6
        for layer in p.layers:
            (m, n), r = layer.matrix_shape, layer.rank
            shapes = {"K": (m, r), "L": (n, r), "S": (r, r)}
            for flow in stepper.flows if rule != "sgd" else ():
                state = stepper.state[layer.S][flow]
                assert {key: state[key].shape for key in ("first", "second") if key in state} == dict.fromkeys(
                    ["first", "second"] if rule == "adamw" else ["first"], shapes[flow]
                )
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize("inner_steps", [1, 3])
@pytest.mark.parametrize("rule", ["sgd", "momentum", "adamw"])
@pytest.mark.parametrize("name", ADAPTIVE)
def test_interrupted_training_continues_exactly(name, rule, inner_steps, tmp_path):
    def fresh():
        torch.manual_seed(0)
        p = problem("mlp")
        return p, make(name, p.model, lr=0.02, rank_budget=7, optimizer=rule, inner_steps=inner_steps)

    p, stepper = fresh()
    for step in range(15):
        if step == 7:
            torch.save([p.model.state_dict(), stepper.state_dict()], tmp_path / "checkpoint.pt")
        stepper.step(p.closure)
    resumed, again = fresh()
    state, steps = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    again.load_state_dict(steps)
    resumed.model.load_state_dict(state)
    for _ in range(8):
        again.step(resumed.closure)
    for (key, a), b in zip(p.model.state_dict().items(), resumed.model.state_dict().values(), strict=True):
        assert torch.equal(a, b), key


@pytest.mark.parametrize("name", ADAPTIVE)
def test_the_start_keeps_its_weights_and_an_idle_layer_counts(name, double):
    """The budget's singular values are read from diagonal cores: those of the start, of any shape, are made so."""
    model = nn.ModuleDict({"used": nn.Linear(8, 6), "idle": nn.Linear(8, 6)})
    dlrt.factorize(model, rank=3, init="normal")
    before = {name: layer.factors.dense() for name, layer in model.items()}
    stepper = make(name, model, rank_budget=4)
    for key, layer in model.items():
        torch.testing.assert_close(layer.factors.dense(), before[key])
    x = torch.randn(5, 8)
    stepper.step(lambda: model["used"](x).square().mean())
    assert model["used"].rank + model["idle"].rank == 4
    A, sigma, Bt = torch.linalg.svd(before["idle"])
    r = model["idle"].rank
    torch.testing.assert_close(model["idle"].factors.dense(), A[:, :r] @ torch.diag(sigma[:r]) @ Bt[:r])


@pytest.mark.parametrize("name", [n for n in EVERY if n not in ADAPTIVE])
def test_a_fixed_rank_takes_no_budget(name):
    with pytest.raises(ValueError, match="keeps its rank and takes no rank_budget, got 8: leave rank_budget=None"):
        make(name, problem("mlp").model)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank_budget": 2}, "rank_budget=2 is less than min_rank=1 for each of the 3 low-rank layers: raise it"),
        ({"rank_budget": 5, "min_rank": 2}, "rank_budget=5 is less than min_rank=2"),
        ({"rank_budget": 0}, "rank_budget must be None or an integer of at least 1, got 0"),
        ({"rank_budget": 7.5}, "rank_budget must be None or an integer"),
        ({"rank_budget": True}, "rank_budget must be None or an integer"),
    ],
)
def test_impossible_budgets_are_refused(options, message):
    p = problem("mlp")
    before = copy.deepcopy(p.model.state_dict())
    with pytest.raises(ValueError, match=message):
        make("aug_bug", p.model, **options)
    assert all(torch.equal(x, before[key]) for key, x in p.model.state_dict().items())
