from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dlrt
from dlrt import LowRankConv2d, LowRankLinear
from dlrt.tape import armed, recording
from experiments.models import ChannelsLast

CONVS = [
    {"kernel_size": 3},
    {"kernel_size": (3, 2), "stride": 2, "padding": 1},
    {"kernel_size": 3, "dilation": 2, "padding": (2, 1), "bias": False},
    {"kernel_size": 5, "padding": "same"},
    {"kernel_size": 1, "stride": (2, 1)},
]


def test_linear_is_the_linear_map_of_its_weight(double):
    layer = LowRankLinear(7, 5, rank=3)
    x = torch.randn(2, 4, 7)
    torch.testing.assert_close(layer(x), F.linear(x, layer.weight, layer.bias))
    assert layer.weight.shape == (5, 7)
    assert torch.linalg.matrix_rank(layer.weight) == layer.rank == 3


@pytest.mark.parametrize("kwargs", CONVS)
def test_convolution_is_the_convolution_of_its_weight(kwargs, double):
    layer = LowRankConv2d(3, 8, rank=3, **kwargs)
    x = torch.randn(2, 3, 9, 8)
    plain = nn.Conv2d(3, 8, **kwargs)
    plain.weight, plain.bias = nn.Parameter(layer.weight.detach()), layer.bias
    torch.testing.assert_close(layer(x), plain(x))
    assert layer.weight.shape == plain.weight.shape


@pytest.mark.parametrize("kwargs", CONVS)
def test_convolution_from_dense_keeps_the_layer_at_full_rank(kwargs, double):
    plain = nn.Conv2d(3, 8, **kwargs)
    layer = LowRankConv2d.from_dense(plain)
    x = torch.randn(2, 3, 9, 8)
    torch.testing.assert_close(layer(x), plain(x))


def test_from_dense_is_the_best_approximation(double):
    plain = nn.Linear(20, 12)
    A, sigma, Bt = torch.linalg.svd(plain.weight.detach())
    layer = LowRankLinear.from_dense(plain, rank=5)
    torch.testing.assert_close(layer.weight.detach(), A[:, :5] * sigma[:5] @ Bt[:5])
    for tau in (0.1, 0.4):
        layer = LowRankLinear.from_dense(plain, tau=tau)
        assert (layer.weight - plain.weight).norm() <= tau * plain.weight.norm()
        assert sigma[layer.rank - 1 :].norm() > tau * sigma.norm()
    assert LowRankLinear.from_dense(plain, rank=2, tau=0.1).rank == 2
    assert layer.bias is not plain.bias
    assert torch.equal(layer.bias, plain.bias)


def test_factors_are_trained_by_any_torch_optimiser():
    layer = LowRankLinear(7, 5, rank=3)
    layer(torch.randn(4, 7)).sum().backward()
    assert all(p.grad is not None for p in (layer.U, layer.S, layer.V, layer.bias))


@pytest.mark.parametrize("layer", [LowRankLinear(7, 5, 2), LowRankConv2d(3, 8, 3, 2)])
def test_state_dict_takes_over_the_rank(layer, tmp_path):
    torch.save(layer.state_dict(), tmp_path / "layer.pt")
    other = type(layer)(7, 5, 4) if isinstance(layer, LowRankLinear) else LowRankConv2d(3, 8, 3, 4)
    parameters = list(other.parameters())
    other.load_state_dict(torch.load(tmp_path / "layer.pt", weights_only=True))
    assert other.rank == 2
    torch.testing.assert_close(other.weight, layer.weight)
    assert all(a is b for a, b in zip(parameters, other.parameters(), strict=True))


def test_state_dict_of_another_layer_is_refused():
    with pytest.raises(RuntimeError, match="size mismatch for U"):
        LowRankLinear(7, 6, 4).load_state_dict(LowRankLinear(7, 5, 2).state_dict())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LowRankLinear(7, 5, 6), "rank must lie in 1 … min"),
        (lambda: LowRankLinear(7, 5, 2, init="zeros"), "init must be one of"),
        (lambda: LowRankLinear(7, 5, 2, init=dlrt.random_factors(5, 7, 3)), "init factors must have shapes"),
        (lambda: LowRankConv2d(3, 8, 4, 2, padding="same"), "pad the input with nn.ZeroPad2d"),
        (lambda: LowRankLinear.from_dense(nn.Linear(4, 4), tau=1.0), r"tau must lie in \[0, 1\), got 1.0"),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_normal_init_draws_the_bias_too():
    assert LowRankLinear(7, 500, 2, init="normal").bias.std().item() == pytest.approx(1, abs=0.1)
    assert LowRankLinear(7, 500, 2).bias.abs().max() == 0


