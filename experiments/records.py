"""Run records: what identifies a run, and the folder that keeps one JSON file and one weight file per run."""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from omegaconf import DictConfig, OmegaConf
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dlrt.adapters import adapters_of, save_adapters, trained_state
from experiments import data
from experiments.build import ignored_keys
from experiments.config import INCIDENTAL, MACHINE, NEUTRAL, ConfigError
from experiments.data.classes import is_image_folder
from experiments.secrets import redacted
from experiments.storage import replacing

SCHEMA = 1
STATUSES = ("done", "diverged", "failed", "preempted")
RERUN = {  # cfg.rerun: the states in which a recorded run is trained again
    "none": (),
    "failed": ("failed", "preempted"),
    "diverged": ("failed", "preempted", "diverged"),
    "all": ("failed", "preempted", "diverged", "done"),
}


def settled(cfg: DictConfig) -> dict[str, Any]:
    """What a run is built from: all that can change its result; null is what its integrator ignores."""
    config: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)  # type: ignore[assignment]
    incidental = INCIDENTAL - (set() if config["task"] == "train" else MACHINE)
    config = {key: value for key, value in config.items() if key not in incidental}
    return config | dict.fromkeys(ignored_keys(config), None)


def identity(cfg: DictConfig) -> dict[str, Any]:
    """The record's "config": as `settled`, but with the content of files and folders in the place of their paths.

    model.weights that is a file is "sha256:…". data.root is the fingerprint of a folder of images, whether data.source
    says that it is one or not, and null where it is no more than the place of torchvision's files.
    """
    config = settled(cfg)
    model, images = config["model"], config["data"]
    if model["weights"] is not None:
        model["weights"] = _content(model["weights"]) or model["weights"]
    if images["root"] is not None:
        images["root"] = None if images["source"] == "torchvision" else _content(images["root"])
    if images["root"] is not None or images["source"] == "torchvision":
        images["source"] = None
    return config


def _content(place: str) -> str | None:
    """What a file or a folder of images holds, in short; None of anything else."""
    path = Path(place).expanduser()
    if path.is_file():
        stat = path.stat()
        return _digest_of(path, stat.st_mtime_ns, stat.st_size)
    return data.fingerprint(place) if is_image_folder(path) else None


@lru_cache
def _digest_of(path: Path, mtime: int, size: int) -> str:
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()[:12]}"


def key_of(config: dict[str, Any]) -> str:
    """First 12 hex digits of the SHA-256 of the `bare` config's canonical JSON; ValueError if it holds nan or inf."""
    text = json.dumps(bare(config), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def bare(config: dict[str, Any]) -> dict[str, Any]:
    """The config without the options of `NEUTRAL` that are at their neutral value: as if there were none of them."""
    for key, neutral in NEUTRAL.items():
        config = _without(config, key.split("."), neutral)
    return config


def _without(config: dict[str, Any], key: list[str], neutral: Any) -> dict[str, Any]:
    first, *rest = key
    if first not in config:
        return config
    value = config[first]
    if not rest:
        return config if value != neutral else {k: v for k, v in config.items() if k != first}
    return config | {first: _without(value, rest, neutral)} if isinstance(value, dict) else config


def name_of(config: dict[str, Any]) -> str:
    """The run's readable name, e.g. abc_psi-mlp5_500-mnist-tau0.1-rank120-seed0; several runs may share it."""
    groups = [config[group]["name"] for group in ("integrator", "model", "data")]
    if config["rank"] is None and config.get("adapters"):  # none of low rank: linear probing
        groups.insert(1, config["adapters"]["name"])
    values = [f"{key}{config[key]}" for key in ("tau", "rank", "seed") if config[key] is not None]
    return "-".join(groups + values).replace("/", "_")


def needs_training(record: dict[str, Any] | None, rerun: str) -> bool:
    """Whether a run with this record (None: without one) is to be trained under `rerun`."""
    return record is None or record["status"] in RERUN[rerun]


class Store:
    """The records, weights and locks under `results_dir`."""

    def __init__(self, results_dir: str | Path) -> None:
        self.folder = Path(results_dir)

    def get(self, key: str) -> dict[str, Any] | None:
        """The record of the run `key`, or None.

        Raises:
            ConfigError: the file is not a record of that run.
        """
        for path in sorted((self.folder / "records").glob(f"*-{key}.json")):
            try:
                record = json.loads(path.read_text())
            except (OSError, ValueError) as error:
                raise ConfigError(f"{path} is no run record ({error}): delete it") from error
            if not isinstance(record, dict) or record.get("key") != key or record.get("status") not in STATUSES:
                raise ConfigError(f"{path} is no record of the run {key}: delete it")
            return record
        return None

    def write(self, record: dict[str, Any]) -> Path:
        """Write the record in one piece: a reader sees the old one or the new one.

        Raises:
            ConfigError: it cannot be written.
        """
        path = self.folder / "records" / f"{record['name']}-{record['key']}.json"
        text = json.dumps(redacted(record), indent=1, allow_nan=False)
        try:
            with replacing(path) as temporary:
                temporary.write_text(text)
        except OSError as error:
            raise ConfigError(
                f"the record {path} cannot be written ({error.strerror}): make room or give another results_dir, "
                "and give the same command again; it goes on from the last checkpoint"
            ) from error
        return path

    def save_weights(self, key: str, state: dict[str, Tensor], ranks: dict[str, int]) -> Path:
        """Save a state_dict; the ranks stand in the file's metadata."""
        path = self.weights_path(key)
        with replacing(path) as temporary:
            tensors = {name: x.contiguous() for name, x in state.items()}
            save_file(tensors, temporary, metadata={"key": key, "ranks": json.dumps(ranks)})
        return path

    def save_trained(self, key: str, net: nn.Module, ranks: dict[str, int]) -> Path:
        """Save what was trained of a network: all of it but frozen weights; adapters for `dlrt.load_adapters`."""
        if not adapters_of(net):
            return self.save_weights(key, {name: x.detach().clone() for name, x in trained_state(net).items()}, ranks)
        with replacing(self.weights_path(key)) as temporary:
            save_adapters(net, temporary)
        return self.weights_path(key)

    def load_weights(self, key: str) -> dict[str, Tensor]:
        """The state_dict that `save_weights` saved, on the CPU.

        Raises:
            ConfigError: the file cannot be read.
        """
        path = self.weights_path(key)
        try:
            return load_file(path)
        except (OSError, SafetensorError) as error:
            raise ConfigError(f"weights={key}: cannot read {path} ({error}); train that run again") from error

    def log_path(self, config: dict[str, Any]) -> Path:
        """Where the log of the run `config` is."""
        return self.folder / "logs" / f"{name_of(config)}-{key_of(config)}.log"

    def weights_path(self, key: str) -> Path:
        """Where the weights of the run `key` are."""
        return self.folder / "weights" / f"{key}.safetensors"

    @contextmanager
    def lock(self, key: str, patience: Callable[[], object] = lambda: None) -> Iterator[None]:
        """Hold the run `key`; a second process waits for it, and calls `patience` every second, which may raise."""
        folder = self.folder / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / f"{key}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            print(f"run {key} is being trained by another process: waiting for it", flush=True)
            while True:
                patience()
                with suppress(Timeout):
                    lock.acquire(timeout=1)
                    break
        try:
            self._tidy(key)
            yield
        finally:
            lock.release()

    def _tidy(self, key: str) -> None:
        """Remove the temporary files of a process that was killed while it wrote something of the run."""
        for folder in ("records", "weights", "running"):
            for path in (self.folder / folder).glob(f".*{key}*"):
                path.unlink(missing_ok=True)
