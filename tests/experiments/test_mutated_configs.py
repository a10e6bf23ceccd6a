"""Wrong command lines by the hundred: each ends in one sentence, before anything is trained, or in a run that is done.

`make test` runs those that were picked by hand and some of the systematic ones, `make test-slow` all.
"""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import mutated_lines
import pytest
from hydra._internal.hydra import Hydra
from mutated_lines import Line
from toy_runs import TOY, command

from experiments.data import sources

BASE = (*TOY, "trainer.epochs=1", "results_dir=runs")
ALL = [(sweep, line) for sweep in (False, True) for line in mutated_lines.systematic(sweep)]
DRAWN = random.Random(0).sample(ALL, 40)
PICKED = [(sweep, line) for sweep in (False, True) for line in mutated_lines.hand_picked(sweep)]
SLICE = 100


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty working directory, an empty data folder and no network."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DLRT_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.setitem(sources.SOURCES, "mnist", {})


def check(sweep: bool, line: Line, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The command ends as it should."""
    with monkeypatch.context() as patch:
        if "hydra.mode" not in line[0]:  # Hydra composes everything once more to look for it
            patch.setattr(Hydra, "get_mode", lambda *_, **__: None)
        launcher = ("-m", *(() if "hydra/launcher" in line[0] else ("hydra/launcher=basic",))) if sweep else ()
        end = command(*launcher, *BASE, *line)
    printed = capsys.readouterr()
    assert "Traceback" not in printed.out + printed.err
    if end == 0:
        records = [json.loads(path.read_text()) for path in Path().rglob("records/*.json")]
        assert records and all(record["status"] in ("done", "diverged") for record in records)
    elif end == 2:  # an option that there is not
        assert printed.err.splitlines()[-1].startswith("experiments.run: error: ")
    else:
        assert isinstance(end, str) and end.strip() and len(end.splitlines()) == 1
        assert (printed.out, printed.err) == ("", "") and not list(Path().rglob("records/*.json"))
        words = re.findall(r"\w+", " ".join(line))
        assert not words or any(word.lower() in end.lower() for word in words), "it names neither key nor value"


def named(entries: list[tuple[bool, Line]]) -> list[str]:
    """Ids of the tests."""
    return [("-m " if sweep else "") + ascii(" ".join(line))[1:-1] for sweep, line in entries]


def test_there_are_three_hundred() -> None:
    assert len(set(PICKED + DRAWN)) >= 300 and len(ALL) > 4000


@pytest.mark.parametrize(("sweep", "line"), PICKED + DRAWN, ids=named(PICKED + DRAWN))
def test_a_mutated_config_is_a_run_or_a_sentence(
    sweep: bool, line: Line, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    check(sweep, line, capsys, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("start", range(0, len(ALL), SLICE))
def test_every_key_with_every_wrong_value(
    start: int, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = []
    for number, (sweep, line) in enumerate(ALL[start : start + SLICE]):
        (tmp_path / str(number)).mkdir()
        monkeypatch.chdir(tmp_path / str(number))
        try:
            check(sweep, line, capsys, monkeypatch)
        except Exception as error:
            wrong.append((sweep, line, f"{type(error).__name__}: {error}"))
    assert not wrong
