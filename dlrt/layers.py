"""Linear and convolutional layers that hold their weight only as the factors of Y = U S Vᵀ."""

from __future__ import annotations

import math
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from dlrt.factors import Factors, check_rank, random_factors
from dlrt.linalg import svd, truncation_rank
from dlrt.matricize import ConvView, LinearView, View
from dlrt.tape import Gradient

PLAIN = (nn.Linear, nn.Conv2d)  # what can be factorised or adapted


class LowRankLayer(nn.Module):
    """What the low-rank layers share: factors U (m, r), S (r, r), V (n, r), a bias (m,) or None, and a matrix view.

    Forward and backward go through the factors only. The factors are ordinary parameters: any torch optimiser trains
    them (`svd_factor`). An integrator instead records the products of the layer's gradient on a `Gradient` tape.
    """

    U: nn.Parameter
    S: nn.Parameter
    V: nn.Parameter
    bias: nn.Parameter | None
    view: View

    def __init__(self, Y: Factors, bias: Tensor | None, view: View) -> None:
        super().__init__()
        self.U, self.S, self.V = (nn.Parameter(x.contiguous()) for x in Y)
        bias = bias if bias is None or isinstance(bias, nn.Parameter) else nn.Parameter(bias)
        self.register_parameter("bias", bias)
        self.view = view
        self.tape: Gradient | None = None

    @property
    def rank(self) -> int:
        """Number r of singular values the layer holds."""
        return min(self.S.shape)

    @property
    def matrix_shape(self) -> tuple[int, int]:
        """(m, n) of the matrix Y; (F, CJK) for a convolution."""
        return self.U.shape[0], self.V.shape[0]

    @property
    def factors(self) -> Factors:
        """The current factors, detached."""
        return Factors(self.U.detach(), self.S.detach(), self.V.detach())

    @factors.setter
    def factors(self, Y: Factors) -> None:
        # The parameter objects stay, whatever the rank: optimisers and schedulers hold on to them.
        self.U.data, self.S.data, self.V.data = (x.contiguous() for x in Y)

    def orthogonality_drift(self) -> float:
        """max(|UᵀU − I|, |VᵀV − I|)."""
        return max(float((Q.mT @ Q - torch.eye(Q.shape[1], device=Q.device)).abs().max()) for Q in self._bases64())

    def orthonormalize(self) -> None:
        """Make U and V orthonormal again, if they are not, without changing the weight."""
        if self.orthogonality_drift() > 1e-4:
            U, S, V = self.factors
            (Qu, Ru), (Qv, Rv) = torch.linalg.qr(U), torch.linalg.qr(V)
            self.factors = Factors(Qu, Ru @ S @ Rv.mT, Qv)

    def _bases64(self) -> tuple[Tensor, Tensor]:
        return self.U.detach().double(), self.V.detach().double()

    @property
    def weight(self) -> Tensor:
        """The dense weight, in the shape the plain layer has; computed at each call, differentiable."""
        return self.view.weight(self.U @ self.S @ self.V.mT)

    def forward(self, x: Tensor) -> Tensor:
        if self.tape is not None and torch.is_grad_enabled():
            return self.tape.forward(x, self.bias)
        a = self.view.right(x, self.V)  # x V
        return self.view.expand(self.view.expand(a, self.S), self.U, self.bias)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"tape": None}  # a copy made within a step does not record for it

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Take over the rank of the saved factors: it changes in training."""
        saved = [x for x in map(state_dict.get, (prefix + name for name in "USV")) if isinstance(x, Tensor)]
        m, n = self.matrix_shape
        if len(saved) == 3 and [x.ndim for x in saved] == [2, 2, 2]:
            U, S, V = saved
            if (*U.shape, *V.shape) == (m, S.shape[0], n, S.shape[1]):
                self.factors = Factors(*(p.new_empty(x.shape) for p, x in zip(self.factors, saved, strict=True)))
        super()._load_from_state_dict(state_dict, prefix, *args)


class LowRankLinear(LowRankLayer):
    """z = x (U S Vᵀ)ᵀ + bias for x (…, in_features): a linear layer of rank r.

    Args:
        rank: r in 1 … min(in_features, out_features).
        init: "orthonormal", "normal" (see `random_factors`) or the `Factors` to start from.
        gain, spectrum: scale and shape of the initial singular values.

    Raises:
        ValueError: rank or init out of range.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        rank: int,
        bias: bool | nn.Parameter = True,
        init: str | Factors = "orthonormal",
        gain: float = 1.0,
        spectrum: Tensor | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        kwargs = _where(init, device, dtype)
        Y = _start(out_features, in_features, rank, init, gain, spectrum, kwargs)
        super().__init__(Y, _bias(out_features, bias, init, kwargs), LinearView())
        self.in_features, self.out_features = in_features, out_features

    @classmethod
    def from_dense(cls, layer: nn.Linear, rank: int | None = None, tau: float | None = None) -> Self:
        """The best approximation of a dense layer of the given rank, or within the relative tolerance τ, by SVD.

        Raises:
            ValueError: rank or tau out of range, or a layer that is more than its weight and bias.
        """
        _check_plain(layer)
        Y = truncated_svd(layer.weight, rank, tau)
        return cls(layer.in_features, layer.out_features, len(Y.S), _copy(layer.bias), Y)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, rank={self.rank}, bias={self.bias is not None}"


