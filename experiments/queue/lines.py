"""A queue file: a sweep per line, in order of work; each is a preset's name, if any, and overrides."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

from experiments import presets
from experiments.compose import Compose
from experiments.config import ConfigError
from experiments.devices import device_of
from experiments.presets import Draft, Plan
from experiments.records import Store
from experiments.references import Cell, Reference, literal
from experiments.sweeper import group_of


class Line:
    """A sweep whose blocks become cells when they are opened: those that take values from records, after all
    earlier ones are over.

    `device` is the kind of device it runs on; `reasons` say why cells could not be made.
    """

    def __init__(self, text: str, plan: Plan, compose: Compose) -> None:
        self.text, self.cfg, self.blocks = text, plan.cfg, plan.blocks
        self._compose = compose
        first = [value for value in plan.blocks[0][0].values() if isinstance(value, str)]
        self.device = device_of(compose(first).device).type
        self._cells: list[list[Cell] | None] = [None] * len(plan.blocks)
        self.reasons: list[str] = []
        self._checked = False

    @property
    def cells(self) -> list[Cell]:
        """The cells of the blocks that are open, each once."""
        return presets.unique([cell for cells in self._cells for cell in cells or ()])

    @property
    def unopened(self) -> int:
        """How many cells the other blocks have."""
        return sum(len(drafts) for drafts, cells in zip(self.blocks, self._cells, strict=True) if cells is None)

    def open(self, over: Callable[[str], bool], store: Store) -> list[Cell]:
        """Open the blocks that can be, given which runs are over; returns their cells."""
        opened: list[Cell] = []
        for i, drafts in enumerate(self.blocks):
            if self._cells[i] is None and (not _refers(drafts) or self._are_over(i, over)):
                earlier = presets.unique([cell for cells in self._cells[:i] for cell in cells or ()])
                cells, reasons = presets.settle(drafts, earlier, store, self._compose)
                self._cells[i] = cells
                self.reasons += reasons
                opened += cells
        if not self._checked:
            self._check()
        return opened

    def _check(self) -> None:
        """Give up the blocks that wait if one takes a value from runs that there are not."""
        self._checked, earlier = True, list[Cell]()
        try:
            for drafts, cells in zip(self.blocks, self._cells, strict=True):
                earlier += cells or [presets.provisional(draft, earlier, self._compose) for draft in drafts]
        except ConfigError as mistake:
            self.reasons.append(str(mistake))
            self._cells = [cells or [] for cells in self._cells]

    def _are_over(self, blocks: int, over: Callable[[str], bool]) -> bool:
        return all(cells is not None and all(over(cell.key) for cell in cells) for cells in self._cells[:blocks])


def _refers(drafts: Sequence[Draft]) -> bool:
    return any(isinstance(value, Reference) for draft in drafts for value in draft.values())


def read(path: Path) -> list[str]:
    """The lines of a queue file without comments.

    Raises:
        ConfigError: there is no such file, or nothing in it.
    """
    try:
        lines = [line.partition("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); give a file with a preset per line") from error
    if not any(lines):
        raise ConfigError(f"{path}: there is no line in it; write a preset per line")
    return [line for line in lines if line]


def line_of(text: str, overrides: Sequence[str], compose: Compose) -> Line:
    """The sweep that `text` describes; `overrides` come after its own, as on a command line.

    Raises:
        ConfigError, hydra.errors.HydraException, omegaconf.errors.OmegaConfBaseException: it does not compose.
    """
    words = [word if "=" in word else f"experiment={word}" for word in shlex.split(text)]
    given = presets.axes([*words, *overrides])
    given.setdefault("logger.group", [f"logger.group={literal(group_of(given))}"])
    return Line(text, presets.plan(compose, given), compose)
