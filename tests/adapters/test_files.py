from __future__ import annotations

import copy
import json
import struct
import tempfile

import pytest
import torch
from adapted_nets import METHODS, NETS, assert_unchanged, batch, cnn, loss_of, mlp, snapshot, stepper_of, vit
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

import dlrt
from dlrt.adapters import trained_state


def fine_tuned(kind, method, rank=3, **options):
    """A plain model, and the same fine-tuned until its ranks have changed, in eval mode."""
    plain, closure_batch = NETS[kind][0](), batch(kind)
    model = dlrt.add_adapters(copy.deepcopy(plain), rank, NETS[kind][2], method, **options)
    more = {"rank_budget": len(dlrt.adapters_of(model)), "total_steps": 8, "interval": 1, "final": 0.5}
    stepper = stepper_of(model, method, **(more if method == "adalora" else {}))
    for _ in range(7):
        stepper.step(loss_of(model, *closure_batch))
    return plain, model.eval(), closure_batch[0]


@pytest.mark.parametrize("trainable", [("bias$",), (r"head|^5\.|^4\.|norm|ln", "bias$"), ()])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["vit", "cnn", "mlp"])
def test_a_fresh_model_gives_identical_logits(kind, method, trainable, tmp_path):
    plain, model, x = fine_tuned(kind, method, trainable=trainable)
    dlrt.save_adapters(model, tmp_path / "adapters.safetensors")
    assert dlrt.load_adapters(plain, tmp_path / "adapters.safetensors") is plain
    assert torch.equal(plain.eval()(x), model(x))
    ranks = {name: adapter.rank for name, adapter in dlrt.adapters_of(model).items()}
    assert {name: adapter.rank for name, adapter in dlrt.adapters_of(plain).items()} == ranks
    assert method == "lora" or set(ranks.values()) != {3}
    for (name, a), (other, b) in zip(model.named_parameters(), plain.named_parameters(), strict=True):
        assert (name, a.requires_grad) == (other, b.requires_grad)
        assert torch.equal(a, b), name
    assert all(torch.equal(a, b) for a, b in zip(model.buffers(), plain.buffers(), strict=True))
    # nothing of the adapter is drawn anew: both go on alike
    for net in (model, plain):
        stepper_of(net, method, optimizer="adamw").step(loss_of(net, x, torch.zeros(len(x), dtype=torch.long)))
    assert torch.equal(plain(x), model(x))


@pytest.mark.parametrize("method", METHODS)
def test_the_file_holds_what_was_trained_and_the_ranks(method, tmp_path):
    _, model, _ = fine_tuned("cnn", method)
    dlrt.save_adapters(model, tmp_path / "adapters")
    with safe_open(tmp_path / "adapters", "pt") as file:
        header = json.loads(file.metadata()["adapters"])
    kept = {"adalora": lambda adapter: len(adapter.sigma)}.get(method, lambda adapter: adapter.rank)
    assert header["layers"] == {
        name: [*adapter.matrix_shape, kept(adapter)] for name, adapter in dlrt.adapters_of(model).items()
    }
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert set(load_file(tmp_path / "adapters")) == set(model.state_dict()) - frozen
    assert frozen == {"0.base.weight", "1.weight", "3.0.base.weight", "5.base.weight"}
    assert header["trainable"] == {"0.bias": [6], "1.bias": [6], "5.bias": [4]}


@pytest.mark.parametrize("alpha", [None, 8])
@pytest.mark.parametrize("method", ["lora", "adalora"])
def test_the_scale_is_saved_whatever_the_ranks(method, alpha, tmp_path):
    plain = mlp()
    ranks = {"0": 2, ".": 4}
    model = dlrt.add_adapters(copy.deepcopy(plain), ranks, r"^[024]$", method, alpha=alpha)
    for p in (p for adapter in dlrt.adapters_of(model).values() for p in adapter.parameters()):
        nn.init.normal_(p)
    dlrt.save_adapters(model, tmp_path / "adapters")
    x = torch.randn(3, 12)
    assert torch.equal(dlrt.load_adapters(plain, tmp_path / "adapters")(x), model(x))


@pytest.mark.parametrize("method", METHODS)
def test_the_model_itself_can_be_the_layer(method, tmp_path):
    plain, x = nn.Linear(7, 4), torch.randn(3, 7)
    model = dlrt.add_adapters(copy.deepcopy(plain), 2, "", method)
    stepper_of(model, method).step(loss_of(model, x, torch.tensor([0, 1, 2])))
    dlrt.save_adapters(model, tmp_path / "adapters")
    assert torch.equal(dlrt.load_adapters(plain, tmp_path / "adapters")(x), model(x))


@pytest.mark.parametrize("method", METHODS)
def test_a_model_frozen_for_prediction_is_saved_with_its_adapters(method, tmp_path):
    plain, model, x = fine_tuned("mlp", method, trainable=())
    model.requires_grad_(False)
    dlrt.save_adapters(model, tmp_path / "adapters")
    assert torch.equal(dlrt.load_adapters(plain, tmp_path / "adapters")(x), model(x))


