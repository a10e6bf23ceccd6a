"""Checkpoints as files: what is kept, and what becomes of damaged ones."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

from experiments.checkpoints import Checkpoints, Snapshot

DAMAGES: dict[str, Callable[[Path], object]] = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "last byte lost": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "emptied": lambda path: path.write_bytes(b""),
    "garbage": lambda path: path.write_bytes(bytes(range(256)) * 8),
    "missing": lambda path: path.unlink(),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


def snapshot(step: int, weights: dict[str, Tensor] | None = None, **state: Any) -> Snapshot:
    weights = {"0.S": torch.full((3, 2), float(step))} if weights is None else weights
    best = {name: x + 1 for name, x in weights.items()}
    return Snapshot(step, weights, best, {"0": 2}, {"best": {"epoch": 1}, "epoch": step, **state})


def steps_in(checkpoints: Checkpoints) -> list[int]:
    return [found.step for found in checkpoints.readable()]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "key")
    assert checkpoints.write(snapshot(7, order=torch.arange(3), rows=[{"loss": 0.1 + 0.2, "ranks": {"0": 2}}]))
    (found,) = checkpoints.readable()
    assert (found.step, found.ranks, found.state["rows"]) == (7, {"0": 2}, [{"loss": 0.1 + 0.2, "ranks": {"0": 2}}])
    assert torch.equal(found.state["order"], torch.arange(3))
    assert found.best is not None and (found.weights["0.S"] == 7).all() and (found.best["0.S"] == 8).all()
    with safe_open(tmp_path / "key" / "step-00000007" / "last.safetensors", "pt") as file:
        assert file.metadata() == {"ranks": '{"0": 2}'}


def test_there_may_be_no_best_epoch_yet(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.write(Snapshot(1, {"w": torch.ones(2)}, None, {}, {"best": None}))
    (found,) = checkpoints.readable()
    assert found.best is None


def test_the_last_two_are_kept_and_nothing_of_writers_that_were_killed(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    (tmp_path / ".half").mkdir()
    (tmp_path / ".half" / "last.safetensors").write_bytes(b"half")
    for step in (9, 10, 100):
        assert checkpoints.write(snapshot(step))
    assert steps_in(checkpoints) == [100, 10]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000010", "step-00000100"]
    checkpoints.clear()
    assert not tmp_path.exists() and steps_in(checkpoints) == []


@pytest.mark.parametrize("name", ["last.safetensors", "best.safetensors", "state.pt"])
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_one_is_named_and_the_one_before_is_used(
    damage: Callable[[Path], object], name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2):
        checkpoints.write(snapshot(step))
    damage(tmp_path / "step-00000002" / name)
    assert steps_in(checkpoints) == [1]
    assert len(caplog.records) == 1 and f"{tmp_path}/step-00000002 cannot be read and is left out" in caplog.text
    checkpoints.write(snapshot(2))  # the training comes by again
    assert steps_in(checkpoints) == [2, 1]


def test_none_is_read_if_all_are_damaged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2):
        checkpoints.write(snapshot(step))
        DAMAGES["truncated"](tmp_path / f"step-{step:08}" / "state.pt")
    assert steps_in(checkpoints) == [] and len(caplog.records) == 2


def test_a_place_that_cannot_be_written_is_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "key").write_text("a file in the folder's place")
    assert not Checkpoints(tmp_path / "key").write(snapshot(1))
    assert [record.message.partition(" (")[0] for record in caplog.records] == [
        "no checkpoint could be written, the run goes on without"
    ]


def test_tied_transposed_and_channels_last_tensors_keep_their_values(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False), nn.Conv2d(4, 2, 3))
    net[1].weight = net[0].weight
    net.to(memory_format=torch.channels_last)
    weights = net.state_dict() | {"turned": torch.randn(4, 3).T, "part": torch.randn(9)[::2], "one": torch.tensor(3)}
    Checkpoints(tmp_path).write(snapshot(1, weights))
    (found,) = Checkpoints(tmp_path).readable()
    assert found.weights.keys() == weights.keys()
    assert all(torch.equal(found.weights[name], weights[name]) for name in weights)


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("save", [torch.save, lambda state, path: path.write_bytes(pickle.dumps(state, protocol=2))])
def test_no_code_in_a_checkpoint_is_run(save: Callable[[Any, Path], object], tmp_path: Path) -> None:
    checkpoints, bomb = Checkpoints(tmp_path / "key"), tmp_path / "exploded"
    pickle.loads(pickle.dumps(Bomb(tmp_path / "would explode")))
    assert (tmp_path / "would explode").exists()
    checkpoints.write(snapshot(1))
    save({"best": {"epoch": 1}, "epoch": Bomb(bomb)}, tmp_path / "key" / "step-00000001" / "state.pt")
    assert steps_in(checkpoints) == [] and not bomb.exists()
