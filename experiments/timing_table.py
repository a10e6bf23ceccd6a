"""The table of a preset with `table.kind: timing`: seconds beside the dense net's, and both beside the paper's."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.adapter_rows import method_of, name_of
from experiments.aggregate import DISPLAY_NAMES, Record
from experiments.collection import KEPT, Collection, keep
from experiments.config import ConfigError
from experiments.render import latex, markdown, show
from experiments.words import NONE, commits, count, listed, three_digits

_PRINTED = {"dlrt_table3_train_time": "DLRT 2022, Table 3", "dlrt_table4_predict_time": "DLRT 2022, Table 4"}
_WORK = {
    "time_training": "one step on {images} images: forward and backward passes, all flows, truncation, updates, loss "
    "and accuracy",
    "time_prediction": "the prediction of {images} images in batches of at most {batch}, with loss and accuracy; "
    "each low-rank layer as two thin ones or one dense, whichever was measured faster beforehand",
}


def printed(stems: Iterable[str]) -> pd.DataFrame:
    """Returns the papers' rows: `rank` (NA: the full network), `seconds_mean`, `seconds_std`, `ratio` to the full.

    The rank is that of the four hidden layers; Table 3's 320 for the 5120 × 10 layer is a misprint of 10.

    Raises:
        ConfigError: no timing table has that file stem.
    """
    tables = []
    for stem in stems:
        if stem not in _PRINTED:
            raise ConfigError(f"table.paper must name timing tables of {', '.join(_PRINTED)}, got {stem!r}")
        rows = pd.read_csv(Path(__file__).parent / "paper" / f"{stem}.csv")
        ranks = [None if text == "full" else int(text.split("-")[0]) for text in rows["ranks"]]
        full = rows.loc[rows["ranks"] == "full", "mean_s"].iloc[0]
        rows = rows.assign(rank=pd.Series(ranks, dtype="Int64"), ratio=rows["mean_s"] / full)
        tables.append(rows.rename(columns={"mean_s": "seconds_mean", "std_s": "seconds_std"}))
    columns = ["rank", "seconds_mean", "seconds_std", "ratio"]
    return pd.concat(tables)[columns] if tables else pd.DataFrame(columns=columns).astype({"rank": "Int64"})


def beside(collection: Collection) -> pd.DataFrame:
    """Returns one row per finished cell: what it measured, and the printed row of its rank as `printed_…`.

    `rank` is NA for the dense net, whose `ratio` is 1.
    """
    rows = [_row(record) for record in collection.records if record["status"] == "done"]
    ours = pd.DataFrame(rows, columns=_COLUMNS).astype({"rank": "Int64", "dense_seconds_mean": float})
    paper = printed(collection.preset.table.get("paper", [])).add_prefix("printed_")
    return ours.merge(paper, how="left", left_on="rank", right_on="printed_rank").drop(columns="printed_rank")


_MEASURED = ["seconds_mean", "seconds_std", "seconds_median", "repeats", "peak_bytes"]
_COLUMNS = [
    "method", "rank", *_MEASURED, *(f"dense_{name}" for name in _MEASURED), "ratio", "eval_params", "loss", "images",
]  # fmt: skip


def _row(record: Record) -> dict[str, Any]:
    config, final = record["config"], record["final"]
    ratio = {"ratio": 1.0} if config["rank"] is None else {}
    start = {"method": method_of(config), "rank": config["rank"]}
    return start | {key: final[key] for key in ("eval_params", "loss", "images")} | record["timing"]["measured"] | ratio


def formatted(rows: pd.DataFrame, tuning: bool = False) -> pd.DataFrame:
    """Returns the frame of `beside` as text, times in milliseconds; `tuning`: its methods fine-tune a model."""
    text = {
        "method": [name_of(name) if tuning else DISPLAY_NAMES.get(name, name) for name in rows["method"]],
        "rank": ["full" if pd.isna(rank) else str(rank) for rank in rows["rank"]],
        "ms": map(_spread, rows["seconds_mean"], rows["seconds_std"]),
        "dense ms": map(_spread, rows["dense_seconds_mean"], rows["dense_seconds_std"]),
        "ratio": rows["ratio"].map(_ratio),
    }
    if rows["printed_ratio"].notna().any():
        text["paper ms"] = map(_spread, rows["printed_seconds_mean"], rows["printed_seconds_std"])
        text["paper's ratio"] = rows["printed_ratio"].map(_ratio)
    text["params"] = rows["eval_params"].map(count)
    if rows["peak_bytes"].notna().any():
        text["MiB"], text["dense MiB"] = rows["peak_bytes"].map(_mebibytes), rows["dense_peak_bytes"].map(_mebibytes)
    return pd.DataFrame({name: list(cells) for name, cells in text.items()}, dtype=object)


def _spread(mean: float, std: float) -> str:
    if pd.isna(mean):
        return NONE
    digits = three_digits(1000 * mean)
    return f"{1000 * mean:.{digits}f}" + ("" if pd.isna(std) else f" ± {1000 * std:.{digits}f}")


def _ratio(ratio: float) -> str:
    return NONE if pd.isna(ratio) else f"{ratio:.3f}"


def _mebibytes(size: float) -> str:
    return count(size / 2**20)


def footer(collection: Collection) -> list[str]:
    """Returns the sentences under the table: what was timed how, on what, what the paper timed, what is missing."""
    done = [record for record in collection.records if record["status"] == "done"]
    lines = [] if not done else [*_measurement(done), *_paper(collection), _provenance(collection, done)]
    missing = len(collection.preset.cells) - len(done)
    return lines + [f"missing or failed runs: {missing}; make them with `{collection.command}`."] * bool(missing)


def _measurement(done: list[Record]) -> list[str]:
    timings = [record["config"]["timing"] for record in done]
    work = {
        _WORK[record["config"]["task"]].format(
            images=record["final"]["images"], batch=record["config"]["trainer"]["eval_batch_size"]
        )
        for record in done
    }
    repeats, every = ({str(timing[key]) for timing in timings} for key in ("repeats", "reference_every"))
    return [
        f"timed: {listed(work)}; ms: mean ± sample standard deviation of {listed(repeats)} repeats after the warm-up.",
        f"dense ms: the same work by the dense net in the same process, in turn, every {listed(every)} repeats; "
        "ratio: of the medians in that process.",
        f"rank: of every {'adapter' if _tuning(done) else 'layer but the dense output layer'}, or min(m, n) of a layer "
        "that has less.",
    ]


def _tuning(records: Iterable[Record]) -> bool:
    """Whether the records are of ways to fine-tune a model."""
    return any(record["config"].get("adapters") for record in records)


def _paper(collection: Collection) -> list[str]:
    names = listed(_PRINTED[stem] for stem in collection.preset.table.get("paper", []))
    return [f"paper: {names}, its machine and code: the ratios compare; its output layer has rank 10."] if names else []


def _provenance(collection: Collection, done: list[Record]) -> str:
    known = [record["provenance"] for record in done]
    return (
        f"runs: {len(done)}, records: {collection.source.name}; budget: {collection.preset.budget}; "
        f"commit: {commits(known)}; device: {listed({p['device'] for p in known})}; "
        f"threads: {listed({str(p['threads']) for p in known})}; "
        f"torch: {listed({p['versions']['torch'] for p in known})}."
    )


def make(collection: Collection, folder: Path) -> None:
    """Prints the table; writes table.md, table.csv (seconds, unrounded), table.tex and records.jsonl to `folder`."""
    rows = beside(collection)
    text, lines = formatted(rows, _tuning(collection.records)), footer(collection)
    show(text, collection.preset.title, lines)
    (folder / "table.md").write_text(markdown(text, collection.preset.title, lines), encoding="utf-8")
    (folder / "table.tex").write_text(latex(text), encoding="utf-8")
    rows.to_csv(folder / "table.csv", index=False)
    keep(collection, folder / KEPT)
