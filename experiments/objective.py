"""What a search maximises: figures of a run's record, in its "final", that no test data have gone into."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from omegaconf import DictConfig

from experiments.config import ConfigError
from experiments.importing import did_you_mean

FIGURES = ("val_accuracy", "compression", "train_compression")
SELECT = ("validation", "tuning")  # trainer.select: the reported epoch, too, is chosen without test data


def objective(record: Mapping[str, Any] | None, keys: Iterable[str]) -> tuple[float, ...] | None:
    """The figures `keys` of the record's "final"; None if there is no record, no end of the run or no such figure."""
    final = (record or {}).get("final") or {}
    values: list[Any] = [final.get(key) for key in keys]
    return None if None in values else tuple(float(value) for value in values)


def check_keys(keys: Sequence[str]) -> None:
    """Raise ConfigError unless all `keys` are figures of a record."""
    for key in keys:
        if key not in FIGURES:
            hint = did_you_mean(key, FIGURES)
            raise ConfigError(f"objective=[{','.join(keys)}]: {hint}choose one or more of {', '.join(FIGURES)}")


def check_objective(cfg: DictConfig) -> None:
    """Raise ConfigError unless a search can maximise what `cfg.objective` says of runs such as `cfg`."""
    check_keys(cfg.objective)
    if not cfg.objective:
        raise ConfigError(f"objective=[]: a search needs something to maximise; choose from {', '.join(FIGURES)}")
    if cfg.trainer.select not in SELECT:
        raise ConfigError(
            f"trainer.select={cfg.trainer.select}: a search must not look at test data; use trainer.select=tuning"
        )
    if cfg.task != "train":
        raise ConfigError(f"task={cfg.task}: a search compares trainings; use task=train")


def front(points: Sequence[Sequence[float]]) -> list[int]:
    """The places of the points that no other one exceeds in one coordinate and reaches in all."""
    return [i for i, own in enumerate(points) if not any(_dominates(other, own) for other in points)]


def _dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    return tuple(one) != tuple(other) and all(a >= b for a, b in zip(one, other, strict=True))
