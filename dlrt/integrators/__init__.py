"""The integrators, one per file; the file's name is the registry key."""

from importlib import import_module
from pkgutil import iter_modules

from dlrt.engine import LayerStep
from dlrt.integrators.abc_psi import AugmentedBackwardCorrectedPSI
from dlrt.integrators.aug_bug import AugmentedBUG
from dlrt.integrators.base import Integrator
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
    """The one integrator of every module of this package but `base`: a new file is found without an entry anywhere."""
    found = {}
    for name in (module.name for module in iter_modules(__path__) if module.name != "base"):
        module = import_module(f"{__name__}.{name}")
        own = [x for x in vars(module).values() if isinstance(x, type) and x.__module__ == module.__name__]
        classes = [x for x in own if issubclass(x, Integrator)]
        if len(classes) != 1:
            raise ImportError(f"{module.__name__} must define one subclass of Integrator, found {len(classes)}")
        found[name] = classes[0]
    return found


INTEGRATORS: dict[str, type[Integrator]] = _collect()
