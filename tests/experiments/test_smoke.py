"""Every preset end to end under budget=smoke, on a few images: sweep, table and figure."""

from pathlib import Path

import pytest
import tiny_mnist
import tiny_vits
from toy_runs import PRESETS, command, compose, protocols, records_in

from experiments import build, collection, figure, presets, table

pytestmark = pytest.mark.slow
TINY = ("budget=smoke", "data.kwargs.train_limit=40", "trainer.warmup_steps=0", "timing.images=20")


def uses_mnist(preset: str) -> bool:
    return compose(f"experiment={preset}").data.name == "mnist"


@pytest.mark.parametrize(("name", "protocol"), [(name, protocol) for name in PRESETS for protocol in protocols(name)])
def test_a_preset_runs_and_gives_its_table_and_figure(
    name: str, protocol: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_mnist.write(tiny_mnist.raw_files(), tmp_path / "data")
    tiny_mnist.expect(monkeypatch, tiny_mnist.raw_files())
    monkeypatch.setenv("DLRT_DATA", str(tmp_path / "data"))
    tiny_vits.install(monkeypatch)
    build._load.cache_clear()
    line = [f"protocol={protocol}", *(TINY if uses_mnist(name) else TINY[:1]), f"results_dir={tmp_path}/runs"]

    assert command("-m", f"experiment={name}", "logger=none", *line) == 0
    preset = presets.load(name, line)
    assert preset.unresolved == 0
    assert {cell.key for cell in preset.cells} == {record["key"] for record in records_in(tmp_path / "runs")}
    for module in (table, figure):
        collection.command([name, *line, f"out={tmp_path}/out"], "", module.make)
    folder = collection.folder_of(tmp_path / "out", name, preset)
    assert (folder / "table.md").is_file()
    assert all((folder / f"{drawn}.pdf").is_file() for drawn in preset.figures)
