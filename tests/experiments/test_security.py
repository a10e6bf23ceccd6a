"""What a YAML file cannot have called, what the user can, and what no file is trusted with."""

from __future__ import annotations

import ast
import os
import textwrap
from pathlib import Path

import pytest
from toy_runs import TOY, command, records_in

from experiments import trust
from experiments.config import CONF

ROOT = CONF.parent
OURS = ("model.target=toy_runs:Net", "data.target=toy_runs:clouds")
REST = tuple(override for override in TOY if override not in OURS and not override.startswith(("model=", "data=")))
HOSTILE = [  # targets, each with what would be its kwargs
    ("os:system", "{command: touch executed}"),
    ("subprocess:call", "{args: [touch, executed]}"),
    ("builtins:eval", "{}"),
    ("torch:load", "{f: x.pt, weights_only: false}"),
    ("torch.hub:load", "{repo_or_dir: ., model: x, source: local}"),
    ("torch.utils.cpp_extension:load_inline", "{name: x, cpp_sources: x}"),
    ("torch.nn:functional", "{}"),
    ("torch.nn.init:normal_", "{}"),
    ("torch.jit:load", "{f: x}"),
    ("torchvision.models:resnet18", "{}"),
    ("experiments.data.files:store", "{files: {executed: x}, folder: .}"),
    ("experiments.data.sources:download_wheel", "{requirement: x, folder: .}"),
    ("experiments.models.by_name:build", "{}"),
    ("dlrt:load_adapters", "{}"),
    ("with_effects:Net", "{}"),  # its import is enough
    ("toy_runs:Net", "{}"),
    ("nonsense", "{}"),
]


@pytest.fixture
def yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for YAML, in a working directory with a module whose import does something."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    effects = "open('executed', 'w')\nfrom hydra.experimental.callback import Callback as Net\n"
    (tmp_path / "with_effects.py").write_text(effects)
    return tmp_path / "yaml"


def written(folder: Path, name: str, text: str) -> str:
    """The option that lets Hydra find the YAML."""
    path = folder / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text))
    return f"--config-dir={folder}"


def refused(*arguments: str) -> str:
    """The one sentence that the command says."""
    end = command(*arguments)
    assert isinstance(end, str) and end and len(end.splitlines()) == 1, end
    assert not Path("executed").exists() and not Path("runs/records").exists()
    return end


@pytest.mark.parametrize(("target", "kwargs"), HOSTILE, ids=[target for target, _ in HOSTILE])
@pytest.mark.parametrize("group", ["model", "data"])
def test_a_yaml_file_has_nothing_called_but_modules_of_torch_and_this_project(
    group: str, target: str, kwargs: str, yaml: Path
) -> None:
    given = written(yaml, f"{group}/mine", f"name: mine\ntarget: {target}\nkwargs: {kwargs}\n")
    other = {"model": ("data=import", OURS[1]), "data": ("model=mlp5_500",)}[group]
    sentence = refused(given, f"{group}=mine", *other, *REST)
    assert sentence.startswith(f"{group}=mine: a YAML file gives target {target!r}")
    assert sentence.endswith(f"write {group}.target={target} on the command line")


def test_what_the_command_line_names_is_called_whichever_yaml_it_stands_in(yaml: Path) -> None:
    given = written(yaml, "model/mine", "name: mine\ntarget: toy_runs:Net\n")
    rest = ("model=mine", "data=import", OURS[1], *REST)
    assert "a YAML file gives target 'toy_runs:Net'" in refused(given, *rest)
    assert command(given, *rest, OURS[0]) == 0
    assert records_in(Path("runs"))[0]["status"] == "done"


@pytest.mark.parametrize(
    ("target", "kwargs"),
    [
        ("torch.nn:Linear", "{in_features: 8, out_features: 3}"),
        ("torch.nn.modules.linear:Linear", "{in_features: 8, out_features: 3}"),
        ("experiments.models:mlp", "{in_features: 8, width: 5, depth: 2, classes: 3}"),
    ],
)
def test_a_yaml_file_may_name_modules_of_torch_and_models_of_this_project(target: str, kwargs: str, yaml: Path) -> None:
    given = written(yaml, "model/mine", f"name: mine\ntarget: {target}\nkwargs: {kwargs}\n")
    assert command(given, "model=mine", "data=import", OURS[1], *REST, "rank=2") == 0


