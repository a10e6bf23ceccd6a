"""Records of timing cells, without timing: the input of the tests of timing tables and their figure."""

from typing import Any

from fake_records import record

SECTION = {"kind": "timing", "paper": ["dlrt_table3_train_time"]}
TIMING = {"repeats": 20, "warmup": 2, "reference_every": 10, "images": 4096}


def timed(rank: int | None, seconds: float, dense_seconds: float = 2.0, **measured: Any) -> dict[str, Any]:
    """The record of a timing cell (rank None: of the dense net)."""
    run = record(
        "dense" if rank is None else "aug_bug", rank=rank, task="time_training", timing=TIMING,
        trainer={"epochs": 20, "lr": 0.1, "batch_size": 500, "eval_batch_size": 60000},
    )  # fmt: skip
    run["config"] |= {"rank": rank}
    run["key"] = f"{rank}"
    figures = {"seconds_mean": seconds, "seconds_std": seconds / 10, "seconds_median": seconds, "repeats": 20}
    figures["peak_bytes"] = None
    if rank is not None:
        figures |= {f"dense_{key}": figures[key] for key in list(figures)}
        figures |= {"dense_seconds_mean": dense_seconds, "dense_seconds_std": 0.01, "ratio": seconds / dense_seconds}
    run["timing"]["measured"] = figures | measured
    run["provenance"] |= {"threads": 2, "versions": {"torch": "2.11.0"}}
    run["final"] |= {"loss": 2.3, "images": 500, "val_accuracy": None, "test_accuracy": None, "epoch": None}
    return run
