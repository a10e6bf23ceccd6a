"""`Attention` against torch's own `nn.MultiheadAttention`, of whose numbers it is made."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from dlrt.attention import PROJECTIONS, Attention

B, T, S, D, HEADS = 3, 5, 6, 8, 2
CAUSAL = torch.ones(T, T).triu(1).bool()


def mha(**options) -> nn.MultiheadAttention:
    torch.manual_seed(1)
    layer = nn.MultiheadAttention(D, HEADS, **{"batch_first": True} | options)
    for p in layer.parameters():
        nn.init.normal_(p, std=0.5)  # torch starts the biases at zero
    return layer


def padding(length: int) -> torch.Tensor:
    mask = torch.zeros(B, length, dtype=torch.bool)
    mask[0, -2:] = mask[2, 1] = True
    return mask


def random_mask(*shape: int) -> torch.Tensor:
    """True, not attended to, in places, but never at the first key: no row is empty."""
    mask = torch.rand(shape) > 0.6
    mask[..., 0] = False
    return mask


def compare(layer: nn.MultiheadAttention, *inputs: torch.Tensor, **arguments) -> None:
    (z, w), (expected_z, expected_w) = Attention(layer)(*inputs, **arguments), layer(*inputs, **arguments)
    torch.testing.assert_close(z, expected_z)
    assert (w is None) == (expected_w is None)
    if w is not None:
        torch.testing.assert_close(w, expected_w)


@pytest.mark.parametrize("weights", [{}, {"need_weights": False}, {"average_attn_weights": False}])
@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize(
    "options",
    [{}, {"batch_first": False}, {"bias": False}, {"kdim": 7}, {"kdim": 7, "vdim": 9, "bias": False}],
    ids=str,
)
def test_agrees_with_torch(options, batched, weights, double):
    layer = mha(**options)
    q, k, v = (torch.randn(B, *x) for x in ((T, D), (S, layer.kdim), (S, layer.vdim)))
    inputs = [q, k, v] if layer.batch_first else [x.transpose(0, 1) for x in (q, k, v)]
    if not batched:
        inputs = [x.select(0 if layer.batch_first else 1, 0) for x in inputs]
    compare(layer, *inputs, **weights)


MASKS = {
    "padding": lambda: {"key_padding_mask": padding(S)},
    "float padding": lambda: {"key_padding_mask": torch.randn(B, S)},
    "bool": lambda: {"attn_mask": random_mask(T, S)},
    "float": lambda: {"attn_mask": torch.randn(T, S)},
    "bool per head": lambda: {"attn_mask": random_mask(B * HEADS, T, S)},
    "float per head": lambda: {"attn_mask": torch.randn(B * HEADS, T, S)},
    "two": lambda: {"attn_mask": random_mask(T, S), "key_padding_mask": padding(S)},
    "two floats": lambda: {"attn_mask": torch.randn(B * HEADS, T, S), "key_padding_mask": torch.randn(B, S)},
}


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize("kind", MASKS)
def test_masks_agree_with_torch(kind, batched, need_weights):
    masks, q, k = MASKS[kind](), torch.randn(B, T, D), torch.randn(B, S, D)
    if not batched:
        q, k = q[1], k[1]
        cut = {"key_padding_mask": lambda m: m[1], "attn_mask": lambda m: m if m.ndim == 2 else m[HEADS : 2 * HEADS]}
        masks = {key: cut[key](mask) for key, mask in masks.items()}
    compare(mha(), q, k, k, need_weights=need_weights, **masks)


@pytest.mark.parametrize("need_weights", [True, False])
def test_causal_is_a_hint_about_the_mask(need_weights):
    x = torch.randn(B, T, D)
    compare(mha(), x, x, x, attn_mask=CAUSAL, is_causal=True, need_weights=need_weights)
    with pytest.raises(ValueError, match="give the causal attn_mask, too"):
        Attention(mha())(x, x, x, is_causal=True)


@pytest.mark.parametrize("need_weights", [True, False])
def test_dropout_draws_torchs_numbers_and_only_in_training(need_weights):
    layer, x = mha(dropout=0.4), torch.randn(B, T, D)
    unpacked, results = Attention(layer), []
    for module in (layer, unpacked):
        torch.manual_seed(3)
        results.append(module(x, x, x, need_weights=need_weights)[0])
    torch.testing.assert_close(*results)
    still = unpacked.eval()(x, x, x)[0]
    assert (results[1] - still).abs().max() > 0.01
    torch.testing.assert_close(still, layer.eval()(x, x, x)[0])
    assert not Attention(layer).training


def test_gradients_agree_with_torch(double):
    layer, x = mha(), torch.randn(B, T, D)
    unpacked = Attention(layer)
    for module in (layer, unpacked):
        module(x, x, x, need_weights=False)[0].square().sum().backward()
    packed = torch.cat([getattr(unpacked, name).weight.grad for name in "qkv"])
    torch.testing.assert_close(packed, layer.in_proj_weight.grad)
    torch.testing.assert_close(torch.cat([getattr(unpacked, k).bias.grad for k in "qkv"]), layer.in_proj_bias.grad)
    torch.testing.assert_close(unpacked.out_proj.weight.grad, layer.out_proj.weight.grad)


def test_every_projection_is_called():
    """What torch's own does not do: adapters, hooks and integrators see only layers that are called."""
    unpacked, called = Attention(mha()), []
    for name in PROJECTIONS:
        getattr(unpacked, name).register_forward_hook(lambda *_, name=name: called.append(name))
    x = torch.randn(B, T, D)
    unpacked(x, x, x)
    assert called == list(PROJECTIONS)


