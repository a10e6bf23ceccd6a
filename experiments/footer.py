"""The sentences under a table: what is counted how, which runs stand behind it, and what is missing."""

from __future__ import annotations

import pandas as pd

from experiments import paper
from experiments.aggregate import Record
from experiments.collection import KEPT, Collection
from experiments.words import commits, listed

_EPOCHS = {
    "val_accuracy": "the epoch that is best on validation data",
    "test_accuracy_paper_protocol": "the best test epoch, the papers' protocol",
}
_RULES = {
    "tau": "the row of the same method and τ, or of the same rank (else, at a fixed rank, the nearest in compression)",
    "compression": "the row of the same method with the highest compression not above ours, else the lowest",
}
_DOMINATED = (
    "dominated: the best of our {rows} rows at the printed compression or more, to the printed digits, has a strictly "
    "higher mean (a dense network may also be beaten by ours). p: one-sided Welch test against the printed mean and "
    "deviation of {runs} runs; where no deviation is printed, a one-sample t-test; not corrected for the choice of the "
    "best row."
)


def footer(collection: Collection, rows: pd.DataFrame) -> list[str]:
    """Returns the sentences for the frame `rows` of `paper.beside`."""
    return [*accuracy(collection.records), *_counts(rows), *_paper(collection, rows), _protocol(collection),
            _runs(collection), *missing(collection)]  # fmt: skip


def accuracy(records: list[Record]) -> list[str]:
    """Returns the sentences on the accuracies of the records."""
    done = [record["final"] for record in records if record["status"] == "done"]
    over = "mean ± sample standard deviation over the n finished seeds"
    diverged = "diverged runs (div.) are counted, not averaged"
    lines = []
    if tested := [final for final in done if final["test_accuracy"] is not None]:
        epochs = listed({_EPOCHS[final["selected_by"]] for final in tested})
        lines.append(f"accuracy: {over}, on the test data, at {epochs}; {diverged}.")
    if len(tested) < len(done):
        lines.append(f"validation: {over}; {diverged}. The test data of tuning runs are never evaluated.")
    if any(record.get("start") for record in records):
        lines.append("before training: the truncated SVD of the trained dense network, on the test data.")
    return lines


def _counts(rows: pd.DataFrame) -> list[str]:
    lines = ["params, compr.: Σ r(m + n) over the low-rank layers and m n of each layer that stays dense; no biases."]
    if rows["printed_train_compression"].notna().any():
        lines.append("train params: Σ [2r(m + n) + (2r)²] and m n of each dense layer.")
    if (rows["printed_paper"] == paper.ABC_PSI).any():
        lines.append("low-rank only: abc-PSI counts no layer that stays dense.")
    return lines


def _paper(collection: Collection, rows: pd.DataFrame) -> list[str]:
    printed = rows[["printed_table", "printed_paper"]].dropna().drop_duplicates()
    if not len(printed):
        return []
    names = listed(f"{table}: {name}" for table, name in printed.itertuples(index=False))
    rule = _RULES[collection.preset.table.get("match", "compression")]
    compete = "rank-adaptive" if rows["tau"].notna().any() else "low-rank"
    return [f"paper: {names}; beside ours stands {rule}. Its compressions follow from its printed parameters.",
            _DOMINATED.format(rows=compete, runs=paper.PRINTED_RUNS)]  # fmt: skip


def _protocol(collection: Collection) -> str:
    preset = collection.preset
    line = f"protocol: {preset.protocol or 'of the preset'}; budget: {preset.budget}"
    known = provenances(collection)
    dirty, unknown = (sum(p["dirty"] is state for p in known) for state in (True, None))
    if preset.protocol != "tuned" or not known:
        return f"{line}."
    if dirty or len(known) < len(collection.records):
        return f"{line}; NOT a frozen recipe: {dirty} of {len(known)} runs come from uncommitted changes."
    if unknown:
        named = f"{unknown} of {len(known)} runs come from a copy without git, said to be of {commits(known)}"
        return f"{line}; recipe and τ list: {named}."
    return f"{line}; recipe and τ list were committed in {commits(known)} before these runs."


def _runs(collection: Collection) -> str:
    known, total = provenances(collection), len(collection.preset.cells) + collection.preset.unresolved
    epochs = {str(record["config"]["trainer"]["epochs"]) for record in collection.records}
    others = collection.preset.table.get("records_from")
    where = f"those of {listed(others)}" if others else KEPT
    torch = listed({p["versions"].get("torch", "unknown") for p in known})
    return (
        f"runs: {len(collection.records)} of {total}, records: {where}; epochs: {listed(epochs)}; "
        f"commit: {commits(known)}; device: {listed({p['device'] for p in known})}; torch: {torch}."
    )


def provenances(collection: Collection) -> list[Record]:
    """Returns where the records come from, as far as they say."""
    return [record["provenance"] for record in collection.records if record["provenance"]]


def missing(collection: Collection) -> list[str]:
    """Returns the sentence on the runs that are missing, with the command that makes them, if there are any."""
    unfinished = sum(record["status"] in ("failed", "preempted") for record in collection.records)
    absent = len(collection.missing) + collection.preset.unresolved
    if not absent + unfinished:
        return []
    return [f"missing runs: {absent}, failed or cut short: {unfinished}; make them with `{collection.command}`."]
