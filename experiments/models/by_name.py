"""Networks by name, users' own among them."""

from typing import Any

from torch import nn

from experiments.importing import call


def build(target: str, /, **kwargs: Any) -> nn.Module:
    """The module that "package.module:Name" returns for `kwargs`.

    Raises ValueError if it cannot be imported, does not take `kwargs`, or returns no nn.Module.
    """
    model = call(target, kwargs)
    if not isinstance(model, nn.Module):
        raise ValueError(f"{target} returned a {type(model).__name__}: it must return a torch.nn.Module")
    return model
