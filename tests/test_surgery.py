from __future__ import annotations

import copy

import pytest
import torch
import torchvision
from torch import nn
from torch.nn.utils import prune
from torch.nn.utils.parametrizations import weight_norm

import dlrt
from dlrt import LowRankConv2d, LowRankLinear, factorize, low_rank_layers, merge


def small_cnn():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=1), nn.Flatten(), nn.Linear(8 * 16, 5)
    )


def test_full_rank_factorisation_and_merge_keep_the_function(double):
    model = small_cnn()
    x = torch.randn(2, 3, 8, 8)
    before = model(x)
    assert factorize(model, tau=0.0) is model
    assert [type(m) for m in low_rank_layers(model).values()] == [LowRankConv2d, LowRankConv2d, LowRankLinear]
    torch.testing.assert_close(model(x), before)
    merge(model)
    assert not low_rank_layers(model)
    torch.testing.assert_close(model(x), before)


@pytest.mark.parametrize("rank", [1, 4, 7, 8])
def test_merge_takes_the_cheaper_form(rank, double):
    model = factorize(nn.Sequential(nn.Linear(16, 8), nn.Conv2d(8, 8, 3, 2, 1)), rank=rank)
    linear, conv = model
    merged = merge(copy.deepcopy(model))
    for layer, new, x in zip((linear, conv), merged, (torch.randn(3, 16), torch.randn(2, 8, 9, 9)), strict=True):
        m, n = layer.matrix_shape
        weights = sum(p.numel() for name, p in new.named_parameters() if name.endswith("weight"))
        assert weights == min(rank * (m + n), m * n)
        torch.testing.assert_close(new(x), layer(x))


def test_ranks_and_tolerances_by_pattern():
    model = factorize(small_cnn(), rank={"0": 2, "*": 5}, skip=["4"])
    assert {name: layer.rank for name, layer in low_rank_layers(model).items()} == {"0": 2, "2": 5}
    model = factorize(small_cnn(), rank={"2": 4})
    assert list(low_rank_layers(model)) == ["2"]
    model = factorize(small_cnn(), tau={"4": 0.5})
    assert list(low_rank_layers(model)) == ["4"]
    assert factorize(small_cnn(), rank=1000)[4].rank == 5


def test_start_anew():
    model = factorize(small_cnn(), rank=3, init="orthonormal", gain=0.5)
    m = model[0].matrix_shape[0]
    torch.testing.assert_close(model[0].S.square().sum(), torch.tensor(0.25 * 2 * m))
    assert factorize(small_cnn(), rank=3, init="normal")[4].bias.abs().max() > 0.2


def test_a_layer_may_be_the_whole_model_or_registered_twice():
    layer = factorize(nn.Linear(6, 5), rank=2)
    assert isinstance(layer, LowRankLinear)
    assert isinstance(merge(layer), nn.Sequential)
    shared = nn.Linear(6, 6)
    model = factorize(nn.Sequential(shared, nn.ReLU(), shared), rank=2)
    assert model[0] is model[2]


def test_device_dtype_and_mode_are_kept():
    model = nn.Sequential(nn.Linear(6, 5)).to(torch.float64).eval()
    factorize(model, rank=2, init="orthonormal")
    assert model[0].U.dtype == torch.float64
    assert not model[0].training


def tied():
    model = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6))
    model[1].weight = model[0].weight
    return model


class Odd(nn.Linear):
    def forward(self, x):
        return super().forward(x) ** 2


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.TransformerEncoderLayer(8, 2), r"'self_attn.out_proj'.*MultiheadAttention.*skip=\['self_attn.out_proj'\]"),
        (nn.MultiheadAttention(8, 2), r"'out_proj'"),
        (tied(), r"'0'.*tied to '1'.*skip=\['0'\]"),
        (nn.Sequential(nn.Conv2d(4, 4, 3, groups=2)), "2 groups"),
        (nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect")), "'reflect'"),
        (nn.Sequential(weight_norm(nn.Linear(4, 4))), "parametrised"),
        (nn.Sequential(Odd(4, 4)), "Odd is not a plain Linear"),
        (nn.Sequential(nn.LazyLinear(4)), "not a plain Linear"),
    ],
)
def test_layers_that_cannot_be_factorised_are_refused_by_name(model, message):
    with pytest.raises(ValueError, match=message):
        factorize(model, rank=2)


