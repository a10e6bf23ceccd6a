"""Adding low-rank adapters to a pretrained model, and merging them into it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping

import torch
from torch import nn

from dlrt import attention
from dlrt.adapters.adalora import AdaLoRALayer
from dlrt.adapters.adapted import Adapted, Adapter
from dlrt.adapters.lora import LoRALayer
from dlrt.attention import PROJECTIONS, Attention, unpacked
from dlrt.factors import check_rank, random_factors
from dlrt.layers import PLAIN, LowRankConv2d, LowRankLinear, conv_arguments, obstacle, view_of
from dlrt.modules import replace

METHODS = ("integrator", "lora", "adalora")
Patterns = str | Iterable[str]
BIASES = ("bias$",)


def add_adapters(
    model: nn.Module,
    rank: int | Mapping[str, int],
    targets: Patterns = ("self_attention", "mlp"),
    method: str = "integrator",
    trainable: Patterns = BIASES,
    alpha: float | None = None,
) -> nn.Module:
    """Give layers of a model a low-rank correction, z = W x + Y x + b, in place, and return the model.

    What trains is Y, zero at the start, of every adapted layer, and the `trainable` parameters; the rest is frozen. The
    bases of Y = U S Vᵀ are random and only S is zero: the first K- and L-step move by G V and Gᵀ U, so that it is a
    well-posed start for all integrators.

    Args:
        rank: r of every Y, at most min(m, n) of its layer; or a mapping from regular expressions to ranks, the first
            that is found in the layer's name counting.
        targets: regular expressions; the Linear and Conv2d layers in whose qualified name one is found are adapted. An
            `nn.MultiheadAttention` is four of them, NAME.q, NAME.k, NAME.v and NAME.out_proj (see `dlrt.attention`).
            With () there are no adapters and only `trainable` is trained (linear probing).
        method: what Y is made of, and so what trains it. "integrator": Y = U S Vᵀ, for the integrators. "lora": Y =
            A Bᵀ, for `dlrt.baselines.LoRA`. "adalora": Y = P diag(σ) Qᵀ, for `dlrt.baselines.AdaLoRA`.
        trainable: regular expressions, likewise, for the names of parameters that are trained as they are: biases,
            norms, a new classifier. By default the biases, if there are any. A classifier that starts at zero, as
            torchvision's do, gives no gradient in the first step: give it small random numbers, or all ranks begin
            again from min_rank.
        alpha: lora and adalora scale Y by α / r; None: not.

    Raises:
        ValueError: a regular expression that matches nothing, a rank that is no integer or above a layer's limit, a
            layer that cannot be adapted, a model that has adapters. The model is as before then.
    """
    targets, trainable = _listed(targets), _listed(trainable)
    layers = [name for name, _ in _adaptable(model)]
    _check_found("targets", targets, layers, "layers that can be adapted")
    _check_found("rank", rank if isinstance(rank, Mapping) else (), layers, "layers that can be adapted")
    ranks = {name: _rank_of(name, rank) for name in layers if _found(targets, name)}
    _, names = shapes_once_adapted(model, ranks)
    if trainable != list(BIASES):  # a model may have none
        _check_found("trainable", trainable, names, "parameters")
    return adapt(model, ranks, method, {name for name in names if _found(trainable, name)}, alpha)


def adapt(
    model: nn.Module, ranks: Mapping[str, int], method: str, trainable: Collection[str], alpha: float | None = None
) -> nn.Module:
    """`add_adapters` by exact names: the rank of each layer to adapt, and the parameters to train as they are.

    Raises:
        ValueError: as `add_adapters`.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    if alpha is not None and (method == "integrator" or not alpha > 0):
        raise ValueError(f"alpha scales lora's and adalora's Y and must be above 0, got {alpha!r} for {method!r}")
    layers = dict(_adaptable(model))
    for name, rank in ranks.items():
        _check_layer(name, layers[name], rank, method)
    model = replace(model, {m: Attention(m) for m in _packed(layers, ranks)})
    chosen = {id(p) for name, p in model.named_parameters(remove_duplicate=False) if name in trainable}
    for parameter in model.parameters():
        parameter.requires_grad_(id(parameter) in chosen)
    modules = dict(model.named_modules())
    adapted = {modules[name]: _adapted(modules[name], rank, method, alpha) for name, rank in ranks.items()}
    model = replace(model, adapted)
    _keep_padded(model)
    return model


def merge_adapters(model: nn.Module) -> nn.Module:
    """Add every Y to its layer's weight, in place, and return the model: plain torch layers, the same outputs.

    Parameters stay frozen or trainable as they are. A model without adapters is left as it is.
    """
    unpacked = [m for m in model.modules() if isinstance(m, Attention) and any(map(_is_adapted, m.children()))]
    merged: dict[nn.Module, nn.Module] = {}
    for module in model.modules():
        if isinstance(module, Adapted):
            base = module.base
            base.weight = nn.Parameter(module.weight.detach(), base.weight.requires_grad)
            merged[module] = base
    model = replace(model, merged)
    return replace(model, {m: m.pack() for m in unpacked})


