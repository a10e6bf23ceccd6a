"""Queue files, and when the blocks of a line become cells."""

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from toy_queue import FIXED_RANK, lines_of, record_of
from toy_runs import compose, protocols

from experiments.config import CONF, ConfigError
from experiments.presets import by_protocol
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


def test_blocks_after_a_reference_that_nothing_serves_are_given_up_at_once(tmp_path: Path) -> None:
    bad = "{rank:{from:{integrator:psi},take:mean_rank}},{rank:{from:{integrator:dense},take:mean_rank}}"
    (line,) = lines_of(f"'blocks=[{{integrator:dense,seed:0}},{bad}]'", results_dir=tmp_path)
    assert [cell.name for cell in line.open(lambda key: False, Store(tmp_path))] == ["dense-import-import-seed0"]
    (reason,) = line.reasons
    assert "rank is taken from runs with integrator=psi, and no cells of earlier blocks match" in reason
    assert line.unopened == 0 and len(line.cells) == 1


def test_the_mnist_queue_has_every_preset_of_a_paper_under_every_protocol_tuned_first(tmp_path: Path) -> None:
    own = {"demo", *(path.stem for path in (CONF / "experiment").glob("*vit*.yaml")), "search_mlp500"}
    presets = {path.stem for path in (CONF / "experiment").glob("*.yaml")} - own
    wanted = {
        (name, protocol) for name in presets for protocol in protocols(name) if not by_protocol(shared(name), protocol)
    }
    lines = [line.split() for line in read(CONF.parent / "scripts" / "queues" / "mnist.txt")]
    whole = [
        (words[0], given(words).get("protocol", "null")) for words in lines if not {"tau", "rank"} & given(words).keys()
    ]
    assert sorted(whole) == sorted(wanted)
    order = ["dlrt_table5_mlp500", "dlrt_table6_mlp784", "dlrt_table7_lenet5", "dlrt_table8_pruning", "abc_psi_table1"]
    assert [words[:2] for words in lines[:5]] == [[name, "protocol=tuned"] for name in order]
    assert [words[:2] for words in lines[5:10]] == [[name, "protocol=paper"] for name in order]


def shared(name: str) -> Any:
    """The presets whose runs the preset shares, or those by protocol."""
    return OmegaConf.to_container(compose(f"experiment={name}").table).get("records_from")


def given(words: list[str]) -> dict[str, str]:
    return dict(word.split("=", 1) for word in words[1:])