def test_refused_layers_can_be_skipped():
    model = factorize(nn.TransformerEncoderLayer(8, 2), rank=2, skip=["self_attn.out_proj"])
    assert list(low_rank_layers(model)) == ["linear1", "linear2"]


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"rank": 2, "skip": ["output"]}, "the pattern 'output' matches no layer; the model's layers are 0, 2, 4"),
        ({"rank": {"fc*": 2}}, "'fc\\*' matches no layer"),
        ({"tau": {"fc": 0.1}}, "'fc' matches no layer"),
        ({}, "needs a rank"),
        ({"tau": 0.1, "init": "orthonormal"}, "needs a rank"),
        ({"rank": 2, "init": "he"}, "init must be one of"),
        ({"rank": 0}, "rank must lie in"),
    ],
)
def test_wrong_arguments(kwargs, message):
    model = small_cnn()
    with pytest.raises(ValueError, match=message):
        factorize(model, **kwargs)
    assert not low_rank_layers(model)


@pytest.mark.parametrize("name", sorted(dlrt.INTEGRATORS))
def test_resnet18_trains_and_merges(name):
    model = factorize(torchvision.models.resnet18(num_classes=10), rank=8, init="orthonormal")
    stepper = dlrt.INTEGRATORS[name](model, lr=0.02)
    x, y = torch.randn(4, 3, 32, 32), torch.randint(0, 10, (4,))
    losses = [float(stepper.step(lambda: nn.functional.cross_entropy(model(x), y))) for _ in range(3)]
    assert losses[-1] < losses[0]
    model.eval()
    before = model(x)
    torch.testing.assert_close(merge(model)(x), before, rtol=1e-4, atol=1e-4)
    assert not low_rank_layers(model)


def pruned_bias():
    layer = nn.Linear(4, 4)
    prune.random_unstructured(layer, "bias", 0.5)
    return nn.Sequential(layer)


def hooked():
    layer = nn.Linear(4, 4)
    layer.register_forward_hook(lambda *_: None)
    return nn.Sequential(layer)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Sequential(nn.utils.spectral_norm(nn.Linear(4, 4))), "parametrised or pruned"),
        (pruned_bias(), "parametrised or pruned"),
        (hooked(), "has hooks"),
        (nn.Sequential(nn.Conv2d(4, 4, 2, padding="same")), r"even 'same'.*skip=\['0'\]"),
    ],
)
def test_layers_that_are_more_than_their_parameters_are_refused(model, message):
    with pytest.raises(ValueError, match=message):
        factorize(model, rank=2)
    with pytest.raises(ValueError, match="cannot factorise the layer"):
        (LowRankLinear if isinstance(model[0], nn.Linear) else LowRankConv2d).from_dense(model[0], rank=2)


@pytest.mark.parametrize("model", [nn.Sequential(nn.ReLU()), nn.Sequential(nn.LayerNorm(3))])
def test_a_model_without_layers_is_refused(model):
    with pytest.raises(ValueError, match="leaves every layer dense"):
        factorize(model, rank=2)


def test_a_mapping_selects_and_a_number_applies_to_what_is_selected():
    model = factorize(small_cnn(), rank={"0": 2, "2": 2}, tau=0.0)
    assert list(low_rank_layers(model)) == ["0", "2"]
    with pytest.raises(ValueError, match="needs a rank for '4'"):
        factorize(small_cnn(), rank={"0": 2}, tau={"4": 0.1}, init="orthonormal")
    with pytest.raises(ValueError, match=r"rank must be an integer, got 2\.5"):
        factorize(small_cnn(), rank=2.5)


def test_merged_transformers_evaluate():
    model = factorize(nn.TransformerEncoderLayer(8, 2, batch_first=True), rank=2, skip=["self_attn.out_proj"]).eval()
    x = torch.randn(3, 5, 8)
    before = model(x)
    merge(model)
    assert isinstance(model.linear1, nn.Linear)
    with torch.no_grad():
        torch.testing.assert_close(model(x), before, rtol=1e-4, atol=1e-5)


def test_merge_keeps_mode_generator_and_what_it_is_told_to_make_dense():
    model = factorize(nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 16)), rank=2).eval()
    state = torch.get_rng_state()
    merge(model, dense=["1"])
    assert torch.equal(torch.get_rng_state(), state)
    assert isinstance(model[0], nn.Sequential) and isinstance(model[1], nn.Linear)
    assert not any(m.training for m in model.modules())


def test_factorised_layers_share_the_bias_and_copies_of_from_dense_do_not():
    plain = nn.Linear(6, 6)
    assert LowRankLinear.from_dense(plain, rank=2).bias is not plain.bias
    bias = plain.bias
    assert factorize(nn.Sequential(plain), rank=2)[0].bias is bias
