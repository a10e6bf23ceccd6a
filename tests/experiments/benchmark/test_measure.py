"""The order of the measurement, the figures that come of it, and what a timed step does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor, nn

from dlrt import Divergence
from experiments.benchmark import contenders, nets
from experiments.benchmark.cases import Case
from experiments.benchmark.measure import IN_A_ROW, TRIALS, WARMUP, measure
from experiments.timing_tasks import Batches

CPU = torch.device("cpu")
A = Case("mlp", 16, 8, 2, "aug_bug", reference=True)
B = Case("mlp", 16, 8, 4, "abc_psi", dense=("fp32", "bf16"))
INNER = Case("mlp", 16, 8, 2, "abc_psi", inner_steps=20)


def inputs(count: int = 3) -> list[Batches]:
    return [[(torch.randn(8, 1, 28, 28), torch.arange(8) % 10)] for _ in range(count)]


def measured(*cases: Case, rounds: int | None = 2) -> list[dict[str, Any]]:
    return [result for _, result in measure(cases, inputs(), 0, 1.0, rounds, CPU)]


class Clockwork:
    """A net and optimiser whose n-th step turns the clock by n times `seconds`."""

    cycle = 1

    def __init__(self, name: str, seconds: float, now: list[float], order: list[str]) -> None:
        self.name, self.seconds, self.now, self.order, self.steps = name, seconds, now, order, 0

    def step(self, closure: Callable[[], Tensor]) -> Tensor:
        self.steps += 1
        self.now[0] += self.seconds * self.steps
        self.order.append(self.name)
        return torch.tensor(1.0)


@pytest.fixture
def clocked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Replaces the contenders: own steps take 1 ms, 2 ms, …, separate ones thrice that, dense ones a second."""
    now, order = [0.0], list[str]()
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 4))

    def made(name: str, seconds: float) -> Callable[..., contenders.Contender]:
        return lambda *args: contenders.Contender(net, Clockwork(name, seconds, now, order), "fp32", CPU)

    for name, seconds in (("own", 1e-3), ("separate", 3e-3), ("dense", 1.0)):
        monkeypatch.setattr(contenders, name, made(name, seconds))
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    return order


def test_all_are_timed_in_turn_and_short_steps_three_times_in_a_row(clocked: list[str]) -> None:
    (result,) = measured(A)
    start = WARMUP + TRIALS
    short = ["own"] * (IN_A_ROW + 1) + ["separate"] * (IN_A_ROW + 1)
    assert clocked[: 3 * WARMUP] == ["dense"] * WARMUP + ["own"] * WARMUP + ["separate"] * WARMUP
    assert clocked[3 * start : -3] == ["dense", *short] * 2
    own = result["own"]
    taken = [6, 7, 8, 10, 11, 12]  # ms: of eight steps each first one in a row of four is left out
    assert own["median"] == pytest.approx(9e-3) and own["repeats"] == len(taken)
    assert (own["q1"], own["q3"]) == pytest.approx((7.25e-3, 10.75e-3))
    assert result["dense"]["fp32"]["median"] == pytest.approx(5.5)
    assert result["ratio"] == pytest.approx(9e-3 / 5.5) and result["speedup"] == pytest.approx(3)


def test_without_rounds_the_seconds_say_how_many(clocked: list[str]) -> None:
    (result,) = measured(A, rounds=None)
    assert result["dense"]["fp32"]["repeats"] == 5  # a second is gone in one round: the least
    assert result["own"]["repeats"] == 5 * IN_A_ROW


@pytest.mark.parametrize(("rounds", "timed"), [(2, 40), (7, 42), (20, 60)])
def test_of_inner_steps_a_whole_cycle_is_timed(clocked: list[str], rounds: int, timed: int) -> None:
    with mock.patch.object(Clockwork, "cycle", 40), mock.patch.object(contenders, "brief", contenders.own):
        (result,) = measured(INNER, rounds=rounds)
    assert result["own"]["repeats"] == timed  # of rounds · 3 at least a cycle


def test_the_memory_of_inner_steps_is_the_most_of_a_cycle() -> None:
    batch = inputs(1)[0]
    one, same = (contenders.brief(INNER, 0, CPU, batch) for _ in range(2))
    steps = [one._memory(batch) for _ in range(one.cycle)]
    assert one.cycle == 2 * contenders.BRIEF and len({step["state_bytes"] for step in steps}) == 3  # at the start, K, L
    assert same.memory(batch) == {key: max(step[key] for step in steps) for key in ("state_bytes", "peak_bytes")}
    assert measured(INNER)[0]["floor"] is None