def _adaptable(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The layers that there are to adapt, by name; a packed attention layer stands for each of its projections."""
    inside = set[nn.Module]()
    for name, module in model.named_modules():
        if isinstance(module, Adapted):
            raise ValueError("the model has adapters already: merge_adapters(model) first")
        if isinstance(module, nn.MultiheadAttention):
            inside |= set(module.modules())
            yield from ((f"{name}.{projection}".lstrip("."), module) for projection in PROJECTIONS)
        elif isinstance(module, PLAIN) and module not in inside:
            yield name, module


def _packed(layers: Mapping[str, nn.Module], chosen: Iterable[str]) -> set[nn.MultiheadAttention]:
    return {layer for name in chosen if isinstance(layer := layers[name], nn.MultiheadAttention)}


def shapes_once_adapted(
    model: nn.Module, chosen: Collection[str]
) -> tuple[dict[str, tuple[int, int]], dict[str, tuple[int, ...]]]:
    """(m, n) of the layers that can be adapted, and the shapes of all parameters once the `chosen` layers are adapted.

    By then the packed attention layers with a chosen projection are unpacked.
    """
    layers = dict(_adaptable(model))
    unpack = _packed(layers, (name for name in chosen if name in layers))
    parameters: dict[str, tuple[int, ...]] = {}
    for prefix, module in model.named_modules():
        packed = isinstance(module, nn.MultiheadAttention) and module in unpack
        own = unpacked(module) if packed else dict(module.named_parameters(recurse=False))
        parameters |= {f"{prefix}.{name}".lstrip("."): tuple(p.shape) for name, p in own.items()}
    return {name: _shape(name, layer) for name, layer in layers.items()}, parameters


def _keep_padded(model: nn.Module) -> None:
    """Let encoders with adapters keep padded batches as they are: to nest them, torch reads weights that are packed."""
    for encoder in model.modules():
        if isinstance(encoder, nn.TransformerEncoder) and any(map(_is_adapted, encoder.modules())):
            encoder.use_nested_tensor = False


def _is_adapted(module: nn.Module) -> bool:
    return isinstance(module, Adapted)


def _check_layer(name: str, layer: nn.Module, rank: int, method: str) -> None:
    packed = isinstance(layer, nn.MultiheadAttention)
    reason = attention.obstacle(layer) if packed else obstacle(layer)  # type: ignore[arg-type]
    if reason is not None:
        raise ValueError(f"cannot adapt {name!r}: {reason}; choose targets that leave it out")
    dtype = next(layer.parameters()).dtype
    if method == "integrator" and dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"cannot adapt {name!r}: its weights are {dtype}, and bases have to be float32 or float64; "
            "use model.float() and train it under torch.autocast"
        )
    if isinstance(rank, bool) or not isinstance(rank, int):
        raise ValueError(f"{name}: rank must be an integer, got {rank!r}")
    try:
        check_rank(rank, *_shape(name, layer))
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _shape(name: str, layer: nn.Module) -> tuple[int, int]:
    """(m, n) of the layer's matrix; of the projection that ends the name, if the layer is packed attention."""
    if isinstance(layer, nn.MultiheadAttention):
        inputs = {"k": layer.kdim, "v": layer.vdim}
        return layer.embed_dim, inputs.get(name.rpartition(".")[2], layer.embed_dim)
    m, n = layer.weight.flatten(1).shape  # type: ignore[operator]
    return m, n


def _adapted(base: nn.Module, rank: int, method: str, alpha: float | None) -> Adapted:
    assert isinstance(base, PLAIN)
    m, n = _shape("", base)
    where = {"device": base.weight.device, "dtype": base.weight.dtype}
    adapter: Adapter
    if method != "integrator":
        layer = LoRALayer if method == "lora" else AdaLoRALayer
        adapter = layer((m, n), rank, view_of(base), alpha, **where)  # type: ignore[arg-type]
    else:
        Y = random_factors(m, n, rank, **where)  # type: ignore[arg-type]
        Y = Y._replace(S=torch.zeros_like(Y.S))
        if isinstance(base, nn.Conv2d):
            adapter = LowRankConv2d(**conv_arguments(base), rank=rank, bias=False, init=Y)
        else:
            adapter = LowRankLinear(n, m, rank, bias=False, init=Y)
    return Adapted(base, adapter).train(base.training)


def _rank_of(name: str, rank: int | Mapping[str, int]) -> int:
    if not isinstance(rank, Mapping):
        return rank
    for pattern, value in rank.items():
        if re.search(pattern, name):
            return value
    raise ValueError(f"rank has no regular expression found in {name!r}, only {', '.join(rank)}: add one")


def _listed(patterns: Patterns) -> list[str]:
    return [patterns] if isinstance(patterns, str) else list(patterns)


def _found(patterns: Iterable[str], name: str) -> bool:
    return any(re.search(pattern, name) for pattern in patterns)


def _check_found(key: str, patterns: Iterable[str], names: Collection[str], kind: str) -> None:
    for pattern in patterns:
        try:
            known = any(re.search(pattern, name) for name in names)
        except re.error as error:
            raise ValueError(f"{key}: {pattern!r} is no regular expression ({error})") from None
        if not known:
            raise ValueError(f"{key}: {pattern!r} is found in no name; the {kind} are {', '.join(names) or 'none'}")
