"""Turning the layers of a model into low-rank ones, and back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from torch import Tensor, nn
from torch.nn.utils import parametrize

from dlrt.layers import LowRankConv2d, LowRankLayer, LowRankLinear, conv_arguments
from dlrt.matricize import ConvView

PLAIN = (nn.Linear, nn.Conv2d)
PerLayer = int | float | Mapping[str, int] | Mapping[str, float] | None


def low_rank_layers(model: nn.Module) -> dict[str, LowRankLayer]:
    """The low-rank layers of a model by qualified name."""
    return {name: m for name, m in model.named_modules() if isinstance(m, LowRankLayer)}


def factorize(
    model: nn.Module,
    rank: int | Mapping[str, int] | None = None,
    tau: float | Mapping[str, float] | None = None,
    init: str = "svd",
    skip: Iterable[str] = (),
    gain: float = 1.0,
    spectrum: Tensor | None = None,
) -> nn.Module:
    """Turn the Linear and Conv2d layers of a model into low-rank ones, in place, and return the model.

    Args:
        rank: rank of every layer, capped at its min(m, n); or a mapping from name patterns (`fnmatch`: "hidden.*") to
            ranks, the first match counting. Layers that a mapping does not match stay dense.
        tau: with init="svd", the relative tolerance that chooses the rank (at most `rank`, if given); or a mapping.
        init: "svd" keeps the layer's weight as well as the rank allows; "orthonormal" and "normal" start anew (see
            `random_factors`, also for gain and spectrum) and need a rank.
        skip: patterns of layers to leave dense.

    Raises:
        ValueError: a pattern that matches no layer; neither rank nor tau; a layer that cannot be factorised (its
            forward is bypassed, its weight tied, parametrised or grouped): the message names the `skip` to use.
    """
    layers = {name: m for name, m in model.named_modules() if isinstance(m, PLAIN)}
    skip = [skip] if isinstance(skip, str) else list(skip)
    _check_patterns([*skip, *_patterns(rank), *_patterns(tau)], layers)
    if (rank is None and tau is None) or (init != "svd" and rank is None):
        raise ValueError(f"factorize needs a rank (or, with init='svd', a tau), got {rank=}, {tau=}, {init=}")
    obstacles = _obstacles(model)
    chosen = {}
    for name, layer in layers.items():
        if any(fnmatchcase(name, pattern) for pattern in skip):
            continue
        r, t = _lookup(rank, name), _lookup(tau, name)
        if r is None and t is None:
            continue
        if name in obstacles:
            raise ValueError(f"cannot factorise {name!r}: {obstacles[name]}; leave it dense with skip=[{name!r}]")
        m, n = layer.weight.flatten(1).shape
        chosen[name] = None if r is None else min(int(r), m, n), t
    replacements = {name: _low_rank(layers[name], *chosen[name], init, gain, spectrum) for name in chosen}
    return _replace(model, {layers[name]: new for name, new in replacements.items()})


def merge(model: nn.Module) -> nn.Module:
    """Turn low-rank layers back into plain torch layers, in place, and return the model.

    Each becomes one dense layer, or two thin ones (V, then U S) where those have fewer weights: r (m + n) < m n.
    """
    return _replace(model, {layer: _plain(layer) for layer in low_rank_layers(model).values()})


def _low_rank(
    layer: nn.Module, rank: int | None, tau: float | None, init: str, gain: float, spectrum: Tensor | None
) -> LowRankLayer:
    cls = LowRankLinear if isinstance(layer, nn.Linear) else LowRankConv2d
    if init == "svd":
        new: LowRankLayer = cls.from_dense(layer, rank, tau)  # type: ignore[arg-type]
    else:
        assert isinstance(layer, PLAIN) and rank is not None
        bias = layer.bias is not None if init == "normal" else (False if layer.bias is None else layer.bias)
        where = {"device": layer.weight.device, "dtype": layer.weight.dtype}
        start: dict[str, Any] = {"bias": bias, "init": init, "gain": gain, "spectrum": spectrum} | where
        if isinstance(layer, nn.Linear):
            new = LowRankLinear(layer.in_features, layer.out_features, rank, **start)
        else:
            new = LowRankConv2d(**conv_arguments(layer), rank=rank, **start)
    return new.train(layer.training)


def _plain(layer: LowRankLayer) -> nn.Module:
    m, n = layer.matrix_shape
    U, S, V = layer.factors
    view, thin = layer.view, layer.rank * (m + n) < m * n
    if isinstance(view, ConvView):
        args = (view.kernel, view.stride, view.padding, view.dilation)
        parts: list[Any] = [nn.Conv2d(view.channels, layer.rank if thin else m, *args, bias=False)]
        parts += [nn.Conv2d(layer.rank, m, 1, bias=False)] if thin else []
    else:
        parts = [nn.Linear(n, layer.rank if thin else m, bias=False)]
        parts += [nn.Linear(layer.rank, m, bias=False)] if thin else []
    weights = [view.weight(V.mT), U @ S] if thin else [layer.weight.detach()]
    for part, weight in zip(parts, weights, strict=True):
        part.weight = nn.Parameter(weight.reshape(part.weight.shape).contiguous())
    parts[-1].bias = layer.bias
    return (nn.Sequential(*parts) if thin else parts[0]).train(layer.training)


def _replace(model: nn.Module, new: Mapping[nn.Module, nn.Module]) -> nn.Module:
    """Put new modules in the place of old ones, wherever the old ones are registered."""
    for module in list(model.modules()):
        for name, child in module._modules.items():
            if child is not None and child in new:
                setattr(module, name, new[child])
    return new.get(model, model)


def _obstacles(model: nn.Module) -> dict[str, str]:
    """Why a layer cannot be factorised, by name."""
    users: dict[int, list[str]] = {}
    for name, module in model.named_modules():
        for p in module.parameters(recurse=False):
            users.setdefault(id(p), []).append(name)
    found = {}
    for name, module in model.named_modules():
        if isinstance(module, PLAIN):
            cls = nn.Linear if isinstance(module, nn.Linear) else nn.Conv2d
            others = [user for user in users.get(id(module.weight), []) if user != name]
            if parametrize.is_parametrized(module):
                found[name] = "its weight is parametrised"
            elif type(module).forward is not cls.forward or isinstance(module.weight, nn.UninitializedParameter):
                found[name] = f"{type(module).__name__} is not a plain {cls.__name__}"
            elif others:
                found[name] = f"its weight is tied to {others[0]!r}"
            elif isinstance(module, nn.Conv2d) and module.groups > 1:
                found[name] = f"it is a convolution of {module.groups} groups"
            elif isinstance(module, nn.Conv2d) and module.padding_mode != "zeros":
                found[name] = f"its padding mode is {module.padding_mode!r}"
        if isinstance(module, nn.MultiheadAttention):
            found[f"{name}.out_proj".lstrip(".")] = "nn.MultiheadAttention reads its weight and bypasses its forward"
    return found


def _patterns(value: object) -> list[str]:
    return list(value) if isinstance(value, Mapping) else []


def _check_patterns(patterns: list[str], layers: Mapping[str, nn.Module]) -> None:
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in layers):
            raise ValueError(
                f"the pattern {pattern!r} matches no layer; the model's layers are {', '.join(layers) or 'none'}"
            )


def _lookup(value: PerLayer, name: str) -> int | float | None:
    if not isinstance(value, Mapping):
        return value
    return next((v for pattern, v in value.items() if fnmatchcase(name, pattern)), None)
