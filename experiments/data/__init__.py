"""Data sets as whole tensors on the device."""

from experiments.data.mnist import load_mnist
from experiments.data.splits import Split, Splits
from experiments.data.target import load_target

__all__ = ["Split", "Splits", "load_mnist", "load_target"]
