"""Every integrator on a ResNet-18 and on a network of one's own: factorise, train a few steps, merge."""

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models import resnet18

import dlrt


def own_cnn() -> nn.Module:
    features = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(4), nn.Conv2d(16, 32, 3), nn.ReLU()
    )
    return nn.Sequential(features, nn.Flatten(), nn.Dropout(0.1), nn.Linear(32 * 36, 64), nn.ReLU(), nn.Linear(64, 10))


x, y = torch.randn(16, 3, 32, 32), torch.randint(0, 10, (16,))
for make in (lambda: resnet18(num_classes=10), own_cnn):
    for name, integrator_class in dlrt.INTEGRATORS.items():
        torch.manual_seed(0)
        model = dlrt.factorize(make(), rank=8, init="orthonormal")
        integrator = integrator_class(model, lr=0.02, tau=0.1 if integrator_class.rank_adaptive else None)
        losses = [integrator.step(lambda model=model: F.cross_entropy(model(x), y)).item() for _ in range(5)]
        before = model.eval()(x)
        difference = (dlrt.merge(model)(x) - before).abs().max().item()
        print(
            f"{name:12} loss {losses[0]:.3f} → {losses[-1]:.3f}, after merging the output differs by {difference:.0e}"
        )