class LowRankConv2d(LowRankLayer):
    """A convolution whose weight (F, C, J, K), as the matrix F × CJK, has rank r (DLRT, 2022, section 6.6).

    Forward is a convolution with the r filters in V followed by 1 × 1 convolutions with S and U. Arguments as those of
    `nn.Conv2d` (without groups) and `LowRankLinear`; padding may be "valid", or "same" where that pads evenly.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        rank: int,
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] | str = 0,
        dilation: int | tuple[int, int] = 1,
        bias: bool | nn.Parameter = True,
        init: str | Factors = "orthonormal",
        gain: float = 1.0,
        spectrum: Tensor | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        view = _conv_view(in_channels, _pair(kernel_size), _pair(stride), padding, _pair(dilation))
        kwargs = _where(init, device, dtype)
        Y = _start(out_channels, in_channels * math.prod(view.kernel), rank, init, gain, spectrum, kwargs)
        super().__init__(Y, _bias(out_channels, bias, init, kwargs), view)
        self.in_channels, self.out_channels = in_channels, out_channels

    @classmethod
    def from_dense(cls, layer: nn.Conv2d, rank: int | None = None, tau: float | None = None) -> Self:
        """The best approximation of a dense convolution of the given rank, or within τ, by SVD of F × CJK.

        Raises:
            ValueError: as `LowRankLinear.from_dense`; grouped convolutions and padding modes other than zeros too.
        """
        _check_plain(layer)
        Y = truncated_svd(layer.weight.flatten(1), rank, tau)
        return cls(**conv_arguments(layer), rank=len(Y.S), bias=_copy(layer.bias), init=Y)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if x.ndim == 4 else super().forward(x[None])[0]  # (C, H, W), as nn.Conv2d takes it

    def extra_repr(self) -> str:
        v = self.view
        assert isinstance(v, ConvView)
        shape = f"kernel_size={v.kernel}, stride={v.stride}, padding={v.padding}, dilation={v.dilation}"
        return f"{self.in_channels}, {self.out_channels}, {shape}, rank={self.rank}, bias={self.bias is not None}"


def _pair(x: int | tuple[int, int]) -> tuple[int, int]:
    return (x, x) if isinstance(x, int) else x


def obstacle(layer: nn.Linear | nn.Conv2d) -> str | None:
    """Why a dense layer cannot be replaced by a low-rank one, or None if it can."""
    cls = nn.Linear if isinstance(layer, nn.Linear) else nn.Conv2d
    if type(layer).forward is not cls.forward or isinstance(layer.weight, nn.UninitializedParameter):
        return f"{type(layer).__name__} is not a plain {cls.__name__}"
    if not all(isinstance(p, nn.Parameter | None) for p in (layer.weight, layer.bias)) or parametrize.is_parametrized(
        layer
    ):
        return "its weight or bias is parametrised or pruned"
    if layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks:
        return "it has hooks, which would be lost"
    if isinstance(layer, nn.Conv2d):
        if layer.groups > 1:
            return f"it is a convolution of {layer.groups} groups"
        if layer.padding_mode != "zeros":
            return f"its padding mode is {layer.padding_mode!r}"
        try:
            explicit_padding(**{k: conv_arguments(layer)[k] for k in ("padding", "kernel_size", "dilation")})
        except ValueError as error:
            return str(error)
    return None


def _check_plain(layer: nn.Linear | nn.Conv2d) -> None:
    reason = obstacle(layer)
    if reason is not None:
        raise ValueError(f"cannot factorise the layer: {reason}")


def conv_arguments(layer: nn.Conv2d) -> dict[str, Any]:
    """The constructor arguments that a dense and a low-rank convolution share."""
    names = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation")
    return {name: getattr(layer, name) for name in names}


def view_of(layer: nn.Linear | nn.Conv2d) -> View:
    """How the layer's inputs and outputs are rows of matrices."""
    if isinstance(layer, nn.Linear):
        return LinearView()
    arguments = conv_arguments(layer)
    return _conv_view(*(arguments[name] for name in ("in_channels", "kernel_size", "stride", "padding", "dilation")))


