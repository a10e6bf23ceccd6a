from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from adapted_nets import METHODS, NETS, adapted, batch, encoder, loss_of, stepper_of, trained
from torch import nn

import dlrt
from dlrt.adapters import Adapted

LAYERS = {
    "linear": (lambda: nn.Linear(7, 5), (2, 3, 7)),
    "linear without bias": (lambda: nn.Linear(7, 5, bias=False), (4, 7)),
    "conv": (lambda: nn.Conv2d(3, 6, (3, 2), stride=(2, 1), padding=(1, 0), dilation=2), (4, 3, 9, 8)),
    "conv same": (lambda: nn.Conv2d(3, 6, 3, padding="same", bias=False), (4, 3, 9, 8)),
    "conv unbatched": (lambda: nn.Conv2d(3, 6, 3, stride=2), (3, 9, 8)),
}


def moved(layer: Adapted) -> Adapted:
    """With all of the adapter's numbers random."""
    for p in layer.adapter.parameters():
        nn.init.normal_(p)
    return layer


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", LAYERS)
def test_forward_is_that_of_the_summed_weight(kind, method, double):
    make, shape = LAYERS[kind]
    plain = make()
    layer = moved(dlrt.add_adapters(copy.deepcopy(plain), 2, "", method, trainable=()))
    x, (U, S, V) = torch.randn(shape), layer.adapter.factors
    W = plain.weight + (U @ S @ V.mT).reshape(plain.weight.shape)
    if isinstance(plain, nn.Conv2d):
        expected = F.conv2d(x, W, plain.bias, plain.stride, plain.padding, plain.dilation)
    else:
        expected = F.linear(x, W, plain.bias)
    torch.testing.assert_close(layer(x), expected)
    torch.testing.assert_close(layer.weight, W)
    assert layer.bias is layer.base.bias
    assert layer.adapter.matrix_shape == tuple(plain.weight.flatten(1).shape)


@pytest.mark.parametrize("method", METHODS)
def test_the_weight_is_differentiable_with_respect_to_the_adapter(method, double):
    """nn.TransformerEncoderLayer asks of the weights themselves whether anything in it is trained."""
    layer = moved(dlrt.add_adapters(nn.Linear(7, 5), 2, "", method, trainable=()))
    x, parameters = torch.randn(4, 7), list(layer.adapter.parameters())
    through_forward = torch.autograd.grad(layer(x).square().sum(), parameters)
    through_weight = torch.autograd.grad(F.linear(x, layer.weight, layer.bias).square().sum(), parameters)
    torch.testing.assert_close(through_forward, through_weight)


def test_adapters_are_named_after_their_layers():
    model = adapted("vit")
    layers = [name for name, m in model.named_modules() if isinstance(m, Adapted)]
    assert list(dlrt.adapters_of(model)) == layers
    assert list(dlrt.low_rank_layers(model)) == [f"{name}.adapter" for name in layers]
    assert dlrt.adapters_of(nn.Linear(3, 3)) == {}


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("targets", ["self_attn", "linear", r"layers\.1\.self_attn", r"1\.linear2", "linear|self_attn"])
@pytest.mark.parametrize("method", METHODS)
def test_torchs_fast_path_does_not_pass_the_adapters_by(method, targets, padded, double):
    """In eval mode without gradients the encoder reads weights past the forwards, and packs padded batches."""
    net = dlrt.add_adapters(encoder()[0], 2, targets, method).eval()
    for layer in (m for m in net.modules() if isinstance(m, Adapted)):
        moved(layer)
    x, mask = torch.randn(3, 5, 12), torch.zeros(3, 5, dtype=torch.bool)
    if padded:
        mask[0, 3:] = True
    z = net(x, src_key_padding_mask=mask if padded else None)
    with torch.no_grad():
        fast = net(x, src_key_padding_mask=mask if padded else None)
    assert z.requires_grad
    torch.testing.assert_close(fast[~mask], z[~mask])


@pytest.mark.parametrize("method", METHODS)
def test_adapters_train_in_eval_mode_too(method):
    """Fine-tuning without dropout: there the fast path asks whether anything requires a gradient."""
    model = adapted("encoder", method, targets="linear", trainable=()).eval()
    stepper, closure = stepper_of(model, method), loss_of(model, *batch("encoder"))
    losses = [float(stepper.step(closure)) for _ in range(10)]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", NETS)
def test_copies_and_states_carry_the_adapters(kind, method, tmp_path):
    model, (x, _) = trained(adapted(kind, method), kind, method), batch(kind)
    twin = copy.deepcopy(model)
    assert torch.equal(twin(x), model(x))
    torch.save(model.state_dict(), tmp_path / "state.pt")
    other = adapted(kind, method).eval()
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert torch.equal(other(x), model(x))
    ranks = {name: adapter.rank for name, adapter in dlrt.adapters_of(model).items()}
    assert {name: adapter.rank for name, adapter in dlrt.adapters_of(other).items()} == ranks
    stepper_of(twin, method).step(loss_of(twin, *batch(kind)))
    assert torch.equal(other(x), model.eval()(x))  # the copy's training does not reach the original
