"""Prediction by plain layers: the same function, each layer in the form whose seconds are fewer."""

import copy
from collections.abc import Sequence

import pytest
import torch
from problems import NETS, Twice, dense_net
from torch import Tensor, nn

import dlrt
from dlrt.predict import seconds_of


class Told:
    """Seconds as they are told, thin and dense, and the shapes of what they were asked for."""

    def __init__(self, thin: float, dense: float) -> None:
        self.seconds, self.asked = (thin, dense), list[tuple[int, ...]]()

    def __call__(self, forms: Sequence[nn.Module], x: Tensor) -> tuple[float, float]:
        assert [type(form) is nn.Sequential for form in forms] == [True, False]
        torch.testing.assert_close(forms[0](x), forms[1](x))
        self.asked.append(tuple(x.shape))
        return self.seconds


class Partly(nn.ModuleDict):
    """Calls the first of its layers."""

    def forward(self, x: Tensor) -> Tensor:
        return next(iter(self.values()))(x)


def thin_layers(model: nn.Module) -> list[bool]:
    """Whether each layer of a sequential model, activations aside, is two thin ones."""
    return [type(m) is nn.Sequential for m in model if isinstance(m, nn.Linear | nn.Conv2d | nn.Sequential)]


@pytest.mark.parametrize("kind", NETS)
@pytest.mark.parametrize("told", [Told(1.0, 2.0), Told(2.0, 1.0)], ids=["thin", "dense"])
def test_the_function_is_the_low_rank_models_and_no_low_rank_layer_is_left(kind, told, double):
    net, x, _ = dense_net(kind)
    model = dlrt.factorize(net, rank=2, init="normal")
    before = copy.deepcopy(model.state_dict())
    plain = dlrt.predictor(model, x, timing=told)
    torch.testing.assert_close(plain(x), model(x), rtol=1e-12, atol=1e-12)
    assert not dlrt.low_rank_layers(plain)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_each_layer_takes_its_own_faster_form():
    model = dlrt.factorize(nn.Sequential(nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 10)), rank=2)
    plain = dlrt.predictor(model, torch.randn(5, 16), timing=lambda forms, x: (1.0, 2.0 if x.shape[1] == 16 else 0.5))
    assert thin_layers(plain) == [True, False]


def test_a_layer_called_by_keyword_is_refused():
    class Keyword(nn.ModuleDict):
        def forward(self, x):
            return self["layer"](x=x)

    model, x = Keyword({"layer": dlrt.LowRankLinear(20, 30, 2)}), torch.randn(4, 20)
    with pytest.raises(ValueError, match=r"calls a low-rank layer as layer\(x=…\), which plain layers cannot take"):
        dlrt.predictor(model, x, timing=Told(1.0, 2.0))


@pytest.mark.parametrize(("thin", "taken"), [(0.94, True), (0.96, False), (1.0, False)])
def test_in_doubt_a_layer_is_dense(thin, taken):
    model = dlrt.factorize(nn.Sequential(nn.Linear(16, 12)), rank=2)
    assert thin_layers(dlrt.predictor(model, torch.randn(5, 16), timing=Told(thin, 1.0))) == [taken]


def test_the_times_are_taken_on_what_reaches_a_layer_and_only_where_the_thin_form_is_smaller():
    net, x, _ = dense_net("conv")
    model, told = dlrt.factorize(net, rank={"0": 2, "2": 9, "5": 3, "7": 2}), Told(1.0, 2.0)
    plain = dlrt.predictor(model, x, timing=told)  # layer 2 is 9 × 48, layer 7 is 4 × 11 of rank 2: 30 < 44
    assert told.asked == [(7, 3, 8, 8), (7, 9 * 16), (7, 11)]
    assert thin_layers(plain) == [True, False, True, True]


@pytest.mark.parametrize(("rank", "timed"), [(47, True), (48, False), (50, False)])
def test_a_thin_form_of_hardly_fewer_multiply_adds_is_not_even_timed(rank, timed):
    model, told = nn.Sequential(dlrt.LowRankLinear(100, 100, rank)), Told(1.0, 2.0)
    assert thin_layers(dlrt.predictor(model, torch.randn(5, 100), timing=told)) == [timed]
    assert len(told.asked) == timed


