"""The learning rate, what an epoch measures, and which epoch is reported."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR, ExponentialLR, LambdaLR
from toy_runs import ADAPTED, TOY, Net, clouds, compose

import dlrt
from experiments import build, evaluation
from experiments.data import Split, Splits
from experiments.evaluation import Collapse, accuracy, check_collapse, is_candidate
from experiments.losses import closures_of, mean_loss
from experiments.records import identity
from experiments.schedule import schedule
from experiments.trainer import Seconds, Training

Config = dict[str, Any]


def toy_config(*overrides: str) -> Config:
    """The trainer's keys."""
    config: Config = identity(compose(*TOY, *overrides))["trainer"]
    return config


def toy_data(count: int = 48) -> Splits:
    train, val, test = (Split(*part) for part in clouds(count))
    return Splits(train, val, test)


class Silent:
    """A watch that keeps what it is told."""

    def __init__(self) -> None:
        self.rows: list[Config] = []
        self.seconds: list[Seconds] = []
        self.batches = 0

    def begin(self, epoch: int) -> None:
        assert epoch == len(self.rows) + 1

    def step(self, training: Training) -> None:
        self.batches += 1

    def end(self, row: Config, seconds: Seconds) -> None:
        self.rows.append(row)
        self.seconds.append(seconds)


