"""The figures of a preset: python -m experiments.figure NAME [results_dir=runs].

Writes each that the preset lists to results/NAME as .png, .pdf and .svg, the same bytes for the same records.
"""

from __future__ import annotations

import sys
from pathlib import Path

from experiments.collection import Collection, command
from experiments.config import ConfigError
from experiments.figures.accuracy_compression import accuracy_compression
from experiments.figures.accuracy_params import accuracy_params
from experiments.figures.pareto import pareto
from experiments.figures.plotting import save
from experiments.figures.rank_evolution import rank_evolution
from experiments.figures.rank_heatmap import rank_heatmap
from experiments.figures.time_rank import time_rank
from experiments.importing import did_you_mean

FIGURES = {
    "accuracy_compression": accuracy_compression,
    "accuracy_params": accuracy_params,
    "pareto": pareto,
    "rank_evolution": rank_evolution,
    "rank_heatmap": rank_heatmap,
    "time_rank": time_rank,
}


def make(collection: Collection, folder: Path) -> None:
    """Draws the figures that the preset lists, all if it lists none, into `folder`.

    Raises:
        ConfigError: the preset lists an unknown figure.
    """
    for name in collection.preset.figures or FIGURES:
        if name not in FIGURES:
            raise ConfigError(f"figures: {did_you_mean(name, FIGURES)}there is no {name!r}: write {', '.join(FIGURES)}")
        figure = FIGURES[name](collection)
        if figure is None:
            print(f"{name} is not drawn: none of the records belongs in it")
        else:
            save(figure, folder / name)
            print(f"{folder / name}.png, .pdf, .svg")


if __name__ == "__main__":
    command(sys.argv[1:], "experiments.figure", make)
