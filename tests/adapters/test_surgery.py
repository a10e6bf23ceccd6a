from __future__ import annotations

import copy

import pytest
import torch
from adapted_nets import METHODS, NETS, adapted, assert_unchanged, batch, cnn, mlp, snapshot, trained, vit
from torch import nn
from torchvision.models import vit_b_16

import dlrt
from dlrt.accounting import count, layer_shapes
from dlrt.adapters import Adapted
from dlrt.attention import Attention
from dlrt.diagnostics import orthogonality_drift


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", NETS)
def test_the_output_is_the_plain_models_at_the_start(kind, method, double):
    model, (x, _) = NETS[kind][0](), batch(kind)
    expected = copy.deepcopy(model).eval()(x)
    assert dlrt.add_adapters(model, 2, NETS[kind][2], method) is model
    torch.testing.assert_close(model.eval()(x), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", NETS)
def test_the_bases_are_orthonormal_at_the_start_and_only_the_core_is_zero(kind):
    model = adapted(kind, rank=3)
    assert max(orthogonality_drift(model).values()) < 1e-6
    assert not any(layer.S.any() for layer in dlrt.low_rank_layers(model).values())


def test_attention_is_four_layers_and_the_packed_weights_are_in_them():
    plain = vit()
    model = dlrt.add_adapters(copy.deepcopy(plain), 2, "self_attention", trainable=())
    block = "encoder.layers.encoder_layer_1.self_attention"
    assert [n for n in dlrt.adapters_of(model) if n.startswith(block)] == [
        f"{block}.{p}" for p in ("q", "k", "v", "out_proj")
    ]
    attention, packed = model.get_submodule(block), plain.get_submodule(block)
    for i, name in enumerate("qkv"):
        assert torch.equal(getattr(attention, name).base.weight, packed.in_proj_weight[12 * i : 12 * i + 12])
    assert dlrt.adapters_of(model)[f"{block}.v"].matrix_shape == (12, 12)


def test_of_one_projection_the_others_stay_as_they_are():
    model = dlrt.add_adapters(nn.MultiheadAttention(8, 2, kdim=6, vdim=7), 2, r"^v$", trainable=())
    assert isinstance(model, Attention)
    assert {name: a.matrix_shape for name, a in dlrt.adapters_of(model).items()} == {"v": (8, 7)}
    assert [type(m) for m in model.children()] == [nn.Linear, nn.Linear, Adapted, nn.Linear]


BIASES = {"norm.bias", "head.bias", *(f"attention.{name}.base.bias" for name in ("q", "k", "v", "out_proj"))}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, BIASES),
        ({"trainable": ("norm", "head")}, {"norm.weight", "norm.bias", "head.weight", "head.bias"}),
        ({"trainable": r"v\.weight"}, {"attention.v.base.weight"}),
        ({"trainable": ()}, set()),
    ],
)
def test_exactly_the_adapters_and_what_was_chosen_are_trained(options, expected, method):
    net = nn.ModuleDict({"norm": nn.LayerNorm(8), "attention": nn.MultiheadAttention(8, 2), "head": nn.Linear(8, 4)})
    net["norm"].weight.requires_grad_(False)
    dlrt.add_adapters(net, 2, "attention", method, **options)
    free = {name: p for name, p in net.named_parameters() if p.requires_grad}
    adapters = {id(p) for adapter in dlrt.adapters_of(net).values() for p in adapter.parameters()}
    assert {name for name, p in free.items() if id(p) not in adapters} == expected
    assert adapters <= {id(p) for p in free.values()}


def test_without_targets_only_the_head_is_trained():
    model = dlrt.add_adapters(vit(), 4, targets=(), trainable="heads")
    assert dlrt.adapters_of(model) == {}
    assert [n for n, p in model.named_parameters() if p.requires_grad] == ["heads.head.weight", "heads.head.bias"]
    assert any(isinstance(m, nn.MultiheadAttention) for m in model.modules())


def test_ranks_by_pattern_the_first_counting():
    ranks = {r"layer_0\.mlp": 5, "mlp": 3, r"\.[qk]$": 1, ".": 2}
    model = dlrt.add_adapters(vit(), ranks)
    found = {name.removeprefix("encoder.layers.encoder_layer_"): a.rank for name, a in dlrt.adapters_of(model).items()}
    assert [found[f"0.{k}"] for k in ("mlp.0", "mlp.3", "self_attention.q", "self_attention.v")] == [5, 5, 1, 2]
    assert [found[f"1.{k}"] for k in ("mlp.0", "mlp.3", "self_attention.k", "self_attention.out_proj")] == [3, 3, 1, 2]


