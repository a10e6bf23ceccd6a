"""Small pretrained networks to adapt, each with a batch, and what is compared of a model before and after."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import VisionTransformer

import dlrt


def vit(head: bool = True) -> nn.Module:
    """A tiny torchvision ViT; with `head` its last layer, which torchvision starts at zero, is random."""
    net = VisionTransformer(
        image_size=8, patch_size=4, num_layers=2, num_heads=2, hidden_dim=12, mlp_dim=20, num_classes=4
    )
    if head:
        nn.init.normal_(net.heads.head.weight, std=0.3)
    return net


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Sequential(nn.Conv2d(6, 8, (3, 1), padding="same", dilation=(2, 1), bias=False), nn.ReLU()),
        nn.Flatten(),
        nn.Linear(8 * 16, 4),
    )


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(12, 15), nn.ReLU(), nn.Linear(15, 10), nn.Tanh(), nn.Linear(10, 4))


def encoder() -> nn.Module:
    block = nn.TransformerEncoderLayer(12, 2, 20, dropout=0.0, batch_first=True)
    return nn.Sequential(nn.TransformerEncoder(block, 2), nn.Flatten(), nn.Linear(60, 4))


NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], tuple[str, ...]]] = {
    "vit": (vit, (6, 3, 8, 8), ("self_attention", "mlp")),
    "cnn": (cnn, (6, 3, 8, 8), (r"^\d",)),
    "mlp": (mlp, (20, 12), (r"^[024]$",)),
    "encoder": (encoder, (6, 5, 12), ("self_attn", "linear")),
}
METHODS = ("integrator", "lora", "adalora")


def batch(kind: str) -> tuple[Tensor, Tensor]:
    x = torch.randn(NETS[kind][1])
    return x, torch.randint(0, 4, (len(x),))


def adapted(kind: str, method: str = "integrator", rank: int = 2, **options: Any) -> nn.Module:
    return dlrt.add_adapters(NETS[kind][0](), rank, **{"targets": NETS[kind][2], "method": method} | options)


def loss_of(model: nn.Module, x: Tensor, y: Tensor) -> Callable[[], Tensor]:
    return lambda: F.cross_entropy(model(x), y)


def stepper_of(model: nn.Module, method: str, lr: float = 0.1, **options: Any) -> torch.optim.Optimizer:
    """abc-PSI with an adapting rank, LoRA or AdaLoRA."""
    if method == "integrator":
        return dlrt.integrators.AugmentedBackwardCorrectedPSI(model, lr=lr, tau=0.1, **options)
    return dlrt.BASELINES[method](model, lr=lr, **options)


def trained(model: nn.Module, kind: str, method: str, steps: int = 3) -> nn.Module:
    """The model after some steps, in eval mode."""
    stepper, closure = stepper_of(model, method), loss_of(model, *batch(kind))
    for _ in range(steps):
        stepper.step(closure)
    return model.eval()


def snapshot(model: nn.Module) -> dict[str, Any]:
    """All that an operation that fails must leave as it is."""
    return {
        "state": {name: x.clone() for name, x in model.state_dict().items()},
        "modules": {name: id(m) for name, m in model.named_modules()},
        "trainable": [name for name, p in model.named_parameters() if p.requires_grad],
    }


def assert_unchanged(model: nn.Module, before: dict[str, Any]) -> None:
    now = snapshot(model)
    assert now["modules"] == before["modules"]
    assert now["trainable"] == before["trainable"]
    assert list(now["state"]) == list(before["state"])
    assert all(torch.equal(x, before["state"][name]) for name, x in now["state"].items())
