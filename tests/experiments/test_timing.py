"""Timing cells: what is timed in which order, the figures that come of it, and the record."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from toy_runs import TOY, command, compose, records_in

import dlrt
from dlrt.integrators import aug_bug
from experiments import build, timing, timing_tasks
from experiments.records import identity

SHORT = ("timing.repeats=5", "timing.warmup=2", "timing.reference_every=2", "timing.images=12")


def config(*overrides: str, task: str = "time_training") -> dict[str, Any]:
    return identity(compose(*TOY, f"task={task}", *SHORT, *overrides))


def measure(run: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    device = torch.device("cpu")
    return timing.measure(run, build.data(run, device), device)


@pytest.fixture
def clocked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Works that only turn the clock, low-rank ones by 2, 4, 6, … seconds, dense ones by 10; returns their order."""
    now, order = [0.0], list[str]()

    def task(net: torch.nn.Module, run: dict[str, Any], sample: object) -> Callable[..., torch.Tensor]:
        name = run["integrator"]["name"]

        def work(batches: object) -> torch.Tensor:
            order.append(name)
            now[0] += 10 if name == "dense" else 2 * order.count(name)
            return torch.tensor(1.0)

        return work

    monkeypatch.setitem(timing.TASKS, "time_training", task)
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    monkeypatch.setattr(timing, "_synchronize", lambda device: order.append("wait"))
    return order


def test_the_dense_net_is_timed_in_turn_after_a_warm_up_of_both(clocked: list[str]) -> None:
    _, measured = measure(config("integrator=aug_bug"))
    a, d = "aug_bug", "dense"
    assert [word for word in clocked if word != "wait"] == [a, a, d, d, a, d, a, a, d, a, a, d]
    assert measured == {
        "seconds_mean": 10.0,  # of 6, 8, 10, 12, 14: the two of the warm-up are left out
        "seconds_std": pytest.approx(10**0.5),
        "seconds_median": 10.0,
        "repeats": 5,
        "peak_bytes": None,
        "dense_seconds_mean": 10.0,
        "dense_seconds_std": 0.0,
        "dense_seconds_median": 10.0,
        "dense_repeats": 3,
        "dense_peak_bytes": None,
        "ratio": 1.0,
    }


def test_every_time_is_taken_between_two_waits_for_the_device(clocked: list[str]) -> None:
    measure(config("integrator=dense"))
    assert clocked == ["wait", "dense", "wait"] * 7


def test_a_dense_cell_times_the_dense_net_alone(clocked: list[str]) -> None:
    _, measured = measure(config("integrator=dense", "timing.repeats=1"))
    assert "ratio" not in measured and "dense_repeats" not in measured
    assert (measured["seconds_mean"], measured["seconds_std"], measured["repeats"]) == (10.0, None, 1)


@pytest.mark.parametrize("integrator", ["aug_bug", "abc_psi", "parallel_bug", "bug"])
def test_timed_steps_train_and_keep_the_rank(integrator: str) -> None:
    final, _ = measure(config(f"integrator={integrator}", "timing.repeats=1", "tau=0.5"))
    later, _ = measure(config(f"integrator={integrator}", "timing.repeats=80", "tau=0.5"))
    assert final["ranks"] == later["ranks"] == {"0": 4, "2": 3}
    assert later["loss"] < 0.5 * final["loss"]


def test_every_timed_step_truncates_every_layer() -> None:
    with mock.patch.object(aug_bug, "truncate", wraps=aug_bug.truncate) as truncate:
        measure(config("integrator=aug_bug"))
    assert truncate.call_count == (2 + 5) * 2


def test_a_step_is_timed_on_one_batch_of_the_first_images() -> None:
    assert measure(config("timing.images=12"))[0]["images"] == 12
    assert measure(config("timing.images=1000"))[0]["images"] == 16  # trainer.batch_size


def test_a_prediction_is_that_of_the_untrained_net_on_the_first_images() -> None:
    run = config("integrator=aug_bug", "trainer.eval_batch_size=5", "timing.images=13", task="time_prediction")
    final, measured = measure(run)
    train = build.data(run, torch.device("cpu")).train
    with torch.no_grad():
        expected = F.cross_entropy(build.model(run)(train.images[:13]), train.labels[:13])
    assert final["loss"] == pytest.approx(float(expected), rel=1e-5) and final["images"] == 13
    assert (measured["repeats"], measured["dense_repeats"]) == (5, 3)


def test_low_rank_predictions_are_those_of_plain_layers_and_their_making_is_not_timed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made, now = list[torch.nn.Module](), [0.0]

    def slowly(net: torch.nn.Module, x: torch.Tensor) -> torch.nn.Module:
        now[0] += 1000
        made.append(dlrt.predictor(net, x, timing=lambda forms, x: (1.0, 2.0)))
        made[-1].register_forward_hook(lambda *_: now.__setitem__(0, now[0] + 1))
        return made[-1]

    monkeypatch.setattr(timing_tasks, "predictor", slowly)
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    final, measured = measure(config("integrator=aug_bug", "timing.warmup=0", "rank=2", task="time_prediction"))
    assert [len(dlrt.low_rank_layers(net)) for net in made] == [0, 0]
    assert [sum(p.ndim == 2 for p in net.parameters()) for net in made] == [4, 2]  # two thin ones for each dense one
    assert final["ranks"] == {"0": 2, "2": 2}
    assert measured["seconds_mean"] == measured["dense_seconds_mean"] == 1


def test_the_command_records_what_was_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for results_dir in (tmp_path / "a", tmp_path / "b"):
        assert command(*TOY, *SHORT, "task=time_training", "integrator=abc_psi", f"results_dir={results_dir}") == 0
    (record,), (again,) = records_in(tmp_path / "a"), records_in(tmp_path / "b")
    measured = record["timing"]["measured"]
    assert record["status"] == "done" and record["history"] == [] and record["name"].endswith("rank4-seed0")
    assert 0 < measured["seconds_mean"] < 10 and 0 < measured["dense_seconds_mean"] < 10
    assert measured["ratio"] == pytest.approx(measured["seconds_median"] / measured["dense_seconds_median"])
    assert "(median of 5)" in capsys.readouterr().out
    assert not (tmp_path / "a" / "weights").exists()
    differing = {"timing", "provenance"}
    assert {k: v for k, v in record.items() if k not in differing} == {
        k: v for k, v in again.items() if k not in differing
    }


def test_outputs_that_are_not_finite_are_divergence(tmp_path: Path) -> None:
    command(*TOY, *SHORT, "task=time_prediction", "+model.kwargs.mode=diverge", f"results_dir={tmp_path}")
    (record,) = records_in(tmp_path)
    assert record["status"] == "diverged" and "not finite" in record["error"]["message"]
