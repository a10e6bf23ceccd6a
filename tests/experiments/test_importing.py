"""Targets named by text: what is found, what is refused, and with which sentence."""

import sys

import pytest

from experiments.importing import resolve


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working directory that is not on sys.path."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", str(tmp_path))])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_a_module_in_the_working_directory_is_found(here):
    (here / "my_own_module.py").write_text("def net(width, *, depth=2):\n    return (width, depth)\n")
    assert resolve("my_own_module:net", {"width": 3})(width=3) == (3, 2)


def test_nothing_in_the_working_directory_hides_an_installed_package(here):
    (here / "filelock.py").write_text("hidden = True\n")
    sys.modules.pop("filelock", None)
    with pytest.raises(ValueError, match=r"module filelock .* has no 'hidden'"):
        resolve("filelock:hidden", {})


@pytest.mark.parametrize(
    "target",
    ["no_colon", "experiments.models.mlp", "./models.py:mlp", ":mlp", "experiments.models:", ".models:mlp", ""],
)
def test_another_form_is_refused(target):
    with pytest.raises(ValueError, match=r"does not have the form package\.module:Name"):
        resolve(target, {})


@pytest.mark.parametrize("module", ["no_such_module", "experiments.no_such_module"])
def test_a_missing_module_is_named(module, here):
    with pytest.raises(ValueError, match=f"module '{module}' was not found: install it") as error:
        resolve(f"{module}:Name", {})
    assert str(here) in str(error.value)


def test_a_module_that_fails_to_import_is_told_apart_from_a_missing_one(here):
    (here / "broken_a.py").write_text("import no_such_module_inside\n")
    (here / "broken_b.py").write_text("1 / 0\n")
    with pytest.raises(ValueError, match="importing module 'broken_a' failed with ModuleNotFoundError"):
        resolve("broken_a:Name", {})
    with pytest.raises(ValueError, match="importing module 'broken_b' failed with ZeroDivisionError"):
        resolve("broken_b:Name", {})


def test_a_missing_attribute_and_a_value_are_refused():
    with pytest.raises(ValueError, match="has no 'lenet4': did you mean 'lenet5'"):
        resolve("experiments.models:lenet4", {})
    with pytest.raises(ValueError, match="math:pi is a float: a target must be a function or a class"):
        resolve("math:pi", {})


def test_an_unknown_key_is_named_with_the_known_ones():
    with pytest.raises(ValueError, match="unknown key 'widht' in kwargs: did you mean 'width'") as error:
        resolve("experiments.models:mlp", {"widht": 3})
    assert "experiments.models:mlp takes in_features, width, depth, classes, bias" in str(error.value)


def test_a_missing_key_is_named(here):
    (here / "needs.py").write_text("class Net:\n    def __init__(self, width, depth=2): ...\n")
    with pytest.raises(ValueError, match="kwargs lack 'width': set it; needs:Net takes width, depth"):
        resolve("needs:Net", {"depth": 3})


def test_any_key_is_accepted_by_a_callable_that_takes_any():
    assert resolve("builtins:dict", {"anything": 1}) is dict
    assert resolve("types:SimpleNamespace", {"anything": 1})(anything=1).anything == 1
