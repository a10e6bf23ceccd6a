"""Turning the layers of a model into low-rank ones, and back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any, cast

from torch import Tensor, nn

from dlrt.adapters import adapters_of
from dlrt.factors import INITS
from dlrt.layers import PLAIN, LowRankConv2d, LowRankLayer, LowRankLinear, conv_arguments, obstacle
from dlrt.matricize import ConvView
from dlrt.modules import replace

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
            ranks, the first match counting.
        tau: with init="svd", the relative tolerance that chooses the rank (at most `rank`, if given); or a mapping.
            Where mappings are given, layers that none of them matches stay dense.
        init: "svd" keeps the layer's weight as well as the rank allows; "orthonormal" and "normal" start anew (see
            `random_factors`, also for gain and spectrum) and need a rank.
        skip: patterns of layers to leave dense.

    Raises:
        ValueError: no layer to factorise; a pattern that matches none; neither rank nor tau; a layer that cannot be
            factorised (its forward is bypassed, its weight tied, parametrised or grouped): the message names the
            `skip` to use.
    """
    if init not in ("svd", *INITS):
        raise ValueError(f"init must be one of svd, {', '.join(INITS)}, got {init!r}")
    _check_unadapted(model)
    layers = {name: m for name, m in model.named_modules() if isinstance(m, PLAIN)}
    skip = [skip] if isinstance(skip, str) else list(skip)
    _check_patterns([*skip, *_patterns(rank), *_patterns(tau)], layers)
    if rank is None and tau is None:
        raise ValueError(f"factorize needs a rank (or, with init='svd', a tau), got {rank=}, {tau=}, {init=}")
    obstacles = _obstacles(model)
    chosen: dict[str, tuple[int | None, float | None]] = {}
    for name, layer in layers.items():
        if any(fnmatchcase(name, pattern) for pattern in skip) or not _selected(name, rank, tau):
            continue
        if name in obstacles:
            raise ValueError(f"cannot factorise {name!r}: {obstacles[name]}; leave it dense with skip=[{name!r}]")
        chosen[name] = _rank_of(name, layer, _lookup(rank, name), init), _lookup(tau, name)
    if not chosen:
        raise ValueError(
            "factorize leaves every layer dense: the model's Linear and Conv2d layers are all skipped, or none"
        )
    replacements = {name: _low_rank(layers[name], *chosen[name], init, gain, spectrum) for name in chosen}
    return replace(model, {layers[name]: new for name, new in replacements.items()})


def _selected(name: str, rank: PerLayer, tau: PerLayer) -> bool:
    mappings = [x for x in (rank, tau) if isinstance(x, Mapping)]
    return not mappings or any(_lookup(x, name) is not None for x in mappings)


def _rank_of(name: str, layer: nn.Linear | nn.Conv2d, rank: float | None, init: str) -> int | None:
    if rank is None:
        if init != "svd":
            raise ValueError(f"init={init!r} needs a rank for {name!r}")
        return None
    if rank != int(rank):
        raise ValueError(f"rank must be an integer, got {rank} for {name!r}")
    return min(int(rank), *layer.weight.flatten(1).shape)


def merge(model: nn.Module, dense: Iterable[str] = ()) -> nn.Module:
    """Turn low-rank layers back into plain torch layers, in place, and return the model.

    Each becomes one dense layer, or two thin ones (V, then U S) where those have fewer weights: r (m + n) < m n.

    Args:
        dense: patterns of layers to make dense in any case. Those in an `nn.TransformerEncoderLayer` always are, as it
            reads their weights.
    """
    _check_unadapted(model)
    layers = low_rank_layers(model)
    patterns = [dense] if isinstance(dense, str) else list(dense)
    _check_patterns(patterns, layers)
    readers = [m for m in model.modules() if isinstance(m, nn.TransformerEncoderLayer)]
    read = {child for reader in readers for child in reader.children()}
    whole = {k for k, layer in layers.items() if layer in read or any(fnmatchcase(k, p) for p in patterns)}
    return replace(model, {layer: _plain(layer, name in whole) for name, layer in layers.items()})