def rates(cfg: Config, steps_per_epoch: int, reference: Any = None) -> list[float]:
    """The rates of all steps, from the schedule or from a torch scheduler."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = reference(optimizer) if reference else LambdaLR(optimizer, schedule(cfg, steps_per_epoch))
    found = []
    for _ in range(cfg["epochs"] * steps_per_epoch):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_cosine_is_torchs() -> None:
    cfg = toy_config("trainer.warmup_steps=0", "trainer.epochs=4")
    assert rates(cfg, 5) == pytest.approx(rates(cfg, 5, lambda o: CosineAnnealingLR(o, T_max=20)))


def test_exponential_is_torchs_stepped_per_epoch() -> None:
    cfg = toy_config("trainer.warmup_steps=0", "trainer.epochs=4", "trainer.schedule=exponential", "trainer.gamma=0.5")
    per_epoch = rates(cfg, 1, lambda o: ExponentialLR(o, 0.5))
    assert rates(cfg, 3) == pytest.approx([rate for rate in per_epoch for _ in range(3)])


@pytest.mark.parametrize("kind", ["constant", "cosine", "exponential"])
def test_warm_up_rises_linearly_to_the_full_rate(kind: str) -> None:
    cfg = toy_config("trainer.warmup_steps=4", f"trainer.schedule={kind}", "trainer.epochs=2")
    assert rates(cfg, 10)[:5] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])
    if kind == "constant":
        assert rates(cfg, 10)[5:] == [1.0] * 15


class CallsTwice(torch.optim.SGD):
    """Leaves the net as it is, and calls the closure at two points, as an integrator with two gradient points does."""

    cycle = 1

    def step(self, closures: Any) -> Tensor:  # type: ignore[override]
        (closure,) = closures
        loss = closure()
        (parameter,) = self.param_groups[0]["params"]
        with torch.no_grad():
            parameter.neg_()
        closure()
        with torch.no_grad():
            parameter.neg_()
        return loss.detach()


def test_loss_and_training_accuracy_are_those_at_the_first_gradient_point() -> None:
    net = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        net.weight.copy_(torch.eye(2))
    x = torch.tensor([[2.0, 1.0], [3.0, 0.0], [0.0, 1.0], [0.0, 4.0], [1.0, 0.5]])
    y = torch.tensor([0, 0, 1, 0, 1])
    data = Splits(Split(x, y), None, Split(x, y))
    optimizer = CallsTwice(net.parameters(), lr=0.5)
    watch = Silent()
    cfg = toy_config("trainer.batch_size=2", "trainer.epochs=1", "trainer.select=test", "trainer.warmup_steps=0")
    Training(net, optimizer, data, cfg | {"schedule": "constant"}, 0).run(watch)  # type: ignore[arg-type]
    losses = [math.log(math.exp(a) + math.exp(b)) - (a, b)[label] for (a, b), label in zip(x.tolist(), y, strict=True)]
    (row,) = watch.rows
    assert row["lr"] == 0.5 and row["loss"] == pytest.approx(sum(losses) / 5, rel=1e-6)
    assert row["train_accuracy"] == 3 / 5
    assert watch.batches == 3


def test_the_epochs_loss_is_the_float32_sum_in_the_order_of_the_batches() -> None:
    """The oracle adds one batch after another; a sum in another order differs in its last digits."""
    losses, sizes = list(torch.rand(400, generator=torch.Generator().manual_seed(0)) * 3), [128] * 399 + [37]
    total = torch.zeros(())
    for loss, size in zip(losses, sizes, strict=True):
        total += loss * size
    assert mean_loss(losses, sizes) == total.item() / sum(sizes)
    assert mean_loss(losses[::-1], sizes[::-1]) != total.item() / sum(sizes)


def test_the_seconds_of_an_epoch_its_training_and_its_steps_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    def turns(clock: float, call: Any) -> Any:
        def timed(*arguments: Any) -> Any:
            now[0] += clock
            return call(*arguments)

        return timed

    net = dlrt.factorize(Net(), rank=3, init="orthonormal")
    stepper, watch = dlrt.integrators.BUG(net, lr=0.1), Silent()
    cfg = toy_config("trainer.epochs=2")
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    monkeypatch.setattr(dlrt.integrators.BUG, "step", turns(100.0, dlrt.integrators.BUG.step))
    monkeypatch.setattr(watch, "step", turns(10.0, watch.step))
    monkeypatch.setattr(evaluation, "accuracy", turns(1.0, accuracy))
    Training(net, stepper, toy_data(), cfg, 0).run(watch)
    assert watch.seconds == [(331.0, 330.0, 300.0)] * 2  # three batches and one evaluation each


def test_label_smoothing_moves_part_of_the_label_to_all_classes() -> None:
    """Weight ε/C on every class: the loss of logits z is (1 − ε)(log Σ e^z − z_y) + ε (log Σ e^z − mean z)."""
    x, y = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([1])
    net, eps = nn.Identity(), 0.3
    cfg = toy_config(f"trainer.label_smoothing={eps}")
    log_sum = math.log(sum(map(math.exp, (2, 1, 0))))
    loss = closures_of(net, x, y, cfg, [])[0]().item()
    assert loss == pytest.approx((1 - eps) * (log_sum - 1) + eps * (log_sum - 1), rel=1e-6)
    y = torch.tensor([0])
    loss = closures_of(net, x, y, cfg, [])[0]().item()
    assert loss == pytest.approx((1 - eps) * (log_sum - 2) + eps * (log_sum - 1), rel=1e-6)


@pytest.mark.parametrize("name", ["abc_psi", "aug_bug", "parallel_bug"])
def test_the_last_epochs_keep_the_ranks(name: str) -> None:
    cfg = toy_config("trainer.epochs=6", "trainer.warmup_steps=0", "trainer.schedule=constant")
    ranks = {}
    for fixed in (0, 4):
        torch.manual_seed(0)
        net = dlrt.factorize(Net(), rank=8, init="orthonormal")
        stepper, watch = dlrt.INTEGRATORS[name](net, lr=0.3, tau=0.3, decay=1.0), Silent()
        Training(net, stepper, toy_data(), cfg | {"fixed_rank_epochs": fixed}, 0).run(watch)
        ranks[fixed] = [row["ranks"] for row in watch.rows]
    assert ranks[4][:2] == ranks[0][:2] and ranks[4][2:] == 4 * [ranks[0][1]]
    assert sum(ranks[0][-1].values()) < sum(ranks[4][-1].values())


def test_the_last_epochs_keep_the_ranks_of_a_budget_too() -> None:
    cfg = toy_config("trainer.epochs=3", "trainer.fixed_rank_epochs=1")
    net = dlrt.factorize(Net(), rank=3, init="orthonormal")
    stepper = dlrt.integrators.AugmentedBackwardCorrectedPSI(net, lr=0.3, rank_budget=4)
    watch = Silent()
    Training(net, stepper, toy_data(), cfg, 0).run(watch)
    assert all(sum(row["ranks"].values()) <= 4 for row in watch.rows)
    assert watch.rows[-1]["ranks"] == watch.rows[-2]["ranks"] and stepper.param_groups[0]["rank_budget"] is None


def test_epochs_end_with_a_truncation() -> None:
    """40 steps with a cycle of 2 · 3 calls: the last 4 batches are left out, and no layer is between two ranks."""
    torch.manual_seed(0)
    net = dlrt.factorize(nn.Sequential(nn.Linear(2, 6), nn.ReLU(), nn.Linear(6, 2)), rank=2, init="orthonormal")
    stepper = dlrt.integrators.AugmentedBackwardCorrectedPSI(net, lr=0.1, inner_steps=3)
    part = Split(torch.randn(40, 2), torch.arange(40) % 2)
    cfg, watch = toy_config("trainer.epochs=1", "trainer.batch_size=1", "trainer.warmup_steps=0"), Silent()
    Training(net, stepper, Splits(part, part, part), cfg, 0).run(watch)
    assert (watch.batches, stepper.param_groups[0]["phase"]) == (36, 0)
    assert [layer.rank for layer in dlrt.low_rank_layers(net).values()] == [2, 2]


def test_accuracy_is_a_fraction_of_the_part_and_leaves_dropout_out() -> None:
    net = nn.Sequential(nn.Dropout(0.9), nn.Linear(8, 3))
    data = toy_data()
    with torch.no_grad():
        expected = (net[1](data.val.images).argmax(1) == data.val.labels).double().mean().item()
    assert accuracy(net, data, "val", toy_config("trainer.eval_batch_size=7")) == pytest.approx(expected)


def adapted(*overrides: str) -> tuple[nn.Module, Any, Config]:
    """A net with adapters, its integrator, and the trainer's keys."""
    config = identity(compose(*TOY, *ADAPTED, "trainer.warmup_steps=0", *overrides))
    net = build.model(config)
    return net, build.integrator(config, net, steps=6), config["trainer"]