@pytest.mark.parametrize("method", METHODS)
def test_the_model_itself_can_be_the_layer(method):
    plain, x = nn.Linear(7, 5), torch.randn(3, 7)
    expected = plain(x)
    model = dlrt.add_adapters(plain, 2, "", method)
    assert list(dlrt.adapters_of(model)) == [""]
    torch.testing.assert_close(model(x), expected)
    assert type(dlrt.merge_adapters(model)) is nn.Linear


def test_a_layer_in_two_places_stays_one():
    shared = nn.Linear(6, 6)
    model = dlrt.add_adapters(nn.Sequential(shared, nn.ReLU(), shared), 2, "0")
    assert model[0] is model[2]
    assert list(dlrt.adapters_of(model)) == ["0"]


def test_a_tied_parameter_is_trained_under_any_of_its_names():
    model = nn.ModuleDict({"embed": nn.Embedding(7, 5), "hidden": nn.Linear(5, 5), "head": nn.Linear(5, 7)})
    model["head"].weight = model["embed"].weight
    dlrt.add_adapters(model, 2, "hidden", trainable="head.weight")
    assert model["embed"].weight.requires_grad
    assert not model["head"].bias.requires_grad


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"targets": "attn"}, r"targets: 'attn' is found in no name; the layers that can be adapted are conv_proj, .*"
         r"encoder_layer_0\.self_attention\.q, .*heads\.head"),
        ({"targets": ("mlp", "(")}, r"targets: '\(' is no regular expression"),
        ({"trainable": "norm"}, r"trainable: 'norm' is found in no name; the parameters are class_token, .*"
         r"self_attention\.q\.bias"),
        ({"trainable": "in_proj"}, "trainable: 'in_proj' is found in no name"),
        ({"rank": 13}, r"encoder_layer_0\.self_attention\.q: rank must lie in 1 … min\(m, n\) = 12 .* got 13"),
        ({"rank": {r"mlp\.3": 40, ".": 2}}, r"encoder_layer_0\.mlp\.3: rank must lie in 1 …"),
        ({"rank": 0}, "rank must lie in 1 …"),
        ({"rank": 2.0}, r"self_attention\.q: rank must be an integer, got 2\.0"),
        ({"rank": None}, "rank must be an integer, got None"),
        ({"rank": True}, "rank must be an integer, got True"),
        ({"rank": {"mlp": 2}}, r"rank has no regular expression found in '.*self_attention\.q', only mlp: add one"),
        ({"rank": {"mlpp": 3, ".": 2}}, "rank: 'mlpp' is found in no name"),
        ({"rank": {"(": 2}}, r"rank: '\(' is no regular expression"),
        ({"method": "dora"}, "method must be one of integrator, lora, adalora, got 'dora'"),
        ({"alpha": 2.0}, "alpha scales lora's and adalora's Y .* for 'integrator'"),
        ({"alpha": 0.0, "method": "lora"}, "must be above 0, got 0"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_sentence_and_leaves_the_model(options, message):
    model = vit()
    before = snapshot(model)
    with pytest.raises(ValueError, match=message) as caught:
        dlrt.add_adapters(model, **{"rank": 2} | options)
    assert "\n" not in str(caught.value)
    assert_unchanged(model, before)


class OwnAttention(nn.MultiheadAttention):
    def forward(self, x):
        return super().forward(x, x, x)[0]


def hooked() -> nn.Module:
    layer = nn.Linear(6, 6)
    layer.register_forward_hook(lambda *_: None)
    return layer


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: nn.Conv2d(4, 6, 3, groups=2), "2 groups"),
        (lambda: nn.Conv2d(4, 6, 3, padding=1, padding_mode="circular"), "'circular'"),
        (lambda: OwnAttention(8, 2), "OwnAttention is not a plain"),
        (hooked, "hooks, which would be lost"),
        (lambda: nn.Linear(6, 6).bfloat16(), r"its weights are torch\.bfloat16, .*model\.float\(\)"),
    ],
)
def test_a_layer_that_cannot_be_adapted_is_named_and_the_model_stays(make, reason):
    model = nn.Sequential(nn.MultiheadAttention(8, 2), make())
    before = snapshot(model)
    with pytest.raises(ValueError, match=rf"cannot adapt '1[\w.]*': .*{reason}"):
        dlrt.add_adapters(model, 2, ".")
    assert_unchanged(model, before)
    dlrt.add_adapters(model, 2, "^0")


