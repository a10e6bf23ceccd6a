"""What Hydra and OmegaConf have to say about a command line, as one sentence with the value, the rule and the fix."""

import sys
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import fields

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    InterpolationResolutionError,
    OmegaConfBaseException,
    ValidationError,
)
from yaml import YAMLError

from experiments.config import CONF, AdaptersConfig, Config, ConfigError
from experiments.importing import did_you_mean
from experiments.launchers import not_installed
from experiments.output import first_line

NO_NAME = "Config group override must be"
HYDRAS = ("hydra", "omegaconf", "yaml", "antlr4")  # packages in which an error is about what they were given
CLEAR = ConfigError | HydraException | OmegaConfBaseException | YAMLError


def explain(error: Exception, schema: type = Config, words: Sequence[str] = ()) -> str:
    """The sentence for an error in the command line, `words`, or in a YAML file; `schema` has the keys there are."""
    if not isinstance(error, CLEAR) and (sentence := misused_group(words)):
        return sentence
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException | ConfigError) else error
    match cause:
        case ConfigError():
            return str(cause)
        case MissingConfigException(missing_cfg_file=str(file)):
            return not_installed(file) or _unknown_option(file, cause.options or ())
        case OverrideParseException():
            reason = first_line(cause)
            return (
                f"cannot read the override {cause.override!r} ({reason}): write key=value, quoting special characters"
            )
        case ConfigAttributeError() | ConfigKeyError():
            return unknown_key(str(cause.full_key or cause.key), schema)
        case AssertionError():
            if params := next((word for word in words if "hydra.sweeper.params." in word), ""):
                return f"{params}: there are none yet; write hydra.sweeper.params={{KEY:VALUE}}"
            return "adapters.…=…: there are no adapters to set this of; add adapters=vit or adapters=probe"
        case ValueError() if str(cause).startswith(NO_NAME):
            return f"{str(cause).rpartition(' ')[2]} in the place of a config's name: write it as in integrator=abc_psi"
        case ValidationError() if cause.value is None and cause.full_key:
            return f"{cause.full_key}=null: the key needs a value"
        case ValidationError():
            return f"{cause.full_key or 'the config'}: {first_line(cause)}; give a value of that type"
        case InterpolationResolutionError() if cause.full_key:
            return f"{cause.full_key}: {first_line(cause)}; give a value, or correct what stands in ${{…}}"
        case OmegaConfBaseException() if cause is not error:
            where = _from_text(str(error), schema).removeprefix("Error merging override ")
            reason = f"{where or 'the config'}: {_one_line(str(cause))}"
            return reason if where else misused_group(words) or reason
        case YAMLError() | OSError():
            return f"{_one_line(str(cause))}: correct that file or folder"
    return _from_text(str(error), schema) or type(error).__name__


def misused_group(arguments: Sequence[str]) -> str:
    """The sentence for the first word of the command line that gives a config group anything but a name, or ""."""
    parser = OverridesParser.create()
    for word in arguments:
        try:
            override = parser.parse_override(word)
        except HydraException:  # an option of the command, say
            continue
        group = override.key_or_group
        if not group:
            return f"{word}: write key=value"
        if group.startswith("hydra/") and override.value() is None:
            return f"{word}: give the name of a config"
        if "/" not in group and (CONF / group).is_dir():
            choices, is_sweep = options_of(group), override.is_sweep_override()
            given = list(override.sweep_string_iterator()) if is_sweep else [override.get_value_element_as_str()]
            if wrong := next((name for name in given if name not in choices), None):
                return f"{group}={wrong}: give one of {', '.join(choices)}"
    return ""


def options_of(group: str) -> list[str]:
    """The names of the configs in a group of conf/."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def unknown_key(key: str, schema: type = Config) -> str:
    """The sentence for a key that the schema does not have."""
    if key.startswith(("model.kwargs.", "data.kwargs.")):
        return f"unknown key {key!r}: +{key}=… gives an argument that the YAML does not name"
    known = _dotted(OmegaConf.structured(schema)) + [f"adapters.{field.name}" for field in fields(AdaptersConfig)]
    same_name = [k for k in known if k.rsplit(".", 1)[-1] == key]
    hint = did_you_mean(same_name[0] if same_name else key, known)
    return f"unknown key {key!r}: {hint}`--cfg job` shows the keys there are"


def is_mistake(error: BaseException) -> bool:
    """Whether `error` is about what the user wrote; anything else is a bug, which needs its traceback."""
    group_without_option = isinstance(error, ValueError) and str(error).startswith(NO_NAME)
    # OmegaConf's way to refuse a value below null, which only adapters can be
    below_null = isinstance(error, AssertionError) and str(error) == "Unexpected type for root: NoneType"
    return isinstance(error, CLEAR) or group_without_option or below_null


def is_hydras(error: BaseException) -> bool:
    """Whether the error was raised within Hydra: by something in the config that it stumbled over."""
    frames = [(frame.f_globals.get("__name__", ""), frame) for frame, _ in traceback.walk_tb(error.__traceback__)]
    names = [f"{name}.{frame.f_code.co_name}" for name, frame in frames]
    others = [name for name in names if name.partition(".")[0] not in sys.stdlib_module_names]
    # with an error that a job raised in another process, Hydra's `return_value` is all that is left of its traceback
    return bool(others) and others[-1].partition(".")[0] in HYDRAS and not others[-1].endswith("return_value")


def _unknown_option(file: str, options: Iterable[str]) -> str:
    parts = file.strip("/").split("/")
    group = "/".join(parts[: 2 if parts[0] == "hydra" else 1])
    name = file.removeprefix(f"{group}/")
    if name == file:
        return f"--config-name={file}: there is no such config; leave that out"
    choices = sorted(options) or options_of(group)
    return (
        f"{group}={name}: there is no {group} {name!r}; {did_you_mean(name, choices)}choose one of {', '.join(choices)}"
    )


def _from_text(text: str, schema: type) -> str:
    if text.startswith("Ambiguous value for argument "):
        argument = text.splitlines()[0].removeprefix("Ambiguous value for argument ").strip("'")
        return f"{argument}: several values are a sweep; add -m (or write a list as [a,b])"
    if text.endswith("appears more than once in the final defaults list"):
        return f"{text.partition(' ')[0]} is given twice: write {text.partition(' ')[0]}=NAME, once and without a +"
    if "ConfigKeyError" in text:
        key = text.rsplit("full_key: ", 1)[-1].splitlines()[0]
        return f"{text.splitlines()[0].split(':')[0]}: {unknown_key(key, schema)}"
    return _one_line(text)


def _one_line(text: str) -> str:
    """The text without what OmegaConf adds about its types, in one line."""
    return " ".join(text.partition("full_key:")[0].split())


def _dotted(node: DictConfig, prefix: str = "") -> list[str]:
    keys: list[str] = []
    for key in node:
        child = None if OmegaConf.is_missing(node, key) else node[key]
        name = f"{prefix}{key!s}"
        keys += _dotted(child, f"{name}.") if isinstance(child, DictConfig) and len(child) else [name]
    return keys
