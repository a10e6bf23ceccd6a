"""Random crops, flips and resizing of whole batches on their device."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def draw(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Moves (N, 3) for `crop_and_flip` of images of shape (N, C, H, W): top, left, and whether to flip, all uniform."""
    highest = (2 * (shape[2] // 8), 2 * (shape[3] // 8), 1)
    drawn = [torch.randint(high + 1, (shape[0],), generator=generator, device=generator.device) for high in highest]
    return torch.stack(drawn, 1)


def crop_and_flip(images: Tensor, moves: Tensor) -> Tensor:
    """Windows (b, C, H, W) of the images (b, C, H, W) with H//8 rows and W//8 columns of zeros around them.

    `moves` (b, 3), as from `draw`, says where in the padded image the window begins and whether it is mirrored.
    """
    count, channels, height, width = images.shape
    padded = F.pad(images, (width // 8, width // 8, height // 8, height // 8))
    top, left, flip = moves.unsqueeze(2).unbind(1)
    rows = top + torch.arange(height, device=images.device)
    columns = torch.arange(width, device=images.device).expand(count, -1)
    columns = left + torch.where(flip == 1, columns.flip(1), columns)
    pixels = (rows.unsqueeze(2) * padded.shape[3] + columns.unsqueeze(1)).view(count, 1, -1)
    return padded.flatten(2).gather(2, pixels.expand(-1, channels, -1)).view(images.shape)


def resize(images: Tensor, size: int) -> Tensor:
    """Float images (b, C, H, W) as (b, C, size, size): bilinear, antialiased where it shrinks them."""
    if images.shape[2:] == (size, size):
        return images
    antialias = size < max(images.shape[2:])
    return F.interpolate(images, (size, size), mode="bilinear", antialias=antialias)
