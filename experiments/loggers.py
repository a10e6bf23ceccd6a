"""Where a run's numbers go while it trains: nowhere (`none`) or to Weights & Biases (`wandb`).

W&B is a view of the run record, never its source, so nothing that goes wrong in W&B may stop a run: every
call goes through one guard, which names the first failure in one line and keeps the run's logger silent
from then on. Where the server cannot be reached, the run is logged offline.
"""

from __future__ import annotations

import logging
import netrc
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from experiments.output import first_line
from experiments.secrets import redacted

log = logging.getLogger(__name__)

# Seconds a run waits for an unreachable W&B server before it goes on without.
SERVER_PATIENCE = 30.0
UPLOAD_PATIENCE = 120.0


class Logger:
    """Takes the rows of one run and keeps none of them; the interface of every logger."""

    def log_epoch(self, row: dict[str, Any]) -> None:
        """Takes one entry of the record's `history`."""

    def finish(self, record: dict[str, Any]) -> None:
        """Takes the finished record and ends the run in the logger's backend."""

    def close(self, failed: bool) -> None:
        """Ends a run that `finish` has not ended."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        self.close(failed=kind is not None)


class WandbLogger(Logger):
    """One W&B run per run record: config, metrics, ranks and spectra per epoch, final figures in the summary.

    A run whose ranks adapt ends with the picture of all of them, layer × epoch.

    Without a `mode` the run is online when a W&B login is found (`WANDB_API_KEY` or netrc), else offline.
    """

    def __init__(
        self,
        cfg: dict[str, Any],
        group: str,
        name: str,
        config: dict[str, Any],
        results_dir: str | Path,
        id: str | None = None,
    ) -> None:
        self._name = name
        self._silent = False
        self._run: Any = None
        directory = Path(cfg.get("dir") or results_dir)
        given: dict[str, Any] = {"project": cfg["project"], "entity": cfg.get("entity"), "group": group}
        given |= {"dir": directory, "config": redacted(config), "id": os.environ.get("WANDB_RUN_ID") or id}
        self._guard(lambda: self._start(cfg.get("mode"), directory, given))

    def _start(self, wanted: str | None, directory: Path, given: dict[str, Any]) -> None:
        import wandb

        directory.mkdir(parents=True, exist_ok=True)  # W&B writes to the system's temporary folder otherwise
        settings = wandb.Settings(
            silent=True,
            console="off",
            init_timeout=SERVER_PATIENCE,
            finish_timeout=UPLOAD_PATIENCE,
            finish_timeout_raises=True,
            x_disable_meta=True,  # it has the command line, which may name a key
        )
        _make_telemetry()
        login = logged_in(wandb.setup(settings=settings).settings.base_url)
        mode: Any = wanted or os.environ.get("WANDB_MODE") or ("online" if login else "offline")
        given |= {"name": self._name, "settings": settings, "resume": "allow"}
        # jobs of a sweep share the process: without reinit they share one W&B run
        try:
            self._run = wandb.init(mode=mode, reinit="finish_previous", **given)
        except wandb.Error as error:
            if mode != "online":
                raise
            _leave_service()  # where the id is still in use
            wandb.setup(settings=settings)
            self._run = wandb.init(mode="offline", reinit="finish_previous", **given)
            log.warning("W&B does not answer, %s is logged offline for `wandb sync`: %s", self._name, first_line(error))
        if self._run.url:
            log.info("W&B run %s: %s", self._name, self._run.url)

    def log_epoch(self, row: dict[str, Any]) -> None:
        """Logs the row's scalars, `rank/<layer>`, their sum and `spectrum/<layer>`, a histogram of singular values."""
        self._guard(lambda: self._run.log(_metrics(row), step=row["epoch"]))

    def finish(self, record: dict[str, Any]) -> None:
        """Writes `status` and `final/<figure>` to the summary, the ranks' picture to the last epoch; ends the run."""
        self._guard(lambda: self._run.summary.update(_summary(record)))
        self._guard(lambda: self._draw_ranks(record))
        if record["status"] == "preempted":
            self._guard(lambda: self._run.mark_preempting())  # an agent of a sweep goes on with it
        self.close(failed=record["status"] not in ("done", "diverged"))

    def _draw_ranks(self, record: dict[str, Any]) -> None:
        import wandb
        from matplotlib import pyplot

        from experiments.figures.plotting import pixels
        from experiments.figures.rank_heatmap import rank_heatmap_of

        if (figure := rank_heatmap_of(record)) is not None:
            picture = wandb.Image(pixels(figure))
            self._run.log({"rank_heatmap": picture}, step=record["history"][-1]["epoch"])
            pyplot.close(figure)  # a sweep would keep them all

    def close(self, failed: bool) -> None:
        """Finishes the W&B run, if it was started and is not finished; one that failed is marked so."""
        run, self._run = self._run, None
        if run is not None:
            self._guard(lambda: run.finish(exit_code=int(failed)), always=True)
        if self._silent:
            _leave_service()
        self._silent = True

    def _guard(self, call: Callable[[], object], always: bool = False) -> None:
        if self._silent and not always:
            return
        try:
            call()
        except Exception as error:
            if not self._silent:
                log.warning("W&B stopped logging %s, the run goes on: %s", self._name, first_line(error))
            self._silent = True


