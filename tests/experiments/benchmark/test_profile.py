"""The clock of the phases, and which functions it sees."""

from __future__ import annotations

import pytest
import torch

import dlrt
from dlrt import linalg
from dlrt.integrators import aug_bug
from dlrt.tape import Gradient
from experiments.benchmark import contenders, profile
from experiments.benchmark.cases import Case

CPU = torch.device("cpu")


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    return now


def test_a_phase_within_another_one_is_part_of_it(now: list[float]) -> None:
    clock = profile.Clock(CPU)
    now[0] += 1
    with clock.phase("outer"):
        now[0] += 2
        with clock.phase("inner"):
            now[0] += 4
        now[0] += 8
    now[0] += 16
    clock.tick()
    assert clock.seconds == {profile.OTHER: 17, "outer": 14}


def test_phases_within_the_backward_pass_are_not_part_of_it(now: list[float]) -> None:
    clock = profile.Clock(CPU)
    with clock.phase(profile.BACKWARD):
        now[0] += 1
        with clock.phase("truncation"):
            now[0] += 2
        now[0] += 4
    assert clock.seconds[profile.BACKWARD] == 5 and clock.seconds["truncation"] == 2


def test_a_failing_phase_ends(now: list[float]) -> None:
    clock = profile.Clock(CPU)
    with pytest.raises(RuntimeError), clock.phase("outer"):
        raise RuntimeError
    assert clock.inside == profile.OTHER


def test_functions_are_timed_where_they_were_imported_and_only_within() -> None:
    before = [aug_bug.complement, linalg.complement, torch.Tensor.backward, Gradient.core]
    clock = profile.Clock(CPU)
    with profile.patched(clock):
        assert aug_bug.complement is not before[0] and linalg.complement is not before[1]
        aug_bug.complement(torch.eye(5, 2), torch.randn(5, 2))
    assert clock.seconds["orthonormalisation"] > 0
    assert [aug_bug.complement, linalg.complement, torch.Tensor.backward, Gradient.core] == before


@pytest.mark.parametrize("integrator", ["aug_bug", "abc_psi"])
def test_every_phase_of_a_step_takes_time_and_the_step_stays_the_same(integrator: str) -> None:
    case = Case("mlp", 16, 8, 2, integrator)
    inputs = [[(torch.randn(8, 1, 28, 28), torch.arange(8) % 10)]]
    seconds = profile.phases(contenders.own(case, 0, CPU), inputs)
    reference = profile.phases(contenders.separate(case, 0, CPU), inputs)
    assert {name for name, t in reference.items() if t == 0} == {"gradient products"}  # backward computes them
    assert set(seconds) == {*profile.PHASES, profile.OTHER, "step"} and min(seconds.values()) > 0
    plain, clocked = contenders.own(case, 0, CPU), contenders.own(case, 0, CPU)
    plain.train(inputs[0])
    with profile.patched(profile.Clock(CPU)):
        clocked.train(inputs[0])
    assert dlrt.low_rank_layers(plain.net).keys() == dlrt.low_rank_layers(clocked.net).keys()
    torch.testing.assert_close(plain.net.state_dict(), clocked.net.state_dict(), rtol=0, atol=0)
