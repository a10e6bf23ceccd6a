"""The integrators, one per file; the file's name is the registry key."""

from importlib import import_module
from pkgutil import iter_modules

from dlrt.integrators.abc_psi import AugmentedBackwardCorrectedPSI
from dlrt.integrators.aug_bug import AugmentedBUG
from dlrt.integrators.base import Integrator, LayerStep
from dlrt.integrators.bc_psi import BackwardCorrectedPSI
from dlrt.integrators.bug import BUG
from dlrt.integrators.parallel_bug import ParallelBUG
from dlrt.integrators.psi import PSI

__all__ = [
    "BUG",
    "INTEGRATORS",
    "PSI",
    "AugmentedBUG",
    "AugmentedBackwardCorrectedPSI",
    "BackwardCorrectedPSI",
    "Integrator",
    "LayerStep",
    "ParallelBUG",
]


def _collect() -> dict[str, type[Integrator]]:
    """Every module of this package but `base` holds one integrator: a new file is found without an entry anywhere."""
    found = {}
    for module in iter_modules(__path__):
        if module.name != "base":
            members = vars(import_module(f"{__name__}.{module.name}")).values()
            (found[module.name],) = (
                x
                for x in members
                if isinstance(x, type) and issubclass(x, Integrator) and x.__module__.endswith(f".{module.name}")
            )
    return found


INTEGRATORS: dict[str, type[Integrator]] = _collect()
