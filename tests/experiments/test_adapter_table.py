from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from fake_adapters import SECTION, tuned
from fake_records import collection_of, preset_of, recorded

from experiments import adapter_table, table
from experiments.adapter_footer import footer
from experiments.adapter_rows import adapter_rows
from experiments.collection import Collection, command
from experiments.presets import Preset

RUNS = [
    run
    for seed in range(3)
    for run in (
        tuned("lora", seed, 0.98 + seed / 1000),
        tuned("adalora", seed, 0.981, 3, budget=216),
        tuned("abc_psi", seed, 0.982 + seed / 1000, 2, tau=0.15),
        tuned("dense", seed, 0.985, None),
        tuned("probe", seed, 0.6, None),
    )
]


def text(runs: list[dict[str, Any]]) -> pd.DataFrame:
    return adapter_table.formatted(adapter_rows(runs))


def sentences(runs: list[dict[str, Any]], preset: Preset | None = None) -> str:
    collection = collection_of(runs) if preset is None else Collection(preset, (), runs, Path("runs/records"))
    return "\n".join(footer(collection, adapter_rows(collection.records, collection.missing)))


def test_the_row_of_a_method_and_the_papers_beside() -> None:
    rows = text(RUNS).set_index("method")
    assert rows.loc["abc-PSI"].to_dict() == {
        "model": "vit_b_16", "data": "cifar10", "lr": "0.001", "τ": "0.15", "start rank": "32", "rank budget": "",
        "# params": "0.32 M", "adapters": "332,064", "trainable": "432,064", "total rank": "144", "mean rank": "2",
        "n": "3", "div.": "0", "median %": "98.30", "mean %": "98.30 ± 0.10", "paper's # params": "0.34 M",
        "paper %": "98.57", "ms/step": "200",
    }  # fmt: skip
    assert rows.loc["AdaLoRA", ["rank budget", "# params", "paper's # params"]].tolist() == ["216", "0.48 M", "0.47 M"]
    assert rows.loc["LoRA, r = 3", ["# params", "adapters", "paper %"]].tolist() == ["0.47 M", "497,664", "98.47"]
    assert rows.loc["linear probing", ["# params", "trainable", "total rank"]].tolist() == ["–", "7,690", "–"]
    assert "full fine-tuning" in rows.index and (rows != "nan").all(axis=None)


def test_another_backbone_has_no_columns_of_the_paper_and_the_footer_says_why() -> None:
    runs = [tuned("lora", model="vit_small"), tuned("abc_psi", rank=2, tau=0.15, model="vit_small")]
    assert not [name for name in text(runs) if "paper" in name]
    assert "not shown beside vit_small: Table 3 of abc-PSI 2025 is of vit_b_16, another backbone" in sentences(runs)
    assert "not shown" not in sentences(RUNS) and "abc-PSI 2025, Table 3, the median of 5 runs" in sentences(RUNS)


def test_without_counted_steps_no_step_is_timed() -> None:
    run = tuned("lora")
    del run["timing"]["steps"]
    assert "ms/step" not in text([run]) and "ms/step" not in sentences([run]) and "ms/step" in sentences(RUNS)


def test_what_else_varies_is_shown() -> None:
    runs = [tuned("abc_psi", tau=0.15), tuned("abc_psi", tau=0.15)]
    runs[1]["config"]["integrator"] |= {"inner_steps": 20}
    assert text(runs)["inner steps"].tolist() == ["–", "20"]


def test_the_footer_says_what_ran_on_what() -> None:
    words = sentences(RUNS)
    for part in ("(JPEG)", "vit_b_16 (weights: imagenet)", "epochs: 5", "batch size: 256", "precision: fp32",
                 "commit: abcdef012", "device: cpu: Test", "threads: 2", "torch: 2.11", "runs: 15 of 15"):  # fmt: skip
        assert part in words
    assert "Reduced" not in words and "missing" not in words


@pytest.mark.parametrize(
    ("kwargs", "size"),
    [
        ({"train_limit": 2000, "image_size": 98}, "cifar10, 2,000 training images, 98 × 98 pixels"),
        ({"train_limit": 2000, "image_size": 224}, "cifar10, 2,000 training images"),
        ({"image_size": 98, "test_limit": 500}, "cifar10, 500 test images, 98 × 98 pixels"),
    ],
)
def test_a_reduced_size_is_said_to_be_one(kwargs: dict[str, Any], size: str) -> None:
    assert f"Reduced size, whose rows compare with each other only: {size}." in sentences([tuned("lora", **kwargs)])


def test_the_footer_counts_what_is_missing() -> None:
    runs = [tuned("lora"), tuned("lora", 1)]
    words = sentences(runs[:1], preset_of(runs))
    assert "runs: 1 of 2" in words and "missing runs: 1" in words


def test_the_table_command_makes_it_and_a_clean_clone_makes_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    preset = preset_of(RUNS, table=SECTION)
    made = []
    for results_dir in (tmp_path / "runs", tmp_path / "empty"):
        with recorded(preset, RUNS if results_dir.name == "runs" else [], results_dir):
            command(["demo", f"results_dir={results_dir}", f"out={tmp_path}/out"], "experiments.table", table.make)
        folder = tmp_path / "out" / "demo"
        made.append([(folder / f"{name}").read_text() for name in ("table.md", "table.csv", "table.tex")])
        assert made[-1][0] == capsys.readouterr().out
    assert made[0] == made[1]
    assert "confirmed on cifar10" in made[0][0].splitlines()[2] and "15 of 15 runs finished" in made[0][0]
    row = pd.read_csv(folder / "table.csv").set_index("method").loc["abc_psi"]
    assert row["accuracy"] == pytest.approx(0.983) and row["printed_accuracy"] == pytest.approx(0.9857)
    assert row["ranks"].split("-") == ["2"] * 72


def test_a_reduced_size_stands_in_the_sentence_of_the_overview(tmp_path: Path) -> None:
    adapter_table.make(collection_of([tuned("lora", train_limit=500)], table=SECTION), tmp_path)
    sentence = (tmp_path / "table.md").read_text().splitlines()[2]
    assert sentence.startswith("Reduced size") and sentence.endswith("1 of 1 runs finished, 0 diverged.")