def _low_rank(
    layer: nn.Linear | nn.Conv2d, rank: int | None, tau: float | None, init: str, gain: float, spectrum: Tensor | None
) -> LowRankLayer:
    cls = LowRankLinear if isinstance(layer, nn.Linear) else LowRankConv2d
    if init == "svd":
        new: LowRankLayer = cls.from_dense(layer, rank, tau)  # type: ignore[arg-type]
    else:
        assert rank is not None
        bias = layer.bias is not None
        where = {"device": layer.weight.device, "dtype": layer.weight.dtype}
        start: dict[str, Any] = {"bias": bias, "init": init, "gain": gain, "spectrum": spectrum} | where
        if isinstance(layer, nn.Linear):
            new = LowRankLinear(layer.in_features, layer.out_features, rank, **start)
        else:
            new = LowRankConv2d(**conv_arguments(layer), rank=rank, **start)
    if init != "normal":
        new.register_parameter("bias", cast(nn.Parameter | None, layer.bias))  # itself, not a copy of it
    for factor in (new.U, new.S, new.V):
        factor.requires_grad_(layer.weight.requires_grad)
    return new.train(layer.training)


def _plain(layer: LowRankLayer, whole: bool) -> nn.Module:
    m, n = layer.matrix_shape
    U, S, V = layer.factors
    view, thin = layer.view, layer.rank * (m + n) < m * n and not whole
    if isinstance(view, ConvView):
        args = (view.kernel, view.stride, view.padding, view.dilation)
        parts: list[Any] = [nn.Conv2d(view.channels, layer.rank if thin else m, *args, bias=False, device="meta")]
        parts += [nn.Conv2d(layer.rank, m, 1, bias=False, device="meta")] if thin else []
    else:
        parts = [nn.Linear(n, layer.rank if thin else m, bias=False, device="meta")]
        parts += [nn.Linear(layer.rank, m, bias=False, device="meta")] if thin else []
    weights = [view.weight(V.mT), U @ S] if thin else [layer.weight.detach()]
    for part, weight in zip(parts, weights, strict=True):
        part.weight = nn.Parameter(weight.reshape(part.weight.shape).contiguous(), layer.S.requires_grad)
    parts[-1].bias = layer.bias
    return (nn.Sequential(*parts) if thin else parts[0]).train(layer.training)


def _check_unadapted(model: nn.Module) -> None:
    if adapters_of(model):
        raise ValueError("the model has adapters, whose layers are no weights of its own: merge_adapters(model) first")


def _obstacles(model: nn.Module) -> dict[str, str]:
    """Why a layer cannot be factorised, by name."""
    users: dict[int, list[str]] = {}
    for name, module in model.named_modules():
        for p in module.parameters(recurse=False):
            users.setdefault(id(p), []).append(name)
    found = {}
    for name, module in model.named_modules():
        if isinstance(module, PLAIN):
            reason = obstacle(module)
            others = [user for user in users.get(id(module.weight), []) if user != name]
            if reason is not None or others:
                found[name] = reason or f"its weight is tied to {others[0]!r}"
        if isinstance(module, nn.MultiheadAttention):
            found[f"{name}.out_proj".lstrip(".")] = "nn.MultiheadAttention reads its weight and bypasses its forward"
    return found


def _patterns(value: object) -> list[str]:
    return list(value) if isinstance(value, Mapping) else []


def _check_patterns(patterns: Iterable[str], layers: Mapping[str, nn.Module]) -> None:
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in layers):
            raise ValueError(
                f"the pattern {pattern!r} matches no layer; the model's layers are {', '.join(layers) or 'none'}"
            )


def _lookup(value: PerLayer, name: str) -> int | float | None:
    if not isinstance(value, Mapping):
        return value
    return next((v for pattern, v in value.items() if fnmatchcase(name, pattern)), None)