PRESETS = {
    "a value": "model: {target: 'os:system'}",
    "a block": "blocks: [{model.target: 'os:system', seed: [0, 1]}]",
    "a budget": "budgets: {full: {model.target: 'os:system'}}",
    "hydra.sweeper.params": "hydra: {sweeper: {params: {model.target: 'os:system'}}}",
}


@pytest.mark.parametrize("where", PRESETS)
def test_a_preset_gives_the_cells_of_a_sweep_no_target(where: str, yaml: Path) -> None:
    given = written(yaml, "experiment/mine", f"# @package _global_\n{PRESETS[where]}\n")
    words = ["model=import", "data=import", "data.target=toy_runs:clouds", "experiment=mine", *REST]
    assert "a YAML file gives target 'os:system'" in refused("-m", given, *words)


HYDRA = {
    "a callback": "callbacks: {x: {_target_: subprocess.call, args: [touch, executed]}}",
    "an imported callback": "callbacks: {x: {_target_: with_effects.Net}}",
    "a handler": "job_logging: {handlers: {x: {class: with_effects.Net}}}",
    "a formatter": "job_logging: {formatters: {x: {(): with_effects.Net}}}",
    "a stream": "hydra_logging: {handlers: {x: {class: logging.StreamHandler, stream: ext://with_effects.Net}}}",
    "shell commands": "launcher: {setup: [touch executed]}",
    "a variable": "job: {env_set: {DLRT_NAMED: model.target=os:system}}",
}


@pytest.mark.parametrize("mode", [(), ("-m", "hydra/launcher=processes")], ids=["one run", "a sweep"])
@pytest.mark.parametrize("where", HYDRA)
def test_hydra_calls_and_sets_nothing_that_a_yaml_file_gives(where: str, mode: tuple[str, ...], yaml: Path) -> None:
    given = written(yaml, "experiment/mine", f"# @package _global_\nhydra:\n  {HYDRA[where]}\n")
    sentence = refused(given, *mode, "experiment=mine", *TOY)
    assert (
        sentence.startswith(f"hydra.{HYDRA[where].partition(':')[0]}.") and "write it on the command line" in sentence
    )


def test_a_block_sets_nothing_of_hydras(yaml: Path) -> None:
    block = "blocks: [{+hydra.job.env_set.PATH: .}]"
    given = written(yaml, "experiment/mine", f"# @package _global_\n{block}\n")
    assert "hydra.job.env_set.PATH=. in a YAML file" in refused("-m", given, "experiment=mine", *TOY)