def test_the_times_of_a_layer_that_is_called_twice_add_up():
    model, seconds = dlrt.factorize(Twice(8), rank=2), iter([(1.0, 3.0), (4.0, 1.0)])
    plain = dlrt.predictor(model, torch.randn(5, 8), timing=lambda forms, x: next(seconds))
    assert type(plain.shared) is nn.Linear


def test_a_layer_may_be_the_whole_model_be_registered_twice_or_not_be_called():
    layer = dlrt.LowRankLinear(8, 8, 2)
    assert type(dlrt.predictor(layer, torch.randn(5, 8), timing=Told(2.0, 1.0))) is nn.Linear
    assert type(dlrt.predictor(layer, torch.randn(5, 8), timing=Told(1.0, 2.0))) is nn.Sequential
    plain, told = nn.Sequential(layer, nn.ReLU(), layer), Told(1.0, 2.0)
    plain = dlrt.predictor(plain, torch.randn(5, 8), timing=told)
    assert plain[0] is plain[2] and len(told.asked) == 2
    model = Partly({"a[b]": layer, "unused": dlrt.LowRankLinear(8, 8, 2)})
    plain = dlrt.predictor(model, torch.randn(5, 8), timing=Told(2.0, 1.0))
    assert [type(m) for m in plain.values()] == [nn.Linear, nn.Sequential]


@pytest.mark.parametrize("frozen", [True, False])
def test_the_plain_model_is_frozen_and_in_eval_mode_whatever_the_low_rank_one_is(frozen, double):
    model = nn.Sequential(nn.Linear(16, 12), nn.Dropout(0.9), nn.BatchNorm1d(12), nn.Linear(12, 10, bias=False))
    dlrt.factorize(model, rank=3).train(not frozen).requires_grad_(not frozen)
    x = torch.randn(5, 16)
    statistics = model[2].running_mean.clone()
    plain = dlrt.predictor(model, x, timing=Told(1.0, 2.0))
    assert not any(m.training for m in plain.modules()) and not any(p.requires_grad for p in plain.parameters())
    assert model.training is not frozen and all(p.requires_grad is not frozen for p in model.parameters())
    assert torch.equal(model[2].running_mean, statistics)
    torch.testing.assert_close(plain(x), model.eval()(x), rtol=1e-12, atol=1e-12)


class Clock(nn.Module):
    """A form that takes the given seconds, one after another."""

    def __init__(self, now: list[float], *seconds: float) -> None:
        super().__init__()
        self.now, self.seconds, self.calls = now, seconds, 0

    def forward(self, x: Tensor) -> Tensor:
        self.now[0] += self.seconds[min(self.calls, len(self.seconds) - 1)]
        self.calls += 1
        return x


@pytest.mark.parametrize(
    ("thin", "dense", "budget", "calls"),
    [
        ([9.0, 1.0], [9.0, 3.0], 100.0, 2),  # the first calls are slow, the second ones clear
        ([9.0, 1.0], [9.0, 1.5], 0.0, 3),
        ([9.0, 1.0], [9.0, 1.5], 26.0, 5),  # 18 s of the first round, 2.5 s of each other
        ([9.0, 1.0], [9.0, 1.5], 100.0, 6),
    ],
)
def test_forms_are_timed_in_turn_until_the_faster_one_is_known(thin, dense, budget, calls, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    forms = Clock(now, *thin), Clock(now, *dense)
    assert seconds_of(forms, torch.zeros(1), rounds=6, budget=budget) == [thin[-1], dense[-1]]
    assert [form.calls for form in forms] == [calls, calls]


def test_real_times_choose_among_the_two_forms():
    model = dlrt.factorize(nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64)), rank=2)
    x = torch.randn(10, 64)
    torch.testing.assert_close(dlrt.predictor(model, x)(x), model(x), rtol=1e-4, atol=1e-5)
