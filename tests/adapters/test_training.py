"""Adapters under every integrator and both baselines, from their start at zero."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from adapted_nets import METHODS, NETS, adapted, batch, loss_of, stepper_of, vit
from torch import Tensor, nn

import dlrt
from dlrt import textbook
from dlrt.diagnostics import orthogonality_drift

EVERY = sorted(dlrt.INTEGRATORS)
ADAPTIVE = [name for name in EVERY if dlrt.INTEGRATORS[name].rank_adaptive]
LEARNING_RATES = {"sgd": 0.1, "momentum": 0.05, "adamw": 0.02}


def tolerance(name: str, tau: float | None) -> float | None:
    return tau if name in ADAPTIVE else None


def drift(model: nn.Module) -> float:
    return max(orthogonality_drift(model).values())


@pytest.mark.parametrize("rule", LEARNING_RATES)
@pytest.mark.parametrize("kind", ["vit", "cnn"])
@pytest.mark.parametrize("name", EVERY)
def test_training_lowers_the_loss_and_touches_nothing_frozen(name, kind, rule):
    model = adapted(kind, trainable="head|bias$") if kind == "vit" else adapted(kind)
    frozen = {k: p.detach().clone() for k, p in model.named_parameters() if not p.requires_grad}
    options = {"lr": LEARNING_RATES[rule], "optimizer": rule, "tau": tolerance(name, 0.05)}
    stepper, closure = dlrt.INTEGRATORS[name](model, **options), loss_of(model, *batch(kind))
    losses = []
    for _ in range(8):
        losses.append(float(stepper.step(closure)))
        assert drift(model) < 5e-6
    assert losses[-1] < 0.9 * losses[0], losses
    assert all(layer.S.abs().max() > 1e-4 for layer in stepper.layers.values())  # not the biases alone have learned
    parameters = dict(model.named_parameters())
    assert all(torch.equal(parameters[name], p) for name, p in frozen.items())
    assert len(frozen) > 3


def dense_gradient(plain: nn.Module, names: list[str], x: Tensor, y: Tensor):
    """The gradient with respect to the corrections of the named layers, through the plain model alone."""
    weights = {k: p.detach() for k, p in plain.named_parameters()}

    def loss(Y: list[Tensor]) -> Tensor:
        summed, packed = dict(weights), {}
        for name, correction in zip(names, Y, strict=True):
            layer, _, projection = name.rpartition(".")
            if projection in ("q", "k", "v"):
                packed.setdefault(f"{layer}.in_proj_weight", []).append(correction)
            else:
                summed[f"{name}.weight"] = weights[f"{name}.weight"] + correction.reshape(
                    weights[f"{name}.weight"].shape
                )
        summed |= {key: weights[key] + torch.cat(parts) for key, parts in packed.items()}
        return F.cross_entropy(torch.func.functional_call(plain, summed, (x,)), y)

    def gradient(Y: list[Tensor]) -> list[Tensor]:
        Y = [correction.detach().requires_grad_() for correction in Y]
        return list(torch.autograd.grad(loss(Y), Y))

    return gradient


@pytest.mark.parametrize("inner_steps", [1, 3])
@pytest.mark.parametrize("tau", [None, 0.2])
@pytest.mark.parametrize("kind", ["vit", "cnn"])
@pytest.mark.parametrize("name", EVERY)
def test_steps_from_zero_agree_with_the_textbook(name, kind, tau, inner_steps, double):
    plain, (x, y) = NETS[kind][0]().eval(), batch(kind)
    model = dlrt.add_adapters(copy.deepcopy(plain), 2, NETS[kind][2], trainable=())
    gradient = dense_gradient(plain, list(dlrt.adapters_of(model)), x, y)
    layers = list(dlrt.low_rank_layers(model).values())
    stepper = dlrt.INTEGRATORS[name](model, lr=0.3, tau=tolerance(name, tau), inner_steps=inner_steps)
    factors = [tuple(f.clone() for f in layer.factors) for layer in layers]
    for _ in range(2):
        for _ in range(stepper.cycle):
            stepper.step(loss_of(model, x, y))
        h = 0.3 * inner_steps
        factors = textbook.step(name, factors, gradient, h, tolerance(name, tau), substeps=inner_steps)
        for layer, (U, S, V) in zip(layers, factors, strict=True):
            Y = U @ S @ V.mT
            assert (layer.factors.dense() - Y).norm() <= 1e-10
            assert Y.norm() > 1e-4
            assert layer.rank == len(S)


def test_q_k_and_v_are_layers_of_their_own():
    stepper = dlrt.integrators.AugmentedBUG(adapted("vit"), lr=0.1)
    start = "encoder.layers.encoder_layer_0.self_attention"
    assert [name for name in stepper.layers if name.startswith(start)] == [
        f"{start}.{projection}.adapter" for projection in ("q", "k", "v", "out_proj")
    ]


def zero_head() -> tuple[nn.Module, Tensor, Tensor]:
    """torchvision's ViT starts its head at zero, so that no adapter has a gradient in the first step."""
    model = dlrt.add_adapters(vit(head=False), 4, trainable=("head", "bias$"))
    return model, *batch("vit")