def _conv_view(
    channels: int,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: int | tuple[int, int] | str,
    dilation: tuple[int, int],
) -> ConvView:
    return ConvView(channels, kernel, stride, explicit_padding(padding, kernel, dilation), dilation)


def explicit_padding(
    padding: int | tuple[int, int] | str, kernel_size: tuple[int, int], dilation: tuple[int, int]
) -> tuple[int, int]:
    """Padding as two numbers; "same" needs dilation · (kernel − 1) even in both directions."""
    if not isinstance(padding, str):
        return _pair(padding)
    if padding == "valid":
        return 0, 0
    total = [d * (k - 1) for d, k in zip(dilation, kernel_size, strict=True)]
    if padding != "same" or any(t % 2 for t in total):
        raise ValueError(
            f"padding must be numbers, 'valid' or an even 'same', got {padding!r} with kernel {kernel_size}: "
            "pad the input with nn.ZeroPad2d"
        )
    return total[0] // 2, total[1] // 2


def truncated_svd(weight: Tensor, rank: int | None, tau: float | None) -> Factors:
    """Factors of the best approximation of a matrix (m, n): of `rank`, or of the smallest rank within τ, or both."""
    m, n = weight.shape
    if rank is not None:
        check_rank(rank, m, n)
    if tau is not None and not 0 <= tau < 1:
        raise ValueError(f"tau must lie in [0, 1), got {tau}")
    A, sigma, Bt = svd(weight.detach())
    r = min(m, n) if tau is None else truncation_rank(sigma, tau)
    r = min(r, rank or r)
    return Factors(A[:, :r], torch.diag(sigma[:r]), Bt[:r].mT)


def _start(
    m: int,
    n: int,
    rank: int,
    init: str | Factors,
    gain: float,
    spectrum: Tensor | None,
    kwargs: dict[str, Any],
) -> Factors:
    if isinstance(init, str):
        return random_factors(m, n, rank, init, gain, spectrum, **kwargs)
    shapes = [tuple(x.shape) for x in init]
    if shapes != [(m, rank), (rank, rank), (n, rank)]:
        raise ValueError(f"init factors must have shapes {[(m, rank), (rank, rank), (n, rank)]}, got {shapes}")
    return Factors(*(x.detach().to(**kwargs, copy=True) for x in init))


def _where(init: str | Factors, device: torch.device | str | None, dtype: torch.dtype | None) -> dict[str, Any]:
    """Device and dtype: those asked for, else those of the factors given."""
    if isinstance(init, str):
        return {"device": device, "dtype": dtype}
    return {"device": device or init.U.device, "dtype": dtype or init.U.dtype}


def _bias(m: int, bias: bool | nn.Parameter, init: str | Factors, kwargs: dict[str, Any]) -> Tensor | None:
    if isinstance(bias, nn.Parameter):
        return bias
    if not bias:
        return None
    return torch.randn(m, **kwargs) if init == "normal" else torch.zeros(m, **kwargs)


def _copy(bias: Tensor | None) -> nn.Parameter | bool:
    return False if bias is None else nn.Parameter(bias.detach().clone())
