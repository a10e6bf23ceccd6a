import io

import pandas as pd
import pytest
from rich.console import Console

from experiments import render

TEXT = pd.DataFrame(
    {"method": ["aug. BUG (DLRT)"], "accuracy %": ["97.10 ± 0.05"], "diff.": ["−0.28"], "params": ["9"]}
)


def test_markdown_has_title_table_and_sentences() -> None:
    assert render.markdown(TEXT, "A title", ["one.", "two."]) == (
        "# A title\n\n"
        "| method | accuracy % | diff. | params |\n| --- | --- | --- | --- |\n"
        "| aug. BUG (DLRT) | 97.10 ± 0.05 | −0.28 | 9 |\n\none.\n\ntwo.\n"
    )


def test_latex_has_no_character_that_latex_would_misread() -> None:
    tex = render.latex(TEXT.assign(model=["mlp_500"], row=["τ 0.1, 90 %, §6.1 –"]))
    assert r"97.10 $\pm$ 0.05 & $-$0.28" in tex
    assert r"accuracy \%" in tex and r"mlp\_500" in tex and r"$\tau$ 0.1, 90 \%, \S 6.1 --" in tex
    assert r"\toprule" in tex and tex.isascii()


def test_a_pipe_gets_plain_markdown(capsys: pytest.CaptureFixture[str]) -> None:
    render.show(TEXT, "A title", ["one."])
    assert capsys.readouterr().out == render.markdown(TEXT, "A title", ["one."])


@pytest.mark.parametrize(("width", "has_params"), [(160, True), (80, False)])
def test_a_narrow_terminal_gets_the_columns_that_matter(
    width: int, has_params: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = io.StringIO()
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setattr("rich.console.Console", lambda: Console(file=output, width=width))
    render.show(TEXT, "A title", ["one."])
    assert ("params" in output.getvalue()) is has_params
    assert all(word in output.getvalue() for word in ("A title", "aug. BUG (DLRT)", "97.10 ± 0.05", "−0.28", "one."))


def test_further_tables_stand_under_their_headings() -> None:
    more = [render.Table("Goals", pd.DataFrame({"goal %": ["98"], "with": ["90 %"]}))]
    page = render.markdown(TEXT, "A title", ["one."], more, "In short.")
    assert page.startswith("# A title\n\nIn short.\n\n| method |")
    assert "## Goals\n\n| goal % | with |\n| --- | --- |\n| 98 | 90 % |\n\none.\n" in page
    assert render.latex(TEXT, more).count(r"\toprule") == 2


def test_a_terminal_shows_them_too(monkeypatch: pytest.MonkeyPatch) -> None:
    output = io.StringIO()
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setattr("rich.console.Console", lambda: Console(file=output, width=160))
    render.show(TEXT, "A title", ["one [1]."], [render.Table("Goals", pd.DataFrame({"goal %": ["98"]}))], "In short.")
    assert all(word in output.getvalue() for word in ("Goals", "goal %", "In short.", "one [1]."))
