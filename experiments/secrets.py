"""Secrets stay out of what is written: the values of the environment's secret variables, and passwords in addresses."""

import os
import re
from functools import lru_cache
from typing import Any

SECRET = re.compile("KEY|TOKEN|SECRET|PASSWORD|CREDENTIAL", re.IGNORECASE)  # in the name of a variable
SHORTEST = 8  # characters; anything shorter is likely to be a word of the record, too
PASSWORD = r"(?<=://)[^\s/@:]*:[^\s/@]+(?=@)"  # the user:password of https://user:password@host


def redacted(value: Any) -> Any:
    """`value` with *** for every secret in the texts of its dicts, lists and tuples; their keys stay as they are."""
    names = filter(SECRET.search, os.environ)
    secrets = {os.environ[name].strip() for name in names}
    return _redacted(value, _pattern(frozenset(secret for secret in secrets if len(secret) >= SHORTEST)))


@lru_cache(maxsize=1)
def _pattern(secrets: frozenset[str]) -> re.Pattern[str]:
    longest_first = sorted(secrets, key=len, reverse=True)  # one may be the beginning of another
    return re.compile("|".join([PASSWORD, *map(re.escape, longest_first)]))


def _redacted(value: Any, pattern: re.Pattern[str]) -> Any:
    match value:
        case str():
            return pattern.sub("***", value)
        case dict():
            return {key: _redacted(item, pattern) for key, item in value.items()}
        case list() | tuple():
            return type(value)([_redacted(item, pattern) for item in value])
    return value
