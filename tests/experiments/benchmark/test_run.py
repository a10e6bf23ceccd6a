"""The command line: records, table, plot, what is measured again, and mistakes."""

from __future__ import annotations

import json
from pathlib import Path
from unittest import mock

import pytest

from experiments.benchmark import __main__ as app
from experiments.benchmark import inputs

TINY = ("case.model=mlp", "case.width=8", "case.batch=4", "case.rank=[2,3]", "case.integrator=aug_bug")
QUICK = (*TINY, "rounds=2", "device=cpu", "threads=1")


@pytest.fixture(autouse=True)
def no_images(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DLRT_DATA", str(tmp_path / "none"))
    monkeypatch.setattr(inputs, "IMAGES", 64)


def command(*arguments: str) -> int | str:
    with mock.patch("sys.argv", ["experiments.benchmark", *arguments]):
        try:
            app.main()
        except SystemExit as end:
            return 0 if end.code is None else end.code
    return 0


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "quick-cpu" / "records.jsonl").read_text().splitlines()]


def test_a_benchmark_leaves_records_table_and_plot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(*QUICK, f"results_dir={tmp_path}") == 0
    first, second = lines(tmp_path)
    assert (first["case"]["rank"], second["case"]["rank"]) == (2, 3)
    assert first["provenance"]["data_source"] == "random images"
    assert first["provenance"]["command"].startswith("python -m experiments.benchmark case.model=mlp")
    assert str(tmp_path) not in json.dumps(first["provenance"])
    assert "curve" not in first["measured"]
    printed = capsys.readouterr().out
    table = (tmp_path / "quick-cpu" / "table.md").read_text()
    assert table == printed and "| 784-8×4-10 | 4 | aug. BUG (DLRT) | 2 |" in table
    assert (tmp_path / "quick-cpu" / "ratio.png").stat().st_size > 10_000
    assert (tmp_path / "quick-cpu" / "table.csv").read_text().count("\n") == 3


def test_fine_tuning_leaves_its_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny = ("case.model=vit_tiny", "case.image_size=8", "case.batch=2", "case.rank=3", "case.inner_steps=2")
    options = ("case.integrator=[probe,lora,abc_psi]", "rounds=1", "device=cpu", "threads=1", f"results_dir={tmp_path}")
    assert command("preset=vit", *tiny, *options) == 0
    printed = capsys.readouterr().out
    assert "| net | batch | method | rank | ms | full ms | × full | state × | peak MiB | peak × |" in printed
    assert "| vit_tiny, 8 px | 2 | abc-PSI, 2 inner steps | 3 |" in printed and "| linear probing | – |" in printed
    assert "## What the adapters hold" in printed and "images: random images" in printed
    folder = tmp_path / "vit-cpu"
    assert (folder / "table.md").read_text() == printed and (folder / "ratio.png").stat().st_size > 10_000
    assert len((folder / "records.jsonl").read_text().splitlines()) == 3
    assert "held" not in (folder / "table.csv").read_text().splitlines()[0]


def test_what_is_recorded_is_measured_again_unless_only_missing_is_asked_for(tmp_path: Path) -> None:
    for arguments, count in ((("case.rank=2",), 1), ((), 3), (("rerun=missing",), 3), (("case.rank=2",), 4)):
        assert command(*QUICK, f"results_dir={tmp_path}", *arguments) == 0
        assert len(lines(tmp_path)) == count
    assert (tmp_path / "quick-cpu" / "table.csv").read_text().count("\n") == 3


def test_curves_are_recorded_and_profiles_are_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(*QUICK, f"results_dir={tmp_path}", "curve_steps=2") == 0
    assert lines(tmp_path)[0]["measured"]["curve"]["steps"] == 2
    assert "| curve |" in capsys.readouterr().out
    assert command(*QUICK, f"results_dir={tmp_path}/none", "profile=true") == 0
    assert "gradient products" in capsys.readouterr().out and not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("rerun=some", "rerun is 'some': use all or missing"),
        ("device=tpu", "device is 'tpu': use auto, cpu or cuda"),
        ("threads=0", "threads and rounds must be at least 1 or null, got 0 and 2"),
        ("case.integrator=bgu", "integrator is 'bgu': did you mean 'bug'? choose one of "),
        ("preset=fast", "there is no preset 'fast'; choose one of curves, full, gpu, growth, quick, vit, "),
        ("secnds=1", "unknown key 'secnds': did you mean 'seconds'? `--cfg job` shows the keys there are"),
        ("case.rnk=1", "unknown key 'case.rnk': did you mean 'case.rank'? "),
        ("seconds=a", "seconds: Value 'a' of type 'str' could not be converted to Float; give a value of that type"),
    ],
)
def test_a_mistake_is_one_sentence(override: str, sentence: str, tmp_path: Path) -> None:
    code = command(*QUICK, f"results_dir={tmp_path}", override)
    assert isinstance(code, str) and sentence in code and "\n" not in code
    assert not list(tmp_path.iterdir())
