"""Callables named by text in a config ("package.module:Name"), checked before anything is run."""

import difflib
import importlib
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import ModuleType, NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

PLAIN = frozenset({bool, int, float, str, Path, NoneType})  # of the annotations that are checked


def resolve(target: str, kwargs: Mapping[str, Any]) -> Callable[..., Any]:
    """Import the callable "package.module:Name" and check that it takes `kwargs`, without calling it.

    The working directory is searched after the installed packages.
    Raises ValueError if `target` has another form, cannot be imported or is not callable, or if a key
    of `kwargs` is unknown to it, a required one is missing or one has another type than it is annotated with.
    """
    module_name, colon, name = str(target).partition(":")
    if not colon or not all(part.isidentifier() for part in [*module_name.split("."), name]):
        raise ValueError(
            f"target {target!r} does not have the form package.module:Name: write for example experiments.models:mlp"
        )
    module = _import(module_name)
    if not hasattr(module, name):
        hint = did_you_mean(name, vars(module))
        place = getattr(module, "__file__", None) or "built in"
        raise ValueError(f"module {module_name} ({place}) has no {name!r}: {hint}correct target {target!r}")
    function = getattr(module, name)
    if not callable(function):
        raise ValueError(f"{target} is a {type(function).__name__}: a target must be a function or a class")
    _check_signature(function, target, kwargs)
    return function


def call(target: str, kwargs: Mapping[str, Any]) -> Any:
    """What the callable "package.module:Name" returns for `kwargs`; ValueError as `resolve`, or whatever it raises."""
    function = resolve(target, kwargs)
    try:
        return function(**kwargs)
    except TypeError as error:
        if error.__traceback__ is None or error.__traceback__.tb_next is not None:
            raise  # from within it
        raise ValueError(f"{target} cannot be called with the kwargs {dict(kwargs)}: {error}") from error


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """'did you mean …? ' with the known word nearest to `word`, or an empty text."""
    nearest = difflib.get_close_matches(str(word), list(known), n=1)
    return f"did you mean {nearest[0]!r}? " if nearest else ""


def _import(name: str) -> ModuleType:
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.append(folder)  # last, so that nothing in it hides an installed package
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:  # a user's module may raise anything while it is imported
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing and f"{name}.".startswith(f"{missing}."):
            raise ValueError(
                f"module {missing!r} was not found: install it, or start in the folder that contains it "
                f"(searched: installed packages and {folder})"
            ) from error
        raise ValueError(
            f"importing module {name!r} failed with {' '.join(f'{type(error).__name__}: {error}'.split())}; "
            "correct that module"
        ) from error


def _check_signature(function: Callable[..., Any], target: str, kwargs: Mapping[str, Any]) -> None:
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # some built-in callables have no signature to check
        return
    if nameless := next((p.name for p in parameters if p.kind is p.POSITIONAL_ONLY and p.default is p.empty), None):
        raise ValueError(f"{target} takes {nameless!r} by its place only, and kwargs have names: give another target")
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    known = [p.name for p in named]
    takes = f"{target} takes {', '.join(known) or 'no arguments'}"
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        for key in kwargs:
            if key not in known:
                raise ValueError(f"unknown key {key!r} in kwargs: {did_you_mean(key, known)}{takes}")
    missing = [p.name for p in named if p.default is p.empty and p.name not in kwargs]
    if missing:
        raise ValueError(f"kwargs lack {', '.join(map(repr, missing))}: set it; {takes}")
    for p in named:
        value = kwargs.get(p.name, p.default)
        if value is not p.default and not _has_type(value, _types(function, p.name)):
            hint = inspect.formatannotation(p.annotation)
            raise ValueError(f"{p.name} in kwargs is {value!r}: {target} takes {p.name}: {hint}")


def _types(function: Callable[..., Any], name: str) -> tuple[object, ...]:
    """The types that the parameter is annotated with; none of an annotation that cannot be evaluated."""
    try:
        called = function.__init__ if isinstance(function, type) else function  # type: ignore[misc]
        hint = get_type_hints(called).get(name)
    except Exception:  # it may be any text
        return ()
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def _has_type(value: object, types: tuple[object, ...]) -> bool:
    """Whether the value of a config has one of the types, as far as they are those of plain values."""
    if not types or not PLAIN.issuperset(types):
        return True
    also = {int: (float,), str: (Path,)}.get(type(value), ())
    return any(kind in types for kind in (type(value), *also))