def test_the_user_may_give_hydra_callbacks_and_variables(yaml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DLRT_TEST", raising=False)
    words = ["+hydra.callbacks.x._target_=with_effects.Net", "+hydra.job.env_set.DLRT_TEST=1"]
    assert command(*TOY, *words) == 0 and Path("executed").exists()


def test_a_callback_of_hydras_own_may_stand_in_a_yaml_file(yaml: Path) -> None:
    callback = "callbacks: {x: {_target_: hydra.experimental.callbacks.LogJobReturnCallback}}"
    given = written(yaml, "experiment/mine", f"# @package _global_\nhydra:\n  {callback}\n")
    assert command(given, "experiment=mine", *TOY) == 0


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.system ['touch executed']", "!!python/name:os.system"])
def test_a_yaml_file_makes_no_objects(tag: str, yaml: Path) -> None:
    given = written(yaml, "integrator/mine", f"name: {tag}\n")
    assert "could not determine a constructor for the tag" in refused(given, "integrator=mine", *TOY)


def test_a_sweep_in_other_processes_may_what_its_command_line_may(tmp_path: Path) -> None:
    assert command("-m", "hydra/launcher=processes", *TOY, "seed=0,1", f"results_dir={tmp_path}") == 0
    assert [record["status"] for record in records_in(tmp_path)] == ["done", "done"]
    assert trust.GIVEN not in os.environ


@pytest.mark.parametrize(
    ("word", "named"),
    [
        ("model.target=a.b:C", True),
        ("+model.target='a.b:C'", True),
        ("model.target=x:Y,a.b:C", True),
        ("model={target:'a.b:C'}", True),
        ("model.target=a.b:Cd", False),
        ("model.target=x.a.b:C", False),
        ("model.target=xa.b:C", False),
        ("model.target=a.b:C.d", False),
        ("title=a.b:C", False),
    ],
)
def test_a_name_is_given_as_a_whole(word: str, named: bool) -> None:
    with trust.naming([word, "tau=0.1"]):
        assert trust.is_named("a.b:C") is named
    assert trust.is_named("a.b:C"), "a process without a command line leaves it to the one that has one"


def test_no_secret_is_left_in_any_file_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "sk-0123456789")
    monkeypatch.setenv("WANDB_MODE", "offline")
    words = ["logger=wandb", "logger.project=sk-0123456789", "title=https://me:secret@host/x"]
    bug = "+model.kwargs.mode=raise"
    assert command(*TOY, *words, bug, f"results_dir={tmp_path}") == 1
    assert command("-m", *TOY, *words, "logger=none", "seed=1,2", f"results_dir={tmp_path}") == 0
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and "wandb" not in path.parts}
    assert any(path.suffix == ".log" for path in files) and any(path.suffix == ".json" for path in files)
    for path, content in files.items():
        assert b"sk-0123456789" not in content and b"me:secret" not in content, path


# What the code itself may do.

ALLOWED = {
    ("experiments/workers.py", "pickle.loads"): "of what the same process has pickled",
    ("experiments/compose.py", "pickle.loads"): "of what the same process has pickled",
    ("experiments/models/checkpoints.py", "torch.load"): "of weights only",
    ("experiments/checkpoints.py", "torch.load"): "of weights only",
    ("experiments/data/cifar_batches.py", "pickle.Unpickler"): "of arrays only, after their MD5",
}
DANGEROUS = (
    *("pickle.load", "pickle.loads", "pickle.Unpickler", "dill.load", "dill.loads", "cloudpickle.load", "joblib.load"),
    *(
        "torch.load",
        "torch.hub.load",
        "torch.jit.load",
        "np.load",
        "numpy.load",
        "pandas.read_pickle",
        "pd.read_pickle",
    ),
    *("eval", "exec", "compile", "os.system", "yaml.load", "yaml.unsafe_load", "shelve.open", "marshal.loads"),
    *("shutil.unpack_archive", "extractall", "extract"),
)


def dangerous(path: Path) -> list[tuple[str, str, int]]:
    """The calls and mentions in a file of what could run code or write elsewhere."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        text = ast.unparse(node) if isinstance(node, ast.Name | ast.Attribute) else ""
        name = text if text in DANGEROUS else text.rpartition(".")[2]
        is_method = isinstance(node, ast.Attribute) and name in ("extractall", "extract")
        if text in DANGEROUS or is_method:
            found.append((str(path.relative_to(ROOT)), name, node.lineno))
    return found


def test_no_file_is_unpickled_evaluated_or_unpacked() -> None:
    files = [path for folder in ("dlrt", "experiments", "scripts") for path in (ROOT / folder).rglob("*.py")]
    found = [entry for path in files for entry in dangerous(path)]
    assert len(files) > 100 and not [entry for entry in found if entry[:2] not in ALLOWED]


def test_every_load_of_torch_takes_weights_only() -> None:
    files = [path for folder in ("dlrt", "experiments", "scripts") for path in (ROOT / folder).rglob("*.py")]
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and "torch.load" in map(ast.unparse, [node.func, *node.args[:1]]):
                assert ("weights_only", "True") in [(k.arg, ast.unparse(k.value)) for k in node.keywords], path
