"""The vision transformer of DINOv2, whose defaults are its ViT-S/14."""

from collections import OrderedDict

import torch
from torch import Tensor, nn


class DinoV2(nn.Module):
    """Logits (b, classes) of images (b, 3, image_size, image_size), by a linear layer on the class token.

    `depth` blocks of `width`, with `heads` attention heads and an MLP four times as wide; patches of
    `patch_size` pixels. Raises ValueError for images of another size.
    """

    def __init__(
        self, image_size: int, classes: int, patch_size: int = 14, depth: int = 12, width: int = 384, heads: int = 6
    ) -> None:
        super().__init__()
        self.image_size = image_size
        self.patches = nn.Conv2d(3, width, kernel_size=patch_size, stride=patch_size)
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embedding = nn.Parameter(torch.empty(1, 1 + (image_size // patch_size) ** 2, width))
        self.layers = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, classes)
        self._initialise()

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.tokens(x)[:, 0])
        return logits

    def tokens(self, x: Tensor) -> Tensor:
        """The last hidden state, normalised, (b, 1 + patches, width): the class token first."""
        if x.shape[-2:] != (self.image_size, self.image_size):
            raise ValueError(
                f"images are {x.shape[-2]} × {x.shape[-1]} pixels and the model's image_size is {self.image_size}: "
                "set both to the same number"
            )
        patches = self.patches(x).flatten(2).mT
        tokens = torch.cat([self.class_token.expand(len(x), -1, -1), patches], dim=1)
        hidden: Tensor = self.norm(self.layers(tokens + self.pos_embedding))
        return hidden

    def _initialise(self) -> None:
        """Weights from N(0, 0.02²) cut off at ±2 (DINOv2's own), biases 0."""
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1:
                nn.init.trunc_normal_(parameter, std=0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)


class Block(nn.Module):
    """x + s₁ ∘ attention(norm₁(x)), then x + s₂ ∘ mlp(norm₂(x)), for tokens x (b, t, width); s₁, s₂ (width,)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.self_attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.scale1 = nn.Parameter(torch.ones(width))
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        fc1, fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.mlp = nn.Sequential(OrderedDict(fc1=fc1, gelu=nn.GELU(), fc2=fc2))
        self.scale2 = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        x = x + self.scale1 * self.self_attention(y, y, y, need_weights=False)[0]
        return x + self.scale2 * self.mlp(self.norm2(x))
