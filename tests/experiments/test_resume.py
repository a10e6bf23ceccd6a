"""A training that is left between any two steps and taken up again ends with the same bits."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from toy_runs import ADAPTED, PROBED, TOY, compose

from experiments import build
from experiments.checkpoints import Checkpoints
from experiments.records import settled
from experiments.trainer import Seconds, Training

ADAM = "integrator.optimizer=adam"
VARIANTS = {
    "abc_psi": (),
    "abc_psi, adam": (ADAM,),
    "abc_psi, adam by index": (ADAM, "integrator.transport=index"),
    "abc_psi, momentum, decay": ("integrator.optimizer=momentum", "integrator.decay=0.1"),
    "abc_psi, inner steps": (ADAM, "integrator.inner_steps=2", "trainer.batch_size=4"),
    "abc_psi, budget": ("integrator.rank_budget=5", "tau=null", ADAM),
    "abc_psi, fixed ranks": ("trainer.fixed_rank_epochs=2",),
    "abc_psi, clipped": ("integrator.max_grad_norm=0.1", "trainer.accumulate=3"),
    "aug_bug": ("integrator=aug_bug", ADAM),
    "parallel_bug": ("integrator=parallel_bug", ADAM),
    "bug": ("integrator=bug", ADAM),
    "psi": ("integrator=psi", ADAM),
    "bc_psi": ("integrator=bc_psi", ADAM),
    "svd_factor": ("integrator=svd_factor", ADAM),
    "dense": ("integrator=dense", ADAM, "trainer.schedule=exponential"),
    "adapters": (*ADAPTED, ADAM),
    "adapters, inner steps": (*ADAPTED, ADAM, "integrator.inner_steps=2", "trainer.batch_size=4"),
    "lora": (*ADAPTED, "integrator=lora", ADAM),
    "adalora": (*ADAPTED, "integrator=adalora", "integrator.rank_budget=4", "trainer.batch_size=4"),
    "probe": PROBED,
}


class Watch:
    """Keeps a snapshot after each of `steps`, and the rows."""

    def __init__(self, steps: int = 0, checkpoints: Checkpoints | None = None) -> None:
        self.steps, self.checkpoints = steps, checkpoints
        self.rows: list[Any] = []
        self.done = 0

    def begin(self, epoch: int) -> None:
        pass

    def step(self, training: Training) -> None:
        self.done += 1
        if self.done == self.steps:
            assert self.checkpoints is not None and self.checkpoints.write(training.snapshot())
            raise KeyboardInterrupt

    def end(self, row: Any, seconds: Seconds) -> None:
        self.rows.append(row)


def training_of(*overrides: str) -> Training:
    config = settled(compose(*TOY, "trainer.epochs=3", "trainer.lr=0.2", *overrides))
    torch.manual_seed(123)  # what came before is no part of a run
    data = build.data(config, torch.device("cpu"))
    net = build.model(config)
    steps = 3 * -(-48 // config["trainer"]["batch_size"])
    return Training(net, build.integrator(config, net, steps), data, config["trainer"], config["seed"])


def finished(training: Training) -> tuple[list[Any], dict[str, Tensor]]:
    watch = Watch()
    training.run(watch)
    return watch.rows, training.net.state_dict()


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("line", VARIANTS.values(), ids=VARIANTS)
def test_every_method_goes_on_with_the_same_bits_from_every_step(line: tuple[str, ...], tmp_path: Path) -> None:
    rows, weights = finished(training_of(*line))
    whole = training_of(*line)
    for step in range(1, 3 * whole.steps + 1):
        checkpoints = Checkpoints(tmp_path / str(step))
        left = Watch(step, checkpoints)
        with pytest.raises(KeyboardInterrupt):
            training_of(*line).run(left)
        (snapshot,) = checkpoints.readable()
        again = training_of(*line)
        again.restore(snapshot)
        later, final = finished(again)
        assert [*left.rows, *later] == rows and same(final, weights)