@pytest.mark.parametrize(
    "options",
    [{}, {"bias": False}, {"kdim": 7, "vdim": 9}, {"vdim": 9, "batch_first": False, "dropout": 0.3}],
    ids=str,
)
def test_packing_gives_the_same_module_back(options):
    layer = mha(**options).eval()
    again = Attention(copy.deepcopy(layer)).pack()
    assert type(again) is nn.MultiheadAttention
    assert list(again.state_dict()) == list(layer.state_dict())
    assert all(torch.equal(x, layer.state_dict()[name]) for name, x in again.state_dict().items())
    for name in ("embed_dim", "kdim", "vdim", "num_heads", "head_dim", "dropout", "batch_first", "training"):
        assert getattr(again, name) == getattr(layer, name), name
    q, k, v = torch.randn(4, 2, D), torch.randn(4, 2, layer.kdim), torch.randn(4, 2, layer.vdim)
    assert torch.equal(again(q, k, v)[0], layer(q, k, v)[0])


def test_unpacking_copies_and_keeps_what_is_frozen():
    layer = mha()
    layer.in_proj_weight.requires_grad_(False)
    unpacked = Attention(layer)
    assert [p.requires_grad for p in unpacked.q.parameters()] == [False, True]
    packed = unpacked.pack()
    assert {n: p.requires_grad for n, p in packed.named_parameters()} == {
        n: p.requires_grad for n, p in layer.named_parameters()
    }
    with torch.no_grad():
        unpacked.q.weight.zero_()
    assert bool(layer.in_proj_weight.any()) and bool(packed.in_proj_weight.any())


class Own(nn.MultiheadAttention):
    def forward(self, x):
        return super().forward(x, x, x)[0]


def hooked() -> nn.MultiheadAttention:
    layer = mha()
    layer.register_forward_hook(lambda *_: None)
    return layer


def parametrised() -> nn.MultiheadAttention:
    return torch.nn.utils.parametrizations.weight_norm(mha(), "in_proj_weight")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: Own(D, HEADS), "Own is not a plain nn.MultiheadAttention"),
        (lambda: mha(add_bias_kv=True), "bias_k"),
        (lambda: mha(add_zero_attn=True), "add_zero_attn"),
        (hooked, "hooks, which would be lost"),
        (parametrised, "parametrised"),
    ],
)
def test_what_cannot_be_unpacked_is_refused(make, reason):
    with pytest.raises(ValueError, match=reason):
        Attention(make())


@pytest.mark.filterwarnings("ignore:enable_nested_tensor is True")
@pytest.mark.parametrize("norm_first", [True, False])
def test_inside_torchs_encoder_and_decoder(norm_first):
    """Also in eval mode without gradients, where the encoder's layers read packed weights past all forwards."""
    options = {"dim_feedforward": 16, "dropout": 0.0, "batch_first": True, "norm_first": norm_first}
    net = nn.Transformer(D, HEADS, 2, 2, **options)
    plain = copy.deepcopy(net)
    for module in list(net.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.MultiheadAttention):
                setattr(module, name, Attention(child))
    source, target = torch.randn(B, S, D), torch.randn(B, T, D)
    arguments = {"tgt_mask": CAUSAL, "tgt_is_causal": True}
    torch.testing.assert_close(net(source, target, **arguments), plain(source, target, **arguments))
    with torch.no_grad():
        z, expected = net.eval()(source, target, **arguments), plain.eval()(source, target, **arguments)
    torch.testing.assert_close(z, expected, atol=1e-5, rtol=1e-4)


def test_autocast_takes_masks_along():
    layer, x = mha(), torch.randn(B, T, D)
    unpacked = Attention(layer)
    with torch.autocast("cpu", torch.bfloat16):
        z = unpacked(x, x, x, attn_mask=torch.randn(T, T), key_padding_mask=padding(T), need_weights=False)[0]
    assert z.dtype == torch.bfloat16