def test_adapters_are_added_once():
    model = adapted("mlp")
    before = snapshot(model)
    with pytest.raises(ValueError, match=r"has adapters already: merge_adapters\(model\) first"):
        dlrt.add_adapters(model, 2, r"^0$")
    assert_unchanged(model, before)
    dlrt.add_adapters(dlrt.merge_adapters(model), 2, r"^0$")


def test_lora_on_vit_b_16_counts_what_the_paper_counts():
    """0.47 M = 497,664 / 2²⁰ (abc-PSI, 2025, Table 3): r = 3, q, k, v, out_proj and both MLP layers of 12 blocks."""
    with torch.device("meta"):
        model = vit_b_16()
    dlrt.add_adapters(model, 3, method="lora")
    assert count(layer_shapes(model), "lora").eval_params == 497_664
    free = {name: p.numel() for name, p in model.named_parameters() if p.requires_grad}
    assert sum(size for name, size in free.items() if ".adapter." in name) == 497_664
    assert len(dlrt.adapters_of(model)) == 72
    biases = [name for name in free if ".adapter." not in name]
    assert all(name.endswith("bias") for name in biases)
    with torch.device("meta"):
        plain = vit_b_16()
    assert sum(free[name] for name in biases) == sum(p.numel() for n, p in plain.named_parameters() if "bias" in n)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", NETS)
def test_merging_gives_a_plain_model_of_the_same_output(kind, method, dtype):
    torch.set_default_dtype(dtype)
    plain, (x, _) = NETS[kind][0](), batch(kind)
    model = trained(dlrt.add_adapters(copy.deepcopy(plain), 2, NETS[kind][2], method), kind, method)
    expected, moved = model(x), plain.eval()(x)
    merged = dlrt.merge_adapters(model)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    torch.testing.assert_close(merged(x), expected, rtol=0, atol=tolerance)
    assert (merged(x) - moved).abs().max() > 1e-3  # training had moved it
    assert [type(m) for m in merged.modules()] == [type(m) for m in plain.modules()]
    assert [m.training for m in merged.modules()] == [m.training for m in plain.modules()]
    assert {k: v.shape for k, v in merged.state_dict().items()} == {k: v.shape for k, v in plain.state_dict().items()}
    assert list(merged.state_dict()) == list(plain.state_dict())
    plain.load_state_dict(merged.state_dict())
    torch.testing.assert_close(plain(x), expected, rtol=0, atol=tolerance)


def test_merging_keeps_what_is_frozen_and_models_without_adapters():
    merged = dlrt.merge_adapters(adapted("cnn"))
    assert [n for n, p in merged.named_parameters() if p.requires_grad] == ["0.bias", "1.bias", "5.bias"]
    plain = nn.Sequential(cnn(), Attention(nn.MultiheadAttention(8, 2)))
    before = snapshot(plain)
    assert dlrt.merge_adapters(plain) is plain
    assert_unchanged(plain, before)


def test_low_rank_layers_of_a_factorised_model_are_no_layers_to_adapt():
    model = dlrt.factorize(mlp(), rank=3, skip=["4"])
    with pytest.raises(ValueError, match="the layers that can be adapted are 4"):
        dlrt.add_adapters(model, 2, "0")
    dlrt.add_adapters(model, 2, "4")
    assert list(dlrt.low_rank_layers(model)) == ["0", "2", "4.adapter"]


@pytest.mark.parametrize(
    "change", [lambda model: dlrt.factorize(model, rank=2), dlrt.merge], ids=["factorize", "merge"]
)
def test_the_layers_of_a_model_with_adapters_are_left_alone(change):
    model = adapted("mlp")
    before = snapshot(model)
    with pytest.raises(ValueError, match=r"merge_adapters\(model\) first"):
        change(model)
    assert_unchanged(model, before)


def test_a_predictor_has_no_adapters_left():
    model, (x, _) = trained(adapted("vit"), "vit", "integrator"), batch("vit")
    predictor = dlrt.predictor(model, x)
    torch.testing.assert_close(predictor(x), model(x), atol=1e-5, rtol=1e-4)
    assert not any(type(m).__module__.startswith("dlrt") for m in predictor.modules())


def test_an_adapter_without_any_triplet_left_is_counted():
    model = adapted("mlp", "adalora")
    dlrt.adapters_of(model)["0"].kept.zero_()
    assert count(layer_shapes(model), "vit").eval_params == 2 * (10 + 15) + 4 + 2 * (4 + 10) + 4
