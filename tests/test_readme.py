"""The README's code runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("code", BLOCKS, ids=lambda code: code.strip().splitlines()[-1][:30])
def test_code_block_runs(code, capsys):
    exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out


def test_the_integrators_are_those_of_the_registry():
    import dlrt

    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \|.*\| (\d) \| (\w+) \|$", README, re.MULTILINE)
    found = {
        (key, cls.__name__, str(1 + len(cls.new_points)), "adaptive" if cls.rank_adaptive else "fixed")
        for key, cls in dlrt.INTEGRATORS.items()
    }
    assert set(rows) == found