def make_logger(
    cfg: dict[str, Any],
    *,
    group: str,
    name: str,
    config: dict[str, Any],
    results_dir: str | Path = "runs",
    id: str | None = None,
) -> Logger:
    """Returns the logger that `cfg["name"]` names, for one run, to be used as a context manager.

    `cfg` is the config group `logger` as plain data: `name`, and for wandb `mode`, `project`, `entity` and
    `dir` (null: `results_dir`). `group` is the sweep, `name` the run's readable name, `config` its resolved
    config. With the `id` of a run's earlier stretch its W&B run goes on: online, epochs that it has are left out;
    offline it is a folder more, of which the last is the one to sync. An agent's WANDB_RUN_ID comes before `id`.

    Raises:
        ValueError: no logger has that name.
    """
    match cfg["name"]:
        case "none":
            return Logger()
        case "wandb":
            return WandbLogger(cfg, group, name, config, results_dir, id)
    raise ValueError(f"logger must be none or wandb, got {cfg['name']!r}")


def logged_in(base_url: str) -> bool:
    """Whether the environment or the netrc file holds a key for the W&B server at `base_url`."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    path = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    return path.is_file() and netrc.netrc(path).authenticators(urlsplit(base_url).hostname or "") is not None


def _make_telemetry() -> None:
    """Make what W&B reports a service with that does not start: made then, it waits for itself for ever (W&B 0.31)."""
    with suppress(ImportError):
        from wandb.analytics.opentelemetry.opentelemetry_proxy import get_telemetry_recorder

        get_telemetry_recorder()


def _leave_service() -> None:
    """Let the next run of this process start W&B's service anew: a dead one would fail it, too."""
    import wandb

    with suppress(Exception, SystemExit):
        wandb.teardown()


def _metrics(row: dict[str, Any]) -> dict[str, Any]:
    import wandb

    scalars = {key: value for key, value in row.items() if not isinstance(value, dict)}
    ranks = {f"rank/{layer}": rank for layer, rank in row.get("ranks", {}).items()}
    ranks |= {"total_rank": sum(ranks.values())} if ranks else {}
    spectra = row.get("singular_values", {})
    return scalars | ranks | {f"spectrum/{layer}": wandb.Histogram(values) for layer, values in spectra.items()}


def _summary(record: dict[str, Any]) -> dict[str, Any]:
    final = record["final"] or {}
    scalars = {f"final/{key}": value for key, value in final.items() if not isinstance(value, dict)}
    ranks = {f"final/rank/{layer}": rank for layer, rank in final.get("ranks", {}).items()}
    return {"status": record["status"], "key": record["key"]} | scalars | ranks
