from itertools import product
from pathlib import Path

import pytest
from fake_adapters import tuned
from fake_records import collection_of, record

from experiments import figure, results, table
from experiments.results import Study

ROOT = Path(__file__).parents[2]


def test_the_committed_page_is_the_one_that_the_module_makes() -> None:
    committed = (ROOT / "results" / results.PAGE).read_text(encoding="utf-8")
    assert committed == results.page(ROOT / "results"), "write it again with `python -m experiments.results`"


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One study with table and figures, one without, one that the template does not name."""
    found = [
        Study("one", "First", "tuned", True, tmp_path),
        Study("one", "First", "paper", False, tmp_path),
        Study("two", "Second", None, True, tmp_path),
    ]
    monkeypatch.setattr(results, "studies", lambda out: found)
    (tmp_path / "template.md").write_text("# Results\n\n<!-- overview -->\n\n<!-- one -->\n\n<!-- others -->\n")
    folder = tmp_path / "one" / "tuned"
    folder.mkdir(parents=True)
    (tmp_path / "two").mkdir()
    table.make(collection_of([record("aug_bug", 0.1)], table={"paper": ["dlrt_table5_mlp500"]}), folder)
    for name, suffix in product(("accuracy_compression", "rank_evolution"), ("png", "pdf", "svg")):
        (folder / f"{name}.{suffix}").touch()
    return tmp_path


def test_every_study_is_in_the_overview_with_its_sentence(out: Path) -> None:
    rows = [line for line in results.page(out).splitlines() if line.startswith("| [")]
    assert rows[0].startswith("| [`one`](#one) | tuned | ") and "1 of 1 runs finished, 0 diverged." in rows[0]
    assert rows[1:] == ["| [`one`](#one) | paper | not run yet |", "| [`two`](#two) |  | not run yet |"]


def test_tables_and_figures_stand_under_their_protocol(out: Path) -> None:
    page = results.page(out)
    assert "## one\n\nFirst.\n\n### one, protocol tuned\n" in page
    assert "| aug. BUG (DLRT) | 0.1 |" in page and "\n#### The paper's rows" in page
    assert "![First: accuracy compression](one/tuned/accuracy_compression.png)" in page
    assert "[SVG](one/tuned/rank_evolution.svg)" in page and "[records.jsonl](one/tuned/records.jsonl)" in page
    assert page.index("## one") < page.index("## two") and "<!--" not in page
    links = [part.split(")")[0] for part in page.split("](")[1:]]
    assert all((out / link).is_file() for link in links if not link.startswith("#"))


def test_what_is_missing_names_its_commands(out: Path) -> None:
    page = results.page(out)
    assert "`python -m experiments.run -m experiment=one protocol=paper` trains it" in page
    assert "`python -m experiments.table two`" in page


def test_the_studies_are_the_presets_under_all_their_protocols() -> None:
    found = {(study.name, study.protocol): study for study in results.studies(ROOT / "results")}
    assert found["demo", None].is_default
    assert {protocol for name, protocol in found if name == "dlrt_table5_mlp500"} == {"tuned", "paper"}
    assert found["dlrt_table5_mlp500", "tuned"].is_default
    assert (
        found["dlrt_figure6", "paper"].command("figure") == "python -m experiments.figure dlrt_figure6 protocol=paper"
    )


def test_a_smaller_budget_has_its_own_place_once_it_is_tabulated(tmp_path: Path) -> None:
    assert {study.budget for study in results.studies(tmp_path)} == {"full"}
    for folder in ("demo/smoke", "dlrt_table5_mlp500/tuned-smoke"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "table.md").write_text("# Title\n\n1 of 1 runs finished.\n\n| a |\n| --- |\n")
    found = [study for study in results.studies(tmp_path) if study.budget == "smoke"]
    assert [(study.name, study.protocol) for study in found] == [("demo", None), ("dlrt_table5_mlp500", "tuned")]
    assert found[0].command("table") == "python -m experiments.table demo budget=smoke"
    (tmp_path / "template.md").write_text("<!-- overview -->\n\n<!-- demo -->\n")
    page = results.page(tmp_path)
    assert "| [`demo`](#demo) | budget smoke | 1 of 1 runs finished. |" in page
    assert "| [`dlrt_table5_mlp500`](#dlrt_table5_mlp500) | tuned, budget smoke | 1 of 1 runs finished. |" in page
    assert "### demo, budget smoke\n" in page and page.count("\n## ") == 1


def test_a_table_of_fine_tuning_stands_with_its_figures(out: Path) -> None:
    collection = collection_of([tuned("lora"), tuned("abc_psi", rank=2, tau=0.1)], table={"kind": "adapters"})
    table.make(collection, out / "two")
    figure.make(collection_of(collection.records, figures=["rank_heatmap", "accuracy_params"]), out / "two")
    page = results.page(out)
    assert "| [`two`](#two) |  | abc-PSI has at least LoRA's accuracy" in page and "| abc-PSI | vit_b_16 |" in page
    assert "![Second: rank heatmap](two/rank_heatmap.png)" in page and "[SVG](two/accuracy_params.svg)" in page
    assert "Files: [table.md](two/table.md), [table.csv](two/table.csv), [table.tex](two/table.tex)" in page


def test_the_page_is_written(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results.main(out)
    assert (out / "README.md").read_text() == results.page(out)
    assert capsys.readouterr().out == f"{out}/README.md\n"
