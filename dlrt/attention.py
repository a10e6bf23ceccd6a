"""Multi-head attention whose projections are layers, so that they can be adapted or factorised one by one."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

PROJECTIONS = ("q", "k", "v", "out_proj")


class Attention(nn.Module):
    """`nn.MultiheadAttention` with children q, k, v and out_proj, each an `nn.Linear` that is called.

    torch's own keeps q, k and v in one packed weight and reads `out_proj.weight` without calling the layer. Takes the
    same arguments, gives the same results and holds the same numbers; `pack` gives torch's module back.

    Raises:
        ValueError: the module is a subclass with a forward of its own, is parametrised, or has hooks, bias_k, bias_v or
            add_zero_attn.
    """

    # What nn.TransformerEncoderLayer asks for before it reads weights past the forwards: these keep it from doing so.
    in_proj_bias = None
    _qkv_same_embed_dim = False

    def __init__(self, packed: nn.MultiheadAttention) -> None:
        super().__init__()
        reason = obstacle(packed)
        if reason is not None:
            raise ValueError(f"cannot unpack the attention layer: {reason}")
        self.embed_dim, self.num_heads = packed.embed_dim, packed.num_heads
        self.dropout, self.batch_first = packed.dropout, packed.batch_first
        parts = unpacked(packed)
        self.q, self.k, self.v = (_linear(parts[f"{name}.weight"], parts.get(f"{name}.bias")) for name in "qkv")
        self.out_proj = _linear(packed.out_proj.weight, packed.out_proj.bias)
        self.train(packed.training)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """As `nn.MultiheadAttention.forward`: query (b, t, d), key and value (b, s, …), or as `batch_first` says."""
        if is_causal and attn_mask is None:
            raise ValueError("is_causal is a hint about attn_mask, as in torch: give the causal attn_mask, too")
        if query.ndim == 2:
            batch = 0 if self.batch_first else 1
            args = [x.unsqueeze(batch) for x in (query, key, value)]
            padding = None if key_padding_mask is None else key_padding_mask[None]
            z, weights = self(*args, padding, need_weights, attn_mask, average_attn_weights)
            return z.squeeze(batch), None if weights is None else weights[0]
        q, k, v = (self._heads(x) for x in (self.q(query), self.k(key), self.v(value)))
        mask = self._mask(q, k, key_padding_mask, attn_mask)
        dropout = self.dropout if self.training else 0.0
        weights = None
        if need_weights:
            scores = q @ k.mT / math.sqrt(q.shape[-1])
            weights = F.dropout((scores if mask is None else scores + mask).softmax(-1), dropout)
            z = weights @ v
            weights = weights.mean(1) if average_attn_weights else weights
        else:
            z = F.scaled_dot_product_attention(q, k, v, mask, dropout)
        z = self.out_proj(z.transpose(1, 2).flatten(2))  # (b, t, d)
        return z if self.batch_first else z.transpose(0, 1), weights

    def _heads(self, x: Tensor) -> Tensor:
        x = x if self.batch_first else x.transpose(0, 1)
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # (b, heads, t, d / heads)

    def _mask(self, q: Tensor, k: Tensor, padding: Tensor | None, attn_mask: Tensor | None) -> Tensor | None:
        """What is added to the scores (b, heads, t, s); in torch's masks True marks what is not attended to."""
        masks = []
        if padding is not None:
            masks.append(_additive(padding, q)[:, None, None, :])
        if attn_mask is not None:
            mask = _additive(attn_mask, q)
            masks.append(mask if mask.ndim == 2 else mask.view(len(q), self.num_heads, q.shape[2], k.shape[2]))
        return sum(masks[1:], masks[0]) if masks else None

    def pack(self) -> nn.MultiheadAttention:
        """torch's module with the weights of the four layers."""
        q, k, v, out = (getattr(self, name) for name in PROJECTIONS)
        arguments: dict[str, Any] = {"dropout": self.dropout, "bias": q.bias is not None}
        arguments |= {"kdim": k.in_features, "vdim": v.in_features, "batch_first": self.batch_first}
        packed = nn.MultiheadAttention(self.embed_dim, self.num_heads, **arguments, device="meta")
        if packed._qkv_same_embed_dim:
            packed.in_proj_weight = _joined(q.weight, k.weight, v.weight)
        else:
            packed.q_proj_weight, packed.k_proj_weight, packed.v_proj_weight = q.weight, k.weight, v.weight
        if q.bias is not None:
            packed.in_proj_bias = _joined(q.bias, k.bias, v.bias)
        packed.out_proj.weight, packed.out_proj.bias = out.weight, out.bias
        return packed.train(self.training)


def obstacle(packed: nn.MultiheadAttention) -> str | None:
    """Why an attention layer cannot be unpacked, or None if it can."""
    if type(packed).forward is not nn.MultiheadAttention.forward:
        return f"{type(packed).__name__} is not a plain nn.MultiheadAttention"
    if packed.bias_k is not None or packed.add_zero_attn:
        return "it has bias_k and bias_v, or add_zero_attn"
    if parametrize.is_parametrized(packed):
        return "its weights are parametrised"
    if packed._forward_hooks or packed._forward_pre_hooks or packed._backward_hooks:
        return "it has hooks, which would be lost"
    return None


def unpacked(packed: nn.MultiheadAttention) -> dict[str, Tensor]:
    """Weights and biases of q, k and v, by name: "q.weight", …"""
    if packed._qkv_same_embed_dim:
        weights = packed.in_proj_weight.chunk(3)
    else:
        weights = packed.q_proj_weight, packed.k_proj_weight, packed.v_proj_weight
    parts = {f"{name}.weight": weight for name, weight in zip("qkv", weights, strict=True)}
    if packed.in_proj_bias is not None:
        parts |= {f"{name}.bias": bias for name, bias in zip("qkv", packed.in_proj_bias.chunk(3), strict=True)}
    return parts


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    layer.weight = nn.Parameter(weight.detach().clone(), weight.requires_grad)
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach().clone(), bias.requires_grad)
    return layer


def _joined(*parts: Tensor) -> nn.Parameter:
    return nn.Parameter(torch.cat([part.detach() for part in parts]), any(part.requires_grad for part in parts))


def _additive(mask: Tensor, like: Tensor) -> Tensor:
    if mask.dtype != torch.bool:
        return mask.to(like.dtype)
    return torch.zeros_like(mask, dtype=like.dtype).masked_fill_(mask, -math.inf)
