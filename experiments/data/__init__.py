"""Data sets as whole tensors on the device."""

from experiments.data.cifar import load_cifar
from experiments.data.folder import load_folder
from experiments.data.images import fingerprint
from experiments.data.mnist import load_mnist
from experiments.data.splits import Split, Splits
from experiments.data.target import load_target

__all__ = ["Split", "Splits", "fingerprint", "load_cifar", "load_folder", "load_mnist", "load_target"]
