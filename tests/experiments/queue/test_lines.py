"""Queue files, and when the blocks of a line become cells."""

from pathlib import Path

import pytest
from toy_queue import FIXED_RANK, lines_of, record_of

from experiments.config import ConfigError
from experiments.queue.lines import Line, read
from experiments.records import Store


def test_a_file_is_a_line_per_sweep_without_comments(tmp_path: Path) -> None:
    file = tmp_path / "queue.txt"
    file.write_text("# all of it\n\ndemo seed=0,1  # two seeds\n  integrator=dense\n")
    assert read(file) == ["demo seed=0,1", "integrator=dense"]


@pytest.mark.parametrize(("content", "said"), [(None, "cannot be read (No such file"), ("# no\n", "there is no line")])
def test_a_file_without_a_line_is_refused(content: str | None, said: str, tmp_path: Path) -> None:
    file = tmp_path / "queue.txt"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigError) as refused:
        read(file)
    assert said in str(refused.value)


def test_a_word_without_a_value_is_a_preset_and_the_command_lines_overrides_win(tmp_path: Path) -> None:
    (line,) = lines_of("demo trainer.epochs=7 tau=0.05,0.1 integrator=abc_psi,dense", results_dir=tmp_path)
    line.open(lambda key: False, Store(tmp_path))
    assert {cell.config["tau"] for cell in line.cells} == {0.05, 0.1, None}
    assert {cell.config["trainer"]["epochs"] for cell in line.cells} == {2}  # the toy command line's
    assert "logger.group=demo" in line.cells[0].overrides and line.device == "cpu"


def names(line: Line) -> list[str]:
    return [str(cell.value("integrator")) for cell in line.cells]


def test_a_block_that_takes_from_records_opens_when_all_earlier_runs_are_over(tmp_path: Path) -> None:
    (line,) = lines_of(FIXED_RANK, results_dir=tmp_path)
    over: set[str] = set()
    assert len(line.open(over.__contains__, Store(tmp_path))) == 3
    assert (names(line), line.unopened) == (["abc_psi", "abc_psi", "dense"], 1)
    for cell, rank in zip(line.cells, (1, 2, 9), strict=True):
        assert line.open(over.__contains__, Store(tmp_path)) == []
        Store(tmp_path).write(record_of(cell, rank=rank))
        over.add(cell.key)
    (fixed,) = line.open(over.__contains__, Store(tmp_path))
    assert (fixed.config["rank"], line.unopened, line.reasons) == (2, 0, [])  # of 1 2 2 3
    assert line.open(over.__contains__, Store(tmp_path)) == []


def test_a_block_says_why_it_has_no_cell_if_no_earlier_run_is_finished(tmp_path: Path) -> None:
    (line,) = lines_of(FIXED_RANK, results_dir=tmp_path)
    assert len(line.open(lambda key: True, Store(tmp_path))) == 3
    assert line.open(lambda key: True, Store(tmp_path)) == [] and line.unopened == 0
    assert line.reasons == ["rank comes from runs with integrator=abc_psi, and none is finished"]


def test_a_reference_that_nothing_serves_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no cells of earlier blocks match"):
        lines_of("'blocks=[{rank:{from:{integrator:psi},take:mean_rank}}]'", results_dir=tmp_path)
