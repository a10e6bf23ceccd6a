"""A data set, networks and command lines for runs of a few milliseconds, named "toy_runs:…" in their configs."""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from hydra import initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from experiments import run
from experiments.compose import hydra_compose_cell
from experiments.config import CONF

PRESETS = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))
TOY = (
    "model=import",
    "model.target=toy_runs:Net",
    "data=import",
    "data.target=toy_runs:clouds",
    "trainer.epochs=2",
    "trainer.batch_size=16",
    "trainer.warmup_steps=2",
    "rank=4",
    "device=cpu",
    "threads=1",
)
ADAPTED = (
    "adapters=vit",
    "adapters.targets=['0','2']",
    "adapters.trainable=['2.*bias$']",
    "rank=3",
)  # both of Net's layers
PROBED = ("adapters=probe", "integrator=dense", "adapters.trainable=['^2']")  # its last layer alone


def clouds(count: int = 48, val: bool = True) -> tuple[Any, Any, Any]:
    """`count` training, validation (if `val`) and test points each, of three Gaussian clouds in eight dimensions."""
    generator = torch.Generator().manual_seed(1)

    def part() -> tuple[Tensor, Tensor]:
        y = torch.arange(count) % 3
        return torch.randn(count, 8, generator=generator) + 2 * torch.eye(3, 8)[y], y

    return part(), part() if val else None, part()


def pictures(count: int = 8) -> tuple[Any, Any, Any]:
    """`count` training, validation and test images each, (3, 8, 8), of four classes."""
    part = torch.rand(count, 3, 8, 8), torch.arange(count) % 4
    return part, part, part


class Net(nn.Sequential):
    """8-16-3. mode: "ok"; "raise": its forward raises in training; "diverge": its loss is nan; "bug": not built."""

    def __init__(self, mode: str = "ok") -> None:
        if mode == "bug":
            raise RuntimeError("a bug in the constructor")
        super().__init__(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
        self.mode = mode

    def forward(self, x: Tensor) -> Tensor:
        if self.mode == "raise" and self.training:
            raise RuntimeError("a bug in the forward pass")
        return super().forward(x) * (float("nan") if self.mode == "diverge" else 1.0)


class Fragile(Net):
    """A Net that in a training kills its process, or raises, as long as there is no file `mended`."""

    def __init__(self, mended: str, mode: str = "ok") -> None:
        super().__init__(mode)
        self.mended = Path(mended)

    def forward(self, x: Tensor) -> Tensor:
        if self.training and not self.mended.exists():
            if self.mode == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.mode == "stumble":
                raise OSError("a disk that was full")
        return super().forward(x)


class Signalled(Net):
    """A Net whose evaluations send SIGTERM to their process."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training and len(x) > 2:  # not in the rehearsal, which tries two images
            os.kill(os.getpid(), signal.SIGTERM)
        return super().forward(x)


def net_from(weights: str) -> nn.Module:
    """A Net with the weights in a file."""
    net = Net()
    net.load_state_dict(torch.load(weights, weights_only=True))
    return net


def compose(*overrides: str) -> DictConfig:
    """The config of a command line, without running it."""
    with composing():
        return hydra_compose_cell(list(overrides))


@contextmanager
def composing() -> Iterator[None]:
    """Let `hydra_compose_cell` find conf/."""
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        yield


def command(*arguments: str) -> int | str:
    """Run `python -m experiments.run ARGUMENTS` in this process; returns the exit code, or the text it exits with.

    A sweep runs its jobs in this process, too, unless the arguments name a launcher.
    """
    if "-m" in arguments and not any(argument.startswith("hydra/launcher=") for argument in arguments):
        arguments += ("hydra/launcher=basic",)
    with mock.patch("sys.argv", ["experiments.run", *arguments]):
        try:
            run.main()
        except SystemExit as end:
            return 0 if end.code is None else end.code
    return 0


def protocols(preset: str) -> list[str]:
    """The protocols that a preset of conf/ offers; "null" alone if it has none."""
    blocks = compose(f"experiment={preset}").blocks
    return list(blocks) if OmegaConf.is_dict(blocks) else ["null"]


def records_in(results_dir: Path) -> list[dict[str, Any]]:
    """All records, by file name."""
    return [json.loads(path.read_text()) for path in sorted((results_dir / "records").glob("*.json"))]
