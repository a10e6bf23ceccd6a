"""The papers' networks as plain torch modules."""

from collections import OrderedDict

import torch
from torch import Tensor, nn


def mlp(
    in_features: int = 784,
    width: int = 500,
    depth: int = 5,
    classes: int = 10,
    bias: bool = True,
    dropout: float = 0.0,
    init: str = "torch",
) -> nn.Sequential:
    """`depth` linear layers with ReLU, then dropout, between them, for input (b, …) of `in_features` numbers each.

    The layers are named hidden.0 … hidden.{depth − 2} and output. DLRT, 2022, Tables 5 and 6: width 500
    and 784. init: "torch" leaves torch's; "normal" draws all weights and biases from N(0, 1) (abc-PSI, 2025).
    Raises ValueError for another init, or if a size is not a positive integer.
    """
    if init not in ("torch", "normal"):
        raise ValueError(f"init is {init!r}: use torch or normal")
    for key, value in {"in_features": in_features, "width": width, "depth": depth, "classes": classes}.items():
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{key} is {value!r}: give a positive integer")
    sizes = [in_features] + [width] * (depth - 1)
    hidden: OrderedDict[str, nn.Module] = OrderedDict()
    for i in range(depth - 1):
        hidden[str(i)] = nn.Linear(sizes[i], sizes[i + 1], bias=bias)
        hidden[f"relu{i}"] = nn.ReLU(inplace=True)
        if dropout:
            hidden[f"dropout{i}"] = nn.Dropout(dropout)
    output = nn.Linear(sizes[-1], classes, bias=bias)
    net = nn.Sequential(OrderedDict(flatten=nn.Flatten(), hidden=nn.Sequential(hidden), output=output))
    for parameter in net.parameters() if init == "normal" else ():
        nn.init.normal_(parameter)
    return net


def lenet5(classes: int = 10, dropout: float = 0.0) -> nn.Sequential:
    """LeNet5 for images (b, 1, 28, 28) with the matrices of DLRT, 2022, Table 7.

    conv.0 is 20 × 25, conv.1 50 × 500, hidden 500 × 800 and output `classes` × 500; each convolution is
    followed by 2 × 2 max-pooling and ReLU, `hidden` by ReLU and dropout.
    """
    conv: OrderedDict[str, nn.Module] = OrderedDict(channels_last=ChannelsLast())
    for i, (channels, filters) in enumerate([(1, 20), (20, 50)]):
        conv[str(i)] = nn.Conv2d(channels, filters, kernel_size=5)
        conv[f"pool{i}"] = nn.MaxPool2d(2)
        conv[f"relu{i}"] = nn.ReLU(inplace=True)
    return nn.Sequential(
        OrderedDict(
            conv=nn.Sequential(conv),
            flatten=nn.Flatten(),
            hidden=nn.Linear(800, 500),
            relu=nn.ReLU(inplace=True),
            dropout=nn.Dropout(dropout),
            output=nn.Linear(500, classes),
        )
    )


class ChannelsLast(nn.Module):
    """Lays images (b, C, H, W) out in memory with their channels last: convolutions and pooling run up to 7× faster."""

    def forward(self, x: Tensor) -> Tensor:
        # contiguous() would leave images of one channel as they are, and the next layer's output with them.
        return torch.empty_like(x, memory_format=torch.channels_last).copy_(x)
