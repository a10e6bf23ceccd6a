"""Values that a block of a preset takes from the records of earlier blocks."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from experiments.config import ConfigError
from experiments.records import name_of

RecordOf = Callable[[str], dict[str, Any] | None]  # the record of a run's key
TAKES = {"rank": "mean_rank", "weights": "weights"}


class Unresolved(Exception):
    """The records do not hold what a value is taken from."""


@dataclass(frozen=True)
class Cell:
    """One run of a sweep: its identity, and the overrides that compose it.

    `ignored` are the values that were given for keys without a meaning for the run: they are null in `config`.
    """

    key: str
    config: dict[str, Any]
    overrides: tuple[str, ...]
    ignored: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The run's readable name."""
        return name_of(self.config)

    def value(self, key: str) -> Any:
        """The value of a dotted config key; the name of a config group."""
        value: Any = self.config
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        return value["name"] if isinstance(value, dict) and "name" in value else value

    def given(self, key: str) -> Any:
        """As `value`, but what was given for a key that is ignored."""
        return self.ignored.get(key, self.value(key))


@dataclass(frozen=True)
class Reference:
    """The value of `key`, taken from the earlier cells whose config has the values in `where`.

    "same" is the value given for this cell, be it ignored there: {tau: same} for the rank of an integrator without τ.

    mean_rank: the mean rank over the layers and the matching finished runs, rounded.
    weights: the key of the one matching run.
    """

    key: str
    where: dict[str, Any]

    @classmethod
    def of(cls, key: str, entry: dict[str, Any]) -> "Reference":
        """The reference that a preset writes as {from: {…}, take: …}; ConfigError if it is none."""
        if set(entry) != {"from", "take"} or TAKES.get(key) != entry["take"] or not isinstance(entry["from"], dict):
            forms = " or ".join(f"{k}: {{from: {{KEY: VALUE}}, take: {take}}}" for k, take in TAKES.items())
            raise ConfigError(f"blocks: cannot take {key} from {entry}: write {forms}")
        return cls(key, entry["from"])

    @property
    def same(self) -> set[str]:
        """The keys whose value for the cell itself chooses the runs."""
        return {key for key, value in self.where.items() if value == "same"}

    def check(self, cell: Cell, earlier: Sequence[Cell]) -> None:
        """Raise ConfigError unless an earlier cell matches, and only one where one is needed."""
        matching = {match.key for match in self._matching(cell, earlier)}
        if not matching or (self.key == "weights" and len(matching) > 1):
            raise ConfigError(
                f"blocks: {self.key} is taken from runs with {_worded(self._conditions(cell))}, and "
                f"{len(matching) or 'no'} cells of earlier blocks match: change the condition, or give {self.key}=…"
            )

    def resolve(self, cell: Cell, earlier: Sequence[Cell], record_of: RecordOf) -> str:
        """The override, e.g. "rank=17". Raises Unresolved if no matching run is finished."""
        records = [record_of(match.key) for match in self._matching(cell, earlier)]
        done = [record for record in records if record is not None and record["status"] == "done"]
        if not done:
            conditions = _worded(self._conditions(cell))
            raise Unresolved(f"{self.key} comes from runs with {conditions}, and none is finished")
        if self.key == "weights":
            return f"weights={literal(done[0]['key'])}"
        return f"rank={round(fmean(rank for record in done for rank in record['final']['ranks'].values()))}"

    def _matching(self, cell: Cell, earlier: Sequence[Cell]) -> list[Cell]:
        conditions = self._conditions(cell)
        return [other for other in earlier if all(other.value(key) == conditions[key] for key in conditions)]

    def _conditions(self, cell: Cell) -> dict[str, Any]:
        return {key: cell.given(key) if value == "same" else value for key, value in self.where.items()}


def _worded(conditions: dict[str, Any]) -> str:
    return " ".join(f"{key}={value}" for key, value in conditions.items())


def literal(value: Any) -> str:
    """A plain value in Hydra's override grammar."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case str():
            return value if _is_plain_word(value) else f"'{_escaped(value)}'"
        case list():
            return f"[{','.join(map(literal, value))}]"
        case dict():
            return f"{{{','.join(f'{key}:{literal(item)}' for key, item in value.items())}}}"
    return repr(value)


def _is_plain_word(text: str) -> bool:
    other_types = ("null", "true", "false", "nan", "inf")
    return re.fullmatch(r"[A-Za-z_][\w./-]*", text) is not None and text.lower() not in other_types


def _escaped(text: str) -> str:
    # The grammar reads backslashes as they are, except before a quote.
    return re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + found[2].replace("'", "\\'"), text)
