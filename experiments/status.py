"""What has become of sweeps: python -m experiments.status [SWEEP [overrides]] [results_dir=runs].

Without SWEEP: all sweeps that were begun, with the counts of their runs and the time left. SWEEP is a preset's name, to
which overrides may be given, or the name of a sweep that was begun or how it begins: each of its runs.
"""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from experiments.command import in_one_sentence
from experiments.config import CONF, ConfigError
from experiments.importing import did_you_mean
from experiments.progress import clock
from experiments.rows import print_rows
from experiments.standing import OPEN, STATES, Runs, Standing, seconds_left, total
from experiments.sweeps import Planned, Sweep, all_of

USAGE = "[SWEEP [overrides]] [results_dir=runs]"
DEFAULT = "runs"
COLUMNS = ("run", "key", "state", "epoch", "left", "", "log")
TO_DO = ("preempted", "failed", "missing")  # what the same command trains


def main(argv: Sequence[str]) -> None:
    """What the user got wrong ends in one sentence and exit code 1."""
    places = [argument.partition("=")[2] for argument in argv if argument.startswith("results_dir=")]
    rest = [argument for argument in argv if not argument.startswith("results_dir=")]
    folder = Path(places[-1] if places else DEFAULT)
    with in_one_sentence():
        if folder.is_file():
            raise ConfigError(f"results_dir={folder}: this is a file; give a folder of runs")
        if rest and rest[0].startswith("-"):
            raise ConfigError(f"usage: python -m experiments.status {USAGE}, got {rest[0]}")
        if rest:
            show(find(folder, rest[0], rest[1:]), Runs(folder))
        else:
            overview(folder)


def find(folder: Path, name: str, overrides: Sequence[str] = ()) -> Sweep:
    """The sweep that `name` and `overrides` ask for.

    Raises:
        ConfigError: there is none, or there are several.
        hydra.errors.HydraException, omegaconf.errors.OmegaConfBaseException: an impossible override.
    """
    begun = {sweep.name: sweep for sweep in all_of(folder)}
    presets = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))
    if name in begun and not overrides:
        return begun[name]
    if name in presets:
        return _of_preset(folder, name, overrides)
    hint = did_you_mean(name.removeprefix("experiment="), [*presets, *begun])
    if overrides:
        raise ConfigError(f"{name!r} is no preset, and only presets take overrides ({overrides[0]}): {hint}correct it")
    matching = [known for known in begun if known.startswith(name)]
    if len(matching) > 1:
        raise ConfigError(f"{name!r} is how {len(matching)} sweeps begin: give more of one of {'; '.join(matching)}")
    if not matching:
        listing = "`python -m experiments.status` lists those that were begun"
        raise ConfigError(f"there is no sweep and no preset {name!r} (results_dir={folder}): {hint}{listing}")
    return begun[matching[0]]


def _of_preset(folder: Path, name: str, overrides: Sequence[str]) -> Sweep:
    from experiments import presets  # these import torch, which takes seconds
    from experiments.references import literal

    place = [] if folder == Path(DEFAULT) else [f"results_dir={literal(str(folder))}"]
    preset = presets.load(name, [*place, *overrides])
    arguments = (f"experiment={name}", *place, *overrides)
    return Sweep(name, "", arguments, tuple(map(Planned.of, preset.cells)), preset.unresolved)


def show(sweep: Sweep, runs: Runs) -> None:
    """Print a row per run, then the counts, the time left and the command that goes on."""
    found = [runs.of(run) for run in sweep.cells]
    left = seconds_left(found)
    print_rows(COLUMNS, [_row(run, seconds, runs.folder) for run, seconds in zip(found, left, strict=True)])
    if sweep.left_open:
        print(f"and up to {sweep.left_open} missing, in blocks that wait for earlier ones")
    counts = _counts(sweep, found)
    words = [f"{counts[state]} {state}" for state in STATES if counts[state]]
    print(f"{sweep.name}: {', '.join(words)}; time left: {_time_left(sweep, found)}")
    if any(counts[state] for state in TO_DO):
        print(f"go on with: python -m experiments.run -m {shlex.join(sweep.arguments)}")


def _row(run: Standing, seconds: float | None, folder: Path) -> tuple[str, ...]:
    left = "" if run.state not in OPEN else "unknown" if seconds is None else clock(seconds)
    log = folder / "logs" / f"{run.run.name}-{run.run.key}.log"
    where = str(log) if run.state != "done" and log.is_file() else ""
    return run.run.name, run.run.key, run.state, run.epoch, left, run.note, where


def overview(folder: Path) -> None:
    """Print a row per sweep, and one for all runs outside of sweeps."""
    runs, sweeps = Runs(folder), all_of(folder)
    if single := runs.beside([sweep.cells for sweep in sweeps]):
        sweeps.append(Sweep("single runs", "", (), tuple(single), 0))
    if not sweeps:
        print(f"nothing has been run yet with results_dir={folder}: see `python -m experiments.run --help`")
        return
    print_rows(("sweep", *STATES, "left"), [_summary(sweep, runs) for sweep in sweeps])


def _summary(sweep: Sweep, runs: Runs) -> tuple[str, ...]:
    found = [runs.of(run) for run in sweep.cells]
    counts = _counts(sweep, found)
    return sweep.name, *(str(counts[state]) for state in STATES), _time_left(sweep, found)


def _counts(sweep: Sweep, found: Sequence[Standing]) -> Counter[str]:
    return Counter([run.state for run in found]) + Counter(missing=sweep.left_open)


def _time_left(sweep: Sweep, found: Sequence[Standing]) -> str:
    runs = [*found, *[Standing(Planned("", "", "", ()), "missing")] * sweep.left_open]
    if not any(run.state in OPEN for run in runs):
        return "none"
    seconds = total(runs, seconds_left(runs))
    return "unknown" if seconds is None else f"about {clock(seconds)}"


if __name__ == "__main__":
    main(sys.argv[1:])