@pytest.mark.parametrize("name", ["abc_psi", "parallel_bug", "psi", "bug", "lora", "adalora"])
def test_a_batch_in_parts_is_the_batch(name: str) -> None:
    """A step on 16 images in parts of 6, 6 and 4: the mean of the parts' means would not do, nor would their sum."""
    found = []
    for parts in (1, 3):
        torch.manual_seed(0)
        net, stepper, cfg = adapted(f"integrator={name}", f"trainer.accumulate={parts}", "tau=0.01", "trainer.lr=0.05")
        watch = Silent()
        Training(net, stepper, toy_data(16), cfg | {"epochs": 1}, 0).run(watch)
        weights = torch.cat(
            [(layer.weight if hasattr(layer, "base") else layer.bias).flatten() for layer in (net[0], net[2])]
        )
        found.append((weights.detach(), watch.rows[-1]))
    (whole, one), (parted, two) = found
    assert torch.allclose(whole, parted, atol=1e-6)
    assert one["loss"] == pytest.approx(two["loss"], abs=1e-6) and one["train_accuracy"] == two["train_accuracy"]


def test_bf16_is_for_the_forward_pass_alone() -> None:
    net, stepper, cfg = adapted("trainer.precision=bf16")
    seen: list[Any] = []
    net.register_forward_hook(lambda module, args, z: seen.append((args[0].dtype, z.dtype, module.training)))
    data, watch = toy_data(), Silent()
    Training(net, stepper, data, cfg, 0).run(watch)
    assert {(inputs, outputs) for inputs, outputs, _ in seen} == {(torch.float32, torch.bfloat16)}
    assert {training for *_, training in seen} == {True, False}  # in evaluation, too
    assert {p.dtype for p in net.parameters()} == {torch.float32}
    loss = closures_of(net, data.train.images, data.train.labels, cfg, outputs := [])[0]()
    exact = closures_of(net, data.train.images, data.train.labels, toy_config(), [])[0]()
    assert loss.dtype == outputs[0].dtype == torch.float32
    assert loss.item() == pytest.approx(exact.item(), rel=2e-2) and loss.item() != exact.item()


def test_what_is_frozen_is_not_copied() -> None:
    net, stepper, cfg = adapted()
    frozen = {name: p.clone() for name, p in net.named_parameters() if not p.requires_grad}
    best = Training(net, stepper, toy_data(), cfg, 0).run(Silent())
    assert len(frozen) == 3 and not best.state.keys() & frozen.keys()
    assert best.state.keys() == {"0.adapter.U", "0.adapter.S", "0.adapter.V", "2.adapter.U", "2.adapter.S",
                                 "2.adapter.V", "2.base.bias"}  # fmt: skip
    assert all(torch.equal(net.get_parameter(name), value) for name, value in frozen.items())