@pytest.mark.parametrize("inner_steps", [1, 2])
@pytest.mark.parametrize("rule", LEARNING_RATES)
@pytest.mark.parametrize("name", EVERY)
def test_a_first_step_without_gradient_can_be_recovered_from(name, rule, inner_steps):
    model, x, y = zero_head()
    options = {"lr": LEARNING_RATES[rule], "optimizer": rule, "tau": tolerance(name, 0.02), "inner_steps": inner_steps}
    stepper = dlrt.INTEGRATORS[name](model, **options)
    layers, losses = dlrt.low_rank_layers(model).values(), []
    if inner_steps == 1:
        losses.append(float(stepper.step(loss_of(model, x, y))))
        assert [layer.rank for layer in layers] == [1 if name in ADAPTIVE else 4] * len(layers)
        assert not any(layer.factors.dense().any() for layer in layers)
        assert drift(model) < 5e-6
    for _ in range(5):
        for _ in range(stepper.cycle):
            losses.append(float(stepper.step(loss_of(model, x, y))))
        assert drift(model) < 5e-6
    assert losses[-1] < 0.9 * losses[0], losses
    assert all(layer.factors.dense().norm() > 1e-4 for layer in layers)
    assert max(layer.rank for layer in layers) > 1


@pytest.mark.parametrize("rule", LEARNING_RATES)
@pytest.mark.parametrize("kind", ["vit", "cnn", "encoder"])
@pytest.mark.parametrize("name", ADAPTIVE)
def test_flows_within_the_backward_pass_are_the_same_to_the_last_bit(name, kind, rule):
    model, (x, y) = adapted(kind), batch(kind)
    states = []
    for in_backward in (True, False):
        net = copy.deepcopy(model)
        stepper = dlrt.INTEGRATORS[name](net, lr=0.02, tau=0.1, optimizer=rule, in_backward=in_backward)
        for _ in range(4):
            stepper.step(loss_of(net, x, y))
        states.append(net.state_dict())
    assert all(torch.equal(a, states[1][key]) for key, a in states[0].items())


STEPPERS = [("integrator", partial(dlrt.INTEGRATORS[name], tau=tolerance(name, 0.05))) for name in EVERY]
STEPPERS += [(name, dlrt.BASELINES[name]) for name in ("lora", "adalora")]
IDS = [*EVERY, "lora", "adalora"]


@pytest.mark.parametrize("kind", ["vit", "cnn"])
@pytest.mark.parametrize(("method", "make"), STEPPERS, ids=IDS)
def test_under_autocast_all_numbers_that_are_trained_stay_float32(method, make, kind):
    model, (x, y) = adapted(kind, method), batch(kind)
    stepper = make(model, lr=0.03, optimizer="adamw")

    def closure():
        with torch.autocast("cpu", torch.bfloat16):
            return F.cross_entropy(model(x), y)

    losses = [float(stepper.step(closure)) for _ in range(6)]
    assert losses[-1] < 0.95 * losses[0], losses
    assert all(p.dtype == torch.float32 for p in model.parameters())
    assert all(x.dtype == torch.float32 for s in stepper.state.values() for x in s.values() if isinstance(x, Tensor))
    assert method != "integrator" or drift(model) < 1e-5


@pytest.mark.parametrize("rule", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize(("method", "make"), STEPPERS, ids=IDS)
def test_accumulated_gradients_give_the_step_of_the_whole_batch(method, make, rule, double):
    model, (x, y) = adapted("vit", method), batch("vit")
    twin, parts = copy.deepcopy(model), (slice(0, 2), slice(2, 6))

    def loss(net, part):
        return F.cross_entropy(net(x[part]), y[part], reduction="sum") / len(x)

    whole, split = make(model, lr=0.02, optimizer=rule), make(twin, lr=0.02, optimizer=rule)
    for _ in range(3):
        a = whole.step(lambda: loss(model, slice(0, 6)))
        b = split.step([partial(loss, twin, part) for part in parts])
        torch.testing.assert_close(a, b)
    torch.testing.assert_close(model(x), twin(x), rtol=0, atol=1e-6)
    for a, b in zip(dlrt.adapters_of(model).values(), dlrt.adapters_of(twin).values(), strict=True):
        torch.testing.assert_close(a.weight, b.weight, rtol=0, atol=1e-6)
        assert a.rank == b.rank


@pytest.mark.parametrize("method", METHODS)
def test_frozen_statistics_move_as_in_any_training(method):
    """What is frozen are parameters: the running averages of a norm follow the data and are saved."""
    model, (x, y) = adapted("cnn", method), batch("cnn")
    stepper_of(model, method).step(loss_of(model, x, y))
    assert model[1].num_batches_tracked == 1
