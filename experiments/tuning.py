"""The runs behind the tuned recipes: python -m experiments.tuning [FOLDER of more records].

Writes results/tuning/table.md, one row a run with what its config has that others' have not, from the records in
results/tuning/records.jsonl, to which those of a results_dir are added. They were chosen by validation accuracy alone:
with trainer.select=tuning a run never looks at the test data.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.command import in_one_sentence
from experiments.config import ConfigError
from experiments.kept import Record, read, write
from experiments.render import markdown
from experiments.settings import flat
from experiments.words import setting

FOLDER = Path("results", "tuning")
_NOT_SHOWN = (".target", ".name", "weights", "in_features", "width", "depth", "skip", "task")


def make(records: list[Record]) -> pd.DataFrame:
    """Returns the runs, model by model and best first, as text."""
    configs = pd.DataFrame([flat(record["config"]) for record in records])
    text = configs.map(lambda value: "" if isinstance(value, float) and math.isnan(value) else setting(value))
    varied = [str(key) for key in text if text[key].nunique() > 1 and not str(key).endswith(_NOT_SHOWN)]
    rows = pd.DataFrame([_outcome(record) for record in records])
    names = pd.DataFrame({"model": configs["model.name"], "method": configs["integrator.name"]})
    rows = pd.concat([names, rows, text[varied]], axis=1)
    rows = rows.sort_values(["model", "val %"], ascending=[True, False], kind="stable")
    return rows.fillna("").astype(str).rename(columns=lambda key: key.rpartition(".")[2])


def _outcome(record: Record) -> dict[str, Any]:
    commit = (record["provenance"].get("commit") or "unknown")[:9]
    final = record["final"]
    if final is None:
        return {"val %": record["status"], "compr %": "", "ranks": "", "commit": commit}
    return {
        "val %": f"{100 * final['val_accuracy']:.2f}",
        "compr %": f"{100 * final['compression']:.2f}",
        "ranks": "-".join(map(str, final["ranks"].values())),
        "commit": commit,
    }


def main(argv: list[str]) -> None:
    """Add the records of the folders in `argv` and write the table."""
    kept = FOLDER / "records.jsonl"
    found = read(kept) if kept.is_file() else {}
    for folder in argv:
        paths = sorted(Path(folder, "records").glob("*.json"))
        if not paths:
            raise ConfigError(f"{folder} holds no records: give the results_dir of a tuning sweep")
        for record in map(json.loads, (path.read_text(encoding="utf-8") for path in paths)):
            if record["config"]["trainer"]["select"] != "tuning":
                raise ConfigError(
                    f"{folder}: run {record['key']} is no tuning run: it has trainer.select other than tuning"
                )
            if record["status"] in ("done", "diverged"):
                found[record["key"]] = record
    if not found:
        raise ConfigError(f"there is no {kept} yet: give the results_dir of a tuning sweep")
    FOLDER.mkdir(parents=True, exist_ok=True)
    write(found.values(), kept)
    lines = [f"{len(found)} runs, one seed each; test data were never evaluated."]
    (FOLDER / "table.md").write_text(markdown(make(list(found.values())), "Tuning runs", lines), encoding="utf-8")


if __name__ == "__main__":
    with in_one_sentence():
        main(sys.argv[1:])
