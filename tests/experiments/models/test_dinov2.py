"""DINOv2 as a module: its start, what its classifier sees, images of another size. ONNX graphs: test_dinov2_onnx."""

import pytest
import torch
from torch import nn

from experiments.models.dinov2 import Block, DinoV2


def net() -> DinoV2:
    return DinoV2(image_size=6, classes=3, patch_size=2, depth=2, width=8, heads=2)


def test_it_starts_from_a_truncated_normal_distribution():
    model = DinoV2(image_size=28, classes=3, depth=1)
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1 and parameter.numel() > 10_000:
            assert abs(parameter.std() - 0.02) < 1e-3, name
        elif name.endswith("bias"):
            assert not parameter.any(), name
    assert all((block.scale1 == 1).all() and (block.scale2 == 1).all() for block in model.layers)


def test_patches_are_read_row_by_row():
    model = net()
    model.layers = nn.Sequential()
    x = torch.randn(5, 3, 6, 6)
    tokens = model.tokens(x)
    corner = (model.patches.weight.flatten(1) @ x[:, :, 2:4, 4:6].reshape(5, -1).T).T + model.patches.bias
    torch.testing.assert_close(tokens[:, 1 + 1 * 3 + 2], model.norm(corner + model.pos_embedding[0, 6]))
    assert tokens.shape == (5, 10, 8)


def test_a_block_adds_scaled_attention_and_scaled_mlp():
    block, x = Block(8, heads=2), torch.randn(2, 5, 8)
    block.scale2.data.zero_()
    block.scale1.data = torch.arange(8.0)
    y = block.norm1(x)
    attention = block.self_attention(y, y, y)[0]
    torch.testing.assert_close(block(x), x + torch.arange(8.0) * attention)
    block.scale1.data.zero_()
    block.scale2.data.fill_(2)
    hidden = nn.functional.gelu(block.mlp.fc1(block.norm2(x)))
    torch.testing.assert_close(block(x), x + 2 * block.mlp.fc2(hidden))


def test_every_parameter_has_a_gradient():
    model = net()
    model(torch.randn(4, 3, 6, 6)).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())


@pytest.mark.parametrize("size", [(4, 6), (8, 8)])
def test_images_of_another_size_are_refused(size):
    with pytest.raises(
        ValueError, match=f"images are {size[0]} × {size[1]} pixels and the model's image_size is 6: set"
    ):
        net()(torch.zeros(1, 3, *size))
