"""Rows in columns."""

from unittest import mock

import pytest

from experiments.rows import print_rows


def test_plain_lines_are_aligned_under_their_columns(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows(("run", "", "log"), [("abc_psi", "1", ""), ("x", "22", "here")])
    assert capsys.readouterr().out.splitlines() == ["run          log", "abc_psi  1", "x        22  here"]


def test_without_rows_the_columns_alone_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows(("run", "key"), [])
    assert capsys.readouterr().out == "run  key\n"


def test_a_terminal_gets_a_table_in_which_brackets_are_text(capsys: pytest.CaptureFixture[str]) -> None:
    with mock.patch("sys.stdout.isatty", return_value=True):
        print_rows(("run", "note"), [("a", "[red]b[/red]")])
    out = capsys.readouterr().out
    assert "[red]b[/red]" in out and len(out.splitlines()) > 2
