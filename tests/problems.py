"""Networks and matrix problems that the integrators are tested on."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import dlrt
from dlrt.factors import Factors


class Twice(nn.Module):
    """Calls its middle layer twice in one forward pass."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.shared = nn.Linear(features, features)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.shared(torch.relu(self.shared(x))))


def dense_net(kind: str) -> tuple[nn.Module, Tensor, Tensor]:
    """A plain network with several layers, and a batch of inputs and labels."""
    if kind == "mlp":
        net = nn.Sequential(nn.Linear(12, 15), nn.ReLU(), nn.Linear(15, 10), nn.ReLU(), nn.Linear(10, 4))
        x = torch.randn(20, 12)
    elif kind == "small batch":  # fewer samples than the rank: D is rank deficient; 2r > min(m, n) in the last layer
        net = nn.Sequential(nn.Linear(12, 15, bias=False), nn.ReLU(), nn.Linear(15, 10), nn.ReLU(), nn.Linear(10, 5))
        x = torch.randn(2, 12)
    elif kind == "shared":
        net, x = nn.Sequential(nn.Linear(12, 9), Twice(9), nn.Linear(9, 4)), torch.randn(20, 12)
    else:
        net = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(8, 9, (3, 2), dilation=2, padding=(2, 1), bias=False),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(9 * 16, 11),
            nn.ReLU(),
            nn.Linear(11, 4),
        )
        x = torch.randn(7, 3, 8, 8)
    return net, x, torch.randint(0, 4, (len(x),))


NETS = ("mlp", "small batch", "shared", "conv")


@dataclass
class Problem:
    """A low-rank network with its loss, and the same loss of dense weights for the textbook."""

    model: nn.Module
    closure: Callable[[], Tensor]
    gradient: Callable[[list[Tensor]], list[Tensor]]

    @property
    def layers(self) -> list[dlrt.LowRankLayer]:
        return list(dlrt.low_rank_layers(self.model).values())

    @property
    def Y(self) -> list[Tensor]:
        return [layer.factors.dense() for layer in self.layers]

    @property
    def factors(self) -> list[Factors]:
        return [Factors(*(x.clone() for x in layer.factors)) for layer in self.layers]


def problem(kind: str, rank: int = 3, gain: float = 0.9) -> Problem:
    plain, x, y = dense_net(kind)
    model = dlrt.factorize(copy.deepcopy(plain), rank=rank, init="orthonormal", gain=gain)

    def gradient(Y: list[Tensor]) -> list[Tensor]:
        """Dense automatic differentiation through the plain network, with the model's present biases."""
        shapes = dict(plain.named_parameters())
        weights = {
            f"{name}.weight": W.detach().reshape(shapes[f"{name}.weight"].shape).requires_grad_()
            for name, W in zip(dlrt.low_rank_layers(model), Y, strict=True)
        }
        biases = {name: p.detach() for name, p in model.named_parameters() if name.endswith("bias")}
        loss = F.cross_entropy(torch.func.functional_call(plain, weights | biases, (x,)), y)
        return [g.reshape(W.shape) for g, W in zip(torch.autograd.grad(loss, list(weights.values())), Y, strict=True)]

    return Problem(model, lambda: F.cross_entropy(model(x), y), gradient)


def matrix_layer(Y: Factors) -> dlrt.LowRankLinear:
    """A layer whose output on the identity is Yᵀ: the weight itself is the state of a matrix problem."""
    return dlrt.LowRankLinear(len(Y.V), len(Y.U), len(Y.S), bias=False, init=Y)


def prescribe(layer: dlrt.LowRankLinear, gradient: Callable[[Tensor], Tensor]) -> Callable[[], Tensor]:
    """A closure whose gradient with respect to Y is `gradient(Y)`, whether or not that is the gradient of anything.

    The loss is linear in Y, with coefficients frozen at the present point.
    """
    eye = torch.eye(layer.in_features)
    return lambda: (layer(eye).mT * gradient(_point(layer))).sum()


def _point(layer: dlrt.LowRankLinear) -> Tensor:
    return layer.factors.dense() if layer.tape is None else layer.tape.Y.dense()


def random_matrix(m: int, n: int, sigma: Tensor) -> Factors:
    """Orthonormal random bases and the given singular values."""
    U, V = (torch.linalg.qr(torch.randn(k, len(sigma)))[0] for k in (m, n))
    return Factors(U, torch.diag(sigma), V)
