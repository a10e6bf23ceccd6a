"""The page of all results: python -m experiments.results.

Writes results/README.md from results/template.md, the tables and figures under results/ and the presets in conf/. Where
the template has a line `<!-- NAME -->`, the page has the section of the preset NAME, each protocol with its table and
figures or, where there are none, the commands that make them; then those of smaller budgets, where there are any.
`<!-- overview -->` is a table of all presets in short, `<!-- others -->` the sections of the presets that the template
does not name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from experiments.collection import KEPT, OUT, subfolder
from experiments.config import CONF

PAGE, TEMPLATE, TABLE = "README.md", "template.md", "table.md"
_MARK = re.compile(r"^<!-- (\w+) -->$", re.MULTILINE)


@dataclass(frozen=True)
class Study:
    """A preset under one of its protocols (None if it has none) and a budget, and where its table and figures are."""

    name: str
    title: str
    protocol: str | None
    is_default: bool
    out: Path
    budget: str = "full"

    @property
    def folder(self) -> Path:
        return Path(self.name, subfolder(self.protocol, self.budget))

    @property
    def setting(self) -> str:
        """Protocol and budget in words, as far as the preset has a choice and the budget is not the full one."""
        words = [f"protocol {self.protocol}"] * (self.protocol is not None)
        return ", ".join(words + [f"budget {self.budget}"] * (self.budget != "full"))

    @property
    def table(self) -> str | None:
        path = self.out / self.folder / TABLE
        return path.read_text(encoding="utf-8") if path.is_file() else None

    @property
    def short(self) -> str:
        """The table in one sentence, which stands under its title."""
        if self.table is None:
            return "not run yet"
        sentence = self.table.splitlines()[2]
        return "see below" if sentence.startswith("|") else sentence

    def command(self, module: str) -> str:
        """The command line of `module` that makes a part of it."""
        preset = f"-m experiment={self.name}" if module == "run" else self.name
        protocol = "" if self.is_default else f" protocol={self.protocol}"
        budget = "" if self.budget == "full" else f" budget={self.budget}"
        return f"python -m experiments.{module} {preset}{protocol}{budget}"


def studies(out: Path) -> list[Study]:
    """The presets in conf/experiment under all their protocols, the default first; at smaller budgets if tabulated."""
    found = []
    others = sorted({path.stem for path in (CONF / "budget").glob("*.yaml")} - {"full"})
    for path in sorted((CONF / "experiment").glob("*.yaml")):
        cfg = _preset(path.stem)
        if "blocks" not in cfg:
            continue  # one run, without a table
        default = cfg.get("protocol")
        protocols = list(cfg.blocks) if OmegaConf.is_dict(cfg.blocks) else [None]
        for protocol in sorted(protocols, key=lambda name: name != default):
            full = Study(path.stem, cfg.title, protocol, protocol == default, out)
            found += [full, *(study for budget in others if (study := replace(full, budget=budget)).table is not None)]
    return found


def _preset(name: str) -> DictConfig:
    """The preset's own values and those of the presets in its defaults list, without Hydra, which takes seconds."""
    cfg = OmegaConf.load(CONF / "experiment" / f"{name}.yaml")
    assert isinstance(cfg, DictConfig)
    parents = [entry for entry in cfg.get("defaults", []) if isinstance(entry, str) and entry != "_self_"]
    merged = OmegaConf.merge(*map(_preset, parents), cfg)
    assert isinstance(merged, DictConfig)
    return merged


def page(out: Path) -> str:
    """The page made of what is in the folder `out`."""
    template = (out / TEMPLATE).read_text(encoding="utf-8")
    parts: dict[str, list[Study]] = {}
    for study in studies(out):
        parts.setdefault(study.name, []).append(study)
    sections = {name: "\n\n".join(_section(part)) for name, part in parts.items()}
    named = _MARK.findall(template)
    sections["others"] = "\n\n".join(text for name, text in sections.items() if name not in named)
    in_order = [*(name for name in named if name in parts), *(name for name in parts if name not in named)]
    sections["overview"] = _overview([study for name in in_order for study in parts[name]])
    text = _MARK.sub(lambda mark: sections.get(mark[1], mark[0]), template)
    return re.sub(r"\n{3,}", "\n\n", text).rstrip() + "\n"


def _overview(found: list[Study]) -> str:
    rows = [f"| [`{study.name}`](#{study.name}) | {_cell(study)} | {study.short} |" for study in found]
    return "\n".join(["| preset | protocol | in short |", "| --- | --- | --- |", *rows])


def _cell(study: Study) -> str:
    return study.setting.removeprefix("protocol ")


def _section(part: list[Study]) -> Iterator[str]:
    yield f"## {part[0].name}\n\n{part[0].title}."
    for study in part:
        if study.setting:
            yield f"### {part[0].name}, {study.setting}"
        yield from _study(study)


def _study(study: Study) -> Iterator[str]:
    table, figures = study.table, sorted((study.out / study.folder).glob("*.png"))
    train, tabulate, draw = (f"`{study.command(module)}`" for module in ("run", "table", "figure"))
    if table is None:
        yield f"Not run yet. {train} trains it, {tabulate} and {draw} put it here."
        return
    yield re.sub(r"^## ", "#### ", table.split("\n", 1)[1].strip(), flags=re.MULTILINE)
    for path in figures:
        link = (study.folder / path.stem).as_posix()
        name = path.stem.replace("_", " ")
        yield f"![{study.title}: {name}]({link}.png)\n\n{name}: [PDF]({link}.pdf), [SVG]({link}.svg)"
    files = [name for name in (TABLE, "table.csv", "dominated.csv", "table.tex", KEPT) if _exists(study, name)]
    links = ", ".join(f"[{name}]({(study.folder / name).as_posix()})" for name in files)
    yield f"Files: {links}. Made by {train}, {tabulate} and {draw}; the last two need no training."


def _exists(study: Study, name: str) -> bool:
    return (study.out / study.folder / name).is_file()


def main(out: Path = OUT) -> None:
    """Writes the page."""
    (out / PAGE).write_text(page(out), encoding="utf-8")
    print(out / PAGE)


if __name__ == "__main__":
    main()