def test_the_net_is_left_with_the_adapters_of_the_reported_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    states = []
    for scores in ([0.5], [0.5, 0.2, 0.2]):
        net, stepper, cfg = adapted("tau=0.3", "trainer.schedule=constant", "trainer.select_last=1", "trainer.lr=0.5")
        left = iter(scores)
        monkeypatch.setattr(evaluation, "accuracy", lambda net, data, part, cfg, left=left: next(left))
        Training(net, stepper, toy_data(), cfg | {"epochs": len(scores)}, 0).run(Silent())
        states.append(net.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0] | states[1])


def fitted(monkeypatch: pytest.MonkeyPatch, scores: list[float], *overrides: str) -> tuple[Any, nn.Module, Silent]:
    """Train toy nets whose validation (or, under the papers' protocol, test) accuracies are `scores`."""
    cfg = toy_config(f"trainer.epochs={len(scores)}", "trainer.warmup_steps=0", *overrides)
    left = iter(scores)
    monkeypatch.setattr(evaluation, "accuracy", lambda net, data, part, cfg: next(left))
    net = dlrt.factorize(Net(), rank=3, init="orthonormal")
    integrator = dlrt.INTEGRATORS["abc_psi"](net, lr=cfg["lr"], tau=0.3)
    watch = Silent()
    best = Training(net, integrator, toy_data(), cfg, 0).run(watch)
    return best, net, watch


@pytest.mark.parametrize(
    ("scores", "select_last", "reported"),
    [
        ([0.9, 0.1, 0.3, 0.2], 0.5, 3),
        ([0.9, 0.1, 0.3, 0.2], 1.0, 1),
        ([0.9, 0.1, 0.3, 0.2], 0.1, 4),
        ([0.1, 0.1, 0.4, 0.4, 0.4], 0.5, 3),
        ([0.0], 0.5, 1),
    ],
)
def test_the_reported_epoch_is_the_earliest_best_of_the_last_part(
    scores: list[float], select_last: float, reported: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    best, net, watch = fitted(monkeypatch, scores, f"trainer.select_last={select_last}")
    assert best.row["epoch"] == reported and [row["val_accuracy"] for row in watch.rows] == scores
    assert {name: layer.rank for name, layer in dlrt.low_rank_layers(net).items()} == watch.rows[reported - 1]["ranks"]


def test_the_net_is_left_with_the_weights_of_the_reported_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    states = []
    for scores in ([0.5], [0.5, 0.2, 0.2]):
        torch.manual_seed(0)
        _, net, _ = fitted(monkeypatch, scores, "trainer.schedule=constant", "trainer.select_last=1")
        states.append(net.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0] | states[1])


def test_the_papers_protocol_reports_the_best_test_epoch_of_all() -> None:
    cfg = toy_config("trainer.select=test", "trainer.epochs=10")
    assert all(is_candidate(epoch, cfg) for epoch in range(1, 11))
    validation = toy_config("trainer.epochs=10", "trainer.select_last=0.25")
    assert [epoch for epoch in range(1, 11) if is_candidate(epoch, validation)] == [8, 9, 10]


@pytest.mark.parametrize(("epoch", "reached", "collapsed"), [(6, 0.19, True), (6, 0.2, False), (5, 0.1, False)])
def test_the_papers_rule_of_a_failed_run(epoch: int, reached: float, collapsed: bool) -> None:
    cfg = toy_config("trainer.epochs=9", "trainer.collapse_epoch=6")
    row = {"epoch": epoch, "val_accuracy": reached}
    if collapsed:
        with pytest.raises(Collapse, match=r"accuracy 0.1900 after epoch 6 is below 0.2"):
            check_collapse(row, cfg)
    else:
        check_collapse(row, cfg)


def test_a_loss_that_is_not_finite_is_divergence() -> None:
    net = nn.Linear(8, 3)
    integrator = dlrt.BASELINES["dense"](net, lr=0.1)
    data = toy_data()
    data.train.images[0] = float("inf")
    with pytest.raises(dlrt.Divergence):
        Training(net, integrator, data, toy_config(), 0).run(Silent())
