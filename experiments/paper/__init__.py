"""The papers' printed accuracies (`tables`), beside ours (`matching`), and which of them ours beat (`dominance`).

`vit` has the table of fine-tuned vision transformers, whose columns are its own.
"""

from experiments.paper.dominance import PRINTED_RUNS, dominated, reached
from experiments.paper.matching import beside, match
from experiments.paper.tables import ABC_PSI, COLUMNS, DLRT, compression_column, read, select

__all__ = [
    "ABC_PSI", "COLUMNS", "DLRT", "PRINTED_RUNS", "beside", "compression_column", "dominated", "match", "reached",
    "read", "select",
]  # fmt: skip