def test_moments_are_state() -> None:
    tuned = Case("vit_tiny", None, 2, 3, "parallel_bug", image_size=8)
    contender = contenders.own(tuned, 0, CPU)
    net = 4 * sum(p.numel() for p in contender.net.parameters())
    trained = 4 * sum(p.numel() for p in contender.net.parameters() if p.requires_grad)
    batch = [(torch.randn(2, 3, 8, 8), torch.arange(2))]
    assert contender.memory(batch)["state_bytes"] == net
    counters = 4 * len(contender.optimizer.others)  # type: ignore[attr-defined]
    assert contender.memory(batch)["state_bytes"] == net + 2 * trained + counters


def test_fine_tuning_is_compared_with_training_all_weights() -> None:
    tuned = [Case("vit_tiny", None, 2, r, method, image_size=8) for r, method in ((3, "abc_psi"), (None, "probe"))]
    batches = [[(torch.randn(2, 3, 8, 8), torch.arange(2))]]
    a, probe = (result for _, result in measure(tuned, batches, 0, 1.0, 2, CPU))
    assert [phase["phase"] for phase in a["held"]] == ["step"] and "held" not in probe
    weights = 4 * sum(p.numel() for p in contenders.dense(tuned[0], "fp32", 0, CPU).net.parameters())
    assert 2.9 * weights < a["dense"]["fp32"]["state_bytes"] < 3.1 * weights  # weights and two moments
    assert probe["state_ratio"] < a["state_ratio"] < 0.5 and a["floor"] is probe["floor"] is None


def test_real_steps_are_compared_with_the_dense_ones_of_each_precision() -> None:
    a, b = measured(A, B)
    assert set(a["dense"]) == {"fp32"} and set(b["dense"]) == {"fp32", "bf16"}
    assert a["dense"]["fp32"] == b["dense"]["fp32"]
    assert a["reference"]["median"] > 0 and b["reference"] is b["speedup"] is None
    weights = 4 * sum(2 * (784 + 16) if i == 0 else 2 * (16 + 16) for i in range(4)) + 4 * 4 * 4
    biases, output = 4 * 4 * 16, 4 * (160 + 10)
    assert a["own"]["state_bytes"] == weights + biases + output
    assert a["own"]["peak_bytes"] > a["own"]["state_bytes"]
    assert a["state_ratio"] == a["own"]["state_bytes"] / a["dense"]["fp32"]["state_bytes"] < 1
    assert 0 < a["floor"]["ratio"] < b["floor"]["ratio"]


def test_timed_steps_train_and_keep_the_rank() -> None:
    net = contenders.own(A, 0, CPU)
    batches = inputs(1)[0]
    before = net.train(batches).item()
    for _ in range(200):
        loss = net.train(batches).item()
    assert loss < 0.97 * before and net.net.get_submodule("hidden.0").rank == 2  # type: ignore[union-attr]


def test_steps_that_do_not_train_are_no_measurement() -> None:
    with mock.patch.object(nets, "LR", 1e30), pytest.raises(Divergence):
        measured(Case("mlp", 16, 8, 2, "aug_bug"), rounds=20)


def test_lenet_takes_a_rank_per_layer() -> None:
    net = nets.trained_net(Case("lenet5", None, 8, (3, 4, 5, 6), "aug_bug"), seed=0)
    ranks = [layer.rank for layer in net.modules() if hasattr(layer, "matrix_shape")]
    assert ranks == [3, 4, 5, 6]


def test_products_run_in_the_precision_asked_for_and_the_flags_come_back() -> None:
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    for name in ("fp32", "tf32", "bf16"):
        with contenders.precision(name):
            assert torch.backends.cuda.matmul.allow_tf32 is torch.backends.cudnn.allow_tf32 is (name == "tf32")
    assert before == (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32)
    kinds: list[torch.dtype] = []
    net = contenders.dense(Case("mlp", 16, 8, 2, "bug"), "bf16", 0, CPU)
    net.net.register_forward_hook(lambda module, args, out: kinds.append(out.dtype))
    assert net.train(inputs(1)[0]).dtype == torch.float32 and kinds == [torch.bfloat16]
