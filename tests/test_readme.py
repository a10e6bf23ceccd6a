"""The code of the README and of scripts/ runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import dlrt

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("code", BLOCKS, ids=lambda code: code.strip().splitlines()[-1][:30])
def test_code_block_runs(code, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # some write files
    exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out


def test_the_integrators_are_those_of_the_registry():
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \|.*\| (\d) \| (\w+) \|$", README, re.MULTILINE)
    found = {
        (key, cls.__name__, str(1 + len(cls.new_points)), "adaptive" if cls.rank_adaptive else "fixed")
        for key, cls in dlrt.INTEGRATORS.items()
    }
    assert set(rows) == found


def test_the_script_for_any_model_runs():
    script = Path(__file__).parents[1] / "scripts" / "any_model.py"
    lines = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(lines) == 2 * len(dlrt.INTEGRATORS)
    for line in lines:
        before, after, difference = map(float, re.findall(r"\d\.\d+|\de-\d+", line))
        assert after < before, line
        assert difference < 1e-3, line
