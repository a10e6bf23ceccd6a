"""What Hydra and OmegaConf have to say about a command line, as one sentence with the value, the rule and the fix."""

from collections.abc import Iterable
from dataclasses import fields

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException, ValidationError

from experiments.config import AdaptersConfig, Config, ConfigError
from experiments.importing import did_you_mean


def explain(error: Exception, schema: type = Config) -> str:
    """The sentence for an error in the command line or in a YAML file; `schema` has the keys there are."""
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    match cause:
        case ConfigError():
            return str(cause)
        case MissingConfigException(missing_cfg_file=str(file)):
            return _unknown_option(file, cause.options or ())
        case OverrideParseException():
            reason = _first_line(cause)
            return (
                f"cannot read the override {cause.override!r} ({reason}): write key=value, quoting special characters"
            )
        case ConfigAttributeError() | ConfigKeyError():
            return unknown_key(str(cause.full_key or cause.key), schema)
        case AssertionError():
            return "adapters.…=…: there are no adapters to set this of; add adapters=vit or adapters=probe"
        case ValidationError() if cause.value is None:
            return f"{cause.full_key}=null: the key needs a value"
        case ValidationError():
            return f"{cause.full_key}: {_first_line(cause)}; give a value of that type"
    return _from_text(str(error), schema)


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
    group_without_option = isinstance(error, ValueError) and str(error).startswith("Config group override")
    # OmegaConf's way to refuse a value below null, which only adapters can be
    below_null = isinstance(error, AssertionError) and str(error) == "Unexpected type for root: NoneType"
    known = isinstance(error, ConfigError | HydraException | OmegaConfBaseException)
    return known or group_without_option or below_null


def _unknown_option(file: str, options: Iterable[str]) -> str:
    group, _, name = file.rpartition("/")
    choices = sorted(options)
    return (
        f"{group}={name}: there is no {group} {name!r}; {did_you_mean(name, choices)}choose one of {', '.join(choices)}"
    )


def _from_text(text: str, schema: type) -> str:
    if text.startswith("Ambiguous value for argument "):
        argument = text.splitlines()[0].removeprefix("Ambiguous value for argument ").strip("'")
        return f"{argument}: several values are a sweep; add -m (or write a list as [a,b])"
    key = text.rsplit("full_key: ", 1)[-1].splitlines()[0]
    if "ConfigKeyError" in text:
        return f"{text.splitlines()[0].split(':')[0]}: {unknown_key(key, schema)}"
    lines = [line.strip() for line in text.partition("full_key:")[0].splitlines() if line.strip()]
    return " ".join(lines)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]


def _dotted(node: DictConfig, prefix: str = "") -> list[str]:
    keys: list[str] = []
    for key in node:
        child = None if OmegaConf.is_missing(node, key) else node[key]
        name = f"{prefix}{key!s}"
        keys += _dotted(child, f"{name}.") if isinstance(child, DictConfig) and len(child) else [name]
    return keys