@pytest.mark.parametrize("name", sorted(dlrt.INTEGRATORS))
def test_saved_between_inner_steps(name, tmp_path):
    """When L moves on 2r columns, that may be more than the layer has rows or columns."""
    plain, (x, y) = nn.Sequential(nn.Linear(12, 20), nn.Tanh(), nn.Linear(20, 4)), batch("mlp")
    model = dlrt.add_adapters(copy.deepcopy(plain), 3, ".")
    stepper = dlrt.INTEGRATORS[name](model, lr=0.1, inner_steps=2)
    for i in range(2 * len(stepper.flows) + 3):
        stepper.step(loss_of(model, x, y))
        dlrt.save_adapters(model, tmp_path / "adapters")
        fresh = dlrt.load_adapters(copy.deepcopy(plain), tmp_path / "adapters")
        assert torch.equal(fresh(x), model(x)), i


def test_a_trained_head_without_adapters_is_part_of_the_state():
    model = dlrt.add_adapters(vit(), 2, targets=(), trainable="heads")
    assert list(trained_state(model)) == ["heads.head.weight", "heads.head.bias"]
    with pytest.raises(ValueError, match=r"no adapters to save: call add_adapters"):
        dlrt.save_adapters(model, "unused")


class Headed(nn.Module):
    """Of what is frozen only the buffers tell the width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.head = nn.BatchNorm1d(width), nn.Linear(8, 4)


def other_width() -> nn.Module:
    net = cnn()
    net[0], net[1] = nn.Conv2d(3, 7, 3, stride=2, padding=1), nn.BatchNorm2d(7)
    return net


def other_classes() -> nn.Module:
    net = cnn()
    net[5] = nn.Linear(8 * 16, 10)
    return net


def without_norm() -> nn.Module:
    net = cnn()
    net[1] = nn.Identity()
    return net


@pytest.mark.parametrize(
    ("saved", "here", "options", "message"),
    [
        (cnn, other_width, {}, r"layer '0' of shape \(6, 27\) there, one of shape \(7, 27\) here; build the model"),
        (cnn, other_classes, {}, r"layer '5' of shape \(4, 128\) there, one of shape \(10, 128\) here"),
        (cnn, other_classes, {"targets": "0", "trainable": "5"}, r"parameter '5\.weight' of shape \(4, 128\) there"),
        (cnn, lambda: nn.Sequential(*cnn()[:3]), {}, r"layer '3\.0' of shape \(8, 18\) there, none here"),
        (cnn, lambda: nn.ModuleDict({"net": cnn()}), {}, "layer '0' of shape .* there, none here"),
        (cnn, without_norm, {"targets": "0"}, r"parameter '1\.bias' of shape \(6,\) there, none here"),
        (cnn, without_norm, {"targets": "0", "trainable": ()}, r"buffer '1\.running_mean' of shape .* none here"),
        (lambda: Headed(3), lambda: Headed(5), {"trainable": ()}, r"buffer 'norm\.running_mean' .* of shape \(5,\)"),
        (vit, mlp, {"targets": "mlp"}, r"layer 'encoder\.layers\.encoder_layer_0\.mlp\.0' .* none here"),
    ],
)
def test_the_adapters_of_another_model_are_refused(saved, here, options, message, tmp_path):
    dlrt.save_adapters(dlrt.add_adapters(saved(), 2, **{"targets": "."} | options), tmp_path / "adapters")
    model = here()
    before = snapshot(model)
    with pytest.raises(ValueError, match=f"holds the adapters of another model: {message}") as caught:
        dlrt.load_adapters(model, tmp_path / "adapters")
    assert "\n" not in str(caught.value)
    assert_unchanged(model, before)


def test_what_is_no_adapter_file_is_refused(tmp_path):
    dlrt.save_adapters(dlrt.add_adapters(mlp(), 2, "0"), tmp_path / "whole")
    (tmp_path / "truncated").write_bytes((tmp_path / "whole").read_bytes()[:-10])
    (tmp_path / "header only").write_bytes((tmp_path / "whole").read_bytes()[:100])
    (tmp_path / "long").write_bytes(struct.pack("<Q", 1 << 40))
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "text").write_text("not a safetensors file, but a long enough text")
    save_file({"0.weight": torch.ones(2)}, tmp_path / "weights")
    torch.save(mlp().state_dict(), tmp_path / "pickle")
    (tmp_path / "folder").mkdir()
    model = mlp()
    before = snapshot(model)
    for name in ("missing", "truncated", "header only", "long", "empty", "text", "pickle", "folder", "weights"):
        with pytest.raises(ValueError, match=r"cannot read the adapters in|holds no adapters: give a file") as caught:
            dlrt.load_adapters(model, tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
        assert "\n" not in str(caught.value)
    assert_unchanged(model, before)


def test_adapters_are_loaded_into_plain_models_only(tmp_path):
    model = dlrt.add_adapters(mlp(), 2, "0")
    dlrt.save_adapters(model, str(tmp_path / "adapters"))
    before = snapshot(model)
    with pytest.raises(ValueError, match="has adapters already"):
        dlrt.load_adapters(model, tmp_path / "adapters")
    assert_unchanged(model, before)


def test_a_model_with_more_blocks_is_another():
    """Its first layers have the names and shapes of the file's."""
    deeper = nn.Sequential(*(nn.Linear(4, 4) for _ in range(3)))
    model = dlrt.add_adapters(nn.Sequential(*(nn.Linear(4, 4) for _ in range(2))), 2, "")
    with tempfile.TemporaryDirectory() as folder:
        dlrt.save_adapters(model, f"{folder}/file.safetensors")
        with pytest.raises(ValueError, match=r"another model: one of 40 parameters, this one has 60"):
            dlrt.load_adapters(deeper, f"{folder}/file.safetensors")
