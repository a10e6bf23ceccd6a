"""What a run and a sweep say when they end."""

from collections.abc import Iterable, Sequence
from typing import Any

from experiments.build import ignored_keys
from experiments.progress import brief, clock
from experiments.rows import print_rows

Record = dict[str, Any]
COLUMNS = ("run", "key", "status", "val %", "test %", "compr. %", "ranks", "time", "")


def label(record: Record) -> str:
    """The run's name with the start of its key: runs that differ in what the name leaves out share the name."""
    return f"{record['name']} [{record['key'][:4]}]"


def already(record: Record) -> str:
    """The sentence for a run that is not trained because it is recorded."""
    commit = (record["provenance"].get("commit") or "unknown")[:9]
    dirty = ", with uncommitted changes" if record["provenance"].get("dirty") else ""
    return (
        f"{record['name']}: recorded already ({record['status']}, key {record['key']}, commit {commit}{dirty}); "
        "rerun=all trains it again"
    )


def resumed(record: Record, step: int) -> str:
    """The sentence for a run that goes on from a checkpoint; names what of its provenance has changed."""
    then, now = record["provenance"]["earlier"][-1], record["provenance"]
    changed = [key for key in ("commit", "dirty", "versions", "device", "threads") if then.get(key) != now.get(key)]
    other = f", with another {', '.join(changed)} than before: not to the last bit the same run" if changed else ""
    return f"{label(record)}: goes on after step {step}{other}"


def unused(config: dict[str, Any], given: Iterable[str]) -> list[str]:
    """A note for each of the `given` keys that has no meaning for the run `config`."""
    name, init, task = config["integrator"]["name"], config["init"], config["task"]
    adapters = config["adapters"]["name"] if config["adapters"] else None
    notes = []
    for key in sorted(ignored_keys(config) & set(given)):
        user = f"init={init}" if key == "gain" and init is not None else f"integrator={name}"
        user = f"adapters={adapters}" if key in ("init", "gain") and adapters else user
        user = f"task={task}" if key in ("tau", "weights") and task != "train" else user
        notes.append(f"note: {key} is ignored: {user} does not use it")
    return notes


def outcome(record: Record) -> str:
    """The sentence for a run that has just ended."""
    took = f"{label(record)}: {record['status']} after {clock(record['timing']['seconds'])}"
    if record["final"] is None:
        error = record["error"]
        where = "" if error["epoch"] is None else f" in epoch {error['epoch']}"
        where += "" if error["layer"] is None else f", layer {error['layer']}"
        return f"{took}{where}: {error['message']}"
    final = record["final"]
    if "measured" in record["timing"]:
        return f"{took}: {measurement(record['timing']['measured'])}"
    ranks = f", ranks {brief(final['ranks'])}" if final["ranks"] else ""
    part, key = ("test", "test_accuracy") if final["test_accuracy"] is not None else ("validation", "val_accuracy")
    size = f"compression {_percent(final['compression'])} %"
    if "adapter_params" in final:
        size = f"{final['adapter_params']:,} adapter parameters"
    return f"{took}: {part} accuracy {_percent(final[key])} % at epoch {final['epoch']}, {size}{ranks}"


def measurement(measured: dict[str, Any]) -> str:
    """What a timing cell measured."""
    ratio = f", {measured['ratio']:.3f} of dense" if "ratio" in measured else ""
    return f"{1000 * measured['seconds_median']:.4g} ms (median of {measured['repeats']}){ratio}"


def note_of(record: Record | None, trained: bool) -> str:
    """What the summary says about a run besides its figures."""
    words = [] if trained else ["recorded before"]
    if record is not None and "measured" in record["timing"]:
        words.append(measurement(record["timing"]["measured"]))
    if record is not None and record["error"] is not None:
        words += record["error"]["message"].splitlines()[:1]
    return ": ".join(words)


def print_summary(rows: Sequence[tuple[str, str, str, Record | None, str]]) -> None:
    """Print the end of a sweep: a row per run of (name, key, state, record or None, note)."""
    cells = [(name, key, state, *_figures(record), note) for name, key, state, record, note in rows]
    print_rows(COLUMNS, cells)


def _figures(record: Record | None) -> tuple[str, ...]:
    if record is None:
        return "", "", "", "", ""
    final = record["final"] or {"val_accuracy": None, "test_accuracy": None, "compression": None, "ranks": {}}
    accuracies = (_percent(final[key]) for key in ("val_accuracy", "test_accuracy", "compression"))
    return *accuracies, brief(final["ranks"]), clock(record["timing"]["seconds"])


def _percent(fraction: float | None) -> str:
    return "" if fraction is None else f"{100 * fraction:.2f}"
