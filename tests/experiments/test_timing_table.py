"""Timing tables from fake records, beside the printed figures."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from fake_records import collection_of, preset_of, recorded
from fake_timings import SECTION, timed

from experiments import presets, table, timing_table
from experiments.collection import Collection, command
from experiments.config import ConfigError


def rows(*records: dict[str, Any], **fields: Any) -> pd.DataFrame:
    return timing_table.beside(collection_of(records, **{"table": SECTION} | fields))


def test_the_printed_figures_are_those_of_the_papers_tables() -> None:
    train = timing_table.printed(["dlrt_table3_train_time"]).set_index("rank")
    assert train.loc[320].tolist() == [0.855, 0.006547, pytest.approx(2.671875)]
    assert train.loc[10, "ratio"] == pytest.approx(0.087 / 0.32)
    predict = timing_table.printed(["dlrt_table4_predict_time"])
    assert predict["rank"].tolist() == [pd.NA, 2560, 1280, 640, 320, 160, 80, 40, 20, 10, 5]
    assert predict["ratio"].iloc[1] == pytest.approx(1.4297 / 1.2476)
    assert timing_table.printed([]).empty


def test_an_unknown_table_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"dlrt_table3_train_time, dlrt_table4_predict_time, got 'dlrt_table5_mlp500'"
    ):
        timing_table.printed(["dlrt_table5_mlp500"])


def test_ours_and_the_papers_times_and_ratios_stand_side_by_side() -> None:
    text = timing_table.formatted(rows(timed(None, 2.0), timed(40, 0.123), timed(7, 0.0123)))
    assert text.to_dict("records") == [
        {"method": "dense", "rank": "full", "ms": "2000 ± 200", "dense ms": "–", "ratio": "1.000",
         "paper ms": "320 ± 5", "paper's ratio": "1.000", "params": "1,147,000"},
        {"method": "aug. BUG (DLRT)", "rank": "40", "ms": "123 ± 12", "dense ms": "2000 ± 10", "ratio": "0.061",
         "paper ms": "133 ± 6", "paper's ratio": "0.416", "params": "176,360"},
        {"method": "aug. BUG (DLRT)", "rank": "7", "ms": "12.3 ± 1.2", "dense ms": "2000 ± 10", "ratio": "0.006",
         "paper ms": "–", "paper's ratio": "–", "params": "34,988"},
    ]  # fmt: skip


def test_peak_memory_is_shown_where_it_was_measured() -> None:
    text = timing_table.formatted(rows(timed(None, 2.0, peak_bytes=2**31), timed(40, 0.1, peak_bytes=2**25)))
    assert text["MiB"].tolist() == ["2,048", "32"] and text["dense MiB"].tolist() == ["–", "–"]


def test_the_footer_says_what_was_timed_and_where() -> None:
    text = "\n".join(timing_table.footer(collection_of([timed(None, 2.0), timed(40, 0.1)], table=SECTION)))
    for words in (
        "one step on 500 images",
        "20 repeats",
        "every 10 repeats",
        "DLRT 2022, Table 3",
        "commit: abcdef012",
        "cpu: Test",
        "threads: 2",
        "torch: 2.11.0",
    ):
        assert words in text
    assert "missing" not in text


def test_ways_to_fine_tune_are_named_as_such() -> None:
    full, probe, lora, geo = timed(None, 2.0), timed(None, 1.0), timed(3, 0.5), timed(32, 0.7)
    for run, method, adapters in ((probe, "dense", "probe"), (lora, "lora", "vit"), (geo, "parallel_bug", "vit")):
        run["config"] |= {"integrator": {"name": method}, "adapters": {"name": adapters}}
    collection = collection_of([full, probe, lora, geo], table={"kind": "timing"})
    text = timing_table.formatted(timing_table.beside(collection), tuning=True)
    assert text["method"].tolist() == ["full fine-tuning", "linear probing", "LoRA", "GeoLoRA (parallel BUG)"]
    assert any(line.startswith("rank: of every adapter, or") for line in timing_table.footer(collection))


def test_the_footer_counts_what_is_missing() -> None:
    done, failed = timed(40, 0.1), timed(20, 0.1) | {"status": "failed", "final": None}
    collection = Collection(preset_of([done, failed, timed(10, 0.1)]), (), [done, failed], Path("records.jsonl"))
    assert "missing or failed runs: 2; make them with `python -m experiments.run -m experiment=demo`." in (
        timing_table.footer(collection)
    )
    assert len(timing_table.beside(collection)) == 1


def test_the_table_command_makes_a_timing_table_of_a_timing_preset(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [timed(None, 2.0), timed(40, 0.123)]
    with recorded(preset_of(runs, table=SECTION), runs, tmp_path):
        command(["demo", f"results_dir={tmp_path}", f"out={tmp_path}/out"], "experiments.table", table.make)
    folder = tmp_path / "out" / "demo"
    assert (folder / "table.md").read_text() == capsys.readouterr().out
    assert "123 $\\pm$ 12" in (folder / "table.tex").read_text()
    assert pd.read_csv(folder / "table.csv")["printed_seconds_mean"].tolist() == [0.32, 0.133]
    assert len((folder / "records.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("name", "task", "methods"),
    [
        ("dlrt_table3_train_time", "time_training", ["aug_bug", "abc_psi"]),
        ("dlrt_table4_predict_time", "time_prediction", ["aug_bug"]),
    ],
)
@pytest.mark.parametrize("budget", ["full", "gpu", "smoke"])
def test_the_presets_time_every_printed_rank_at_width_5120(
    name: str, task: str, methods: list[str], budget: str
) -> None:
    preset = presets.load(name, [f"budget={budget}"])
    printed = timing_table.printed(preset.table["paper"])["rank"].dropna().tolist()
    cells = [(cell.config["integrator"]["name"], cell.config["rank"]) for cell in preset.cells]
    assert cells == [("dense", None), *((method, rank) for method in methods for rank in printed)]
    assert len({cell.name for cell in preset.cells}) == len(cells)
    for cell in preset.cells:
        assert cell.config["task"] == task and cell.config["tau"] is None
        assert cell.config["model"]["kwargs"]["width"] == 5120
        assert cell.config["device"] == ("cuda" if budget == "gpu" else "cpu")
