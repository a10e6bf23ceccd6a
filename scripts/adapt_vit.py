"""Fine-tune the adapters of a ViT-B/16 with abc-PSI: adapt, take two steps, save, load, merge."""

import copy
import tempfile

import torch
import torch.nn.functional as F
from torchvision.models import vit_b_16

import dlrt

plain = vit_b_16(weights=None)  # "IMAGENET1K_V1" for torchvision's pretrained weights
torch.nn.init.normal_(plain.heads.head.weight, std=0.02)  # torchvision starts the head at zero
model = dlrt.add_adapters(copy.deepcopy(plain), rank=8, targets=("self_attention", "mlp"), trainable=("bias$", "head"))
print(f"{sum(p.numel() for p in model.parameters() if p.requires_grad):,} numbers are trained, the others frozen")

integrator = dlrt.integrators.AugmentedBackwardCorrectedPSI(model, lr=1e-2, tau=0.2, optimizer="adamw")
x, y = torch.randn(2, 3, 224, 224), torch.randint(0, 1000, (2,))
losses = [integrator.step(lambda: F.cross_entropy(model(x), y)).item() for _ in range(2)]
ranks = sorted(adapter.rank for adapter in dlrt.adapters_of(model).values())
print(f"loss {losses[0]:.2f}, after a step {losses[1]:.2f}; ranks from {ranks[0]} to {ranks[-1]}")

with torch.no_grad(), tempfile.NamedTemporaryFile(suffix=".safetensors") as file:
    logits = model.eval()(x)
    dlrt.save_adapters(model, file.name)
    fresh = dlrt.load_adapters(plain, file.name).eval()
    print("a fresh model with the saved adapters gives identical logits:", torch.equal(fresh(x), logits))
    difference = (dlrt.merge_adapters(model)(x) - logits).abs().max().item()
    print(f"merged, all layers are torch's own again, and the logits differ by {difference:.0e}")
