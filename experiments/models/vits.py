"""torchvision's vision transformers: ViT-B/16 with ImageNet weights, and a tiny one to train from scratch."""

from pathlib import Path

import torch
from torch import Tensor, nn

from experiments.data.files import Unavailable
from experiments.data.sources import NETWORK_ERRORS, probe
from experiments.models import checkpoints, sizes


def vit_b_16(classes: int = 10, weights: str | Path | None = None, image_size: int = 224) -> nn.Module:
    """torchvision's ViT-B/16 for images (b, 3, image_size, image_size): logits (b, classes).

    weights: None = random; "imagenet" = torchvision's IMAGENET1K_V1, downloaded once into torch.hub's folder; else
    the path of a state_dict of this architecture, .pth or .safetensors. The classifier is a new one unless the
    file's has as many classes; the position embedding is interpolated if image_size is not the file's.
    Raises ValueError if a size is impossible, or if the weights cannot be had or are of another model.
    """
    import torchvision  # slow to import, and not needed for the papers' networks

    sizes.check(image_size, 16, classes=classes)
    model = torchvision.models.vit_b_16(num_classes=classes, image_size=image_size)
    model.heads.head.reset_parameters()
    if weights == "imagenet":
        _load(model, _imagenet(), "torchvision's download", "vit_b_16")
    elif weights is not None:
        path = checkpoints.existing(weights, "imagenet")
        _load(model, checkpoints.read(path), f"weights file {path}", "a state_dict of torchvision's vit_b_16")
    return model


def vit_tiny(
    classes: int = 10,
    image_size: int = 32,
    patch_size: int = 4,
    depth: int = 4,
    width: int = 128,
    heads: int = 4,
    dropout: float = 0.0,
    channels: int = 3,
    weights: str | Path | None = None,
) -> nn.Module:
    """torchvision's VisionTransformer, small: `depth` blocks of `width`, with an MLP four times as wide.

    channels: of the images, torchvision's own 3 or another number.
    weights: None = random; else the path of a state_dict of a vit_tiny of these sizes, where `classes` and
    `image_size` may differ. Raises ValueError as `vit_b_16` does.
    """
    from torchvision.models import VisionTransformer

    sizes.check(image_size, patch_size, classes=classes, depth=depth, width=width, heads=heads, channels=channels)
    if width % heads:
        raise ValueError(f"width is {width}: give a multiple of heads, {heads}")
    model = VisionTransformer(image_size, patch_size, depth, heads, width, 4 * width, dropout, num_classes=classes)
    model.heads.head.reset_parameters()
    if channels != 3:
        model.conv_proj = nn.Conv2d(channels, width, kernel_size=patch_size, stride=patch_size)
    if weights is not None:
        path = checkpoints.existing(weights)
        kind = f"a state_dict of vit_tiny with patch_size={patch_size}, depth={depth}, width={width}"
        _load(model, checkpoints.read(path), f"weights file {path}", kind)
    return model


def _load(model: nn.Module, state: dict[str, Tensor], source: str, expected: str) -> None:
    """Older files, the ImageNet weights among them, call the layers of an MLP linear_1 and linear_2."""
    state = {name.replace("mlp.linear_1.", "mlp.0.").replace("mlp.linear_2.", "mlp.3."): t for name, t in state.items()}
    checkpoints.load(model, state, source, expected, align_corners=True)  # as torchvision's interpolate_embeddings


def _imagenet() -> dict[str, Tensor]:
    from torchvision.models import ViT_B_16_Weights

    listed = ViT_B_16_Weights.IMAGENET1K_V1
    kept = Path(torch.hub.get_dir(), "checkpoints", Path(listed.url).name)
    if kept.is_file():
        return checkpoints.read(kept)
    try:
        probe(listed.url)
        state: dict[str, Tensor] = listed.get_state_dict(check_hash=True, map_location="cpu", weights_only=True)
    except (Unavailable, *NETWORK_ERRORS, RuntimeError) as error:  # RuntimeError: the wrong hash
        raise ValueError(
            f"the ImageNet weights of vit_b_16 cannot be fetched ({error}): "
            f"give model.weights=PATH, a copy of {kept.name}"
        ) from error
    return state
