"""The sentences under a table of fine-tuning: what is counted how, on which images, what the paper did, what ran."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from experiments.collection import KEPT, Collection
from experiments.config import NEUTRAL
from experiments.footer import accuracy, missing, provenances
from experiments.paper import vit
from experiments.words import NONE, commits, count, listed

_MEDIAN = "median: over the same seeds, what the paper reports. A difference of means stands with its standard error."
_STEP = "ms/step: wall-clock time of one optimiser step, the median over the seeds."
_COUNTS = (
    "# params: the adapters as the paper counts them, Σ r(m + n) for LoRA and Σ [r(m + n) + r²] for the others, "
    "M = 2²⁰; adapters: the same, plain; trainable: all that is trained, with biases and classifier. Means over the n "
    "seeds, as are the ranks of all layers together (total) and of one (mean)."
)
_PAPER = (
    "paper: abc-PSI 2025, Table 3, the median of 5 runs on 224 × 224 pixels, of a ViT-B/16 whose classifier has an "
    "adapter, too, which its counts leave out."
)
_NO_PAPER = (
    "The paper's figures are not shown beside {models}: Table 3 of abc-PSI 2025 is of {paper}, another backbone, and "
    "only the relation of its methods can be compared."
)
_FULL_SIZE = 224


def footer(collection: Collection, rows: pd.DataFrame) -> list[str]:
    """Returns the sentences for the frame `rows` of `experiments.adapter_rows`."""
    timed = [_STEP] if rows["step_seconds"].notna().any() else []
    return [*accuracy(collection.records), _MEDIAN, _COUNTS, *timed, *_paper(rows),
            *filter(None, [reduced(collection)]), _setting(collection), _runs(collection),
            *missing(collection)]  # fmt: skip


def _paper(rows: pd.DataFrame) -> Iterator[str]:
    if rows["printed_accuracy"].notna().any():
        yield _PAPER
    if others := set(rows["model"]) - {vit.MODEL}:
        yield _NO_PAPER.format(models=listed(others), paper=vit.MODEL)


def reduced(collection: Collection) -> str:
    """Returns the sentence that says of how many images and pixels the runs are, if fewer than the paper's; else ""."""
    sizes = sorted({_images(record["config"]) for record in collection.records} - {""})
    return f"Reduced size, whose rows compare with each other only: {'; '.join(sizes)}." if sizes else ""


def _images(config: dict[str, Any]) -> str:
    """What is smaller than in the paper."""
    model, data = (config[group].get("kwargs", {}) for group in ("model", "data"))
    parts = {"train": "training", "val": "validation", "test": "test"}
    words = [f"{count(data[key])} {name} images" for part, name in parts.items() if data.get(key := f"{part}_limit")]
    size = data.get("image_size") or model.get("image_size") or _FULL_SIZE
    words += [f"{size} × {size} pixels"] if size < _FULL_SIZE else []
    return ", ".join([config["data"]["name"], *words]) if words else ""


def _setting(collection: Collection) -> str:
    configs = [record["config"] for record in collection.records]
    sources = {str(known.get("data_source") or "unknown") for known in provenances(collection)}
    return (
        f"model: {listed({_model(config) for config in configs})}; data: {listed(sources)}; "
        f"{_values(configs, 'epochs')}; {_values(configs, 'batch_size')}; {_values(configs, 'precision')}."
    )


def _model(config: dict[str, Any]) -> str:
    return f"{config['model']['name']} (weights: {config['model'].get('weights') or 'random'})"


def _values(configs: list[dict[str, Any]], key: str) -> str:
    values = {str(config["trainer"].get(key, NEUTRAL.get(f"trainer.{key}"))) for config in configs}
    return f"{key.replace('_', ' ')}: {listed(values)}"


def _runs(collection: Collection) -> str:
    known, total = provenances(collection), len(collection.preset.cells) + collection.preset.unresolved
    return (
        f"runs: {len(collection.records)} of {total}, records: {KEPT}; budget: {collection.preset.budget}; "
        f"commit: {commits(known)}; device: {listed({p['device'] for p in known})}; "
        f"threads: {listed({str(p.get('threads', NONE)) for p in known})}; "
        f"torch: {listed({p['versions'].get('torch', 'unknown') for p in known})}."
    )
