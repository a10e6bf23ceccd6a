"""How good a network is, which epoch is reported, and when a run counts as failed."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from dlrt import Divergence
from experiments.data import Splits

Row = dict[str, Any]
SELECTED_BY = {
    "validation": "val_accuracy",
    "test": "test_accuracy_paper_protocol",
    "tuning": "val_accuracy",
}


class Collapse(Divergence):
    """The accuracy is still that of guessing: what the papers count as a failed run."""


def evaluate(net: nn.Module, data: Splits, cfg: dict[str, Any]) -> Row:
    """Validation accuracy (None without validation data) and, with select=test only, test accuracy."""
    row: Row = {"val_accuracy": None if data.val is None else accuracy(net, data, "val", cfg)}
    if cfg["select"] == "test":
        row["test_accuracy_paper_protocol"] = accuracy(net, data, "test", cfg)
    return row


@torch.no_grad()
def accuracy(net: nn.Module, data: Splits, part: str, cfg: dict[str, Any]) -> float:
    """Fraction of the images of `part` ("train", "val" or "test") that `net` classifies correctly."""
    net.eval()
    split = getattr(data, part)
    hits = torch.zeros((), device=split.labels.device, dtype=torch.long)
    for x, y in data.batches(split, cfg["eval_batch_size"]):
        hits += (logits_of(net, x, cfg["precision"]).argmax(1) == y).sum()
    return hits.item() / len(split)


def is_candidate(epoch: int, cfg: dict[str, Any]) -> bool:
    """Whether the epoch may be the reported one; early epochs of a rank-adaptive run have high ranks."""
    return cfg["select"] == "test" or epoch > cfg["epochs"] - math.ceil(cfg["epochs"] * cfg["select_last"])


def check_collapse(row: Row, cfg: dict[str, Any]) -> None:
    """Raise Collapse if the accuracy after epoch `collapse_epoch` is below `collapse_accuracy`."""
    reached = row[SELECTED_BY[cfg["select"]]]
    if row["epoch"] == cfg["collapse_epoch"] and reached < cfg["collapse_accuracy"]:
        raise Collapse(f"accuracy {reached:.4f} after epoch {row['epoch']} is below {cfg['collapse_accuracy']}")


def logits_of(net: nn.Module, x: Tensor, precision: str) -> Tensor:
    """The net's outputs; with "bf16", computed under autocast, in float32."""
    if precision == "fp32":
        return net(x)
    with torch.autocast(x.device.type, torch.bfloat16):
        return net(x).float()