def test_repr_tells_the_rank():
    assert "rank=2" in repr(LowRankLinear(7, 5, 2))
    assert "stride=(2, 2)" in repr(LowRankConv2d(3, 8, 3, 2, stride=2))


@pytest.mark.parametrize("name", sorted(dlrt.INTEGRATORS))
def test_single_examples_train_as_a_batch_of_one(name, double):
    for layer, x in ((LowRankLinear(7, 5, 3), torch.randn(7)), (LowRankConv2d(2, 6, 3, 4), torch.randn(2, 8, 8))):
        twin = copy.deepcopy(layer)
        dlrt.INTEGRATORS[name](layer, lr=0.1).step(lambda layer=layer, x=x: layer(x).square().sum())
        dlrt.INTEGRATORS[name](twin, lr=0.1).step(lambda twin=twin, x=x: twin(x[None]).square().sum())
        torch.testing.assert_close(layer.weight, twin.weight)


def test_device_and_dtype_follow_given_factors():
    layer = LowRankLinear(7, 5, 2, init=dlrt.random_factors(5, 7, 2, dtype=torch.float64))
    assert {p.dtype for p in layer.parameters()} == {torch.float64}
    layer(torch.randn(3, 7, dtype=torch.float64))


def test_orthonormalize_keeps_the_weight():
    layer = LowRankLinear(7, 5, 3)
    layer.U.data *= 1.5
    before = layer.weight.detach()
    layer.orthonormalize()
    assert layer.orthogonality_drift() < 1e-6
    torch.testing.assert_close(layer.weight.detach(), before)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_a_convolution_keeps_the_memory_format_of_its_input(memory_format):
    """As torch's do: a contiguous output can be flattened by view, one with channels last stays so."""
    layer, x = LowRankConv2d(3, 8, 3, 4), torch.randn(2, 3, 6, 6).to(memory_format=memory_format)
    plain = nn.Conv2d(3, 8, 3).to(memory_format=memory_format)
    outputs = [layer(x)]
    with recording({"layer": layer}) as tapes:
        outputs.append(layer(x))
        assert plain(x).is_contiguous(memory_format=memory_format)
        assert all(z.is_contiguous(memory_format=memory_format) for z in outputs)
        with armed(tapes):
            outputs[1].square().sum().backward()
    reference = x.double().contiguous()
    weight = layer.weight.detach().double().requires_grad_()
    z = torch.nn.functional.conv2d(reference, weight, layer.bias.double())
    z.square().sum().backward()
    torch.testing.assert_close(outputs[1].double(), z, atol=1e-5, rtol=0)
    torch.testing.assert_close(tapes["layer"].dense().double(), weight.grad.flatten(1), atol=1e-3, rtol=0)


def test_images_of_one_channel_can_be_laid_out_with_channels_last():
    x = torch.randn(2, 1, 6, 6)
    z = LowRankConv2d(1, 8, 3, 4)(ChannelsLast()(x))
    assert z.is_contiguous(memory_format=torch.channels_last) and torch.equal(ChannelsLast()(x), x)


@pytest.mark.parametrize("name", ["abc_psi", "aug_bug", "bug"])
def test_torchs_own_tools_take_the_parameters_after_steps(name):
    model = dlrt.factorize(nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 25)), rank=4)
    x = torch.randn(8, 20)
    stepper = dlrt.INTEGRATORS[name](model, lr=0.1)
    for _ in range(2):
        stepper.step(lambda: model(x).square().mean())
    assert all(p.is_contiguous() for p in model.parameters())
    vector = torch.nn.utils.parameters_to_vector(model.parameters())
    torch.nn.utils.vector_to_parameters(vector, model.parameters())
    lbfgs = torch.optim.LBFGS(model.parameters(), max_iter=2)

    def closure():
        lbfgs.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        return loss

    lbfgs.step(closure)
