"""Table and plots of a benchmark, from its records."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from omegaconf import DictConfig, OmegaConf

from experiments.benchmark import growth, held, plot, store, table
from experiments.benchmark.rows import order, row
from experiments.figures.plotting import save
from experiments.render import markdown, show


def write(folder: Path, cfg: DictConfig) -> None:
    """Prints the table of all records in the folder; writes table.md, table.csv (unrounded) and the plots to it."""
    targets = OmegaConf.to_container(cfg.targets)
    records = sorted(store.read(folder).values(), key=order)
    rows = pd.DataFrame([row(record, targets) for record in records])  # type: ignore[arg-type]
    text, lines = table.formatted(rows), table.footer(records, rows)
    more = held.tables(rows) + (growth.tables(rows) if cfg.growth else [])
    show(text, cfg.title, lines, more)
    (folder / "table.md").write_text(markdown(text, cfg.title, lines, more), encoding="utf-8")
    rows.drop(columns="held").to_csv(folder / "table.csv", index=False)
    save(plot.time_against_dense(rows, cfg.title), folder / "ratio")
    for variable, figure in growth.figures(rows) if cfg.growth else ():
        save(figure, folder / f"growth_{variable}")
